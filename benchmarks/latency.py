# SPDX-License-Identifier: Apache-2.0
"""Frames through a live session, on time or not.

    python -m secondeye.benchmarks.latency [--size 640x360] [--fps 30] [--seconds 10] [--json FILE] [--html FILE]
    python -m secondeye.benchmarks.latency --compare BEFORE.json AFTER.json
    python -m secondeye.benchmarks.latency --counted

Frames of a moving scene come at a steady rate (`--fps 0`: as fast as they go) and are timed from submit to ready, per
stage and in all: median, p90, p99, greatest, a histogram, and a row for every second, which shows throttling in a long
run. Beside them stand the network's operations and the warp's bytes, as shares of a matrix product's and a copy's
measured speed in the same run. `--stall` makes the consumer pause at random, `--changes` moves a slider every frame.
`--counted` gives the floors of devices that nobody has measured yet, by counting.
"""

from __future__ import annotations

import html
import json
import resource
import threading
import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from secondeye.benchmarks.machine import machine
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.live import LiveConfig, LiveSession
from secondeye.runtime.sample import render_sample

STAGES = ("look", "depth", "warp", "pack", "total", "depth_age")
# Published: dense fp16 TFLOP/s of the tensor cores, and GB/s of memory.
DEVICES = {
    "Jetson Orin Nano 8 GB": (10.2, 68.0),
    "Jetson Orin NX 16 GB": (15.0, 102.4),
    "Jetson AGX Orin 64 GB": (42.6, 204.8),
    "Jetson Thor T5000": (257.0, 273.0),
}


def peaks() -> dict[str, float]:
    """What this machine reaches: GFLOP/s of a float32 matrix product, GB/s of a copy (read plus written)."""
    a = np.random.default_rng(1).random((1536, 1536), np.float32)
    source = np.ones(1 << 26, np.uint8)
    target = np.empty_like(source)
    a @ a
    gflops, copy = 0.0, 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        gflops = max(gflops, 2 * 1536**3 / (time.perf_counter() - start) / 1e9)
        start = time.perf_counter()
        np.copyto(target, source)
        copy = max(copy, 2 * source.nbytes / (time.perf_counter() - start) / 1e9)
    return {"matmul_gflops": round(gflops, 1), "copy_gb_per_s": round(copy, 2)}


