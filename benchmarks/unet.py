# SPDX-License-Identifier: Apache-2.0
"""One step of Mono2Stereo's network at full size, on everything that can run it, beside each other in one run.

    python -m secondeye.benchmarks.unet [--latent 96x160] [--device cuda] [--runs 50] [--folder DIR] [--json FILE]

Seeded random weights (866 million at --share 1), in float16 on a GPU and float32 on a CPU; PyTorch eager, compiled and
as a CUDA graph; ONNX Runtime's provider on the graph in ONNX's own operators and, as ``build-engine`` writes it, with
fused attention, each plain, as a CUDA graph, and in NHWC; TensorRT-RTX. Inputs and outputs lie on the device. Each is
told by the median and p99 of CUDA events round one step, and of the host's clock with waiting; by its share of the rate
of a large matrix product in the same run, for the network's multiplications and additions as PyTorch counts them; and
by its error against PyTorch in float32 with the same weights. What fails says what it said. Every family runs in a
process of its own. The compiler and TensorRT-RTX take minutes on a CPU: name the others with --only there.

--folder keeps graph and weights; a graph without its weights (``unet.onnx`` alone, folded constants within) gets them
again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich import box
from rich.table import Table

from secondeye.benchmarks.export import UNET, narrowed, random_weights
from secondeye.benchmarks.machine import console, machine, result_place
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.cli._words import two_numbers
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sessions import first_line, open_session

BRANCHES = 0.2  # of residual branches' last matrices, so that float16 holds what a random network makes
FAMILIES = ("torch", "onnxruntime", "onnxruntime fused", "tensorrt-rtx", "compile")
NAMES = ("source", "warped", "latent", "timestep", "keep", "gain")
Step = Callable[[], Any]


class Case(NamedTuple):
    """What is measured: sizes of the latent, share of the channels, device, runs, and where graph and weights lie."""

    height: int
    width: int
    share: float
    device: str
    runs: int
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """Of the network."""
        return narrowed(UNET, self.share)

    @property
    def graph(self) -> Path:
        """The network as ONNX."""
        return self.folder / "unet.onnx"


def make_module(case: Case, *, meta: bool = False) -> Any:
    """The step as a module, folded, in float32; on `meta` without weights."""
    torch, diffusion = import_module("torch"), import_module("secondeye.export.models.diffusion")
    mono2stereo = import_module("secondeye.export.models.mono2stereo")
    place = "meta" if meta else case.device
    with torch.device("meta"):
        unet = diffusion.UNet(case.config, 12)
    if not meta:
        weights = random_weights(lambda: diffusion.UNet(case.config, 12), 1, BRANCHES, device=place)
        unet.load_state_dict(weights, assign=True)
    with torch.no_grad(), torch.device(place):
        prompt = torch.zeros(1, 2, case.config["cross_attention_dim"])
        if not meta:
            generator = torch.Generator(place).manual_seed(2)
            prompt.normal_(generator=generator)
        unet.fold(prompt)
    return mono2stereo.step_module(unet).eval()


def make_inputs(case: Case) -> dict[str, Any]:
    """Seeded inputs on the device, as the runtime has them at a middle step."""
    torch = import_module("torch")
    rng = np.random.default_rng(3)
    shape = (1, 4, case.height, case.width)
    arrays: dict[str, Any] = {name: rng.standard_normal(shape).astype(np.float32) for name in NAMES[:3]}
    arrays |= {"timestep": np.array([501]), "keep": np.array([0.9], np.float32), "gain": np.array([-0.3], np.float32)}
    return {name: torch.from_numpy(value).to(case.device) for name, value in arrays.items()}


def count_flops(case: Case) -> float:
    """Multiplications and additions of one step."""
    torch, counter = import_module("torch"), import_module("torch.utils.flop_counter")
    inputs = [value.to("meta") for value in make_inputs(case).values()]
    with torch.no_grad(), counter.FlopCounterMode(display=False) as counted:
        make_module(case, meta=True)(*inputs)
    return float(counted.get_total_flops())


def matrix_rate(device: str) -> float:
    """TFLOP/s of a product of two square matrices, of 8192 in float16 on a GPU, of 1024 in float32 on a CPU."""
    torch = import_module("torch")
    side, dtype = (8192, torch.float16) if device == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times, _ = measure(lambda: a @ b, device, 20)
    return 2 * side**3 / float(np.median(times)) / 1e9


def measure(step: Step, device: str, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each run: on the GPU by events on the current stream, and on the host with waiting."""
    torch = import_module("torch")
    on_gpu = device == "cuda"
    inner, outer = [], []
    for k in range(runs + 5):
        begun = time.perf_counter()
        if on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            end.synchronize()
        else:
            step()
        taken = 1000 * (time.perf_counter() - begun)
        if k >= 5:
            outer.append(taken)
            inner.append(float(start.elapsed_time(end)) if on_gpu else taken)
    return inner, outer


