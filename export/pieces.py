# SPDX-License-Identifier: Apache-2.0
"""The engines of a bundle, one by one: a graph and perhaps a plan, each made once and kept by what it is made from."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from secondeye import __version__
from secondeye.export.cache import Cache, code_hash, content_key
from secondeye.runtime.bundle import EngineEntry, File, TensorSpec
from secondeye.runtime.plans import Plan, read_secret

Told = Callable[[str, str], None]


def versions() -> dict[str, str]:
    """Of everything that has a hand in a graph."""
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {"secondeye": __version__, "python": platform.python_version()} | {p: metadata.version(p) for p in packages}


class Pieces:
    """Makes the engines of one bundle, or finds them in the cache.

    Args:
        precision, backend, target: of the request.
        cache: finished pieces.
        work: an empty folder.
        axes: least, typical and greatest length of each named axis.

    Raises:
        BackendUnavailableError, InvalidInputError: plans for the request's target cannot be built here.
    """

    def __init__(
        self, precision: str, backend: str, target: str, cache: Cache, work: Path, axes: dict[str, tuple[int, int, int]]
    ) -> None:
        self._precision, self._cache, self._work, self._axes = precision, cache, work, axes
        self._target = None
        if backend != "onnx":
            from secondeye.export.engines import choose_target

            self._target = choose_target(backend, target)

    def make(
        self, name: str, parts: dict[str, Any], graph_of: Callable[[], Any], told: Told
    ) -> tuple[EngineEntry, list[Path]]:
        """The engine's entry in the manifest and its files.

        Args:
            name: of the engine.
            parts: everything that the graph is made from.
            graph_of: reads and describes it, when it is not in the cache.
            told: called with (piece, step).
        """
        if self._target is None:
            home, record = self._graph(name, parts, graph_of, told, None)
            return _entry(name, record), [home / file for file in record["files"]]
        from secondeye.export.engines import compile_checked
        from secondeye.export.graphs import ISLANDS

        files: list[Path] = []

        def attempt(floor: str | None) -> tuple[dict[str, Any], Plan]:
            home, record = self._graph(name, parts, graph_of, told, floor)
            plan_home, plan = self._plan(name, home, record, told)
            files[:] = [*(home / file for file in record["files"]), plan_home / plan.file]
            return record, plan

        record, plan = compile_checked(self._precision, ISLANDS, attempt, name)
        return replace(_entry(name, record), plans=(plan,)), files

    def _graph(
        self, name: str, parts: dict[str, Any], graph_of: Callable[[], Any], told: Told, floor: str | None
    ) -> tuple[Path, dict[str, Any]]:
        from secondeye.export.graphs import QUANTISED_OPSET, make_graph
        from secondeye.export.traced import OPSET

        standard = self._target is not None  # vendors' parsers know ONNX's own operators alone
        blocks = self._precision == "fp8" or (standard and self._precision in ("int8", "int4"))
        opset = QUANTISED_OPSET if blocks else OPSET
        made_from = {**parts, "name": name, "precision": self._precision, "floor": floor, "opset": opset}
        made_from["standard"] = standard
        key = content_key(made_from | {"versions": versions(), "code": code_hash()})
        found = self._cache.find(key)
        if found is not None:
            told(name, "found, built before")
            return found
        graph = graph_of()
        folder = _empty(self._work / name)
        path = folder / f"{name}.onnx"
        error = make_graph(
            graph, self._precision, path, lambda step: told(name, step), floor=floor, standard=standard  # type: ignore[arg-type]
        )  # fmt: skip
        record = {
            "error": error,
            "opset": opset,
            "precision": self._precision,
            "inputs": [asdict(one) for one in graph.inputs],
            "outputs": [asdict(one) for one in graph.outputs],
            "steps": graph.steps,
        }
        return self._cache.keep(key, folder, record)

    def _plan(self, name: str, home: Path, record: dict[str, Any], told: Told) -> tuple[Path, Plan]:
        from secondeye.export.engines import compile_plan

        assert self._target is not None
        secret = hashlib.sha256(read_secret(make=True) or b"").hexdigest()
        entry = _entry(name, record)
        made_from = {"graph": entry.graph_hash(), "axes": self._axes, "target": asdict(self._target)}
        key = content_key(made_from | {"sealed under": secret, "code": code_hash()})
        found = self._cache.find(key)
        if found is not None:
            told(name, f"found for {', '.join(self._target.names)}, compiled before")
            plan = found[1]["plan"]
            return found[0], Plan(**plan | {"targets": tuple(plan["targets"])})
        told(name, f"compile for {', '.join(self._target.names)}")
        made = _empty(self._work / f"{name}.plan")
        timing = self._cache.folder
        built = compile_plan(home, entry, self._axes, self._target, key, made, timing=timing, steps=record["steps"])
        return self._cache.keep(key, made, {"plan": asdict(built)})[0], built


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _specs(tensors: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    def axis(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return tuple(
        TensorSpec(name=t["name"], dtype=t["dtype"], shape=tuple(axis(a) for a in t["shape"])) for t in tensors
    )


def _entry(name: str, record: dict[str, Any]) -> EngineEntry:
    files = record["files"]
    data = f"{name}.onnx.data"
    return EngineEntry(
        file=f"{name}.onnx",
        sha256=files[f"{name}.onnx"],
        data=File(file=data, sha256=files[data]) if data in files else None,
        backend="onnx",
        opset=record["opset"],
        precision=record["precision"],
        inputs=_specs(record["inputs"]),
        outputs=_specs(record["outputs"]),
        error=record["error"],
    )
