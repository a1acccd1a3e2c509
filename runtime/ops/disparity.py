# SPDX-License-Identifier: Apache-2.0
"""Disparity conditioning: from a model's depth to pixels, to the picture's resolution, with sound edges."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import (
    Array,
    Backend,
    Isa,
    check_host,
    check_picture,
    check_plane,
    disparity_q8,
    isa_code,
    output,
    uses_reference,
)

BINS = 2048
MAX_DISPARITY_PX = 4096.0


@any_array
def depth_range(depth: Array, low: float = 0.01, high: float = 0.99) -> tuple[float, float]:
    """The robust range of a depth map, by a histogram of 2048 bins between its least and greatest finite values.

    Where a few specks hold most of that range, the histogram is made again over the rest, up to 8 times.

    Args:
        depth: float32 [h, w], on the host; NaN and infinity are left out.
        low, high: shares of the pixels that may lie below and above, 0 to 1.

    Returns:
        The centres of the bins in which those shares are reached; (0, 1) when nothing is finite, and (v, v) for a
        constant map.

    Raises:
        InvalidInputError: not a map, or shares out of order.

    Numerics: EXACT (integer counts).
    """
    check_plane("depth", depth, np.float32)
    check_host("depth", depth)
    if not 0.0 <= low < high <= 1.0:
        raise InvalidInputError(f"depth_range: expected 0 <= low < high <= 1, got {low} and {high}.")
    values = depth[np.isfinite(depth)]
    if values.size == 0:
        return 0.0, 1.0
    least, greatest = float(values.min()), float(values.max())
    wanted_low, wanted_high = low * values.size, high * values.size
    for _ in range(8):
        if not greatest > least:
            return least, greatest
        scale = BINS / (greatest - least)
        index = np.clip(np.floor((values.astype(np.float64) - least) * scale), -1, BINS).astype(np.int64) + 1
        total = np.cumsum(np.bincount(index, minlength=BINS + 2)[: BINS + 1])
        first = max(0, int(np.searchsorted(total, wanted_low, side="right")) - 1)
        last = min(BINS - 1, max(first, int(np.searchsorted(total, wanted_high, side="left")) - 1))
        if last - first >= BINS // 16:
            break
        # Specks far outside hold most of the range: look closer at the rest.
        least, greatest = least + first / scale, least + (last + 1) / scale
    return least + (first + 0.5) / scale, least + (last + 0.5) / scale


@any_array
def disparity(
    depth: Array,
    *,
    frame_width: int,
    strength: float = 2.5,
    convergence: float = 0.5,
    gamma: float = 1.0,
    range: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Depth to disparity in pixels of the frame.

    n = clamp((depth - lo) / (hi - lo), 0, 1) in 1/65535, and
    d = strength / 100 * frame_width * (n ** gamma - convergence), rounded to 1/256 pixel.

    Args:
        depth: float32 [h, w] on the host, near = large, any scale; NaN and infinity lie on the screen plane (0).
        frame_width: of the picture that will be warped, pixels.
        strength: full range of disparity, percent of the width.
        convergence: the depth, 0 far to 1 near, that gets disparity 0.
        gamma: over 0; over 1 flattens what is far.
        range: (lo, hi); :func:`depth_range`'s when None.

    Returns:
        float32 [h, w], multiples of 1/256 pixel. All 0 for a constant map.

    Raises:
        InvalidInputError: parameters out of range.

    Numerics: EXACT (one table of 65536 entries, made in float64).
    """
    check_plane("depth", depth, np.float32)
    check_host("depth", depth)
    table = disparity_table(frame_width=frame_width, strength=strength, convergence=convergence, gamma=gamma)
    low, high = depth_range(depth) if range is None else range
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidInputError(f"disparity: expected a range of two finite numbers, got {low} and {high}.")
    if not high > low:
        return np.zeros(depth.shape, np.float32)
    finite = np.isfinite(depth)
    unit = np.clip((np.where(finite, depth, low).astype(np.float64) - low) / (high - low), 0.0, 1.0)
    return np.where(finite, table[np.rint(unit * 65535.0).astype(np.int64)], np.float32(0.0))


def disparity_table(
    *, frame_width: int, strength: float = 2.5, convergence: float = 0.5, gamma: float = 1.0
) -> NDArray[np.float32]:
    """Disparity in pixels of every nearness from 0 (far) to 65535 (near), float32 [65536]; see :func:`disparity`.

    Raises:
        InvalidInputError: parameters out of range.
    """
    full = strength / 100.0 * frame_width
    if not (gamma > 0 and math.isfinite(full) and 0 <= full <= MAX_DISPARITY_PX and 0 <= convergence <= 1):
        raise InvalidInputError(
            f"disparity: expected gamma over 0, convergence 0 to 1 and a range of at most {MAX_DISPARITY_PX:.0f} "
            f"pixels, got {gamma}, {convergence} and {full:.0f}."
        )
    q8 = np.rint(full * 256.0 * ((np.arange(65536) / 65535.0) ** gamma - convergence)).astype(np.int32)
    return q8.astype(np.float32) * np.float32(1 / 256)


