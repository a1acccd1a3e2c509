# SPDX-License-Identifier: Apache-2.0
"""Frames through a live session, on time or not; also as ``secondeye bench``.

    python -m secondeye.benchmarks.latency [--size 640x360] [--fps 30] [--seconds 10] [--json FILE] [--html FILE]
    python -m secondeye.benchmarks.latency --compare BEFORE.json AFTER.json
    python -m secondeye.benchmarks.latency --counted

Frames of a moving scene come at a steady rate (`--fps 0`: as fast as they go) and are timed from submit to ready, per
stage and in all: median, p90, p99, greatest, a histogram, the jitter, and a row for every second, which shows
throttling in a long run (`--seconds 600`). Beside them stand the network's operations and the stages' bytes, as shares
of a matrix product's and a copy's measured speed in the same run, and watts and clocks where the machine tells them.
`--device cuda` measures sessions on a GPU (frames on the device, graphs and networks: `latency_gpu`).
`--stall` makes the consumer pause at random, `--changes` moves a slider every frame. `--counted` gives what fits
devices that nobody has measured yet, by counting.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from secondeye.benchmarks.counted import network_flops, pack_bytes, presets, stage_counts, warp_bytes
from secondeye.benchmarks.latency_page import page
from secondeye.benchmarks.machine import console, machine, memory_mib, result_place
from secondeye.benchmarks.power import PowerMeter
from secondeye.runtime import ops
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.cli._words import two_numbers
from secondeye.runtime.depth import OnnxDepth, builtin_path
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.live import LiveSession
from secondeye.runtime.live_config import LiveConfig
from secondeye.runtime.sample import render_sample


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


@functools.lru_cache(maxsize=1)
def frames_of(height: int, width: int, count: int = 16) -> list[NDArray[np.uint8]]:
    """A moving picture: a rendered scene (over 1280 wide: enlarged) that pans, with the noise of a camera."""
    share = min(1.0, 1280 / width)
    scene, _ = render_sample(round(share * width), round(share * height))
    if share < 1:
        scene = ops.resize(scene, height, width, filter="bilinear")
    rng = np.random.default_rng(1)
    noise = rng.integers(-3, 4, (height, 2 * width, 3), np.int16)
    frames = []
    for k in range(count):
        moved = np.roll(scene, 2 * k, 1).astype(np.int16) + noise[:, 7 * k : 7 * k + width]
        frames.append(np.clip(moved, 0, 255).astype(np.uint8))
    return frames


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


def run(
    config: LiveConfig, *, fps: float, seconds: float, stall: bool, changes: bool, frames_most: int = 0
) -> dict[str, Any]:
    """One measurement of the fast mode, until the time is over or so many frames are through: a row of the results."""
    frames = frames_of(config.height, config.width)
    start = time.perf_counter()
    session = LiveSession(config)
    open_ms = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    session.submit(frames[0], timeout=None)
    session.wait(30)
    first_ms = (time.perf_counter() - start) * 1e3
    latencies, moments = array("d"), array("d")  # eight bytes a frame, so that what grows is not this
    series: list[dict[str, float]] = []
    rng = np.random.default_rng(2)
    stop = threading.Event()
    cpu, begun, base = time.process_time(), time.perf_counter(), session.stats
    end = begun + seconds
    feeder = threading.Thread(target=_feed, args=(session, frames, fps, end, changes, stop))
    feeder.start()
    settled, second = memory_mib(), list[float]()
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[now]}"))
    meter = PowerMeter()
    try:
        with meter, Progress(*columns, transient=True, disable=seconds < 3) as progress:
            task = progress.add_task(f"{config.width} x {config.height}", total=seconds, now="")
            while (now := time.perf_counter()) < end and not (frames_most and len(latencies) >= frames_most):
                frame = session.wait(0.2)
                if frame is not None:
                    moments.append(time.perf_counter())
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
    finally:
        stop.set()
        feeder.join()
    taken = time.perf_counter() - begun
    stats = session.stats
    session.close()
    if not moments:
        raise InvalidInputError(f"no frame was ready within {taken:.1f} s; give more --seconds or a smaller --size.")
    # From the first result to the last.
    rate = (len(moments) - 1) / (moments[-1] - moments[0]) if len(moments) > 1 else 1 / taken
    edges = np.append(np.arange(0, 100, 2.5), np.inf)
    return {
        "size": f"{config.width}x{config.height}", "depth": str(config.depth), "device": config.device,
        "depth_every": config.depth_every,
        "fps_in": fps, "seconds": seconds, "stall": stall, "changes": changes, "deadline_ms": config.deadline_ms,
        "open_ms": round(open_ms, 1), "first_frame_ms": round(first_ms, 1), "fps_out": round(rate, 2),
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
        "session_mib": round(stats.memory_bytes / 2**20, 1), "memory_grew_mib": round(memory_mib() - settled, 2) + 0.0,
        "series": series, "remember": config.remember, "power": meter.report(),
        "jitter_ms": {
            "edges": edges[:-1].tolist(), "counts": np.histogram(np.diff(moments) * 1e3, edges)[0].tolist()
        },
    }  # fmt: skip


def built_in_flops(height: int, width: int) -> float | None:
    """Operations of the built-in network at the size that a session feeds it for such frames."""
    return network_flops(builtin_path(), *OnnxDepth(builtin_path()).input_size(height, width))


def shares(row: dict[str, Any], peak: dict[str, float], flops: float | None) -> None:
    """Adds what the stages do, by counting, and which share of this machine's peaks that is."""
    width, height = (int(v) for v in row["size"].split("x"))
    row["counted"] = stage_counts(height, width, flops)
    for name, total in (("warp", warp_bytes(height, width)), ("pack", pack_bytes(height, width))):
        reached = total / max(row["stages"][name]["p50"], 1e-6) / 1e6
        row["counted"][name]["share"] = round(reached / peak["copy_gb_per_s"], 3)
    if flops is not None and row["stages"]["depth"]["p50"] > 0:
        reached = flops / row["stages"]["depth"]["p50"] / 1e6
        row["counted"]["depth"]["share"] = round(reached / peak["matmul_gflops"], 3)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Live sessions: submit to ready, milliseconds")
    for heading in ("size", "every", "in", "out", "p50", "p99", "look", "depth", "warp", "drop"):
        table.add_column(heading, justify="left" if heading == "size" else "right", no_wrap=True)
    for row in rows:
        stages = row["stages"]
        table.add_row(
            row["size"], str(row["depth_every"]), f"{row['fps_in']:g}", f"{row['fps_out']:g}", f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}", *(f"{stages[name]['p50']:.1f}" for name in ("look", "depth", "warp")),
            str(row["dropped"]),
        )  # fmt: skip
    return table


