# SPDX-License-Identifier: Apache-2.0
"""Flicker and trails of steady depth, beside the usual remedies.

    python -m secondeye.benchmarks.temporal [FILM] [--json FILE] [--plot FILE]

A made clip (a still camera before a rendered scene, a ball that crosses it; noise in every frame) or a film goes
through a depth model frame by frame, and its depth through four ways of making it steady:

  none            each frame by its own range
  EMA             a running average of every pixel, 0.9 of the past
  percentile EMA  each frame by a range that is a running average, 0.9 of the past
  ours            secondeye.runtime.video.temporal

Flicker: mean absolute change from frame to frame where the picture stands still, in percent of the range. Trail: mean
absolute difference from the frame's own depth (fitted to it by a line) where something was within the last 6 frames
that is there no more, less the same difference where the picture stands still.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from secondeye.benchmarks.machine import console, machine
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.depth import open_depth
from secondeye.runtime.files import atomic_write
from secondeye.runtime.ops import depth_range
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video.temporal import Look, TemporalState, look

Map = NDArray[np.float32]
BEHIND = 6  # frames


def made_clip(frames: int, height: int = 270, width: int = 480) -> Iterator[NDArray[np.uint8]]:
    """A ball that crosses a rendered scene before a still camera."""
    rng = np.random.default_rng(7)
    scene, _ = render_sample(width, height)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = height / 5
    for k in range(frames):
        cx, cy = width * (-0.1 + 1.2 * k / frames), height * 0.62
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        light = np.clip(1.1 - np.hypot(x - cx + radius * 0.4, y - cy + radius * 0.4) / (1.8 * radius), 0.15, 1.0)
        checks = 0.7 + 0.3 * (((x - cx) // (radius / 3) + (y - cy) // (radius / 3)) % 2)
        ball = (np.stack([light * checks * v for v in (235, 120, 60)], axis=2)).astype(np.float32)
        frame = np.where(inside[:, :, None], ball, scene) + rng.normal(size=scene.shape) * 3
        yield np.clip(frame, 0, 255).astype(np.uint8)


def film_frames(path: Path, most: int) -> Iterator[NDArray[np.uint8]]:
    """The first frames of a film."""
    from secondeye.runtime.video import media

    info = media.probe(path)
    read = media.PixelReader(info)
    for index, frame in media.frames(info):
        if index >= most:
            return
        yield read(frame).copy()


def steadied(looks: list[Look]) -> dict[str, list[Map]]:
    """Each way's depth, 0 far to 1 near."""

    def unit(one: Look, low: float, high: float) -> Map:
        return np.clip((one.depth - low) / max(high - low, 1e-9), 0.0, 1.0).astype(np.float32)

    none = [unit(one, *depth_range(one.depth)) for one in looks]
    averages = [none[0]]
    for depth in none[1:]:
        averages.append((0.9 * averages[-1] + 0.1 * depth).astype(np.float32))
    low, high = depth_range(looks[0].depth)
    percentile = []
    for one in looks:
        a, b = depth_range(one.depth)
        low, high = 0.9 * low + 0.1 * a, 0.9 * high + 0.1 * b
        percentile.append(unit(one, low, high))
    state = TemporalState()
    ours = [ready for one in looks for ready in state.push(one)] + state.flush()
    return {"none": none, "EMA": averages, "percentile EMA": percentile, "ours": [one.depth for one in ours]}


def measure(looks: list[Look], depths: list[Map], own: list[Map]) -> tuple[float, float]:
    """(flicker, trail) in percent of the range."""
    luma = [one.luma.astype(np.int16) for one in looks]
    flicker, trail = [], []
    for k in range(BEHIND + 10, len(looks)):
        still = _still(luma[k], luma[k - 1])
        flicker.append(float(np.abs(depths[k] - depths[k - 1])[still].mean()))
        gone = ~_still(luma[k], luma[k - BEHIND]) & still & _still(luma[k], luma[k - 2])
        if gone.sum() < 40:
            continue
        a, b = np.polyfit(own[k][still].astype(np.float64), depths[k][still].astype(np.float64), 1)
        apart = np.abs(depths[k] - (a * own[k] + b))
        steady = still & ~gone
        trail.append(float(apart[gone].mean() - apart[steady].mean()))
    return 100 * float(np.mean(flicker)), 100 * float(np.mean(trail)) if trail else float("nan")


def _still(now: NDArray[np.int16], before: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where the picture has not changed, by its 5 x 5 means."""
    apart = np.pad(np.abs(now - before).astype(np.float32), 2, mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(apart, (5, 5)).mean((2, 3))
    return np.asarray(mean < 6.0)


def main(
    film: Annotated[Path | None, typer.Argument(help="A film; the made clip when left out.")] = None,
    frames: Annotated[int, typer.Option(min=30, help="How many frames are looked at.")] = 90,
    model: Annotated[str, typer.Option(help="builtin, cues or an ONNX file.")] = "builtin",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture: one row of pixels over time, for each way.")
    ] = None,
) -> None:
    """Measure flicker and trails of steady depth."""
    depth = open_depth(model)
    source: Callable[[], Iterator[NDArray[np.uint8]]] = (
        (lambda: made_clip(frames)) if film is None else (lambda: film_frames(film, frames))
    )
    looks: list[Look] = []
    for picture in source():
        looks.append(look(picture, depth(picture), looks[-1] if looks else None))
    ways = steadied(looks)
    name = "made clip" if film is None else film.name
    table = Table(title=f"Steady depth: {name}, {len(looks)} frames, {depth.name}")
    for heading in ("way", "flicker, %", "of none", "trail, %", "of EMA"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    measured = {way: measure(looks, depths, ways["none"]) for way, depths in ways.items()}
    rows: list[dict[str, Any]] = []
    for way, (flicker, trail) in measured.items():
        shares = flicker / measured["none"][0], trail / measured["EMA"][1]
        table.add_row(way, f"{flicker:.3f}", f"{shares[0]:.2f}", f"{trail:.2f}", f"{shares[1]:.2f}")
        rows.append({"way": way, "flicker_percent": round(flicker, 4), "trail_percent": round(trail, 3)})
    console().print(table)
    if plot is not None:
        from secondeye.runtime.preview import colour_map
        from secondeye.runtime.writers import save_picture

        row = looks[0].depth.shape[0] * 5 // 8
        strips = [np.repeat(np.stack([one[row] for one in depths]), 3, 0) for depths in ways.values()]
        save_picture(plot, colour_map(np.concatenate(strips).astype(np.float32)))
    if json_file is not None:
        with atomic_write(json_file) as file:
            result = {"machine": machine(), "source": name, "frames": len(looks), "model": depth.name, "results": rows}
            file.write(json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
