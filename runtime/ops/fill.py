# SPDX-License-Identifier: Apache-2.0
"""fill: disocclusions painted from the background beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import (
    Array,
    Backend,
    Isa,
    check_picture,
    check_plane,
    isa_code,
    output,
    uses_reference,
)
from secondeye.runtime.ops.warp import EYE_CODES, Eye, Warped


def _origins(holes: Array, back: Array) -> Array:
    """Where each pixel of a row takes its colour from; -1 for nowhere."""
    width = holes.size
    q = back.astype(np.int64) - 256 * np.arange(width)
    origin = np.arange(width)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (holes != 0).astype(np.int8), [0]])))
    for left, right in edges.reshape(-1, 2):
        if left == 0 and right == width:
            origin[:] = -1
            continue
        from_right = right < width and (left == 0 or q[right] <= q[left - 1])
        border, step = (right, 1) if from_right else (left - 1, -1)
        band = 0
        while band < right - left + 2:
            x = border + step * band
            if not 0 <= x < width or holes[x] or abs(q[x] - q[border]) > 512:
                break
            band += 1
        skip = 1 if band > 2 else 0
        n = band - skip
        k = np.arange(right - left) % (2 * n)
        fold = np.where(k < n, k, 2 * n - 1 - k)
        taken = border + step * (skip + fold)
        origin[left:right] = taken[::-1] if from_right else taken
    return origin


def reference(view: Array, holes: Array, back: Array, eye: Eye) -> Array:
    """The law of fill in NumPy; see kernels/ops/fill.op.h."""
    if eye == "left":
        return reference(view[:, ::-1], holes[:, ::-1], back[:, ::-1], "right")[:, ::-1]
    origin = np.stack([_origins(holes[y], back[y]) for y in range(holes.shape[0])])
    rows = np.arange(holes.shape[0])[:, None]
    filled = np.where(origin[:, :, None] < 0, 0, view[rows, np.maximum(origin, 0)]).astype(np.int64)
    up = np.concatenate([filled[:1], filled[:-1]])
    down = np.concatenate([filled[1:], filled[-1:]])
    hole = holes != 0
    no_up = ~np.concatenate([np.zeros_like(hole[:1]), hole[:-1]])
    no_down = ~np.concatenate([hole[1:], np.zeros_like(hole[:1])])
    up[no_up] = filled[no_up]
    down[no_down] = filled[no_down]
    smooth = (up + 2 * filled + down + 2) >> 2
    return np.where(hole[:, :, None], smooth, view).astype(view.dtype)


@any_array
def fill(
    warped: Warped,
    *,
    eye: Eye = "right",
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[Any]:
    """Paint the holes of a warped view from the background beside them.

    Per hole the side with the smaller disparity gives; its texture is carried in mirrored, never repeated pixel by
    pixel, and smoothed over neighbouring rows. A row that is nothing but hole stays black.

    Args:
        warped: what :func:`secondeye.runtime.ops.warp` returned, holes possibly changed (any pixel not 0 is filled);
            its view uint8 or uint16.
        eye: the view that it is.
        out: where to write; may be the view itself: only holes are written then.
        backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 or uint16 [H, W, C], as the view: without holes.

    Raises:
        InvalidInputError: shapes, dtypes or eye do not fit.

    Numerics: EXACT.
    """
    view, holes, back = warped
    check_picture("view", view, dtypes=(np.uint8, np.uint16))
    check_plane("holes", holes, np.uint8, view.shape[:2])
    check_plane("map", back, np.int32, view.shape[:2])
    if eye not in EYE_CODES:
        raise InvalidInputError(f"eye: expected right or left, got {eye!r}.")
    target = output(out, view.shape, view.dtype, view)
    if uses_reference(backend, view, holes, back):
        target[...] = reference(view, holes, back, eye)
    else:
        _native.fill(EYE_CODES[eye], view, holes, back, target, threads, isa_code(isa))
    return target