def compare(before: Path, after: Path) -> Table:
    """Two results' rows side by side, by size and rate, and what else was not alike; under 1 is quicker after."""
    table = Table(title=f"{after.name} against {before.name}")
    for heading in ("size", "depth every", "in", "p50", "p99", "frames/s"):
        table.add_column(heading, justify="left" if heading == "size" else "right")
    apart: dict[str, str] = {}

    def beside(was: dict[str, Any], now: dict[str, Any], keys: tuple[str, ...]) -> None:
        apart.update({k: f"{k}: {was[k]}, then {now[k]}" for k in keys if k in was and k in now and was[k] != now[k]})

    try:
        old, new = (json.loads(path.read_text()) for path in (before, after))
        known = {(r["size"], r["depth_every"], r["fps_in"]): r for r in old["results"]}
        rows = new["results"]
        beside(old.get("machine", {}), new.get("machine", {}), ("processor", "cores", "onnxruntime"))
        for row in rows:
            was = known.get((row["size"], row["depth_every"], row["fps_in"]))
            if was is None:
                continue
            ratios = (f"{row[key] / max(was[key], 1e-9):.2f}" for key in ("p50_ms", "p99_ms", "fps_out"))
            table.add_row(row["size"], str(row["depth_every"]), f"{row['fps_in']:g}", *ratios)
            beside(was, row, ("depth", "device", "deadline_ms", "remember", "stall", "changes"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"--compare: expected two results of this benchmark's --json ({error}).") from error
    if not table.rows:
        raise InvalidInputError("--compare: the two results have no size with the same --depth-every and --fps.")
    table.caption = Text("; ".join(apart.values())) if apart else None
    return table


def main(
    size: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT, again for more.")] = None,
    depth: Annotated[str, typer.Option(help="builtin, cues, or an ONNX file.")] = "builtin",
    depth_every: Annotated[int, typer.Option(min=0, max=1000, help="0: on the side, as often as it can be had.")] = 2,
    fps: Annotated[float, typer.Option(min=0, max=1000, help="Frames a second; 0: as fast as they go.")] = 30.0,
    mode: Annotated[str, typer.Option(help="fast; or quality, which has options of its own.")] = "fast",
    remember: Annotated[bool, typer.Option("--remember", help="Remember what was seen behind things.")] = False,
    frames: Annotated[int, typer.Option(min=0, help="End after so many; 0: after the seconds.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of every measurement; 600 shows throttling.")] = 10.0,
    deadline: Annotated[float, typer.Option(min=0, help="Milliseconds; 0 is none.")] = 0.0,
    threads: Annotated[int, typer.Option(min=0, max=256, help="0: one per core.")] = 0,
    stall: Annotated[bool, typer.Option("--stall", help="The consumer pauses at random, up to 100 ms.")] = False,
    changes: Annotated[bool, typer.Option("--changes", help="Strength and convergence change every frame.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda: pictures and the network on the GPU.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", callback=result_place, help="Write a page with plots.")
    ] = None,
    compare_files: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="BEFORE AFTER", help="Two results; nothing is measured."),
    ] = None,
    counted_only: Annotated[
        bool, typer.Option("--counted", help="What fits which Jetson, by counting; measures nothing.")
    ] = False,
) -> None:
    """Measure a live session on this machine: per stage, end to end, and over time."""
    screen = console()
    if compare_files is not None:
        screen.print(compare(*compare_files))
        return
    if mode != "fast":
        raise InvalidInputError(f"--mode: expected fast or quality, got {mode!r}.")
    if counted_only:
        flops = network_flops(builtin_path(), 224, 416)
        if flops is None:
            raise InvalidInputError("--counted needs the onnx package: pip install onnx.")
        screen.print(presets(flops, "the built-in depth model, 416 x 224"))
        return
    configs = []
    for text in size or ["640x360", "1280x720", "1920x1080"]:
        pair = two_numbers(text)
        if pair is None:
            raise InvalidInputError(f"--size: expected WIDTHxHEIGHT, got {text!r}.")
        configs.append(
            LiveConfig(
                width=pair[0], height=pair[1], depth=depth, depth_every=depth_every, deadline_ms=deadline,
                threads=threads, policy="newest" if fps else "every", remember=remember, device=device,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    # Read before there is anything of our own: how busy the machine is with other things.
    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2) if hasattr(os, "getloadavg") else 0.0
    peak = peaks()
    rows = []
    for config in configs:
        row = run(config, fps=fps, seconds=seconds, stall=stall, changes=changes, frames_most=frames)
        if device == "cpu":
            shares(row, peak, built_in_flops(config.height, config.width) if depth == "builtin" else None)
        rows.append(row)
    screen.print(_table(rows))
    result: dict[str, Any] = {"machine": machine() | {"load": load}, "peaks": peak, "results": rows}
    if load > 0.5:
        screen.print(f"The machine was at work on other things too (load {load} per core): not figures to keep.")
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(result, indent=1).encode())
    if html_file is not None:
        with atomic_write(html_file) as file:
            file.write(page(result).encode())


def command(words: list[str]) -> typer.Typer:
    """The program that these words are for: `--mode quality` has options of its own."""
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, context_settings=names)
    if "--mode=quality" in words or ("--mode", "quality") in itertools.pairwise(words):
        from secondeye.benchmarks.latency_quality import main as quality_main

        app.command()(quality_main)
    else:
        app.command()(main)
    return app


if __name__ == "__main__":
    guarded(command(sys.argv[1:]))
