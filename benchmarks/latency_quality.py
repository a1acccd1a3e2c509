# SPDX-License-Identifier: Apache-2.0
"""Quality mode, stage by stage.

    python -m secondeye.benchmarks.latency --mode quality --bundle FOLDER [--size 768x512] [--steps 1,4,50]

Paints a rendered scene with the bundle's model, whole (dense) and in tiles round the disocclusions (sparse), for each
count of steps: milliseconds of every stage, median and p99. Beside them stand the multiplications and additions of the
networks' convolutions and matrix products and the bytes that these must move (weights, inputs and outputs once each),
counted by ONNX Runtime's profiler on the same shapes, as shares of a matrix product's and a copy's measured speed in
the same run. Sparse pictures are compared with the dense one where they are used.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from secondeye.benchmarks.latency import peaks
from secondeye.benchmarks.machine import console, machine
from secondeye.runtime.bundle import Bundle
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.models.mono2stereo import Mono2Stereo, blend_mask
from secondeye.runtime.quality import QualityPainter
from secondeye.runtime.sample import render_sample

STAGES = ("to latents", "denoise", "to pixels")
_ENGINES = {"encoder": "to latents", "unet": "denoise", "decoder": "to pixels"}
_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "MatMulNBits")
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class _Watched(Mono2Stereo):
    """A model that remembers what it ran."""

    def __init__(self, bundle: Bundle, **options: Any) -> None:
        super().__init__(bundle, **options)
        self.calls: Counter[tuple[str, Shapes]] = Counter()

    def run(self, name: str, *, out: NDArray[Any] | None = None, **inputs: NDArray[Any]) -> NDArray[Any]:
        self.calls[(name, tuple((n, v.shape) for n, v in inputs.items()))] += 1
        return super().run(name, out=out, **inputs)


def count(bundle: Bundle, name: str, shapes: Shapes) -> tuple[float, float]:
    """(multiplications and additions, bytes) of one run of an engine, by running it once under the profiler."""
    import onnxruntime as ort

    entry = bundle.manifest.engines[name]
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # every product by its own name
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = os.path.join(folder, "profile")
        session = ort.InferenceSession(bundle.folder / entry.file, settings, providers=["CPUExecutionProvider"])
        dtypes = {one.name: one.dtype for one in entry.inputs}
        session.run(None, {n: np.zeros(shape, dtypes[n]) for n, shape in shapes})
        events = json.loads(Path(session.end_profiling()).read_text())
    operations = moved = 0.0
    width = 2.0 if entry.precision == "fp16" else 4.0
    for event in events:
        told = event.get("args", {})
        if told.get("op_name") not in _PRODUCTS or not event["name"].endswith("_kernel_time"):
            continue
        ins, (out,) = ([next(iter(one.values())) for one in told[f"{k}put_type_shape"]] for k in ("in", "out"))
        inner = float(np.prod(ins[1][1:])) if told["op_name"].startswith("Conv") else ins[0][-1]
        larger = ins[0] if told["op_name"] == "ConvTranspose" else out
        operations += 2.0 * float(np.prod(larger)) * inner
        # On a CPU half-precision products run in float32: what moves is counted at the graph's own width.
        moved += (int(told["activation_size"]) + int(told["output_size"])) * width / 4.0
    weights = sum((bundle.folder / one.file).stat().st_size for one in (entry.data,) if one is not None)
    return operations, moved + weights


def _measure(painter: QualityPainter, scene: Any, repeats: int) -> tuple[dict[str, list[float]], NDArray[np.uint8]]:
    """Milliseconds of each stage, `repeats` times after one that does not count; the painted view."""
    pixels, frame = scene
    times: dict[str, list[float]] = defaultdict(list)
    for k in range(repeats + 1):
        spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        mark = ["", time.perf_counter()]

        def told(stage: str, done: int, total: int, spent: Any = spent, mark: Any = mark) -> None:
            now = time.perf_counter()
            if mark[0]:
                spent[mark[0]] += now - mark[1]
            mark[:] = [stage, now]

        begun = time.perf_counter()
        painted = painter(pixels, frame.disparity, frame.right, frame.holes, "right", told)
        told("", 0, 0)
        if k:
            for stage, seconds in spent.items():
                times[stage].append(1000 * seconds)
            times["all"].append(1000 * (time.perf_counter() - begun))
    return times, painted


def _row(model: _Watched, times: dict[str, list[float]], repeats: int, peak: dict[str, float], known: Any) -> Any:
    stages: dict[str, Any] = {}
    work: dict[str, list[float]] = {stage: [0.0, 0.0] for stage in STAGES}
    for call, often in model.calls.items():
        if call not in known:
            known[call] = count(model.bundle, *call)
        for k in range(2):
            work[_ENGINES[call[0]]][k] += known[call][k] * often / (repeats + 1)
    for stage, values in times.items():
        one = {"p50_ms": round(float(np.median(values)), 1), "p99_ms": round(float(np.percentile(values, 99)), 1)}
        operations, moved = work.get(stage, [sum(w[k] for w in work.values()) for k in range(2)])
        seconds = one["p50_ms"] / 1000
        one |= {"gflop": round(operations / 1e9, 2), "gb": round(moved / 1e9, 3)}
        one["share_of_matmul"] = round(operations / 1e9 / max(seconds, 1e-9) / peak["matmul_gflops"], 3)
        one["share_of_copy"] = round(moved / 1e9 / max(seconds, 1e-9) / peak["copy_gb_per_s"], 3)
        stages[stage] = one
    return stages


def measure(bundle: Path, height: int, width: int, steps: list[int], repeats: int, device: Any) -> dict[str, Any]:
    """Every row for one size, and what was measured beside."""
    pixels, _ = render_sample(width, height)
    frame = StereoConverter(StereoConfig(depth="cues")).convert(pixels)
    peak = peaks()
    known: dict[Any, tuple[float, float]] = {}
    rows: list[dict[str, Any]] = []
    used = blend_mask(frame.holes, min(16, max(2, round(height / 270)))) > 0
    first = StereoConfig(mode="quality", bundle=bundle, depth="cues", device=device)
    model = _Watched(QualityPainter(first).model.bundle, device=device)
    for number in steps:
        dense: NDArray[np.uint8] | None = None
        for tiles in ("dense", "sparse"):
            config = StereoConfig(
                mode="quality", bundle=bundle, depth="cues", device=device, tiles=tiles, steps=number,
                scheduler="warped" if number <= 4 else "ddim",
            )  # fmt: skip
            painter = QualityPainter(config)
            painter.model = model
            model.calls.clear()
            try:
                times, painted = _measure(painter, (pixels, frame), repeats)
            except InvalidInputError as error:  # a bundle of one size takes no tiles
                Console(stderr=True).print(f"{tiles}: {error}")
                continue
            row: dict[str, Any] = {"tiles": tiles, "steps": number, "scheduler": config.scheduler}
            row["stages"] = _row(model, times, repeats, peak, known)
            if dense is None:
                dense = painted
            else:
                apart = np.abs(painted.astype(np.float64) - dense)[used]
                row["from_dense"] = {"mean": round(float(apart.mean()), 2), "p99": float(np.percentile(apart, 99))}
            rows.append(row)
    return {
        "size": f"{width} x {height}",
        "device": device,
        "precision": model.bundle.manifest.engines["unet"].precision,
        "bundle_gb": round(sum(p.stat().st_size for p in bundle.iterdir()) / 1e9, 3),
        "share_to_paint": round(float(used.mean()), 4),
        "peaks": peak,
        "results": rows,
    }


def main(
    bundle: Annotated[Path, typer.Option(help="A Mono2Stereo bundle; made by secondeye build-engine.")],
    mode: Annotated[str, typer.Option(hidden=True)] = "quality",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the picture.")] = "768x512",
    steps: Annotated[str, typer.Option(help="Counts, with commas; up to 4 start from the warped view.")] = "1,4,50",
    repeats: Annotated[int, typer.Option(min=1, help="Of every measurement.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda, tensorrt or tensorrt-rtx.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
) -> None:
    """Measure quality mode on this machine: per stage, dense against sparse tiles, few steps against many."""
    wide, _, high = size.partition("x")
    counts = [int(one) for one in steps.split(",") if one.strip().isdigit()]
    if not (wide.isdigit() and high.isdigit()) or not counts:
        raise InvalidInputError(f"expected --size WIDTHxHEIGHT and --steps 1,4,50 or so, got {size!r} and {steps!r}.")
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"machine": machine(), "load_average": round(load, 1)}
    result |= measure(bundle, int(high), int(wide), counts, repeats, device)
    screen = console()
    title = f"{result['size']}, {100 * result['share_to_paint']:.1f} % to paint, {result['precision']}, {device}"
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    shown = (
        "encode ms",
        "denoise ms",
        "decode ms",
        "all ms",
        "p99",
        "GFLOP",
        "GB",
        "of matmul",
        "of copy",
        "off dense",
    )
    for heading in ("tiles", "steps", *shown):
        table.add_column(heading, justify="left" if heading == "tiles" else "right")
    for row in result["results"]:
        whole, apart = row["stages"]["all"], row.get("from_dense")
        table.add_row(
            row["tiles"], str(row["steps"]), *(f"{row['stages'][s]['p50_ms']:.0f}" for s in (*STAGES, "all")),
            f"{whole['p99_ms']:.0f}", f"{whole['gflop']:.1f}", f"{whole['gb']:.2f}",
            f"{100 * whole['share_of_matmul']:.0f} %", f"{100 * whole['share_of_copy']:.0f} %",
            "" if apart is None else f"{apart['mean']:.1f}",
        )  # fmt: skip
    screen.print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())
