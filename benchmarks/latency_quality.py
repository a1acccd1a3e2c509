# SPDX-License-Identifier: Apache-2.0
"""Quality mode, stage by stage.

    python -m secondeye.benchmarks.latency --mode quality [--bundle FOLDER] [--picture FILE]... [--size 896x512]
        [--steps 1,4,50] [--json FILE] [--html FILE]

Paints a rendered scene, and pictures of your own, with the bundle's model, whole (dense) and in tiles round the
disocclusions (sparse), for each count of steps (pictures of your own for the first): milliseconds of every stage,
median and p99. Beside them stand the multiplications and additions of the networks' convolutions and matrix products
and the bytes that these must move (weights, inputs and outputs once each), counted by ONNX Runtime's profiler on the
same shapes, as shares of a matrix product's and a copy's measured speed in the same run. Sparse pictures are compared
with the dense one where they are used, and beside that stands what another seed of the noise makes of the dense one.

Work and shares are told for the CPU alone, whose limit this program can measure; on a GPU stages are timed by its own
clock, and beside them stands how much of its memory is taken, by anyone. And p99 of fewer than a hundred runs is little
less than the greatest.

Without --bundle one is built first, of the real networks' layout with a share (--share) of their channels and random
weights: time and work are true for such networks, pictures and differences are no real model's. Needs the exporters.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from secondeye.benchmarks.latency import peaks
from secondeye.benchmarks.latency_page import quality_page
from secondeye.benchmarks.machine import console, machine
from secondeye.runtime import ops
from secondeye.runtime.backends.cuda import memory_used
from secondeye.runtime.bundle import Bundle
from secondeye.runtime.cli._words import two_numbers
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write, check_place
from secondeye.runtime.models.mono2stereo import Mono2Stereo
from secondeye.runtime.pictures import read_picture
from secondeye.runtime.quality import QualityPainter, painting_mask
from secondeye.runtime.sample import render_sample

STAGES = ("to latents", "denoise", "to pixels")
_ENGINES = {"encoder": "to latents", "unet": "denoise", "decoder": "to pixels"}
_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "MatMulNBits", "MultiHeadAttention")
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
        if (
            told["op_name"] == "MultiHeadAttention"
        ):  # two products, over the keys' tokens: [N, L, C] or [N, heads, L, c]
            inner = 2.0 * ins[1][-2]
        larger = ins[0] if told["op_name"] == "ConvTranspose" else out
        operations += 2.0 * float(np.prod(larger)) * inner
        # On a CPU half-precision products run in float32: what moves is counted at the graph's own width.
        moved += (int(told["activation_size"]) + int(told["output_size"])) * width / 4.0
    weights = sum((bundle.folder / one.file).stat().st_size for one in (entry.data,) if one is not None)
    return operations, moved + weights


def _measure(painter: QualityPainter, scene: Any, repeats: int) -> tuple[dict[str, list[float]], NDArray[np.uint8]]:
    """Milliseconds of each stage, `repeats` times; the painted view."""
    pixels, frame = scene
    times: dict[str, list[float]] = defaultdict(list)
    resident = painter.model.resident
    if resident is not None:
        resident.one_graph = False  # or stages could not be told apart
    for _ in range(repeats):
        spent: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        mark = ["", time.perf_counter()]

        def told(stage: str, done: int, total: int, spent: Any = spent, mark: Any = mark) -> None:
            now = time.perf_counter()
            if mark[0]:
                spent[mark[0]] = spent.get(mark[0], 0.0) + now - mark[1]
            mark[:] = [stage, now]

        begun = time.perf_counter()
        painted = painter(pixels, frame.disparity, frame.right, frame.holes, "right", told)
        told("", 0, 0)
        for stage in STAGES:  # on a GPU work is only queued when it is told of, so the GPU's own clock counts
            times[stage].append(1000 * spent[stage] if resident is None else resident.stage_ms[stage])
        times["all"].append(1000 * (time.perf_counter() - begun))
    return times, painted


def _stages(
    model: _Watched, times: dict[str, list[float]], repeats: int, peak: dict[str, float], known: Any
) -> dict[str, Any]:
    """Times, work and, where the device's limit is known, shares of it, by stage."""
    stages: dict[str, Any] = {}
    work: dict[str, list[float]] = {stage: [0.0, 0.0] for stage in STAGES}
    for call, often in model.calls.items() if peak else ():  # counting runs the network on the CPU
        if call not in known:
            known[call] = count(model.bundle, *call)
        for k in range(2):
            work[_ENGINES[call[0]]][k] += known[call][k] * often / repeats
    for stage, values in times.items():
        one = {"p50_ms": round(float(np.median(values)), 1), "p99_ms": round(float(np.percentile(values, 99)), 1)}
        operations, moved = work.get(stage, [sum(w[k] for w in work.values()) for k in range(2)])
        seconds = one["p50_ms"] / 1000
        if peak:
            one |= {"gflop": round(operations / 1e9, 2), "gb": round(moved / 1e9, 3)}
            one["share_of_matmul"] = round(operations / 1e9 / max(seconds, 1e-9) / peak["matmul_gflops"], 3)
            one["share_of_copy"] = round(moved / 1e9 / max(seconds, 1e-9) / peak["copy_gb_per_s"], 3)
        stages[stage] = one
    return stages


