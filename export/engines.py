# SPDX-License-Identifier: Apache-2.0
"""From a checked ONNX graph to a plan of TensorRT or TensorRT-RTX.

The vendor's parser and builder run in a child process, after ONNX's own checker has passed the graph. Networks are
strongly typed: precision is what the graph says; but products of float32 values are rounded to TensorFloat-32's eleven
bits first, as TensorRT does by itself, in plans whose weights alone are narrowed. TensorRT-RTX's builder needs no GPU
and makes one plan for several architectures, which is finished on the user's GPU when it is opened; TensorRT measures
kernels, so it builds only on the GPU that will run the plan. Where there is a GPU, the plan is run once against its
graph.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secondeye.export.graphs import example_inputs, relative_error
from secondeye.export.weights import child_command
from secondeye.runtime.backends.cuda import find_gpu
from secondeye.runtime.bundle import EngineEntry, shape_of
from secondeye.runtime.errors import BackendUnavailableError, ExportError, InvalidInputError
from secondeye.runtime.files import file_hash
from secondeye.runtime.plans import PACKAGES, Plan, listener, need, read_secret

TIMEOUT_S = 4 * 3600
Axes = dict[str, tuple[int, int, int]]
"""Least, typical and greatest length of each named axis."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What plans are built for: a backend, its version, architectures, and the GPU here if it is one of them."""

    backend: str
    version: str
    names: tuple[str, ...]
    gpu: str | None


