# SPDX-License-Identifier: Apache-2.0
"""motion: where each 8 x 8 block of a frame was in the frame before it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import ARRAYS, Array, Backend, Isa, check_plane, isa_code, output, uses_reference

SIDE = 8


def reference(now: Array, before: Array, radius: int, start: Array | None) -> NDArray[np.int32]:
    """The law of motion in NumPy; see kernels/ops/motion.op.h."""
    height, width = now.shape
    tops, lefts = np.arange(0, height, SIDE), np.arange(0, width, SIDE)
    begin = np.zeros((tops.size, lefts.size, 2), np.int64) if start is None else start.astype(np.int64)
    begin = np.clip(begin, [-height, -width], [height, width])
    y, x = np.mgrid[0:height, 0:width]
    at = begin[y // SIDE, x // SIDE]
    best = np.full((tops.size, lefts.size), np.iinfo(np.int64).max)
    result = np.zeros((tops.size, lefts.size, 3), np.int32)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            there = before[np.clip(y + at[:, :, 0] + dy, 0, height - 1), np.clip(x + at[:, :, 1] + dx, 0, width - 1)]
            apart = np.abs(now.astype(np.int64) - there)
            total = np.add.reduceat(np.add.reduceat(apart, tops, axis=0), lefts, axis=1)
            cost = total + 4 * (abs(dy) + abs(dx))
            better = cost < best
            best[better] = cost[better]
            result[better, 0] = (begin[:, :, 0] + dy)[better]
            result[better, 1] = (begin[:, :, 1] + dx)[better]
            result[better, 2] = total[better]
    return result


@any_array
def motion(
    now: Array,
    before: Array,
    radius: int = 8,
    *,
    start: Array | None = None,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.int32]:
    """Where each 8 x 8 block of a frame was in the frame before it: full search by sums of absolute differences.

    Args:
        now, before: uint8 [H, W], luma of two frames.
        radius: 0 to 16 pixels about the start.
        start: int32 [ceil(H / 8), ceil(W / 8), 2], (dy, dx) of each block to search about; (0, 0) when None.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        int32 [ceil(H / 8), ceil(W / 8), 3]: block (i, j) was at (y + dy, x + dx); and its sum of absolute differences.

    Raises:
        InvalidInputError: shapes, dtypes or radius do not fit.

    Numerics: EXACT.
    """
    check_plane("now", now, np.uint8)
    check_plane("before", before, np.uint8, tuple(now.shape))
    if not 0 <= radius <= 16:
        raise InvalidInputError(f"radius: expected 0 to 16 pixels, got {radius}.")
    rows, columns = -(-now.shape[0] // SIDE), -(-now.shape[1] // SIDE)
    if start is not None and not (
        isinstance(start, ARRAYS) and start.dtype == np.int32 and tuple(start.shape) == (rows, columns, 2)
    ):
        raise InvalidInputError(f"start: expected int32 [{rows}, {columns}, 2].")
    target = output(out, (rows, columns, 3), np.int32, now)
    if uses_reference(backend, now, before):
        target[...] = reference(now, before, radius, start)
    else:
        _native.motion(radius, now, before, start, target, threads, isa_code(isa))
    return target
