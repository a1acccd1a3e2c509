# SPDX-License-Identifier: Apache-2.0
"""A film's frame, looked at beside the frame before it: cuts, motion, and how the two frames' depths go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops

Map = NDArray[np.float32]

# Mean difference of brightness: below the first the picture has not changed or has been found again, from the second on
# it is another; and how much better another place must suit than the same one to be believed.
LIKE, UNLIKE, BETTER = 5, 9, 0.7
POOR = 10 * 64  # a block of 8 x 8 that differs by more in all has not been found


@dataclass(frozen=True, slots=True)
class Look:
    """One frame, looked at beside the frame before it.

    Attributes:
        luma: uint8 [h, w], at the depth map's size.
        depth: float32 [h, w], the network's, larger is nearer.
        marks: least, greatest and the subject's depth, and what is near at the left and the right border, in the
            network's units.
        cut: the frame is the first of a shot.
        line: (a, b): depth here is about a * depth before + b.
        source: int32 [h, w], flat index of each pixel in the frame before.
        sure: float32 [h, w], 0 to 1, how far the motion is to be trusted.
        still: bool [h, w], where the picture has not changed.
    """

    luma: NDArray[np.uint8]
    depth: Map
    marks: tuple[float, float, float, float, float]
    cut: bool = True
    line: tuple[float, float] = (1.0, 0.0)
    source: NDArray[np.int32] | None = None
    sure: Map | None = None
    still: NDArray[np.bool_] | None = None


def look(pixels: NDArray[np.uint8], depth: Map, before: Look | None) -> Look:
    """Look at a frame.

    Args:
        pixels: uint8 [H, W, 3].
        depth: float32 [h, w], finite.
        before: the look at the frame before; None for a film's first.
    """
    height, width = depth.shape
    luma = _luma(ops.resize(pixels, height, width))
    marks = (*ops.depth_range(depth, 0.01, 0.99), _subject(depth), *_borders(depth))
    if before is None or before.depth.shape != depth.shape:
        return Look(luma, depth, marks)
    blocks = _calmed(_motion(luma, before.luma), luma, before.luma)
    unmatched = float((blocks[:, :, 2] > 20 * 64).mean())
    if unmatched > 0.8 or (unmatched > 0.25 and _histogram_distance(luma, before.luma) > 0.3):
        return Look(luma, depth, marks)
    source, found, apart = _trace(luma, before.luma, blocks)
    here, there = _means(np.abs(luma.astype(np.int16) - before.luma)), _means(apart)
    still = (here < LIKE) & (BETTER * here <= there)  # in a block that moves, too, what does not
    np.copyto(source, np.arange(source.size, dtype=np.int32).reshape(source.shape), where=still)
    sure = np.clip((UNLIKE - there) * np.float32(1 / (UNLIKE - LIKE)), 0.0, 1.0)
    sure[~found] = 0.0
    sure[still] = 1.0
    good = sure[::3, ::3] > 0.5
    line = _line(before.depth.ravel()[source[::3, ::3]][good], depth[::3, ::3][good])
    return Look(luma, depth, marks, False, line, source, sure, still)


def _luma(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brightness of pixels [h, w, 3], uint8 [h, w]."""
    total = small[:, :, 0] * np.uint16(77)
    total += small[:, :, 1] * np.uint16(150)
    total += small[:, :, 2] * np.uint16(29)
    total >>= 8
    return total.astype(np.uint8)


def _trace(
    now: NDArray[np.uint8], before: NDArray[np.uint8], blocks: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int16]]:
    """What block motion says of every pixel.

    Returns:
        int32 [h, w], the flat index of each pixel in the frame before; bool [h, w], whether its block was found there,
        and did not leave the picture; int16 [h, w], how far the two differ in brightness.
    """
    height, width = now.shape
    spread = [np.repeat(np.repeat(blocks[:, :, k], 8, 0), 8, 1)[:height, :width] for k in range(3)]
    y, x = np.ogrid[:height, :width]
    to_y, to_x = spread[0] + y, spread[1] + x
    from_y, from_x = np.clip(to_y, 0, height - 1), np.clip(to_x, 0, width - 1)
    found = (spread[2] <= POOR) & (from_y == to_y) & (from_x == to_x)
    source = from_y * np.int32(width) + from_x
    return source, found, np.abs(now.astype(np.int16) - before.ravel()[source])


