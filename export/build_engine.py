# SPDX-License-Identifier: Apache-2.0
"""Build a bundle from a checkpoint: ``python export/build_engine.py`` or ``secondeye build-engine``.

Each graph is one piece: exported, checked, measured, and kept by what it was made from. Stop a build at any moment
and run it again: finished pieces are taken up, and the bundle appears whole at the end.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from secondeye import __version__
from secondeye.export.cache import Cache, code_hash, content_key, link_or_copy, place_folder
from secondeye.runtime.bundle import BACKENDS, MANIFEST, EngineEntry, File, Manifest, TensorSpec, read_bundle
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.files import atomic_write, explain_os_error
from secondeye.runtime.zoo import cache_folder

Told = Callable[[str, str], None]
_ROLES = {
    "encoder": ("vae", "vae_config"),
    "decoder": ("vae", "vae_config"),
    "unet": ("unet", "unet_config", "text_encoder", "text_encoder_config", "tokenizer"),
    "depth": ("depth",),
}


@dataclass(frozen=True, kw_only=True)
class ShapeRange:
    """Sizes of pictures, (height, width) in pixels: the least, the typical and the greatest."""

    least: tuple[int, int]
    typical: tuple[int, int]
    greatest: tuple[int, int]


def parse_shape(text: str) -> ShapeRange:
    """``768x1280`` (height x width), or least:typical:greatest, e.g. ``512x512:768x1280:1088x1920``.

    Raises:
        InvalidInputError: not of that form, or sides that are no multiples of 8 from 128 to 4096.
    """
    matches = [re.fullmatch(r"(\d{1,5})x(\d{1,5})", part.strip().lower()) for part in text.split(":")]
    sizes = [(int(m[1]), int(m[2])) for m in matches if m]
    if len(sizes) != len(matches) or len(sizes) not in (1, 3):
        raise InvalidInputError(
            f"--shape: expected HEIGHTxWIDTH such as 768x1280, or least:typical:greatest, got {text!r}."
        )
    least, typical, greatest = sizes * 3 if len(sizes) == 1 else sizes
    wrong = [s for size in sizes for s in size if s % 8 or not 128 <= s <= 4096]
    if wrong:
        raise InvalidInputError(f"--shape: sides must be multiples of 8 from 128 to 4096, got {wrong[0]}.")
    if not all(a <= b <= c for a, b, c in zip(least, typical, greatest, strict=True)):
        raise InvalidInputError(f"--shape: expected least <= typical <= greatest on both sides, got {text!r}.")
    return ShapeRange(least=least, typical=typical, greatest=greatest)


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every build is told: out, precision, backend, cache; see :class:`Request`."""

    out: Path
    precision: str = "fp32"
    backend: str = "onnx"
    cache: Path | None = None

    def check(self) -> None:
        """Refuse what cannot be built, before any work.

        Raises:
            InvalidInputError: everything that is wrong.
        """
        problems = list(self.problems())
        if problems:
            raise InvalidInputError("; ".join(problems) + ".")

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a sentence each."""
        from secondeye.export.graphs import Precision

        if self.precision not in get_args(Precision):
            yield f"--precision: expected one of {', '.join(get_args(Precision))}, got {self.precision!r}"
        if self.backend not in BACKENDS:
            yield f"--backend: expected one of {', '.join(BACKENDS)}, got {self.backend!r}"
        if not self.out.parent.is_dir():
            yield f"--out: the folder {self.out.parent} does not exist"
        elif self.out.exists() and not (self.out.is_dir() and _replaceable(self.out)):
            yield f"--out: {self.out} is there already and is no bundle; choose another folder"


@dataclass(frozen=True, kw_only=True)
class SgtRequest(Common):
    """An SGT-BAGEL bundle.

    Attributes:
        checkpoint: a folder of BAGEL's files with SGT's weights.
        size: the greatest side of the colour map, pixels.
        layout: ``trained`` or ``edit``, see :mod:`secondeye.export.models.sgt_bagel`.
        instruction: what the model is told; None takes the exporter's.
    """

    checkpoint: Path
    size: int = 1024
    layout: str = "trained"
    instruction: str | None = None


@dataclass(frozen=True, kw_only=True)
class Request(Common):
    """A Mono2Stereo bundle.

    Attributes:
        checkpoint, base, depth: see :class:`secondeye.export.models.mono2stereo.Sources`.
        shape: sizes of pictures that the bundle takes.
        batch: the greatest number of pictures in one call.
        precision: ``fp32``; ``bf16`` (weights alone); ``fp16`` (weights and arithmetic; what must stay in float32 is
            measured); ``int8`` or ``int4`` (weights of matrix products alone).
        depth_side: the least side of the depth network's input.
        out: the bundle's folder.
        cache: where finished pieces are kept.
    """

    checkpoint: Path
    base: Path
    depth: Path | None
    shape: ShapeRange
    batch: int = 1
    depth_side: int = 518

    def problems(self) -> Iterator[str]:
        """What is wrong with it, a sentence each."""
        yield from super().problems()
        if not 1 <= self.batch <= 64:
            yield f"--batch: expected 1 to 64, got {self.batch}"
        if not 28 <= self.depth_side <= 2044:
            yield f"--depth-side: expected 28 to 2044, got {self.depth_side}"


def _replaceable(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() or not any(folder.iterdir())


def build(request: Request, told: Told) -> Path:
    """Build a Mono2Stereo bundle, or find it built.

    Args:
        request: what to build.
        told: called with (piece, step) as the work goes on.

    Returns:
        The bundle's folder.

    Raises:
        InvalidInputError, MediaError: arguments or files that do not fit.
        ModelFormatError: the checkpoint's problems, all in one message.
        ExportError: a graph that cannot be exported, or is off by more than its bound.
        BackendUnavailableError: torch and the exporters are not installed.
    """
    _need_exporters()
    from secondeye.export.models import depth_anything_v2, mono2stereo

    request.check()
    sources = mono2stereo.Sources(checkpoint=request.checkpoint, base=request.base, depth=request.depth)
    depth_size = depth_anything_v2.lower_bound_size(*request.shape.typical, side=request.depth_side)
    told("sources", "hash")
    hashes = sources.hashes()
    cache = Cache(request.cache or cache_folder() / "engines")
    with cache.locked(lambda: told("sources", "wait for another build")) as work:
        loaded: list[mono2stereo.Mono2Stereo] = []

        def model() -> mono2stereo.Mono2Stereo:
            if not loaded:
                told("sources", "read")
                loaded.append(mono2stereo.load(sources, work / "weights", depth_size=depth_size))
            return loaded[0]

        names = [name for name in _ROLES if name != "depth" or request.depth is not None]
        keys = {name: _key(name, hashes, request, depth_size) for name in names}
        pieces = {
            name: _piece(
                name, keys[name], cache, work, request.precision, lambda n=name: _named(model().graphs, n), told
            )  # type: ignore[misc]
            for name in names
        }
        facts_key = content_key({"facts": hashes, "code": code_hash()})
        facts = cache.find(facts_key)
        if facts is None:
            folder = work / "facts"
            folder.mkdir()
            facts = cache.keep(facts_key, folder, {"constants": model().constants})
        told("bundle", "assemble")
        axes = {"batch": (1, request.batch)}
        for i, name in enumerate(("height", "width")):
            axes[name] = (request.shape.least[i] // 8, request.shape.greatest[i] // 8)
        return _assemble(request, "mono2stereo", axes, pieces, facts[1]["constants"], hashes)


def build_sgt(request: SgtRequest, told: Told) -> Path:
    """Build an SGT-BAGEL bundle, or find it built; raises as :func:`build` does."""
    _need_exporters("transformers")
    from secondeye.export.graphs import OPSET
    from secondeye.export.models import sgt_bagel

    request.check()
    told("sources", "hash")
    hashes = sgt_bagel.hashes(request.checkpoint)
    cache = Cache(request.cache or cache_folder() / "engines")
    with cache.locked(lambda: told("sources", "wait for another build")) as work:
        told("sources", "check")
        instruction = request.instruction or sgt_bagel.INSTRUCTION
        model = sgt_bagel.load(request.checkpoint, instruction=instruction, size=request.size, layout=request.layout)
        pieces = {}
        for number, graph in enumerate(model.graphs):
            parts = {"sources": hashes, "name": graph.name, "precision": request.precision, "backend": request.backend}
            parts |= {"opset": OPSET}
            if "_" in graph.name:  # one of layers; sizes are ranges in the manifest alone
                parts |= {"instruction": instruction, "layout": request.layout, "cuts": model.constants["cuts"]}
            key = content_key(parts | {"versions": _versions(), "code": code_hash()})

            def say(piece: str, step: str, number: int = number) -> None:
                told(f"{piece} ({number + 1} of {len(model.graphs)})", step)

            pieces[graph.name] = _piece(graph.name, key, cache, work, request.precision, lambda g=graph: g, say)  # type: ignore[misc]
        told("bundle", "assemble")
        return _assemble(request, "sgt-bagel", model.axes, pieces, model.constants, hashes)


def _named(graphs: tuple[Any, ...], name: str) -> Any:
    return next(one for one in graphs if one.name == name)


def _need_exporters(*others: str) -> None:
    absent = []
    for package in ("torch", "onnx", "onnxscript", "safetensors", *others):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            absent.append(package)
    if absent:
        raise BackendUnavailableError(
            f"building needs {', '.join(absent)}; install with: pip install 'secondeye[export]'."
        )


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {"secondeye": __version__, "python": platform.python_version()} | {p: metadata.version(p) for p in packages}


def _key(name: str, hashes: dict[str, str], request: Request, depth_size: tuple[int, int]) -> str:
    """What a graph is made from. Shapes are ranges in the manifest alone, but for depth's, which are in the graph."""
    from secondeye.export.graphs import OPSET

    parts: dict[str, Any] = {role: hashes.get(role) for role in _ROLES[name]}
    parts |= {"name": name, "precision": request.precision, "backend": request.backend, "opset": OPSET}
    parts |= {"versions": _versions(), "code": code_hash()}
    if name == "depth":
        parts["size"] = depth_size
    return content_key(parts)