def random_bundle(folder: Path, share: float) -> Path:
    """A bundle like the real one's with a share of its channels and random weights, as its own command builds it."""
    from secondeye.benchmarks.export import make_sources

    building = import_module("secondeye.export.build_engine")
    building.need_exporters()
    make_sources(folder / "sources", share, branches=0.2)
    request = building.Request(
        checkpoint=folder / "sources" / "mono2stereo.ckpt", base=folder / "sources" / "stable-diffusion-2", depth=None,
        shape=building.parse_shape("128x128:512x896:1088x1920"), out=folder / "bundle", cache=folder / "cache",
    )  # fmt: skip
    screen = Console(stderr=True)
    bundle: Path = building.build(request, lambda piece, step: screen.print(f"{piece}: {step}", highlight=False))
    return bundle


def _scenes(pictures: list[Path], height: int, width: int) -> list[tuple[str, NDArray[np.uint8]]]:
    scenes = [("rendered", render_sample(width, height)[0])]
    for path in pictures:
        pixels = np.ascontiguousarray(read_picture(path).pixels[:, :, :3])
        scenes.append((path.stem, ops.resize(pixels, height, width, filter="bilinear")))
    return scenes


class _Bench:
    """Measures one model; counts of work are made once for each shape."""

    def __init__(self, bundle: Path, repeats: int, device: Any, nhwc: list[str]) -> None:
        self.bundle, self.repeats, self.device = bundle, repeats, device
        self.painter = QualityPainter(self.config("dense", 1))
        self.model = self.painter.model = _Watched(self.painter.model.bundle, device=device, nhwc=nhwc)
        self.converter = StereoConverter(StereoConfig())
        self.peak = peaks() if device == "cpu" else {}
        self.known: dict[Any, tuple[float, float]] = {}

    def config(self, tiles: Any, steps: int) -> StereoConfig:
        return StereoConfig(
            mode="quality", bundle=self.bundle, depth="builtin", device=self.device, tiles=tiles, steps=steps,
            scheduler="warped" if steps <= 4 else "ddim",
        )  # fmt: skip

    def _set(self, tiles: Any, steps: int) -> None:
        """What is painted next; the model's calls are counted from there."""
        painter = self.painter
        painter.config = self.config(tiles, steps)
        painter.schedule = self.model.schedule(painter.config.scheduler, steps, painter.config.noise)
        self.model.calls.clear()

    def picture(self, name: str, pixels: NDArray[np.uint8], steps: list[int]) -> list[dict[str, Any]]:
        """The rows of one picture."""
        frame = self.converter.convert(pixels)
        used = painting_mask(frame.holes) > 0
        rows: list[dict[str, Any]] = []
        if not used.any():
            Console(stderr=True).print(f"{name}: nothing is hidden in it, so there is nothing to paint.")
            return rows
        for number in steps:
            runs = self.repeats if number <= 10 else 1
            for tiles in ("dense", "sparse"):
                painter = self.painter
                try:
                    self._set(tiles, 1)
                    _measure(painter, (pixels, frame), 1)  # the first of its shapes does not count
                    self._set(tiles, number)
                    times, painted = _measure(painter, (pixels, frame), runs)
                except InvalidInputError as error:  # a bundle of one size takes no tiles
                    Console(stderr=True).print(f"{tiles}: {error}")
                    continue
                row: dict[str, Any] = {
                    "picture": name, "share_to_paint": round(float(used.mean()), 4), "tiles": tiles, "steps": number,
                    "scheduler": painter.config.scheduler, "runs": runs,
                    "stages": _stages(self.model, times, runs, self.peak, self.known),
                }  # fmt: skip
                if self.model.resident is not None:
                    row["gpu_gib_taken"] = round(memory_used() / 2**30, 2)
                if tiles == "dense":
                    dense, whole = painted, row
                    if number == steps[0]:
                        painter.config = replace(painter.config, seed=1)
                        row["from_another_seed"] = _apart(_measure(painter, (pixels, frame), 1)[1], dense, used)
                else:
                    assert painter.layout is not None
                    row |= {
                        "tiles_of_picture": round(painter.layout.share, 3), "pieces": len(painter.layout.pieces),
                        "note": painter.note, "from_dense": _apart(painted, dense, used),
                        "speedup": round(whole["stages"]["all"]["p50_ms"] / row["stages"]["all"]["p50_ms"], 2),
                    }  # fmt: skip
                rows.append(row)
        return rows


