# SPDX-License-Identifier: Apache-2.0
"""level: disparity at another strength and about another plane."""

from __future__ import annotations

import math

import numpy as np

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import Array, Backend, Isa, check_plane, isa_code, output, uses_reference


def reference(disparity: Array, scale: float, offset: float) -> Array:
    """The law of level in NumPy; see kernels/ops/level.op.h."""
    with np.errstate(all="ignore"):
        return np.asarray(disparity * np.float32(scale) + np.float32(offset), np.float32)


@any_array
def level(
    disparity: Array,
    scale: float,
    offset: float = 0.0,
    *,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """Disparity times a scale plus an offset: another strength, about another plane of convergence.

    Args:
        disparity: float32 [H, W], pixels, any strides.
        scale, offset: finite; rounded to float32.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        float32 [H, W].

    Raises:
        InvalidInputError: shapes, dtypes or numbers do not fit.

    Numerics: EXACT, each of both steps rounded by itself.
    """
    check_plane("disparity", disparity, np.float32)
    for name, value in (("scale", scale), ("offset", offset)):
        if not math.isfinite(value) or abs(value) > 3e38:
            raise InvalidInputError(f"{name}: expected a finite number, got {value}.")
    target = output(out, disparity.shape, np.float32, disparity)
    if uses_reference(backend, disparity):
        target[...] = reference(disparity, scale, offset)
    else:
        _native.level(scale, offset, disparity, target, threads, isa_code(isa))
    return target