def network_flops(path: Path, height: int, width: int) -> float | None:
    """Multiplications and additions of an ONNX network's convolutions and matrix products; None without onnx."""
    try:
        import onnx
        from onnx import shape_inference
    except ImportError:
        return None
    model = onnx.load(str(path))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 3, height, width), strict=True):
        dim.dim_value = value
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, list[int]] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0.0
    for node in graph.node:
        out = shapes.get(node.output[0], [])
        if node.op_type == "Conv":
            total += 2.0 * float(np.prod(out)) * float(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "ConvTranspose":
            total += 2.0 * float(np.prod(shapes[node.input[0]])) * float(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm") and shapes.get(node.input[0]):
            total += 2.0 * float(np.prod(out)) * shapes[node.input[0]][-1]
    return total


def warp_bytes(height: int, width: int) -> int:
    """Bytes that a frame's warp has to move, each input read once and each output written once: upsample and widen,
    the disparity of the view, warp with holes and map, fill."""
    n = height * width
    return n * (3 + 4) + n * 8 + n * 8 + n * (3 + 4 + 3 + 1 + 4) + n * (3 + 1 + 4 + 3)


def frames_of(height: int, width: int) -> list[NDArray[np.uint8]]:
    """A moving picture: a rendered scene that pans, with the noise of a camera."""
    scene, _ = render_sample(width, height)
    rng = np.random.default_rng(1)
    noise = rng.integers(-3, 4, (height, 2 * width, 3), np.int16)
    frames = []
    for k in range(16):
        moved = np.roll(scene, 2 * k, 1).astype(np.int16) + noise[:, 7 * k : 7 * k + width]
        frames.append(np.clip(moved, 0, 255).astype(np.uint8))
    return frames


def memory_mib() -> float:
    """This process's resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _feed(
    session: LiveSession, frames: list[NDArray[np.uint8]], fps: float, end: float, changes: bool, stop: threading.Event
) -> None:
    begun, k = time.perf_counter(), 0
    while (now := time.perf_counter()) < end and not stop.is_set():
        due = begun + k / fps if fps else now
        if now < due:
            time.sleep(min(0.02, due - now))
            continue
        if changes:
            session.set(strength=1.0 + k % 40 / 10, convergence=k % 11 / 10)
        session.submit(frames[k % len(frames)], k, timeout=0.5)
        k += 1


def run(config: LiveConfig, *, fps: float, seconds: float, stall: bool, changes: bool) -> dict[str, Any]:
    """One measurement: everything that a row of the results holds."""
    frames = frames_of(config.height, config.width)
    start = time.perf_counter()
    session = LiveSession(config)
    open_ms = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    session.submit(frames[0], timeout=None)
    session.wait(30)
    first_ms = (time.perf_counter() - start) * 1e3
    latencies: list[float] = []
    series: list[dict[str, float]] = []
    rng = np.random.default_rng(2)
    stop = threading.Event()
    cpu, begun, base = time.process_time(), time.perf_counter(), session.stats
    end = begun + seconds
    feeder = threading.Thread(target=_feed, args=(session, frames, fps, end, changes, stop))
    feeder.start()
    settled, second = memory_mib(), list[float]()
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, transient=True, disable=seconds < 3) as progress:
        task = progress.add_task(f"{config.width} x {config.height}", total=seconds, now="")
        while (now := time.perf_counter()) < end:
            frame = session.wait(0.2)
            if frame is not None:
                second.append(frame.latency_ms)
                latencies.append(frame.latency_ms)
                del frame
            if stall and rng.random() < 0.02:
                time.sleep(rng.random() * 0.1)
            if now - begun >= len(series) + 1:
                if len(series) == 2:
                    settled = memory_mib()
                sorted_ms = np.array(second or [0.0])
                series.append(
                    {"fps": len(second), "p50_ms": round(float(np.median(sorted_ms)), 2),
                     "p99_ms": round(float(np.quantile(sorted_ms, 0.99)), 2), "memory_mib": round(memory_mib(), 1)}
                )  # fmt: skip
                second = []
                progress.update(task, completed=now - begun, now=f"{series[-1]['fps']} frames/s")
    stop.set()
    feeder.join()
    taken = time.perf_counter() - begun
    stats = session.stats
    session.close()
    edges = np.append(np.arange(0, 100, 2.5), np.inf)
    return {
        "size": f"{config.width}x{config.height}", "depth": str(config.depth), "depth_every": config.depth_every,
        "fps_in": fps, "seconds": seconds, "stall": stall, "changes": changes, "deadline_ms": config.deadline_ms,
        "open_ms": round(open_ms, 1), "first_frame_ms": round(first_ms, 1), "fps_out": round(len(latencies) / taken, 2),
        "frames": len(latencies), "dropped": stats.dropped - base.dropped, "late": stats.late, "cheaper": stats.cheaper,
        "depth_runs": stats.depth_runs - base.depth_runs,
        "p50_ms": round(float(np.median(latencies)), 2), "p99_ms": round(float(np.quantile(latencies, 0.99)), 2),
        "max_ms": round(max(latencies), 2),
        "stages": {
            name: {"p50": round(s.p50, 3), "p90": round(s.p90, 3), "p99": round(s.p99, 3), "max": round(s.max, 3)}
            for name, s in stats.stages.items()
        },
        "histogram_ms": {"edges": edges[:-1].tolist(), "counts": np.histogram(latencies, edges)[0].tolist()},
        "cores_used": round((time.process_time() - cpu) / taken, 2),
        "session_mib": round(stats.memory_bytes / 2**20, 1), "memory_grew_mib": round(memory_mib() - settled, 2),
        "series": series,
    }  # fmt: skip


def shares(row: dict[str, Any], peak: dict[str, float], flops: float | None) -> None:
    """Adds what the stages reach of this machine's peaks."""
    width, height = (int(v) for v in row["size"].split("x"))
    warp = warp_bytes(height, width) / row["stages"]["warp"]["p50"] / 1e6
    row["warp_gb_per_s"], row["warp_share_of_copy"] = round(warp, 2), round(warp / peak["copy_gb_per_s"], 3)
    if flops is not None and row["stages"]["depth"]["p50"] > 0:
        reached = flops / row["stages"]["depth"]["p50"] / 1e6
        row["network_gflop"] = round(flops / 1e9, 2)
        row["network_gflops"], row["network_share_of_matmul"] = (
            round(reached, 1),
            round(reached / peak["matmul_gflops"], 3),
        )


# ---- what a person looks at -----------------------------------------------------------------------------------


def _bars(values: list[float], labels: list[str], title: str, unit: str) -> str:
    """A bar chart as SVG."""
    width, height, most = 640, 180, max([*values, 1e-9])
    step = width / max(1, len(values))
    parts = [f'<svg viewBox="0 0 {width + 60} {height + 50}" role="img" aria-label="{html.escape(title)}">']
    parts.append(f'<text x="0" y="14" class="t">{html.escape(title)}</text>')
    for k, value in enumerate(values):
        tall = height * value / most
        parts.append(
            f'<rect x="{50 + k * step:.1f}" y="{24 + height - tall:.1f}" width="{max(1.0, step - 1):.1f}" '
            f'height="{tall:.1f}"><title>{html.escape(labels[k])}: {value:g} {unit}</title></rect>'
        )
        if k % max(1, len(values) // 10) == 0:
            parts.append(f'<text x="{50 + k * step:.1f}" y="{height + 42}">{html.escape(labels[k])}</text>')
    parts.append(f'<text x="0" y="34">{most:g}</text><text x="0" y="{24 + height}">0</text></svg>')
    return "".join(parts)


def page(result: dict[str, Any]) -> str:
    """The results as one page with plots."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>SecondEye: latency</title><style>"
        "body{font:15px system-ui;margin:2em auto;max-width:760px;color:#222}table{border-collapse:collapse;width:100%}"
        "td,th{padding:.25em .6em;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}"
        "svg{width:100%;margin:1em 0}rect{fill:#2a7f9e}text{font:11px system-ui;fill:#555}.t{font-size:13px;fill:#222}"
        "</style><h1>SecondEye: latency</h1><p>"
        + html.escape(", ".join(f"{k}: {v}" for k, v in {**result["machine"], **result["peaks"]}.items()))
    ]
    for row in result["results"]:
        parts.append(
            f"<h2>{row['size']}, depth every {row['depth_every'] or 'so often'}, {row['fps_in'] or 'as many as go'} "
            f"frames/s in</h2><p>{row['fps_out']} frames/s out; {row['dropped']} dropped, {row['late']} late; "
            f"{row['cores_used']} cores; session {row['session_mib']} MiB; memory grew {row['memory_grew_mib']} MiB."
        )
        parts.append("<table><tr><th>stage, ms<th>p50<th>p90<th>p99<th>max</tr>")
        for name in STAGES:
            s = row["stages"][name]
            parts.append(f"<tr><td>{name}<td>{s['p50']}<td>{s['p90']}<td>{s['p99']}<td>{s['max']}</tr>")
        parts.append("</table>")
        spread = row["histogram_ms"]
        parts.append(_bars(spread["counts"], [f"{e:g}" for e in spread["edges"]], "submit to ready, ms", "frames"))
        if len(row["series"]) > 1:
            seconds = [str(k + 1) for k in range(len(row["series"]))]
            parts.append(_bars([s["p99_ms"] for s in row["series"]], seconds, "p99 of every second, ms", "ms"))
            parts.append(_bars([s["fps"] for s in row["series"]], seconds, "frames/s of every second", "frames/s"))
    return "\n".join(parts) + "</html>\n"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Live sessions: submit to ready, milliseconds")
    for heading in (
        "size",
        "depth every",
        "in",
        "out",
        "p50",
        "p99",
        "max",
        "look",
        "depth",
        "warp",
        "pack",
        "dropped",
    ):
        table.add_column(heading, justify="left" if heading == "size" else "right")
    for row in rows:
        stages = row["stages"]
        table.add_row(
            row["size"], str(row["depth_every"]), f"{row['fps_in']:g}", f"{row['fps_out']:g}", f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}", f"{row['max_ms']:.1f}",
            *(f"{stages[name]['p50']:.1f}" for name in ("look", "depth", "warp", "pack")), str(row["dropped"]),
        )  # fmt: skip
    return table


def compare(before: Path, after: Path) -> Table:
    """Two results' rows side by side, by size and rate; under 1 is quicker after."""
    table = Table(title=f"{after.name} against {before.name}")
    for heading in ("size", "depth every", "in", "p50", "p99", "frames/s"):
        table.add_column(heading, justify="left" if heading == "size" else "right")
    try:
        old, new = (json.loads(path.read_text())["results"] for path in (before, after))
        known = {(r["size"], r["depth_every"], r["fps_in"]): r for r in old}
        for row in new:
            was = known.get((row["size"], row["depth_every"], row["fps_in"]))
            if was is None:
                continue
            ratios = (f"{row[key] / max(was[key], 1e-9):.2f}" for key in ("p50_ms", "p99_ms", "fps_out"))
            table.add_row(row["size"], str(row["depth_every"]), f"{row['fps_in']:g}", *ratios)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"--compare: expected two results of this benchmark's --json ({error}).") from error
    return table


def counted(flops: float) -> Table:
    """The floors of devices that have not been measured: operations over published peaks, bytes over bandwidth."""
    table = Table(title="Counted, not measured: floors in milliseconds (expect 1.5 to 2.5 times as much)")
    for heading in ("device", "depth network, fp16", "warp 1280x720", "warp 1920x1080", "warp 3840x2160"):
        table.add_column(heading, justify="left" if heading == "device" else "right")
    for name, (tflops, bandwidth) in DEVICES.items():
        warps = (warp_bytes(h, w) / bandwidth / 1e6 for h, w in ((720, 1280), (1080, 1920), (2160, 3840)))
        table.add_row(name, f"{flops / tflops / 1e9:.2f}", *(f"{ms:.2f}" for ms in warps))
    return table


def main(
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT, again for more.")] = None,
    depth: Annotated[str, typer.Option(help="builtin, cues, or an ONNX file.")] = "builtin",
    depth_every: Annotated[int, typer.Option(min=0, max=1000, help="0: on the side, as often as it can be had.")] = 2,
    fps: Annotated[float, typer.Option(min=0, max=1000, help="Frames a second; 0: as fast as they go.")] = 30.0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of every measurement; 600 shows throttling.")] = 10.0,
    deadline: Annotated[float, typer.Option(min=0, help="Milliseconds; 0 is none.")] = 0.0,
    threads: Annotated[int, typer.Option(min=0, max=256, help="0: one per core.")] = 0,
    stall: Annotated[bool, typer.Option("--stall", help="The consumer pauses at random, up to 100 ms.")] = False,
    changes: Annotated[bool, typer.Option("--changes", help="Strength and convergence change every frame.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots.")] = None,
    compare_files: Annotated[
        tuple[Path, Path] | None, typer.Option("--compare", help="Compare two results; measures nothing.")
    ] = None,
    counted_only: Annotated[
        bool, typer.Option("--counted", help="Floors of Jetsons, by counting; measures nothing.")
    ] = False,
) -> None:
    """Measure a live session on this machine: per stage, end to end, and over time."""
    console = Console()
    if compare_files is not None:
        console.print(compare(*compare_files))
        return
    builtin = Path(str(resources.files("secondeye.runtime") / "assets" / "depth_builtin.onnx"))
    flops = network_flops(builtin, 224, 416) if depth == "builtin" else None
    if counted_only:
        if flops is None:
            raise InvalidInputError("--counted: needs the onnx package to count: pip install onnx.")
        console.print(counted(flops))
        return
    peak = peaks()
    rows = []
    for text in size or ["640x360", "1280x720", "1920x1080"]:
        wide, _, high = text.partition("x")
        if not (wide.isdigit() and high.isdigit()):
            raise InvalidInputError(f"--size: expected WIDTHxHEIGHT, got {text!r}.")
        config = LiveConfig(
            width=int(wide), height=int(high), depth=depth, depth_every=depth_every, deadline_ms=deadline,
            threads=threads, policy="newest" if fps else "every",
        )  # fmt: skip
        row = run(config, fps=fps, seconds=seconds, stall=stall, changes=changes)
        shares(row, peak, flops)
        rows.append(row)
    console.print(_table(rows))
    result = {"machine": machine(), "peaks": peak, "results": rows}
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())
    if html_file is not None:
        with atomic_write(html_file) as file:
            file.write(page(result).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
