# SPDX-License-Identifier: Apache-2.0
"""Weights from files that strangers made: read without running anything in them, every problem told at once.

safetensors are mapped as they are. A pickle (.ckpt, .pth, .pt, .bin) is opened in a child process with limits on its
memory and time, by ``torch.load(weights_only=True)``, and comes back as safetensors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from secondeye.runtime.errors import ModelFormatError, ResourceLimitError
from secondeye.runtime.files import explain_os_error
from secondeye.runtime.sessions import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    Module = TypeVar("Module", bound=nn.Module)

MAX_BYTES = 32 << 30
MAX_TENSORS = 20_000
SHOWN = 8
PICKLES = (".ckpt", ".pth", ".pt", ".bin")


class Problems:
    """Everything that is wrong with a set of files, gathered before it is told."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = defaultdict(list)

    def add(self, label: str, problem: str) -> None:
        """One more problem of the file `label`."""
        if problem not in self._found[label]:
            self._found[label].append(problem)

    def of(self, label: str) -> list[str]:
        """The problems of one file."""
        return self._found.get(label, [])

    def tell(self) -> None:
        """Raise them all in one ModelFormatError, if there are any."""
        found = {label: texts for label, texts in self._found.items() if texts}
        if found:
            raise ModelFormatError("; ".join(f"{label}: {', '.join(texts)}" for label, texts in found.items()) + ".")


def some(names: list[str]) -> str:
    """The first few names, and how many there are."""
    shown = ", ".join(sorted(names)[:SHOWN])
    return f"{len(names)} ({shown}{', ...' if len(names) > SHOWN else ''})"


def checked(
    make: Callable[[], Module], tensors: dict[str, Tensor], label: str, problems: Problems
) -> Callable[[], Module] | None:
    """A maker of modules that have these weights, in float32 and eval mode.

    Missing, foreign and misshapen tensors and values that are no finite numbers are problems, and then there is none.
    The modules share the tensors' memory until they change them.
    """
    import torch

    try:
        with torch.device("meta"):
            wanted = make().state_dict()
    except Exception as error:  # torch's layers and Python's numbers refuse in many ways
        problems.add(label, f"its configuration makes no network ({first_line(error)})")
        return None
    missing, foreign = [n for n in wanted if n not in tensors], [n for n in tensors if n not in wanted]
    if missing:
        problems.add(label, f"missing tensors: {some(missing)}")
    if foreign:
        problems.add(label, f"tensors of another model: {some(foreign)}")
    ready: dict[str, Tensor] = {}
    shapes, bad = [], []
    for name in sorted(wanted.keys() & tensors.keys()):
        tensor = tensors[name]
        if tensor.shape != wanted[name].shape:
            shapes.append(f"{name} {list(tensor.shape)} where {list(wanted[name].shape)} is expected")
        elif not tensor.is_floating_point():
            bad.append(f"{name} ({tensor.dtype})")
        else:
            ready[name] = tensor.to(torch.float32)
            if not bool(torch.isfinite(ready[name]).all()):
                bad.append(name)
    if shapes:
        problems.add(label, f"wrong shapes: {some(shapes)}")
    if bad:
        problems.add(label, f"values that are no finite numbers: {some(bad)}")
    if problems.of(label):
        return None

    def build() -> Module:
        with torch.device("meta"):
            module = make()
        module.load_state_dict(ready, strict=True, assign=True)
        return module.eval().requires_grad_(False)

    return build


