# SPDX-License-Identifier: Apache-2.0
"""blend: one picture over another by a mask; and the soft border of such a mask."""

from __future__ import annotations

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

# ---- feather ----------------------------------------------------------------------------------------------


def feather_reference(mask: Array, radius: int) -> NDArray[np.uint8]:
    """The law of feather in NumPy; see kernels/ops/blend.op.h."""

    def sums(values: Array) -> Array:
        padded = np.pad(values, radius)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
        return np.asarray(windows.sum((2, 3), dtype=np.int64))

    masked, pixels = sums(mask != 0), sums(np.ones(mask.shape, np.bool_))
    return ((255 * masked + pixels // 2) // pixels).astype(np.uint8)


@any_array
def feather(
    mask: Array,
    radius: int,
    *,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.uint8]:
    """A mask with a soft border: the masked share of the square round each pixel.

    Args:
        mask: uint8 [H, W]; what is not 0 counts.
        radius: 0 to 16 pixels; squares have a side of 2 * radius + 1 and are cut at the borders.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W], 0 to 255.

    Raises:
        InvalidInputError: shape, dtype or radius do not fit.

    Numerics: EXACT.
    """
    check_plane("mask", mask, np.uint8)
    if not 0 <= radius <= 16:
        raise InvalidInputError(f"feather: expected a radius of 0 to 16 pixels, got {radius}.")
    target = output(out, mask.shape, np.uint8, mask)
    if uses_reference(backend, mask):
        target[...] = feather_reference(mask, radius)
    else:
        _native.feather(radius, mask, target, threads, isa_code(isa))
    return target


# ---- blend ------------------------------------------------------------------------------------------------


def reference(base: Array, over: Array, mask: Array) -> NDArray[np.uint8]:
    """The law of blend in NumPy; see kernels/ops/blend.op.h."""
    m = mask[:, :, None].astype(np.uint32)
    return ((base * (255 - m) + over * m + 127) // 255).astype(np.uint8)


@any_array
def blend(
    base: Array,
    over: Array,
    mask: Array,
    *,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.uint8]:
    """One picture over another.

    Args:
        base: uint8 [H, W, C], C 1 to 4.
        over: the same shape.
        mask: uint8 [H, W], how much of `over` is taken: base where it is 0, over where it is 255.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W, C]: (a (255 - m) + b m + 127) / 255, rounded down.

    Raises:
        InvalidInputError: shapes or dtypes do not fit.

    Numerics: EXACT.
    """
    check_picture("base", base)
    check_picture("over", over)
    if over.shape != base.shape:
        raise InvalidInputError(f"over: expected base's shape {list(base.shape)}, got {list(over.shape)}.")
    check_plane("mask", mask, np.uint8, base.shape[:2])
    target = output(out, base.shape, np.uint8, base)
    if uses_reference(backend, base, over, mask):
        target[...] = reference(base, over, mask)
    else:
        _native.blend(base, over, mask, target, threads, isa_code(isa))
    return target