def prepare(case: Case) -> None:
    """Write graph, weights and the float32 result, where they are not there yet."""
    torch, graphs = import_module("torch"), import_module("secondeye.export.graphs")
    module = make_module(case)
    half = case.device == "cuda"
    if half:
        graphs.to_half(module, "none")
    if not case.graph.is_file():
        traced, quantise = import_module("secondeye.export.traced"), import_module("secondeye.export.quantise")
        mono2stereo = import_module("secondeye.export.models.mono2stereo")
        module.cpu()
        model = traced.trace(mono2stereo.step_graph(lambda: module), module)
        quantise.fold_transposes(model)
        traced.save(model, case.graph)
        module.to(case.device)
    elif not case.graph.with_name("unet.onnx.data").is_file():
        import_module("secondeye.export.traced").write_weights(case.graph, module.state_dict())
    fused = case.folder / "unet_fused.onnx"
    if not fused.is_file():
        ir, fuse = import_module("onnx_ir"), import_module("secondeye.export.fused")
        model = ir.load(case.graph)
        fuse.fuse_attention(model)
        ir.save(model, fused)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        np.save(case.folder / "wanted.npy", module.float()(*make_inputs(case).values()).cpu().numpy())


Made = Iterator[tuple[str, Step, Callable[[], Any]]]
"""Name, one step, and what then holds its result."""


def _torch_rows(case: Case) -> Made:
    module = _half(case)
    step, result = _stepping(case, module)
    yield "PyTorch eager", step, result
    module.to(memory_format=import_module("torch").channels_last)
    yield "PyTorch eager, channels last", step, result
    if case.device == "cuda":
        yield "PyTorch, CUDA graph", _captured(step).replay, result


def _compile_rows(case: Case) -> Made:
    torch = import_module("torch")
    step, result = _stepping(case, torch.compile(_half(case).to(memory_format=torch.channels_last)))
    yield "torch.compile", step, result
    if case.device == "cuda":
        yield "torch.compile, CUDA graph", _captured(step).replay, result


def _stepping(case: Case, module: Any) -> tuple[Step, Callable[[], Any]]:
    """A step of a module, and what then gives its result."""
    inputs = list(make_inputs(case).values())
    held: list[Any] = [None]

    def step() -> None:
        held[0] = module(*inputs)

    return step, lambda: held[0]


def _half(case: Case) -> Any:
    module = make_module(case)
    return import_module("secondeye.export.graphs").to_half(module, "none") if case.device == "cuda" else module


def _captured(step: Step) -> Any:
    """A CUDA graph of a step, on the current stream, which is not the default one."""
    torch = import_module("torch")
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="relaxed"):
        step()
    return graph


def _ort_rows(case: Case, graph: str, name: str, by: str = "", options: Mapping[str, str] | None = None) -> Made:
    """A session; its CUDA graph is recorded `by` nobody, the ``provider``, or ``us``."""
    torch, ort = import_module("torch"), import_module("onnxruntime")
    inputs = make_inputs(case)
    out = torch.empty_like(inputs["latent"])
    on_gpu = case.device == "cuda"
    stream = int(torch.cuda.current_stream().cuda_stream) if on_gpu else 0
    session = open_session(
        case.folder / graph, device="cuda" if on_gpu else "cpu", cuda_graph=by == "provider", stream=stream,
        options=options, fixed={"batch": 1, "height": case.height, "width": case.width},
    )  # fmt: skip
    binding, settings = session.io_binding(), ort.RunOptions()
    if on_gpu:
        settings.add_run_config_entry("disable_synchronize_execution_providers", "1")
    for one, value in inputs.items():
        kind = np.int64 if one == "timestep" else np.float32
        binding.bind_input(one, case.device, 0, kind, tuple(value.shape), value.data_ptr())
    binding.bind_output("next", case.device, 0, np.float32, tuple(out.shape), out.data_ptr())

    def step() -> None:
        session.run_with_iobinding(binding, settings)

    if by == "us":
        recorded = _captured(step)
        out.zero_()
        yield name, recorded.replay, lambda: out
    else:
        yield name, step, lambda: out