def read_tensors(path: Path, scratch: Path, problems: Problems) -> dict[str, Tensor]:
    """The tensors of a file; empty, with the reason in `problems`, when it cannot be read.

    Args:
        path: .safetensors, or a pickle of torch: a state dict, or a dict with one under ``model`` or ``state_dict``.
            A leading ``module.`` is taken off the names.
        scratch: folder for a pickle's tensors, which stay there as NAME.safetensors and are mapped.
        problems: where reasons go.
    """
    from safetensors.torch import load_file

    label = path.name
    try:
        size = path.stat().st_size
    except OSError as error:
        problems.add(label, f"cannot be read ({explain_os_error(error)}: {path})")
        return {}
    if size > MAX_BYTES:
        problems.add(label, f"{size >> 30} GiB is over the limit of {MAX_BYTES >> 30} GiB")
        return {}
    if path.suffix == ".safetensors":
        converted = path
    elif path.suffix in PICKLES:
        scratch.mkdir(parents=True, exist_ok=True)
        converted = scratch / f"{path.stem}.safetensors"
        reason = _convert_in_child(path, converted, size)
        if reason is not None:
            problems.add(label, reason)
            return {}
    else:
        problems.add(label, f"expected .safetensors or one of {', '.join(PICKLES)}")
        return {}
    try:
        tensors = dict(load_file(converted))
    except Exception as error:  # the library raises its own kind and several built-in ones
        problems.add(label, f"not a whole safetensors file ({first_line(error)})")
        return {}
    if not tensors:
        problems.add(label, "holds no tensors")
    return tensors


def child_command(module: str, *arguments: str) -> list[str]:
    """What runs one of our modules in a process of its own, which finds packages where this one does.

    By itself an isolated Python (``-I``: nothing of the working folder is run) knows neither PYTHONPATH nor the
    packages of ``pip install --user``.
    """
    path = [os.path.abspath(place) for place in sys.path if place]
    start = f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    code = f"import runpy, sys; sys.path[:] = {path!r}; {start}"
    return [sys.executable, "-I", "-c", code, *arguments]


def _convert_in_child(source: Path, target: Path, size: int) -> str | None:
    """Run this module on a pickle; the reason why not, or None."""
    command = child_command("secondeye.export.weights", str(source), str(target), str(size))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120 + size / (20 << 20), check=False)
    except subprocess.TimeoutExpired:
        return "reading it took too long and was stopped"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("reason: ")]
    return lines[-1].removeprefix("reason: ") if lines else "reading it failed (out of memory, or a damaged file)"


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows; the child and its time limit remain
        return
    room = 3 * size + (16 << 30)  # address space: torch alone maps several GiB
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _unpickle(source: Path) -> Any:
    import torch

    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(source, map_location="cpu", weights_only=True)


def _child(source: Path, target: Path, size: int) -> str | None:
    """Write the tensors of a pickle; the reason why not, or None."""
    _limit_memory(size)
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        loaded = _unpickle(source)
    except pickle.UnpicklingError as error:
        text = " ".join(str(error).split())
        other = "nsupported operand" in text  # no pickle at all: a web page, a pointer to a file that was not fetched
        if ("WeightsUnpickler" in text or "is blocked" in text) and not other:
            return "it holds code, not weights alone, and was not run; save its state dict as safetensors"
        return "not a torch file, or a damaged one"
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        return f"not a whole torch file ({first_line(error)})"
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        return f"expected a dict of tensors, got {type(loaded).__name__}"
    if len(loaded) > MAX_TENSORS:
        return f"{len(loaded)} entries are over the limit of {MAX_TENSORS}"
    plain = {k for k, v in loaded.items() if isinstance(v, torch.Tensor) and v.layout == torch.strided}
    wrong = [str(k) for k in loaded if not isinstance(k, str) or k not in plain]
    if wrong:
        return f"entries that are no tensors: {some(wrong)}"
    twice = sorted(k for k in loaded if k.startswith("module.") and k.removeprefix("module.") in loaded)
    if twice:
        return f"tensors that are there with and without module.: {some(twice)}"
    total = sum(v.numel() * v.element_size() for v in loaded.values())
    if total > size + (1 << 20):
        return f"its tensors claim {total} bytes in a file of {size}"
    tensors, seen = {}, set()
    for key, value in loaded.items():
        storage = value.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == value.numel() * value.element_size()
        seen.add(storage.data_ptr())
        tensors[key.removeprefix("module.")] = value.contiguous() if alone else value.contiguous().clone()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(descriptor)
    try:
        save_file(tensors, temporary)
        os.replace(temporary, target)
    except Exception as error:  # the library's own kind
        return f"its tensors cannot be written to {target.parent} ({first_line(error)})"
    finally:
        Path(temporary).unlink(missing_ok=True)
    return None