def choose_target(backend: str, text: str) -> Target:
    """The architectures of ``--target``.

    Args:
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        text: ``auto`` (this machine's GPU; without one, every architecture that TensorRT-RTX builds for) or a list such
            as ``sm_86,sm_89``.

    Raises:
        BackendUnavailableError: the backend is not installed, or needs a GPU that is not here.
        InvalidInputError: architectures that it does not build for.
    """
    module, label = need(backend), PACKAGES[backend].label
    try:
        gpu = find_gpu()
    except BackendUnavailableError as error:
        if backend == "tensorrt":
            raise BackendUnavailableError(
                f"--backend tensorrt: TensorRT builds only on the GPU that will run the engine: {error}"
            ) from error
        gpu = None
    if backend == "tensorrt":
        assert gpu is not None
        known = [gpu.target]
    else:
        known = [f"sm_{n[2:]}" for n in module.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", n)]
        known.sort(key=lambda name: int(name[3:]))
    if text == "auto":
        names = known if gpu is None else [gpu.target]
    else:
        words = [word.strip().lower() for word in text.split(",") if word.strip()]
        names = [f"sm_{word.removeprefix('sm_').removeprefix('sm')}" for word in words]
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise InvalidInputError(
            f"--target: {label} {module.__version__} builds for {', '.join(known)} here, "
            f"got {', '.join(strange) or text!r}."
        )
    unique = tuple(sorted(set(names), key=lambda name: int(name[3:])))
    runs = gpu is not None and gpu.target in unique
    return Target(backend=backend, version=module.__version__, names=unique, gpu=gpu.name if gpu and runs else None)


def compile_plan(
    folder: Path, entry: EngineEntry, axes: Axes, target: Target, key: str, made: Path, *, timing: Path, steps: int
) -> Plan:
    """Compile one engine's graph, and run the plan against it once where there is a GPU.

    Args:
        folder: where the graph lies.
        entry: its entry in the manifest.
        axes: the plan's shapes; it is fastest at the typical one.
        target: what it is for.
        key: the plan's content key.
        made: the folder for the plan.
        timing: the folder of TensorRT's timing caches.
        steps: of integer inputs; see :class:`secondeye.export.graphs.Graph`.

    Returns:
        The plan, sealed.

    Raises:
        ExportError: the vendor's parser or builder refuses the graph, or crashes.
    """
    plan = Plan(
        file=f"{Path(entry.file).stem}.{target.backend}.plan", sha256="", backend=target.backend,
        version=target.version, targets=target.names, graph=entry.graph_hash(), key=key,
    )  # fmt: skip
    gpu = re.sub(r"[^A-Za-z0-9]+", "_", target.gpu or "none")
    request = {
        "graph": str(folder / entry.file), "plan": str(made / plan.file), "backend": target.backend,
        "targets": target.names, "tf32": entry.precision not in ("fp32", "fp16"),
        "timing": str(timing / f"timing_{target.version}_{gpu}.cache"),
        "profile": {
            one.name: [list(shape_of(one, {n: ends[k] for n, ends in axes.items()})) for k in range(3)]
            for one in entry.inputs
        },
    }  # fmt: skip
    told = _in_child(request, f"{entry.file}: {PACKAGES[target.backend].label}")
    check = {"status": "not run", "reason": "no such GPU where it was built"}
    sealed = _sealed(plan, made, told["sha256"], check)
    if target.gpu is None:
        return sealed
    relative, absolute = run_against_graph(folder, made, entry, axes, sealed, steps)
    check = {"status": "run", "gpu": target.gpu, "relative_rms": relative, "max_abs": absolute}
    return _sealed(plan, made, told["sha256"], check)


def _sealed(plan: Plan, made: Path, digest: str, check: dict[str, Any]) -> Plan:
    secret = read_secret(make=True)
    assert secret is not None
    told = {name: getattr(plan, name) for name in ("file", "backend", "version", "targets", "graph", "key")}
    whole = Plan(**told, sha256=digest, check=check)
    return Plan(**told, sha256=digest, check=check, seal=whole.seal_under(secret))


def run_against_graph(
    folder: Path, made: Path, entry: EngineEntry, axes: Axes, plan: Plan, steps: int
) -> tuple[float, float]:
    """(relative, absolute) difference between a plan on this GPU and its graph on the CPU, at the least shapes."""
    from secondeye.runtime.backends.ort import OrtEngine
    from secondeye.runtime.backends.trt import TrtEngine
    from secondeye.runtime.sessions import open_session

    ends = {name: (low, high) for name, (low, _, high) in axes.items()}
    inputs = example_inputs(entry.inputs, {name: low for name, (low, _, _) in axes.items()}, steps, seed=0)
    wanted = OrtEngine(open_session(folder / entry.file), entry, ends, device="cpu").run(inputs)
    got = TrtEngine(made, entry, ends, plan).run(inputs)
    return relative_error([got[n] for n in wanted], list(wanted.values()))


def compile_checked(
    precision: str, islands: tuple[str, ...], make: Callable[[str | None], tuple[dict[str, Any], Plan]], name: str
) -> tuple[dict[str, Any], Plan]:
    """A graph and its plan; where the plan differs from the graph by more than the bound, again with more in float32.

    Args:
        precision: of the build; only ``fp16`` has more to give.
        islands: what may stay in float32, from the least to the most.
        make: the graph's record and the plan, for at least an island (None: what the measured error asks for).
        name: of the engine.

    Raises:
        ExportError: it is over the bound with everything in float32 that can be.
    """
    floor: str | None = None
    while True:
        record, plan = make(floor)
        error, bound = plan.check.get("relative_rms", 0.0), record["error"]["bound"]
        if error <= bound:
            return record, plan
        island = record["error"]["fp32_island"]
        rest = islands[islands.index(island) + 1 :] if precision == "fp16" and island in islands else ()
        if not rest:
            raise ExportError(
                f"{name}: the engine on {plan.check.get('gpu')} differs from its graph by {error:.2g} (relative), over "
                f"the bound of {bound:g}, and nothing is left to put into float32; use --backend onnx."
            )
        floor = rest[0]


def _in_child(request: dict[str, Any], label: str) -> dict[str, Any]:
    command = child_command("secondeye.export.engines", json.dumps(request))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{label} took over {TIMEOUT_S // 3600} hours and was stopped.") from None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("made: "):
            result: dict[str, Any] = json.loads(line.removeprefix("made: "))
            return result
        if line.startswith("reason: "):
            raise ExportError(f"{label} refuses it ({line.removeprefix('reason: ')}).")
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise ExportError(f"{label} crashed ({how}); use --backend onnx.")


# ---- in the child -----------------------------------------------------------------------------------------


def _child(request: dict[str, Any]) -> dict[str, Any]:
    """Parse and build; the plan is written to its place in a folder that nobody reads yet."""
    import onnx

    onnx.checker.check_model(request["graph"], full_check=True)
    module = need(request["backend"])
    log, lines = listener(module)
    builder = module.Builder(log)
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows no other kind
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = module.OnnxParser(network, log)
    if not parser.parse_from_file(request["graph"]):
        raise ExportError(parser.get_error(0).desc() if parser.num_errors else "the parser gives no reason")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, (least, typical, greatest) in request["profile"].items():
        profile.set_shape(name, least, typical, greatest)
    config.add_optimization_profile(profile)
    if not request["tf32"]:
        config.clear_flag(module.BuilderFlag.TF32)
    timing = Path(request["timing"])
    if request["backend"] == "tensorrt-rtx":
        config.num_compute_capabilities = len(request["targets"])
        for k, name in enumerate(request["targets"]):
            config.set_compute_capability(getattr(module.ComputeCapability, f"SM{name[3:]}"), k)
    else:
        seen = timing.read_bytes() if timing.is_file() else b""
        cache = config.create_timing_cache(seen)
        if cache is None or not config.set_timing_cache(cache, False):  # damaged, or of another driver or clock
            config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(lines[0] if lines else "the builder gives no reason")
    if request["backend"] == "tensorrt":
        part = timing.with_name(f".{timing.name}.part")
        part.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))
        os.replace(part, timing)
    target = Path(request["plan"])
    with target.open("wb") as file:
        file.write(memoryview(plan))
    return {"sha256": file_hash(target), "bytes": target.stat().st_size}


if __name__ == "__main__":
    try:
        _made = _child(json.loads(sys.argv[1]))
    except Exception as _error:  # the vendor's, ONNX's and the system's share no base
        print("reason:", " ".join(str(_error).split())[:300].rstrip("."))
        sys.exit(1)
    print("made:", json.dumps(_made))