def _rtx_rows(case: Case) -> Made:
    engines, bundle = import_module("secondeye.export.engines"), import_module("secondeye.runtime.bundle")
    files, trt = import_module("secondeye.runtime.files"), import_module("secondeye.runtime.backends.trt")
    mono2stereo = import_module("secondeye.export.models.mono2stereo")
    graph = mono2stereo.step_graph(None)
    data = case.graph.with_name("unet.onnx.data")
    entry = bundle.EngineEntry(
        file=case.graph.name, sha256=files.file_hash(case.graph), backend="onnx", opset=18, precision="fp16", error={},
        data=bundle.File(file=data.name, sha256=files.file_hash(data)), inputs=graph.inputs, outputs=graph.outputs,
    )  # fmt: skip
    lengths = {"batch": 1, "height": case.height, "width": case.width}
    target = engines.choose_target("tensorrt-rtx", "auto")
    axes = {name: (n, n, n) for name, n in lengths.items()}
    here = {"timing": case.folder, "steps": 1000}
    plan = engines.compile_plan(case.folder, entry, axes, target, "measured", case.folder, **here)
    inputs = make_inputs(case)
    for recorded in (False, True):
        engine = trt.TrtEngine(case.folder, entry, {n: (k, k) for n, k in lengths.items()}, plan, cuda_graph=recorded)
        out = {"next": import_module("torch").empty_like(inputs["latent"])}
        name = "TensorRT-RTX, CUDA graph" if recorded else "TensorRT-RTX"
        yield name, lambda engine=engine, out=out: engine.run(inputs, out), lambda out=out: out["next"]  # type: ignore[misc]


def _rows_of(family: str, case: Case) -> list[Made]:
    """What may fail alone, alone."""
    if family == "torch":
        return [_torch_rows(case)]
    if family == "compile":
        return [_compile_rows(case)]
    if family == "tensorrt-rtx":
        return [_rtx_rows(case)]
    graph, name = "unet.onnx", "ONNX Runtime"
    if family == "onnxruntime fused":
        graph, name = "unet_fused.onnx", "ONNX Runtime, fused attention"
    rows = [_ort_rows(case, graph, name)]
    if case.device == "cuda":
        rows.append(_ort_rows(case, graph, f"{name}, CUDA graph", "provider"))
        rows.append(_ort_rows(case, graph, f"{name}, NHWC, CUDA graph", "provider", {"prefer_nhwc": "1"}))
        rows.append(_ort_rows(case, graph, f"{name}, CUDA graph by us", "us"))
    return rows


def run_family(family: str, case: Case) -> Iterator[dict[str, Any]]:
    """Every row of a family; what fails has a row that says so."""
    torch = import_module("torch")
    relative_error = import_module("secondeye.export.graphs").relative_error
    torch.backends.cudnn.benchmark = True
    on_gpu = case.device == "cuda"
    wanted = np.load(case.folder / "wanted.npy")
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()) if on_gpu else nullcontext():
        for rows in _rows_of(family, case):
            name, begun = family, time.perf_counter()
            try:
                for name, step, result in rows:
                    step()
                    opened = time.perf_counter() - begun
                    inner, outer = measure(step, case.device, case.runs)
                    relative, absolute = relative_error([result().float().cpu().numpy()], [wanted])
                    row = {
                        "name": name, "p50_ms": float(np.median(inner)), "p99_ms": float(np.percentile(inner, 99)),
                        "host_p50_ms": float(np.median(outer)), "relative_rms": relative, "max_abs": absolute,
                        "seconds_to_open": opened,
                    }  # fmt: skip
                    if on_gpu:
                        free, whole = torch.cuda.mem_get_info()
                        row["gpu_gib_taken"] = (whole - free) / 2**30
                    yield row
                    begun = time.perf_counter()
            except Exception as error:  # torch's, ONNX Runtime's and the vendors' share no base
                yield {"name": family if name == family else f"after {name}", "error": first_line(error)}