def _piece(
    name: str, key: str, cache: Cache, work: Path, precision: str, graph_of: Callable[[], Any], told: Told
) -> tuple[Path, dict[str, Any]]:
    found = cache.find(key)
    if found is not None:
        told(name, "found, built before")
        return found
    from secondeye.export.graphs import OPSET, make_graph

    graph = graph_of()
    folder = work / name
    folder.mkdir()
    error = make_graph(graph, precision, folder / f"{name}.onnx", lambda step: told(name, step))  # type: ignore[arg-type]
    return cache.keep(
        key,
        folder,
        {
            "error": error,
            "opset": OPSET,
            "precision": precision,
            "inputs": [asdict(one) for one in graph.inputs],
            "outputs": [asdict(one) for one in graph.outputs],
        },
    )


def _specs(tensors: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    def axis(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return tuple(
        TensorSpec(name=t["name"], dtype=t["dtype"], shape=tuple(axis(a) for a in t["shape"])) for t in tensors
    )


def _entry(name: str, record: dict[str, Any], backend: str) -> EngineEntry:
    files = record["files"]
    data = f"{name}.onnx.data"
    return EngineEntry(
        file=f"{name}.onnx",
        sha256=files[f"{name}.onnx"],
        data=File(file=data, sha256=files[data]) if data in files else None,
        backend=backend,
        opset=record["opset"],
        precision=record["precision"],
        inputs=_specs(record["inputs"]),
        outputs=_specs(record["outputs"]),
        error=record["error"],
    )


def _assemble(
    request: Common,
    kind: str,
    axes: dict[str, tuple[int, int]],
    pieces: dict[str, tuple[Path, dict[str, Any]]],
    constants: dict[str, Any],
    hashes: dict[str, str],
) -> Path:
    """The bundle from its pieces, at its place only when it is whole."""
    manifest = Manifest(
        kind=kind,
        axes=axes,
        engines={name: _entry(name, record, request.backend) for name, (_, record) in pieces.items()},
        constants=constants,
        sources=hashes,
        built_by=_versions(),
    )
    if _same(request.out, manifest):
        return request.out
    part = request.out.with_name(f".{request.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        for home, record in pieces.values():
            for file in record["files"]:
                link_or_copy(home / file, part / file)
        with atomic_write(part / MANIFEST) as file:
            file.write(manifest.to_json())
        place_folder(part, request.out)
    except OSError as error:
        if isinstance(error, SecondEyeError):
            raise
        raise MediaError(f"{request.out}: cannot be written ({explain_os_error(error)}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return request.out


def _same(folder: Path, manifest: Manifest) -> bool:
    """Whether this very bundle stands there, whole."""
    try:
        return (folder / MANIFEST).read_bytes() == manifest.to_json() and bool(read_bundle(folder))
    except (OSError, SecondEyeError):
        return False


if __name__ == "__main__":
    import typer

    from secondeye.runtime.cli._guard import guarded
    from secondeye.runtime.cli.build_engine import build_engine

    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(build_engine)
    guarded(app)