def _means(apart: NDArray[np.int16]) -> Map:
    """Means of 5 x 5, the border's pixels repeated, float32 [h, w]."""
    rows = np.pad(apart, 2, mode="edge")
    rows = rows[:-4] + rows[1:-3] + rows[2:-2] + rows[3:-1] + rows[4:]
    total = rows[:, :-4] + rows[:, 1:-3] + rows[:, 2:-2] + rows[:, 3:-1] + rows[:, 4:]
    return total * np.float32(1 / 25)


def _motion(now: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Block motion in two steps: +-16 pixels at half size, then +-2 about that."""
    height, width = now.shape
    half = [ops.resize(a[:, :, None], max(1, height // 2), max(1, width // 2))[:, :, 0] for a in (now, before)]
    coarse = ops.motion(half[0], half[1], 8)
    rows, columns = -(-height // 8), -(-width // 8)
    i = np.minimum(np.arange(rows) // 2, coarse.shape[0] - 1)
    j = np.minimum(np.arange(columns) // 2, coarse.shape[1] - 1)
    start = np.ascontiguousarray(2 * coarse[i][:, j, :2])
    return ops.motion(now, before, 2, start=start)


def _calmed(blocks: NDArray[np.int32], now: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Block motion without what noise makes up: a block that has hardly changed stands still, unless another place
    suits it far better.
    """
    height, width = now.shape
    apart = np.zeros((blocks.shape[0] * 8, blocks.shape[1] * 8), np.int32)
    apart[:height, :width] = np.abs(now.astype(np.int16) - before)
    here = apart.reshape(blocks.shape[0], 8, blocks.shape[1], 8).sum((1, 3))
    calm = (here < LIKE * 64) & (blocks[:, :, 2] > BETTER * here)
    calmed = np.where(calm[:, :, None], 0, blocks)
    calmed[:, :, 2] = np.where(calm, here, blocks[:, :, 2])
    return calmed


def _histogram_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Half the sum of absolute differences of two brightness histograms, 0 to 1."""
    one, other = (np.bincount(v.ravel() >> 3, minlength=32) / v.size for v in (a, b))
    return float(np.abs(one - other).sum() / 2)


def _line(before: Map, now: Map) -> tuple[float, float]:
    """The line now = a before + b that most points agree on: least squares, then thrice with Cauchy weights."""
    if before.size < 64:
        return 1.0, 0.0
    x, y = before.astype(np.float64), now.astype(np.float64)
    weight = np.ones_like(x)
    a, b = 1.0, 0.0
    for _ in range(4):
        total = weight.sum()
        mx, my = (weight * x).sum() / total, (weight * y).sum() / total
        spread = (weight * (x - mx) ** 2).sum()
        if spread <= 1e-12 * total:
            return 1.0, float(my - mx)
        a = float((weight * (x - mx) * (y - my)).sum() / spread)
        b = float(my - a * mx)
        apart = np.abs(y - a * x - b)
        scale = max(float(np.median(apart)) * 1.5, 1e-6)
        weight = 1.0 / (1.0 + (apart / scale) ** 2)
    return (a, b) if 0.4 < a < 2.5 else (1.0, float(np.median(y - x)))


def _subject(depth: Map) -> float:
    """The depth of what a picture is about: the upper quartile, pixels weighing more toward the middle."""
    part = depth[::4, ::4]
    y = np.abs(np.linspace(-1, 1, part.shape[0]))[:, None]
    x = np.abs(np.linspace(-1, 1, part.shape[1]))[None]
    weight = ((1.05 - y) * (1.05 - x)).ravel()
    order = np.argsort(part, axis=None, kind="stable")
    total = np.cumsum(weight[order])
    return float(part.ravel()[order[int(np.searchsorted(total, 0.75 * total[-1]))]])


def _borders(depth: Map) -> tuple[float, float]:
    """The depth of what is near in a strip at the left and at the right border: nine tenths of it lie farther."""
    wide = max(1, depth.shape[1] // 50)
    strips = np.sort(depth[:, :wide], axis=None), np.sort(depth[:, -wide:], axis=None)
    return float(strips[0][strips[0].size * 9 // 10]), float(strips[1][strips[1].size * 9 // 10])
