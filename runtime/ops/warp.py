# SPDX-License-Identifier: Apache-2.0
"""warp: a picture moved by its disparity, with the holes that opens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array, take
from secondeye.runtime.ops._common import (
    ARRAYS,
    Array,
    Backend,
    Isa,
    check_picture,
    check_plane,
    disparity_q8,
    isa_code,
    output,
    uses_reference,
)

Eye = Literal["right", "left"]
Law = Literal["surface", "nearest"]
EYE_CODES = {"right": 0, "left": 1}
LAW_CODES = {"surface": 0, "nearest": 1}
DTYPES = (np.uint8, np.float16, np.float32)


class Warped(NamedTuple):
    """A warped view.

    Attributes:
        view: [H, W, C] of the picture's dtype; 0 in holes.
        holes: uint8 [H, W], 255 where nothing landed.
        map: int32 [H, W], the source position that each pixel shows, in 1/256 pixel; -1 in holes. It counts from the
            left for the right view and from the right for the left view (which is its mirror image).
    """

    view: NDArray[Any]
    holes: NDArray[np.uint8]
    map: NDArray[np.int32]


class Views(tuple[Warped, ...]):
    """Warped views, one per scale."""


def _surface_map(q: Array, tear: int) -> Array:
    """The backward map of one row by the surface law; every claim is listed, the largest position wins."""
    width = q.size
    i = np.arange(width, dtype=np.int64)
    landing = 256 * i - q
    a, b = landing[:-1], landing[1:]
    g = b - a
    whole = (g > 0) & (g <= tear)
    # Claims: from, to (1/256 pixel), source position, and the gap over which it grows (0: it does not).
    ends = np.concatenate([[True], ~whole]), np.concatenate([~whole, [True]])
    low = np.concatenate([a[whole], landing[ends[0]] - 128, landing[ends[1]]])
    high = np.concatenate([b[whole], landing[ends[0]], landing[ends[1]] + 128])
    start = 256 * np.concatenate([i[:-1][whole], i[ends[0]], i[ends[1]]])
    grow = np.concatenate([g[whole], np.zeros(int(ends[0].sum() + ends[1].sum()), np.int64)])
    first, last = np.clip(-(-low // 256), 0, width), np.clip(-(-high // 256), 0, width)
    count = np.maximum(last - first, 0)
    claim = np.repeat(np.arange(count.size), count)
    t = first[claim] + np.arange(claim.size) - np.repeat(np.cumsum(count) - count, count)
    into = np.where(grow[claim] > 0, 256 * (256 * t - low[claim]) // np.maximum(grow[claim], 1), 0)
    result = np.full(width, -1, np.int64)
    np.maximum.at(result, t, start[claim] + into)
    return result


def _nearest_map(d: Array, wrap: bool, scale_q8: int) -> Array:
    """The backward map of one row by the nearest law."""
    width = d.size
    x = np.arange(width)
    clean = np.clip(np.where(np.isfinite(d), d, np.float32(0)), np.float32(-16384), np.float32(16384))
    t = np.trunc(x.astype(np.float32) - clean * np.float32(scale_q8 / 256)).astype(np.int64)
    if wrap:
        t = np.where((t < 0) & (t >= -width), t + width, t)
    result = np.full(width, -1, np.int64)
    inside = (t >= 0) & (t < width)
    np.maximum.at(result, t[inside], 256 * x[inside])
    return result


def _blend(a: Array, b: Array, f: Array) -> Array:
    """Between two pixels, f in 1/256: in integers for bytes, every step rounded to float32 for floats."""
    if a.dtype == np.uint8:
        return ((a.astype(np.int64) * (256 - f) + b.astype(np.int64) * f + 128) >> 8).astype(np.uint8)
    with np.errstate(all="ignore"):
        left = a.astype(np.float32) * (256 - f).astype(np.float32)
        value = (left + b.astype(np.float32) * f.astype(np.float32)) * np.float32(1 / 256)
        return np.where(np.isnan(value), np.float32(np.nan), value).astype(a.dtype)


def reference(picture: Array, disparity: Array, scale_q8: int, law: Law, tear_q8: int, wrap: bool) -> Warped:
    """The law of warp in NumPy; see kernels/ops/warp.op.h. A scale under 0 is a view from the left."""
    if scale_q8 < 0:
        mirrored = reference(picture[:, ::-1], disparity[:, ::-1], -scale_q8, law, tear_q8, wrap)
        return Warped(mirrored.view[:, ::-1], mirrored.holes[:, ::-1], mirrored.map[:, ::-1])
    disparity = disparity.astype(np.float32)
    q = (disparity_q8(disparity) * scale_q8 + 128) >> 8
    rows = [
        _surface_map(q[y], tear_q8) if law == "surface" else _nearest_map(disparity[y], wrap, scale_q8)
        for y in range(q.shape[0])
    ]
    back = np.stack(rows)
    hole = back < 0
    i, f = np.maximum(back, 0) >> 8, (np.maximum(back, 0) & 255)[:, :, None]
    y = np.arange(q.shape[0])[:, None]
    view = _blend(picture[y, i], picture[y, np.minimum(i + 1, q.shape[1] - 1)], f)
    view[hole] = 0
    return Warped(view, np.where(hole, 255, 0).astype(np.uint8), back.astype(np.int32))


def _check(picture: Array, disparity: Array, law: str, tear: float) -> int:
    """The arguments that every warp has; gives the tear in 1/256 pixel."""
    check_picture("picture", picture, dtypes=DTYPES)
    half = isinstance(disparity, ARRAYS) and disparity.dtype == np.float16
    check_plane("disparity", disparity, np.float16 if half else np.float32, tuple(picture.shape[:2]))
    if law not in LAW_CODES:
        raise InvalidInputError(f"law: expected surface or nearest, got {law!r}.")
    if not 1.0 <= tear <= 64.0:
        raise InvalidInputError(f"tear: expected 1 to 64 pixels, got {tear}.")
    return round(tear * 256)


def _outputs(picture: Array, out: Warped | None) -> Warped:
    shape = tuple(picture.shape[:2])
    return Warped(
        output(out.view if out else None, tuple(picture.shape), picture.dtype, picture),
        output(out.holes if out else None, shape, np.uint8, picture),
        output(out.map if out else None, shape, np.int32, picture),
    )


@any_array
def warp(
    picture: Array,
    disparity: Array,
    *,
    eye: Eye = "right",
    law: Law = "surface",
    tear: float = 2.0,
    wrap: bool = False,
    out: Warped | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Warped:
    """Move a picture by its disparity.

    A pixel at x with disparity d is seen at x - d in the right view, and at x + d in the left one. Where several land
    together the nearest (largest disparity) is seen; where none lands there is a hole.

    Args:
        picture: uint8, float16 or float32 [H, W, C], C 1 to 4, any strides (a CHW tensor moved to HWC is one).
        disparity: float32 or float16 [H, W], pixels of this picture; NaN and infinity count as 0.
        eye: which view to make.
        law: ``surface`` joins neighbouring pixels into surfaces sampled at 1/256 pixel; ``nearest`` puts each pixel on
            trunc(x - d), later over earlier, as the code of Mono2Stereo does.
        tear: surface law: neighbours that land further apart than this many pixels (1 to 64) are no surface but an
            edge. 2 lets a wall be stretched to twice its width and still tears at a step of one pixel.
        wrap: nearest law: columns left of the picture come in again from the right, as in that code.
        out: where to write.
        backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT. Source: the order of painting follows from x1 - d1 = x2 - d2 (DESIGN); the nearest law is that of
    arXiv 2503.22262's published code.
    """
    if eye not in EYE_CODES:
        raise InvalidInputError(f"eye: expected right or left, got {eye!r}.")
    tear_q8 = _check(picture, disparity, law, tear)
    result = _outputs(picture, out)
    if uses_reference(backend, picture, disparity):
        want = reference(picture, disparity, 256 if eye == "right" else -256, law, tear_q8, wrap)
        result.view[...], result.holes[...], result.map[...] = want
    else:
        _native.warp(EYE_CODES[eye], LAW_CODES[law], tear_q8, wrap, picture, disparity, *result, threads, isa_code(isa))
    return result


def warped_disparity(warped: Warped, eye: Eye = "right") -> NDArray[np.float32]:
    """The disparity that a warped view shows, as seen from there.

    Args:
        warped: what :func:`warp` returned, on the host.
        eye: the view that it is.

    Returns:
        float32 [H, W], pixels, multiples of 1/256: the distance between where a pixel is and where it was in the
        source, over 0 for what is nearer than the screen; NaN in holes.

    Raises:
        InvalidInputError: not a warp's map, or no such eye.

    Numerics: EXACT.
    """
    back = take("map", warped.map)
    check_plane("map", back, np.int32)
    if eye not in EYE_CODES or not isinstance(back, np.ndarray):
        raise InvalidInputError(f"expected a map on the host and an eye right or left, got {eye!r}.")
    column = 256 * np.arange(back.shape[1], dtype=np.int32)
    moved = (back - (column if eye == "right" else column[::-1])).astype(np.float32) * np.float32(1 / 256)
    return np.where(back < 0, np.float32(np.nan), moved).astype(np.float32)


@any_array
def warp_views(
    picture: Array,
    disparity: Array,
    scales: Sequence[float] = (-0.5, 0.5),
    *,
    law: Law = "surface",
    tear: float = 2.0,
    wrap: bool = False,
    out: Views | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Views:
    """Several views of a picture in one pass over it: a symmetric pair, or a row of views for a light-field display.

    Args:
        picture, disparity: as in :func:`warp`.
        scales: one per view, -1 to 1 in steps of 1/256: the share of the disparity that it moves by. Over 0 is seen
            from the right (1 is :func:`warp`'s right view), under 0 from the left, 0 is the picture itself. At most 16.
        law, tear, wrap, backend, threads, isa: as in :func:`warp`.
        out: where to write, one per view.

    Returns:
        One :class:`Warped` per scale. Fill those under 0 with ``eye="left"``.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    tear_q8 = _check(picture, disparity, law, tear)
    if not 1 <= len(scales) <= 16 or not all(-1.0 <= s <= 1.0 for s in scales):
        raise InvalidInputError(f"scales: expected 1 to 16 numbers from -1 to 1, got {list(scales)}.")
    if out is not None and len(out) != len(scales):
        raise InvalidInputError(f"out: expected {len(scales)} views, got {len(out)}.")
    scales_q8 = [round(256 * s) for s in scales]
    results = Views(_outputs(picture, out[k] if out else None) for k in range(len(scales)))
    if uses_reference(backend, picture, disparity):
        for scale, result in zip(scales_q8, results, strict=True):
            want = reference(picture, disparity, scale, law, tear_q8, wrap)
            result.view[...], result.holes[...], result.map[...] = want
    else:
        listed = [(scale, *result) for scale, result in zip(scales_q8, results, strict=True)]
        _native.warp_views(LAW_CODES[law], tear_q8, wrap, picture, disparity, listed, threads, isa_code(isa))
    return results