def _apart(painted: NDArray[np.uint8], dense: NDArray[np.uint8], used: NDArray[np.bool_]) -> dict[str, float]:
    """How far two pictures are from each other where they are used, in levels of 255."""
    apart = np.abs(painted.astype(np.float64) - dense)[used]
    if not apart.size:
        return {"mean": 0.0, "p99": 0.0}
    return {"mean": round(float(apart.mean()), 2), "p99": float(np.percentile(apart, 99))}


def measure(
    bundle: Path,
    pictures: list[Path],
    size: tuple[int, int],
    steps: list[int],
    repeats: int,
    device: Any,
    nhwc: list[str],
) -> dict[str, Any]:
    """Every row for one size (height, width), and what was measured beside."""
    bench = _Bench(bundle, repeats, device, nhwc)
    rows = []
    for number, (name, pixels) in enumerate(_scenes(pictures, *size)):
        rows += bench.picture(name, pixels, steps if number == 0 else steps[:1])
    return {
        "size": f"{size[1]} x {size[0]}",
        "model_size": "{1} x {0}".format(*bench.model.size_for(*size)),
        "device": device,
        "nhwc": nhwc if device == "cuda" else [],
        "precision": bench.model.bundle.manifest.engines["unet"].precision,
        "bundle_gb": round(sum(p.stat().st_size for p in bundle.iterdir()) / 1e9, 3),
        "peaks": bench.peak,
        "results": rows,
    }


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        title=f"{result['size']}, the model at {result['model_size']}, {result['precision']}, {result['device']}",
        box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    shown = ("tiles of it", "encode ms", "denoise ms", "decode ms", "all ms", "p99", "faster", "GFLOP", "GB",
             "of matmul", "of copy", "off dense", "other seed")  # fmt: skip
    for heading in ("picture", "to paint", "tiles", "steps", *shown):
        table.add_column(heading, justify="left" if heading in ("picture", "tiles") else "right")
    digits = 0 if result["device"] == "cpu" else 1
    for row in result["results"]:
        whole = row["stages"]["all"]
        table.add_row(
            row["picture"], f"{100 * row['share_to_paint']:.1f} %", row["tiles"], str(row["steps"]),
            f"{100 * row['tiles_of_picture']:.0f} %" if "tiles_of_picture" in row else "",
            *(f"{row['stages'][s]['p50_ms']:.{digits}f}" for s in (*STAGES, "all")), f"{whole['p99_ms']:.{digits}f}",
            f"{row['speedup']:.2f} x" if "speedup" in row else "",
            *(f"{whole[key]:.{k}f}" if key in whole else "" for k, key in ((1, "gflop"), (2, "gb"))),
            *(f"{100 * whole[key]:.0f} %" if key in whole else "" for key in ("share_of_matmul", "share_of_copy")),
            *(f"{row[name]['mean']:.1f}" if name in row else "" for name in ("from_dense", "from_another_seed")),
        )  # fmt: skip
    return table


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="A Mono2Stereo bundle; one of random weights is built when left out.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of that one's channels: 0.25, 0.5 or 1 (which needs 16 GB of memory).")
    ] = 0.25,
    mode: Annotated[str, typer.Option(hidden=True)] = "quality",
    picture: Annotated[list[Path] | None, typer.Option(help="Beside the rendered scene; again for more.")] = None,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the pictures.")] = "896x512",
    steps: Annotated[str, typer.Option(help="Counts, with commas; up to 4 start from the warped view.")] = "1,4,50",
    repeats: Annotated[int, typer.Option(min=1, help="Of every measurement of up to 10 steps.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, tensorrt or tensorrt-rtx.")] = "cpu",
    nhwc: Annotated[str, typer.Option(help="Engines that keep channels last on cuda, in fp16, with commas.")] = "unet",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.")] = None,
) -> None:
    """Measure quality mode on this machine: per stage, dense against sparse tiles, few steps against many."""
    pair = two_numbers(size)
    counts = [int(one) for one in steps.split(",") if one.strip().isdecimal()]
    fits = len(counts) == steps.count(",") + 1 and all(1 <= one <= 50 for one in counts)
    if pair is None or not fits:
        raise InvalidInputError(f"expected --size WIDTHxHEIGHT and --steps 1,4,50 or so, got {size!r} and {steps!r}.")
    if share not in (0.25, 0.5, 1.0):
        raise InvalidInputError(f"--share: expected 0.25, 0.5 or 1, got {share:g}.")
    for place in (json_file, html_file):
        if place is not None:
            check_place(place)
    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2) if hasattr(os, "getloadavg") else 0.0
    result: dict[str, Any] = {"machine": machine() | {"load": load}}
    with tempfile.TemporaryDirectory(prefix="secondeye-latency-") as work:
        made = random_bundle(Path(work), share) if bundle is None else bundle
        told = f"a network of the real one's layout with {share:g} of its channels"
        result |= {"bundle": told if bundle is None else bundle.name, "random_weights": bundle is None}
        result |= measure(made, picture or [], pair[::-1], counts, repeats, device, nhwc.split(","))
    console().print(_table(result))
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())
    if html_file is not None:
        with atomic_write(html_file) as file:
            file.write(quality_page(result).encode())
