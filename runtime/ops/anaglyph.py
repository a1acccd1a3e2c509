# SPDX-License-Identifier: Apache-2.0
"""anaglyph: both views in one picture, for coloured glasses."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import Array, Backend, Isa, check_pair, isa_code, output, uses_reference

AnaglyphKind = Literal[
    "dubois-red-cyan", "dubois-green-magenta", "dubois-amber-blue",
    "true-red-cyan", "grey-red-cyan", "colour-red-cyan", "half-colour-red-cyan", "optimised-red-cyan",
]  # fmt: skip

_GREY = (0.299, 0.587, 0.114)
_NO = (0.0, 0.0, 0.0)
_R, _G, _B = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

# Rows: red, green, blue of the result; each from the left view's three and the right view's three.
# Dubois: least-squares projections, E. Dubois, "A projection method to generate anaglyph stereo images", ICASSP 2001,
# and the matrices that he published for other glasses. Optimised: P. Wimmer's, which avoid retinal rivalry of reds.
MATRICES: dict[str, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]] = {
    "dubois-red-cyan": (
        ((0.437, 0.449, 0.164), (-0.011, -0.032, -0.007)),
        ((-0.062, -0.062, -0.024), (0.377, 0.761, 0.009)),
        ((-0.048, -0.050, -0.017), (-0.026, -0.093, 1.234)),
    ),
    "dubois-green-magenta": (
        ((-0.062, -0.158, -0.039), (0.529, 0.705, 0.024)),
        ((0.284, 0.668, 0.143), (-0.016, -0.015, -0.065)),
        ((-0.015, -0.027, 0.021), (0.009, 0.075, 0.937)),
    ),
    "dubois-amber-blue": (
        ((1.062, -0.205, 0.299), (-0.016, -0.123, -0.017)),
        ((-0.026, 0.908, 0.068), (0.006, 0.062, -0.017)),
        ((-0.038, -0.173, 0.022), (0.094, 0.185, 0.911)),
    ),
    "true-red-cyan": ((_GREY, _NO), (_NO, _NO), (_NO, _GREY)),
    "grey-red-cyan": ((_GREY, _NO), (_NO, _GREY), (_NO, _GREY)),
    "colour-red-cyan": ((_R, _NO), (_NO, _G), (_NO, _B)),
    "half-colour-red-cyan": ((_GREY, _NO), (_NO, _G), (_NO, _B)),
    "optimised-red-cyan": (((0.0, 0.7, 0.3), _NO), (_NO, _G), (_NO, _B)),
}


@cache
def matrix_q12(kind: str) -> tuple[int, ...]:
    """The matrix of a kind in 1/4096, row by row, left view first."""
    return tuple(round(value * 4096) for row in MATRICES[kind] for view in row for value in view)


def reference(left: Array, right: Array, kind: str) -> Array:
    """The law of anaglyph in NumPy; see kernels/ops/anaglyph.op.h."""
    both = np.concatenate([left, right], axis=2).astype(np.int32)
    matrix = np.array(matrix_q12(kind), np.int32).reshape(3, 6)
    return np.clip((both @ matrix.T + 2048) >> 12, 0, 255).astype(np.uint8)


@any_array
def anaglyph(
    left: Array,
    right: Array,
    kind: AnaglyphKind = "dubois-red-cyan",
    *,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """Both views in one picture, for coloured glasses.

    Args:
        left: uint8 [H, W, 3], sRGB, any strides.
        right: the same shape.
        kind: the glasses and the method; the Dubois ones look best, the grey one has no rivalry at all. (``true``
            red-cyan leaves green dark, as the first prints did.)
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InvalidInputError: shapes, dtypes or kind do not fit.

    Numerics: EXACT; the matrices are rounded to 1/4096 and applied to sRGB values, as is usual.
    """
    check_pair(left, right, channels=(3,))
    if kind not in MATRICES:
        raise InvalidInputError(f"anaglyph: expected one of {', '.join(MATRICES)}, got {kind!r}.")
    target = output(out, left.shape, np.uint8, left)
    if uses_reference(backend, left, right):
        target[...] = reference(left, right, kind)
    else:
        _native.anaglyph(matrix_q12(kind), left, right, target, threads, isa_code(isa))
    return target
