# SPDX-License-Identifier: Apache-2.0
"""Flicker and trails of steady depth, beside the usual remedies.

    python -m secondeye.benchmarks.temporal [made] [pan] [FILM ...] [--json FILE] [--plot FILE]

Clips: `made` (a still camera before a rendered scene, a ball that crosses it; noise in every frame) and films go
through a depth model frame by frame. `pan` (a camera that moves sideways through the rendered scene) has its exact
depth, on which scale and offset jump and surfaces shimmer as a network's do. That depth goes through four ways of
making it steady:

  none            each frame by its own range
  EMA             a running average of every pixel, 0.9 of the past
  percentile EMA  each frame by a range that is a running average, 0.9 of the past
  ours            secondeye.runtime.video.temporal

Flicker: mean absolute change from frame to frame in percent of the range, where the picture stands still; for `pan`,
along the exact motion, of what both frames show.

Trail, where something was within the last 6 frames that is there no more: how much of the depth that was there then is
there still, percent: the share of (own depth then - own depth of the next 8 frames) in (depth - own depth now), by
least squares. Beside it the mean absolute difference from the frame's own depth there, less the same where the picture
stands still: where a network's depth trembles, this counts smoothness too, and even the mean of future frames, which
holds nothing of the past, has much of it. For `pan`: how far edges are displaced, pixels, the median over edges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from secondeye.benchmarks.machine import console, machine, result_place
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.depth import open_depth
from secondeye.runtime.files import atomic_write
from secondeye.runtime.ops import depth_range
from secondeye.runtime.sample import FOCAL, render_sample
from secondeye.runtime.video.look import Look, look
from secondeye.runtime.video.temporal import TemporalState

Map = NDArray[np.float32]
BEHIND = 6  # frames after which a trail is looked for
AHEAD = 8  # frames that say what a place's depth will be
STEP = 0.01  # metres a frame that the camera of `pan` moves


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


def pan_clip(frames: int, height: int = 144, width: int = 256) -> Iterator[tuple[NDArray[np.uint8], Map, Map]]:
    """A camera that moves sideways through a rendered scene: pictures, what a jumpy network says, and exact depth."""
    rng = np.random.default_rng(11)
    for k in range(frames):
        scene, exact = render_sample(width, height, aside=(k - frames / 2) * STEP)
        noise = rng.normal(size=(-(-height // 8), -(-width // 8)))
        shimmer = np.kron(noise, np.ones((8, 8)))[:height, :width] * 0.03 * np.ptp(exact)
        told = exact * rng.uniform(0.85, 1.15) + rng.normal() * 0.1 + shimmer
        frame = np.clip(scene + rng.normal(size=scene.shape) * 3, 0, 255).astype(np.uint8)
        yield frame, told.astype(np.float32), exact


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


def measure(looks: list[Look], depths: list[Map], own: list[Map]) -> tuple[float, float, float]:
    """(flicker, trail, difference there) in percent; the last two are NaN where nothing moves."""
    luma = [one.luma.astype(np.int16) for one in looks]
    flicker, apart = [], []
    over = under = 0.0
    for k in range(BEHIND + 10, len(looks)):
        still = _still(luma[k], luma[k - 1])
        flicker.append(float(np.abs(depths[k] - depths[k - 1])[still].mean()))
        coming = _coming(looks, luma, own, k)
        gone = ~_still(luma[k], luma[k - BEHIND]) & still & _still(luma[k], luma[k - 2])
        if gone.sum() < 40:
            continue
        a, b = np.polyfit(own[k][still].astype(np.float64), depths[k][still].astype(np.float64), 1)
        off = np.abs(depths[k] - (a * own[k] + b))
        apart.append(float(off[gone].mean() - off[still & ~gone].mean()))
        gone &= ~np.isnan(coming)
        was = (own[k - BEHIND] - coming)[gone].astype(np.float64)
        over += float((was * ((depths[k] - b) / a - own[k])[gone]).sum())
        under += float((was * was).sum())
    trail = 100 * over / under if under else float("nan")
    return 100 * float(np.mean(flicker)), trail, 100 * float(np.mean(apart)) if apart else float("nan")


def _coming(looks: list[Look], luma: list[NDArray[np.int16]], own: list[Map], k: int) -> Map:
    """Mean of the next AHEAD frames' own depth; NaN where the picture stands still in less than half of them."""
    total, count, still = np.zeros_like(own[k]), np.zeros_like(own[k]), np.ones(own[k].shape, bool)
    for m in range(k + 1, min(len(looks), k + 1 + AHEAD)):
        if looks[m].cut:
            break
        still &= _still(luma[m], luma[k])
        total += np.where(still, own[m], 0)
        count += still
    return np.where(count >= AHEAD // 2, total / np.maximum(count, 1), np.nan).astype(np.float32)


def measure_exact(exact: list[Map], depths: list[Map]) -> tuple[float, float]:
    """(flicker along the exact motion in percent, displacement of edges in pixels) of the clip `pan`."""
    flicker, moved = [], []
    width = exact[0].shape[1]
    columns = np.arange(width, dtype=np.float64)
    span = float(exact[0].max() - exact[0].min())
    for k in range(BEHIND + 10, len(exact)):
        now, before = depths[k], depths[k - 1]
        came = columns + FOCAL * width * STEP * exact[k]  # where each pixel was in the frame before
        left = np.clip(came.astype(np.int64), 0, width - 2)
        part = (came - left).astype(np.float32)
        there = [np.take_along_axis(v, left, 1) * (1 - part) + np.take_along_axis(v, left + 1, 1) * part
                 for v in (before, exact[k - 1])]  # fmt: skip
        seen = (came < width - 1) & (np.abs(there[1] - exact[k]) < 0.02 * span)
        flicker.append(float(np.abs(now - there[0])[seen].mean()))
        a, b = np.polyfit(exact[k].ravel().astype(np.float64), now.ravel().astype(np.float64), 1)
        moved += _displaced(exact[k][::4], ((now - b) / a)[::4], 0.1 * span)
    return 100 * float(np.mean(flicker)), float(np.median(moved))


def _displaced(exact: Map, got: Map, jump: float) -> list[float]:
    """How far each edge along a row lies from where it should, pixels: by what is on the wrong side of it."""
    reach, found = 8, []
    rows, columns = np.nonzero(np.abs(np.diff(exact, axis=1)) > jump)
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        if not reach <= x < exact.shape[1] - reach - 1:
            continue
        here, there = exact[y, x - reach : x + 1], exact[y, x + 1 : x + 1 + reach]
        if max(float(np.ptp(here)), float(np.ptp(there))) > jump / 3:
            continue  # another edge is near
        share = (got[y, x - reach : x + 1 + reach] - here[-1]) / (there[0] - here[-1])
        found.append(abs(float(np.clip(share, 0.0, 1.0).sum()) - reach))
    return found


def _still(now: NDArray[np.int16], before: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where the picture has not changed, by its 5 x 5 means."""
    apart = np.pad(np.abs(now - before).astype(np.float32), 2, mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(apart, (5, 5)).mean((2, 3))
    return np.asarray(mean < 6.0)


def looked_at(clip: str, frames: int, model: str) -> tuple[list[Look], list[Map], str]:
    """A clip's looks, its exact depth where that is known, and what its depth comes from."""
    looks: list[Look] = []
    if clip == "pan":
        exact = []
        for picture, told, true in pan_clip(frames):
            looks.append(look(picture, told, looks[-1] if looks else None))
            exact.append(true)
        return looks, exact, "exact depth, made to jump"
    depth = open_depth(model)
    for picture in made_clip(frames) if clip == "made" else film_frames(Path(clip), frames):
        looks.append(look(picture, depth(picture), looks[-1] if looks else None))
    return looks, [], depth.name


def measured(clip: str, frames: int, model: str) -> tuple[dict[str, Any], dict[str, list[Map]]]:
    """A clip's results, and its depth by each way."""
    looks, exact, name = looked_at(clip, frames, model)
    ways = steadied(looks)
    got: dict[str, tuple[float, ...]] = {
        way: measure_exact(exact, d) if exact else measure(looks, d, ways["none"]) for way, d in ways.items()
    }
    names = ("flicker_percent", "edges_px") if exact else ("flicker_percent", "trail_percent", "difference_percent")
    rows = [{"way": way, **{n: round(v, 4) for n, v in zip(names, one, strict=True)}} for way, one in got.items()]
    table = Table(title=f"Steady depth: {Path(clip).name}, {len(looks)} frames, {name}")
    headings = ("flicker, %", "of none", "edges, px" if exact else "trail, %", "of EMA", "difference, %", "of EMA")
    for heading in ("way", *headings[: 2 * len(names)]):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way, one in got.items():
        beside = (got["none"][0], *got["EMA"][1:])
        cells = [text for v, w in zip(one, beside, strict=True) for text in (f"{v:.3f}", f"{v / w:.2f}")]
        table.add_row(way, *cells)
    console().print(table)
    return {"clip": Path(clip).name, "frames": len(looks), "depth": name, "ways": rows}, ways


def main(
    clips: Annotated[list[str] | None, typer.Argument(help="made, pan, or films; made and pan when left out.")] = None,
    frames: Annotated[int, typer.Option(min=30, help="How many frames are looked at.")] = 90,
    model: Annotated[str, typer.Option(help="builtin, cues or an ONNX file.")] = "builtin",
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            callback=result_place,
            help="Write a picture of the last clip: one row of pixels over time, for each way.",
        ),
    ] = None,
) -> None:
    """Measure flicker and trails of steady depth."""
    results: list[dict[str, Any]] = []
    ways: dict[str, list[Map]] = {}
    for clip in clips or ["made", "pan"]:
        result, ways = measured(clip, frames, model)
        results.append(result)
    if plot is not None:
        from secondeye.runtime.preview import colour_map
        from secondeye.runtime.writers import save_picture

        row = ways["none"][0].shape[0] * 5 // 8
        strips = [np.repeat(np.stack([one[row] for one in depths]), 3, 0) for depths in ways.values()]
        save_picture(plot, colour_map(np.concatenate(strips).astype(np.float32)))
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps({"machine": machine(), "results": results}, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