def _in_child(family: str, case: Case, timeout: float) -> list[dict[str, Any]]:
    told = json.dumps([family, *case[:5], str(case.folder)])
    command = [sys.executable, "-m", "secondeye.benchmarks.unet", "--child", told]
    rows, said = [], ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        out, said = done.stdout, f"exit code {done.returncode}" if done.returncode else ""
        last = done.stderr.strip().splitlines()
        said = f"{said}: {last[-1][:200]}" if said and last else said
    except subprocess.TimeoutExpired as error:
        out, said = (error.stdout or b"").decode(), f"stopped after {timeout:g} s"
    rows = [json.loads(line.removeprefix("row: ")) for line in out.splitlines() if line.startswith("row: ")]
    return [*rows, {"name": family, "error": said}] if said else rows


def _child(text: str) -> None:
    family, height, width, share, device, runs, folder = json.loads(text)
    case = Case(height, width, share, device, runs, Path(folder))
    if family == "prepare":
        prepare(case)
        told = {"tflop": count_flops(case) / 1e12, "matrix_tflops": matrix_rate(case.device)}
        print("row:", json.dumps(told), flush=True)
        return
    for row in run_family(family, case):
        print("row:", json.dumps(row), flush=True)


def table_of(result: dict[str, Any]) -> Table:
    """The rows, quickest first within what was measured."""
    table = Table(
        title=f"One step, latent {result['latent']}, {result['tflop']:.2f} TFLOP; {result['device']}, matrix product "
        f"{result['matrix_tflops']:.0f} TFLOP/s", box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    for heading in ("", "p50 ms", "p99 ms", "host ms", "of matmul", "rel. error", "max error", "GPU GiB", "open s"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in result["rows"]:
        if "error" in row:
            table.add_row(row["name"], row["error"][:90])
            continue
        numbers = (f"{row[key]:.2f}" for key in ("p50_ms", "p99_ms", "host_p50_ms"))
        table.add_row(
            row["name"], *numbers, f"{100 * row['share_of_matmul']:.0f} %", f"{row['relative_rms']:.1e}",
            f"{row['max_abs']:.1e}", f"{row['gpu_gib_taken']:.1f}" if "gpu_gib_taken" in row else "",
            f"{row['seconds_to_open']:.0f}",
        )  # fmt: skip
    return table


def main(
    latent: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the latent, an eighth of the picture's.")] = "96x160",
    share: Annotated[float, typer.Option(help="Of the network's channels; 1 is full size.")] = 1.0,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    runs: Annotated[int, typer.Option(min=1, help="Of every row, after five that do not count.")] = 50,
    only: Annotated[str, typer.Option(help=f"Families, commas between: {', '.join(FAMILIES)}.")] = ",".join(FAMILIES),
    timeout: Annotated[float, typer.Option(help="Seconds for a family.")] = 600.0,
    folder: Annotated[Path | None, typer.Option(help="Keep graph and weights here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure one step of the network on everything here that runs it."""
    if child is not None:
        _child(child)
        return
    pair = two_numbers(latent)
    chosen = [word.strip() for word in only.split(",")]
    if pair is None or device not in ("cuda", "cpu") or not set(chosen) <= set(FAMILIES):
        raise InvalidInputError(
            f"expected --latent HEIGHTxWIDTH, --device cuda or cpu and --only of {', '.join(FAMILIES)}; "
            f"got {latent!r}, {device!r} and {only!r}."
        )
    with tempfile.TemporaryDirectory(prefix="secondeye-unet-") as scratch:
        case = Case(*pair, share, device, runs, folder or Path(scratch))
        case.folder.mkdir(parents=True, exist_ok=True)
        (facts,) = _in_child("prepare", case, timeout)
        if "error" in facts:
            raise InvalidInputError(f"could not make the network: {facts['error']}")
        result: dict[str, Any] = {
            "machine": machine(),
            "device": _device_name(device),
            "latent": latent,
            "share": share,
        }
        result |= facts | {"rows": []}
        for family in chosen:
            for row in _in_child(family, case, timeout):
                if "p50_ms" in row:
                    row["share_of_matmul"] = facts["tflop"] / (row["p50_ms"] / 1000) / facts["matrix_tflops"]
                result["rows"].append({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()})
                typer.echo(json.dumps(result["rows"][-1]), err=True)
            if json_file is not None:
                with atomic_write(json_file) as file:
                    file.write(json.dumps(result, indent=1).encode())
    console().print(table_of(result))


def _device_name(device: str) -> str:
    return str(import_module("torch").cuda.get_device_name()) if device == "cuda" else "CPU"


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