# ---- upsample ---------------------------------------------------------------------------------------------

_SPACE = np.array([16, 12, 9, 6, 4, 3, 2, 1, 1], np.int64)


def _positions(outputs: int, cells: int) -> NDArray[np.int64]:
    i = np.arange(outputs, dtype=np.int64)
    return np.clip(((2 * i + 1) * cells * 128) // outputs - 128, 0, 256 * (cells - 1))


def upsample_reference(
    values: Array, picture: Array, threshold_q8: int, labels: Array | None = None
) -> NDArray[np.float32]:
    """The law of upsample in NumPy; see kernels/ops/upsample.op.h."""
    q = disparity_q8(values)
    (h, w), (height, width) = q.shape, picture.shape[:2]
    py, px = _positions(height, h), _positions(width, w)
    iy, fy, ix, fx = py >> 8, (py & 255)[:, None], px >> 8, (px & 255)[None]
    jy, jx = np.minimum(iy + 1, h - 1), np.minimum(ix + 1, w - 1)
    top = q[iy][:, ix] * (256 - fx) + q[iy][:, jx] * fx
    bottom = q[jy][:, ix] * (256 - fx) + q[jy][:, jx] * fx
    result = (top * (256 - fy) + bottom * fy + 32768) >> 16
    if threshold_q8 >= 0:
        result = _vote(q, picture, labels, threshold_q8, (py + 128) >> 8, (px + 128) >> 8, result)
    return (result * np.float32(1 / 256)).astype(np.float32)


def _vote(
    q: Array, picture: Array, labels: Array | None, threshold: int, r: Array, s: Array, plain: Array
) -> NDArray[np.int64]:
    (h, w), (height, width) = q.shape, picture.shape[:2]
    around = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)]
    ys, xs = r[:, None] + np.zeros_like(s), s[None] + np.zeros_like(r)[:, None]
    cells = [(np.clip(ys + dy, 0, h - 1), np.clip(xs + dx, 0, w - 1)) for dy, dx in around]
    inside = [(ys + dy >= 0) & (ys + dy < h) & (xs + dx >= 0) & (xs + dx < w) for dy, dx in around]
    low = np.min([q[c] for c in cells], axis=0)  # clamping repeats cells of the window, so it changes neither end
    high = np.max([q[c] for c in cells], axis=0)
    third = (high - low) // 3
    guide_rows = ((2 * np.arange(h) + 1) * height) // (2 * h)
    guide_columns = ((2 * np.arange(w) + 1) * width) // (2 * w)
    guide = picture[guide_rows][:, guide_columns, :3].astype(np.int64)
    pixel = picture[:, :, :3].astype(np.int64)
    cell_labels = None if labels is None else labels[guide_rows][:, guide_columns]
    weight, total = np.zeros((2, height, width), np.int64), np.zeros((2, height, width), np.int64)
    for (dy, dx), cell, exists in zip(around, cells, inside, strict=True):
        value = q[cell]
        near, far = value >= high - third, value <= low + third
        apart = np.abs(guide[cell] - pixel).sum(2)
        alike = np.maximum(1, np.where(apart >> 4 > 8, 0, 256 >> np.minimum(apart >> 4, 9)))
        if labels is not None and cell_labels is not None:
            theirs = cell_labels[cell]
            known = (theirs != 0) & (labels != 0)
            alike = np.where(known, np.where(theirs == labels, np.maximum(alike, 32), 1), alike)
        vote = _SPACE[abs(dy) + abs(dx)] * alike
        for side, chosen in ((1, near), (0, far & ~near)):
            use = np.where(exists & chosen, vote, 0)
            weight[side] += use
            total[side] += use * (value - low)
    side = (weight[1] >= weight[0]).astype(np.int64)
    winner, heavy = np.where(side, total[1], total[0]), np.where(side, weight[1], weight[0])
    voted = low + (winner + heavy // 2) // np.maximum(heavy, 1)
    return np.where(high - low > threshold, voted, plain)


@any_array
def upsample(
    values: Array,
    picture: Array,
    *,
    labels: Array | None = None,
    threshold: float | None = None,
    guided: bool = True,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.float32]:
    """Disparity from the model's resolution to the picture's, its edges put where the picture has them.

    Smooth parts are bilinear. Where the 5 x 5 cells round a pixel span more than `threshold`, the far and the near
    ones vote by distance and by likeness of colour, and the pixel takes the winners' mean: one side's value, never a
    glow between (a weighted mode filter with two modes; Min et al., 2012).

    Args:
        values: float32 [h, w], pixels of disparity of the picture (not of the map).
        picture: uint8 [H, W, 3|4], any strides.
        labels: uint16 [H, W], objects of the picture (0 is none); edges then fall on their borders.
        threshold: pixels; None takes a sixteenth of the map's range, at least one pixel.
        guided: False for plain bilinear.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        float32 [H, W], multiples of 1/256 pixel.

    Raises:
        InvalidInputError: shapes, dtypes or threshold do not fit.

    Numerics: EXACT.
    """
    check_plane("values", values, np.float32)
    check_picture("picture", picture, channels=(3, 4))
    if labels is not None:
        check_plane("labels", labels, np.uint16, picture.shape[:2])
    if values.size > 1 << 24:
        raise InvalidInputError(f"values: expected at most {1 << 24} cells, got {list(values.shape)}.")
    if not guided:
        threshold_q8 = -1
    elif threshold is None:
        if not isinstance(values, np.ndarray):
            raise InvalidInputError("threshold: on a GPU give it in pixels; finding it would wait for the device.")
        finite = values[np.isfinite(values)]
        threshold_q8 = max(256, int(16.0 * float(np.ptp(finite)))) if finite.size else 256
    elif not 0 <= threshold <= 16384:
        raise InvalidInputError(f"threshold: expected 0 to 16384 pixels, got {threshold}.")
    else:
        threshold_q8 = round(threshold * 256)
    threshold_q8 = min(threshold_q8, 1 << 23)
    target = output(out, picture.shape[:2], np.float32, picture)
    if uses_reference(backend, values, picture, labels):
        target[...] = upsample_reference(values, picture, threshold_q8, labels)
    else:
        _native.upsample(threshold_q8, values, picture, labels, target, threads, isa_code(isa))
    return target


# ---- smooth -----------------------------------------------------------------------------------------------


def smooth_reference(values: Array, threshold_q8: int) -> NDArray[np.float32]:
    """The law of smooth in NumPy; see kernels/ops/smooth.op.h."""
    q = disparity_q8(values)
    window = np.lib.stride_tricks.sliding_window_view(np.pad(q, 2, mode="edge"), (5, 5)).reshape(*q.shape, 25)
    median = np.sort(window, axis=2)[:, :, 12]
    edge = np.ptp(window, axis=2) > threshold_q8
    return (np.where(edge, median, q) * np.float32(1 / 256)).astype(np.float32)


@any_array
def smooth_edges(
    values: Array,
    *,
    threshold: float = 1.0,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.float32]:
    """Edges of disparity run smoothly: the median of 5 x 5 pixels where they span more than the threshold.

    Guided upsampling decides pixel by pixel on which side of an edge it lies, which leaves teeth of a pixel or two, and
    a warp shows them. Structures of less than three pixels go too: a map of the picture's own size is better left
    alone.

    Args:
        values: float32 [H, W], pixels of disparity.
        threshold: the least span, in pixels of disparity, that counts as an edge.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        float32 [H, W], multiples of 1/256 pixel.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    check_plane("values", values, np.float32)
    if not 0 <= threshold <= 16384:
        raise InvalidInputError(f"threshold: expected 0 to 16384 pixels, got {threshold}.")
    target = output(out, values.shape, np.float32, values)
    if uses_reference(backend, values):
        target[...] = smooth_reference(values, round(threshold * 256))
    else:
        _native.smooth(round(threshold * 256), values, target, threads, isa_code(isa))
    return target


# ---- widen ------------------------------------------------------------------------------------------------


def widen_reference(values: Array, radius: int, threshold_q8: int) -> NDArray[np.float32]:
    """The law of widen in NumPy; see kernels/ops/widen.op.h."""
    q = disparity_q8(values)
    padded = np.pad(q, radius, constant_values=-(2**40))
    window = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    greatest = window.max((2, 3))
    return (np.where(greatest - q > threshold_q8, greatest, q) * np.float32(1 / 256)).astype(np.float32)


@any_array
def widen_foreground(
    values: Array,
    radius: int = 2,
    *,
    threshold: float = 1.0,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.float32]:
    """Near objects grow outward by up to `radius` pixels, so that the blended rim round them travels with them.

    Args:
        values: float32 [H, W], pixels of disparity.
        radius: 0 to 16 pixels.
        threshold: the least step, in pixels of disparity, that counts as an edge.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        float32 [H, W], multiples of 1/256 pixel.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    check_plane("values", values, np.float32)
    if not 0 <= radius <= 16 or not 0 <= threshold <= 16384:
        raise InvalidInputError(f"expected radius 0 to 16 and threshold 0 to 16384 pixels, got {radius}, {threshold}.")
    target = output(out, values.shape, np.float32, values)
    if uses_reference(backend, values):
        target[...] = widen_reference(values, radius, round(threshold * 256))
    else:
        _native.widen(radius, round(threshold * 256), values, target, threads, isa_code(isa))
    return target
