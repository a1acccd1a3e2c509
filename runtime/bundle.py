# SPDX-License-Identifier: Apache-2.0
"""Bundles: a folder of engines with one manifest, all that the runtime needs to run one model.

``manifest.json`` (schema 1)::

    {"schema": 1, "kind": "mono2stereo",
     "axes": {"batch": [1, 1], "height": [96, 96], "width": [160, 160]},   least and greatest length of a named axis
     "engines": {NAME: {"file": "unet.onnx", "sha256": ..., "data": {"file": ..., "sha256": ...} or null,
                        "backend": "onnx", "opset": 18, "precision": "fp16",
                        "inputs": [{"name": ..., "dtype": "float32", "shape": ["batch", 4, ["height", 8], 512]}, ...],
                        "outputs": [...], "error": {"relative_rms": ..., "max_abs": ..., "bound": ...},
                        "plans": [{"file": ..., "sha256": ..., "backend": "tensorrt-rtx", "version": ...,
                                   "targets": ["sm_89", ...], "graph": ..., "key": ..., "seal": ..., "check": {...}}]}},
     "constants": {...}, "sources": {role: sha256 of the checkpoint's file}, "built_by": {package: version}}
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secondeye.runtime.backends import Engine
from secondeye.runtime.errors import EngineError, InvalidInputError, MediaError, ModelFormatError
from secondeye.runtime.files import explain_os_error, file_hash
from secondeye.runtime.plans import PACKAGES, Plan, find_plan, plan_from
from secondeye.runtime.sessions import Device, open_session

if TYPE_CHECKING:
    from secondeye.runtime.backends.cuda import Stream

SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
BACKENDS = ("onnx", *PACKAGES)
DTYPES = ("float32", "float16", "int64", "uint8")
Axis = int | str | tuple[str, int] | tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An engine's input or output; an axis is a length, a named axis, or (named axis, factor[, and so many more])."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the bundle, by its path in the folder and its SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One engine of a manifest: its ONNX graph and the plans compiled from it.

    `data` is the file with the graph's weights, if they lie apart.
    """

    file: str
    sha256: str
    data: File | None
    backend: str
    opset: int
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    error: dict[str, Any]
    plans: tuple[Plan, ...] = ()

    def files(self) -> tuple[File, ...]:
        """Every file of the engine."""
        own = [File(file=self.file, sha256=self.sha256)]
        if self.data is not None:
            own.append(self.data)
        return (*own, *(File(file=one.file, sha256=one.sha256) for one in self.plans))

    def graph_hash(self) -> str:
        """SHA-256 of the graph and its weights."""
        return hashlib.sha256(f"{self.sha256} {self.data.sha256 if self.data else ''}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says of itself; see the module."""

    kind: str
    axes: dict[str, tuple[int, int]]
    engines: dict[str, EngineEntry]
    constants: dict[str, Any]
    sources: dict[str, str]
    built_by: dict[str, str]

    def to_json(self) -> bytes:
        """The manifest's file; the same manifest gives the same bytes."""
        return (json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose manifest is sound and whose files are what it says."""

    folder: Path
    manifest: Manifest

    def session(self, name: str, *, device: Device = "cpu", threads: int = 0) -> Any:
        """Open one engine, optimised for the axes that have one length.

        Raises:
            BackendUnavailableError, ModelFormatError: see :func:`secondeye.runtime.sessions.open_session`.
        """
        path = self.folder / self.manifest.engines[name].file
        return open_session(path, device=device, threads=threads, fixed=self._fixed())

    def engine(
        self,
        name: str,
        *,
        device: Device = "cpu",
        threads: int = 0,
        cuda_graph: bool = False,
        stream: Stream | None = None,
        nhwc: bool = False,
    ) -> Engine:
        """Open one engine: its plan where the device is TensorRT's and there is one, else its graph.

        Args:
            name: in the manifest.
            device: where it runs; see :mod:`secondeye.runtime.backends`.
            threads: of the CPU, 0 for one per core.
            cuda_graph: record the GPU's work once and start it with one call from then on.
            stream: of device ``cuda`` and of plans: work is put on it, and the engine's ``queue`` may be called; it
                records itself where ONNX Runtime or TensorRT-RTX can record that graph.
            nhwc: of device ``cuda``: channels last inside the graph, as tensor cores want them (from ONNX Runtime 1.20
                on); with `stream`, without them where this build has no kernels for it.

        Raises:
            InvalidInputError: a CUDA graph on the CPU.
            EngineError, BackendUnavailableError, ModelFormatError: it cannot be opened there.
        """
        if cuda_graph and device == "cpu":
            raise InvalidInputError("cuda_graph: the CPU has none; choose another device.")
        entry, axes = self.manifest.engines[name], self.manifest.axes
        plan = find_plan(entry.plans, device)
        if plan is not None:
            if plan.graph != entry.graph_hash():
                raise EngineError(
                    f"{plan.file}: compiled from another graph than {entry.file}; build the bundle again."
                )
            from secondeye.runtime.backends.trt import TrtEngine

            graph = cuda_graph if stream is None else device == "tensorrt-rtx"
            return TrtEngine(self.folder, entry, axes, plan, cuda_graph=graph, stream=stream)
        from secondeye.runtime.backends.cuda import gpu_number
        from secondeye.runtime.backends.ort import OrtEngine

        gpu = 0 if device == "cpu" else gpu_number()
        words: dict[str, Any] = {"device": device, "threads": threads, "fixed": self._fixed(), "gpu": gpu}
        path = self.folder / entry.file
        last = {"prefer_nhwc": "1"} if nhwc and device == "cuda" else {}
        if stream is None:
            session = open_session(path, cuda_graph=cuda_graph, options=last, **words)
            return OrtEngine(session, entry, axes, device=device, fixed=cuda_graph, gpu=gpu)
        # A build may lack the kernels for channels last, and a graph with parts on the CPU cannot be recorded.
        ways = [(True, last), *([(True, {})] if last else []), (False, {})]
        for recording, options in ways:
            try:
                session = open_session(path, cuda_graph=recording, stream=stream.handle, options=options, **words)
                break
            except ModelFormatError as error:
                if not recording:
                    raise
                lost = "channels last" if options else "a CUDA graph"
                logging.getLogger(__name__).info("%s runs without %s: %s", entry.file, lost, error)
        return OrtEngine(session, entry, axes, device=device, gpu=gpu, stream=stream, recording=recording)

    def _fixed(self) -> dict[str, int]:
        return {axis: low for axis, (low, high) in self.manifest.axes.items() if low == high}


def read_bundle(folder: str | Path, *, kind: str | None = None, verify: bool = True) -> Bundle:
    """Open a bundle.

    Args:
        folder: where it lies.
        kind: the kind of model that is expected.
        verify: compare every file's SHA-256 with the manifest's (reads them once).

    Raises:
        MediaError: no such folder.
        ModelFormatError: one sentence with everything that is wrong with it.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.is_dir():
        aside = folder.with_name(f".{folder.name}.old")
        if folder.name and aside.is_dir():  # a build was killed between its two renames
            raise MediaError(f"{folder}: its build was stopped as it took its place; rename {aside} or build again.")
        raise MediaError(f"{folder}: no such bundle; build one with: secondeye build-engine.")
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ModelFormatError(f"{path}: over {MAX_MANIFEST_BYTES >> 20} MiB is no manifest.")
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFormatError(f"{folder}: not a bundle: it has no {MANIFEST}.") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({explain_os_error(error)}).") from error
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: not JSON ({error}); build the bundle again.") from error
    manifest = parse_manifest(data, str(folder))
    if kind is not None and manifest.kind != kind:
        raise ModelFormatError(f"{folder}: a bundle of kind {manifest.kind!r} where {kind!r} is meant.")
    files = dict.fromkeys(f for engine in manifest.engines.values() for f in engine.files())  # some have one in common
    problems = [p for file in files for p in _file(folder, file, verify)]
    if problems:
        raise ModelFormatError(f"{folder}: {'; '.join(problems)}; build the bundle again.")
    return Bundle(folder=folder, manifest=manifest)


def _file(folder: Path, one: File, verify: bool) -> list[str]:
    path = folder / one.file
    if not path.resolve().is_relative_to(folder.resolve()):
        return [f"{one.file} leads outside the folder"]
    if not path.is_file():
        return [f"{one.file} is missing"]
    if verify and file_hash(path) != one.sha256:
        return [f"{one.file} is altered or damaged (its SHA-256 differs)"]
    return []


class _Reader:
    """Takes typed values out of a JSON tree and gathers what does not fit."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def take(self, data: Any, key: str, kind: type, where: str) -> Any:
        value = data.get(key) if isinstance(data, dict) else None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.problems.append(f"{where}{key}: expected {kind.__name__}, got {type(value).__name__}")
            return kind()
        return value

    def name(self, value: str, where: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
            self.problems.append(f"{where}: {value!r} is not the name of a file inside the folder")
        return value

    def file(self, data: Any, where: str) -> File:
        digest = self.take(data, "sha256", str, where)
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            self.problems.append(f"{where}sha256: not a SHA-256")
        return File(file=self.name(self.take(data, "file", str, where), f"{where}file"), sha256=digest)

    def tensor(self, data: Any, axes: Mapping[str, Any], where: str) -> TensorSpec:
        name, dtype = self.take(data, "name", str, where), self.take(data, "dtype", str, where)
        if dtype not in DTYPES:
            self.problems.append(f"{where}{name}: dtype {dtype!r} is none of {', '.join(DTYPES)}")
        shape: list[Axis] = []
        for axis in self.take(data, "shape", list, where):
            pair = isinstance(axis, list) and len(axis) in (2, 3) and all(type(n) is int and n > 0 for n in axis[1:])
            named = axis[0] if pair else axis
            if isinstance(named, str) and named in axes:
                shape.append((named, *axis[1:]) if pair else named)
            elif isinstance(axis, int) and not isinstance(axis, bool) and 0 < axis <= 1 << 20:
                shape.append(axis)
            else:
                self.problems.append(f"{where}{name}: axis {axis!r} is neither a length nor a named axis")
        return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))

    def engine(self, data: Any, axes: Mapping[str, Any], where: str) -> EngineEntry:
        own = self.file(data, where)
        apart = data.get("data") if isinstance(data, dict) else None
        backend = self.take(data, "backend", str, where)
        if backend != "onnx":
            self.problems.append(f"{where}backend: {backend!r} is none that this runtime has a graph for (onnx)")
        return EngineEntry(
            file=own.file,
            sha256=own.sha256,
            data=None if apart is None else self.file(apart, f"{where}data."),
            backend=backend,
            opset=self.take(data, "opset", int, where),
            precision=self.take(data, "precision", str, where),
            inputs=tuple(self.tensor(t, axes, where) for t in self.take(data, "inputs", list, where)),
            outputs=tuple(self.tensor(t, axes, where) for t in self.take(data, "outputs", list, where)),
            error=self.take(data, "error", dict, where),
            plans=tuple(
                Plan(**asdict(self.file(one, f"{where}plans.")), **plan_from(one, self.problems, f"{where}plans."))
                for one in (self.take(data, "plans", list, where) if isinstance(data, dict) and "plans" in data else [])
            ),
        )


def parse_manifest(data: Any, label: str) -> Manifest:
    """A manifest from its JSON tree.

    Raises:
        ModelFormatError: another schema, or everything that does not fit.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise ModelFormatError(
            f"{label}: manifest of schema {schema!r} where this version reads {SCHEMA}; build the bundle again."
        )
    read = _Reader()
    axes: dict[str, tuple[int, int]] = {}
    for name, ends in read.take(data, "axes", dict, "").items():
        fits = isinstance(ends, list) and len(ends) == 2 and all(type(e) is int for e in ends)
        if not fits or not 0 < ends[0] <= ends[1] <= 1 << 20:
            read.problems.append(f"axes.{name}: expected [least, greatest], got {ends!r}")
        else:
            axes[name] = (ends[0], ends[1])
    engines = {
        name: read.engine(entry, axes, f"engines.{name}.")
        for name, entry in read.take(data, "engines", dict, "").items()
    }
    manifest = Manifest(
        kind=read.take(data, "kind", str, ""),
        axes=axes,
        engines=engines,
        constants=read.take(data, "constants", dict, ""),
        sources=read.take(data, "sources", dict, ""),
        built_by=read.take(data, "built_by", dict, ""),
    )
    if not engines and not read.problems:
        read.problems.append("it names no engines")
    if read.problems:
        raise ModelFormatError(f"{label}: manifest: {'; '.join(read.problems)}.")
    return manifest


def check_run(inputs: Mapping[str, Any], entry: EngineEntry, axes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Refuse inputs whose names, dtypes or shapes are not what the manifest says, before an engine sees them.

    Returns:
        The lengths of the named axes.

    Raises:
        InvalidInputError: what was expected and what came.
    """
    if set(inputs) != {one.name for one in entry.inputs}:
        names = ", ".join(one.name for one in entry.inputs)
        raise InvalidInputError(f"{entry.file}: expected the inputs {names}, got {', '.join(inputs)}.")
    lengths: dict[str, int] = {}
    for one in entry.inputs:
        value = inputs[one.name]
        fits = value.dtype == one.dtype and value.ndim == len(one.shape)
        for axis, got in zip(one.shape, value.shape, strict=False):
            if isinstance(axis, int):
                fits &= axis == got
                continue
            name, factor, more = (axis, 1, 0) if isinstance(axis, str) else (*axis, 0)[:3]
            length, rest = divmod(got - more, factor)
            low, high = axes[name]
            fits &= rest == 0 and low <= length <= high and lengths.setdefault(name, length) == length
        if not fits:
            raise InvalidInputError(
                f"{entry.file}: {one.name}: expected {one.dtype} {list(one.shape)} with {dict(axes)}, "
                f"got {value.dtype} {list(value.shape)}."
            )
    return lengths


def shape_of(spec: TensorSpec, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape for lengths of the named axes."""

    def length(axis: Axis) -> int:
        if isinstance(axis, int):
            return axis
        name, factor, more = (axis, 1, 0) if isinstance(axis, str) else (*axis, 0)[:3]
        return lengths[name] * factor + more

    return tuple(length(axis) for axis in spec.shape)
