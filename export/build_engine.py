# SPDX-License-Identifier: Apache-2.0
"""Build a bundle from a checkpoint: ``python export/build_engine.py`` or ``secondeye build-engine``.

Each graph is one piece: exported, checked, measured, and kept by what it was made from. Stop a build at any moment
and run it again: finished pieces are taken up, and the bundle appears whole at the end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from secondeye.export.cache import OWN, Cache, code_hash, content_key, copy_file, place_folder
from secondeye.export.pieces import Pieces, Told, versions
from secondeye.export.sharing import share_weights
from secondeye.runtime.bundle import BACKENDS, MANIFEST, EngineEntry, Manifest, read_bundle
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.files import atomic_write, explain_os_error
from secondeye.runtime.zoo import cache_folder

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
    """What every build is told.

    Attributes:
        out: the bundle's folder.
        precision: ``fp32``; ``bf16`` (weights alone); ``fp16`` (weights and arithmetic; what must stay in float32 is
            measured); ``int8``, ``int4`` or, for plans, ``fp8`` (weights of matrix products alone).
        backend: ``onnx``; ``tensorrt`` or ``tensorrt-rtx`` put plans beside the graphs.
        target: GPU architectures of the plans; see :func:`secondeye.export.engines.choose_target`.
        cache: where finished pieces are kept.
    """

    out: Path
    precision: str = "fp32"
    backend: str = "onnx"
    target: str = "auto"
    cache: Path | None = None

    @property
    def pieces(self) -> Path:
        """The folder of finished pieces."""
        return self.cache or cache_folder() / "engines"

    @property
    def place(self) -> Path:
        """Where the bundle lies: what `out` leads to, since a folder is renamed there and would replace a link."""
        return self.out.resolve()

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
        elif self.backend == "onnx" and self.target != "auto":
            yield f"--target: graphs are for any machine, got {self.target!r} with --backend onnx"
        elif self.backend == "onnx" and self.precision == "fp8":
            yield "--precision fp8: is for tensorrt and tensorrt-rtx; with --backend onnx take int8"
        if not self.place.parent.is_dir():
            yield f"--out: the folder {self.place.parent} does not exist"
        elif not os.access(self.place.parent, os.W_OK | os.X_OK):
            yield f"--out: no folder may be made in {self.place.parent}"
        elif self.out.exists() and not (self.out.is_dir() and _replaceable(self.out)):
            yield f"--out: {self.out} is there already and is no bundle alone; choose another folder"
        cache = self.pieces.resolve()
        if cache.is_relative_to(self.place) or any(self.place.is_relative_to(cache / own) for own in OWN):
            yield f"--cache: {self.pieces} and the bundle {self.out} would lie in each other; choose another folder"


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
        depth_side: the least side of the depth network's input.
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
    """Whether nothing is lost with it: an empty folder, or a bundle of any version and nothing beside it."""
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    try:
        engines = json.loads((folder / MANIFEST).read_text("utf-8"))["engines"].values()
        parts = [part for one in engines for part in (one, one.get("data"), *one.get("plans", ())) if part]
        return names <= {MANIFEST, *(part["file"] for part in parts)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


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
    need_exporters()
    from secondeye.export.models import depth_anything_v2, mono2stereo

    request.check()
    sources = mono2stereo.Sources(checkpoint=request.checkpoint, base=request.base, depth=request.depth)
    depth_size = depth_anything_v2.lower_bound_size(*request.shape.typical, side=request.depth_side)
    told("sources", "hash")
    hashes = sources.hashes()
    cache = Cache(request.pieces)
    with cache.locked(lambda: told("sources", "wait for another build")) as work:
        loaded: list[mono2stereo.Mono2Stereo] = []

        def model() -> mono2stereo.Mono2Stereo:
            if not loaded:
                told("sources", "read")
                loaded.append(mono2stereo.load(sources, work / "weights", depth_size=depth_size))
            return loaded[0]

        names = [name for name in _ROLES if name != "depth" or request.depth is not None]
        axes = {"batch": (1, 1, request.batch)}
        for i, name in enumerate(("height", "width")):
            ends = (request.shape.least, request.shape.typical, request.shape.greatest)
            axes[name] = tuple(size[i] // 8 for size in ends)  # type: ignore[assignment]
        pieces = Pieces(request.precision, request.backend, request.target, cache, work, axes)
        engines = {
            name: pieces.make(name, _parts(name, hashes, depth_size), lambda n=name: _named(model().graphs, n), told)  # type: ignore[misc]
            for name in names
        }
        plain = Pieces("fp32", request.backend, request.target, cache, work, axes)
        for graph in mono2stereo.between():
            engines[graph.name] = plain.make(graph.name, {}, lambda g=graph: g, told)  # type: ignore[misc]
        facts_key = content_key({"facts": hashes, "code": code_hash()})
        facts = cache.find(facts_key)
        if facts is None:
            folder = work / "facts"
            folder.mkdir()
            facts = cache.keep(facts_key, folder, {"constants": model().constants})
        told("bundle", "assemble")
        return _assemble(request, cache.folder, "mono2stereo", axes, engines, facts[1]["constants"], hashes)


def build_sgt(request: SgtRequest, told: Told) -> Path:
    """Build an SGT-BAGEL bundle, or find it built; raises as :func:`build` does."""
    need_exporters("transformers")
    from secondeye.export.models import sgt_bagel

    request.check()
    told("sources", "hash")
    hashes = sgt_bagel.hashes(request.checkpoint)
    cache = Cache(request.pieces)
    with cache.locked(lambda: told("sources", "wait for another build")) as work:
        told("sources", "check")
        instruction = request.instruction or sgt_bagel.INSTRUCTION
        model = sgt_bagel.load(request.checkpoint, instruction=instruction, size=request.size, layout=request.layout)
        axes = {name: (low, high, high) for name, (low, high) in model.axes.items()}
        pieces = Pieces(request.precision, request.backend, request.target, cache, work, axes)
        engines = {}
        for number, graph in enumerate(model.graphs):
            parts: dict[str, Any] = {"sources": hashes}
            if "_" in graph.name:  # one of layers; sizes are ranges in the manifest alone
                parts |= {"instruction": instruction, "layout": request.layout, "cuts": model.constants["cuts"]}

            def say(piece: str, step: str, number: int = number) -> None:
                told(f"{piece} ({number + 1} of {len(model.graphs)})", step)

            engines[graph.name] = pieces.make(graph.name, parts, lambda g=graph: g, say)  # type: ignore[misc]
        told("bundle", "assemble")
        takers = {name: f"flow_{name.partition('_')[2]}" for name in engines if name.startswith(("prefill_", "look_"))}
        shared = share_weights(engines, takers, cache, work / "shared")
        return _assemble(
            request, cache.folder, "sgt-bagel", axes, engines, model.constants | {"shared": shared}, hashes
        )


def _named(graphs: tuple[Any, ...], name: str) -> Any:
    return next(one for one in graphs if one.name == name)


def need_exporters(*others: str) -> None:
    """Refuse to go on without the packages that a build needs.

    Raises:
        BackendUnavailableError: which are not installed.
    """
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


def _parts(name: str, hashes: dict[str, str], depth_size: tuple[int, int]) -> dict[str, Any]:
    """What a graph is made from. Shapes are ranges in the manifest alone, but for depth's, which are in the graph."""
    parts: dict[str, Any] = {role: hashes.get(role) for role in _ROLES[name]}
    return parts | {"size": depth_size} if name == "depth" else parts


def _assemble(
    request: Common,
    cache: Path,
    kind: str,
    axes: dict[str, tuple[int, int, int]],
    engines: dict[str, tuple[EngineEntry, list[Path]]],
    constants: dict[str, Any],
    hashes: dict[str, str],
) -> Path:
    """The bundle from its pieces, at its place only when it is whole."""
    manifest = Manifest(
        kind=kind,
        axes={name: (low, high) for name, (low, _, high) in axes.items()},
        engines={name: entry for name, (entry, _) in engines.items()},
        constants=constants,
        sources=hashes,
        built_by=versions(),
    )
    place = request.place
    if _same(place, manifest):
        return request.out
    request.check()  # again: a build takes long, and something else may stand there by now
    of = content_key({"cache": str(cache.resolve())})[:8]  # a build with another cache waits for no lock of ours
    part = place.with_name(f".{place.name}.{of}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        for _, files in engines.values():
            for file in files:
                copy_file(file, part / file.name)
        with atomic_write(part / MANIFEST) as written:
            written.write(manifest.to_json())
        place_folder(part, place)
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