class TensorFile:
    """A checkpoint's tensors by name: one safetensors file, or an index and its shards; each is read when asked for.

    Raises:
        ModelFormatError: no such file, or one that is damaged.
    """

    def __init__(self, folder: Path, *stems: str) -> None:
        self.label = folder.name
        self.paths = found_tensors(folder, stems)
        self._places: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        from safetensors import safe_open

        for path in self.paths:
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise ModelFormatError(f"{path}: over the limit of {MAX_BYTES >> 30} GiB.")
                file = safe_open(path, framework="pt")
                for name in file.keys():  # noqa: SIM118
                    self._places[name] = file
                    self.shapes[name] = tuple(file.get_slice(name).get_shape())
            except ModelFormatError:
                raise
            except Exception as error:  # the library raises its own kind and several built-in ones
                raise ModelFormatError(f"{path}: not a whole safetensors file ({first_line(error)}).") from error

    def get(self, name: str) -> Tensor:
        """A tensor in float32.

        Raises:
            ModelFormatError: it is no floats, or holds values that are no finite numbers.
        """
        return self._finite(name, self._places[name].get_tensor(name))

    def rows(self, name: str, rows: list[int]) -> Tensor:
        """Some rows of a tensor in float32, read alone."""
        import torch

        part = self._places[name].get_slice(name)
        return self._finite(name, torch.stack([part[row : row + 1][0] for row in rows]))

    def _finite(self, name: str, tensor: Tensor) -> Tensor:
        import torch

        if not tensor.is_floating_point():
            raise ModelFormatError(f"{self.label}: {name} holds {tensor.dtype} where floats are expected.")
        tensor = tensor.to(torch.float32)  # first: torch has no such search over eight bits
        ends = tensor.aminmax() if tensor.numel() else ()
        if not all(bool(torch.isfinite(end)) for end in ends):  # both are NaN if one value is
            raise ModelFormatError(f"{self.label}: {name} holds values that are no finite numbers.")
        return tensor


def found_tensors(folder: Path, stems: tuple[str, ...]) -> list[Path]:
    """The files of a checkpoint's tensors by the first of the names that is there: one, or those of an index."""
    for stem in stems:
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise ModelFormatError(f"{index}: not an index of safetensors ({error}).") from error
            if any(Path(str(name)).name != name for name in names):
                raise ModelFormatError(f"{index}: leads outside its folder.")
            return [folder / name for name in names]
        if (folder / f"{stem}.safetensors").is_file():
            return [folder / f"{stem}.safetensors"]
    raise ModelFormatError(f"{folder}: has none of {', '.join(f'{stem}.safetensors' for stem in stems)}.")


def read_config(path: Path, needed: tuple[str, ...], label: str, problems: Problems) -> dict[str, Any]:
    """A JSON object of at most 1 MiB that has the keys `needed`; empty, with reasons, otherwise."""
    try:
        if path.stat().st_size > 1 << 20:
            raise ResourceLimitError("over 1 MiB")
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.add(label, f"cannot be read ({explain_os_error(error)}: {path})")
        return {}
    except (ValueError, RecursionError, ResourceLimitError) as error:
        problems.add(label, f"not a JSON configuration ({error})")
        return {}
    absent = [key for key in needed if key not in data] if isinstance(data, dict) else list(needed)
    if absent:
        problems.add(label, f"lacks {', '.join(absent)}")
        return {}
    return dict(data)


if __name__ == "__main__":
    _reason = _child(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    if _reason is not None:
        print(f"reason: {_reason}")
        sys.exit(1)
