# SPDX-License-Identifier: Apache-2.0
"""pack: two views in one picture."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import Array, Backend, Isa, check_pair, isa_code, output, uses_reference

PackLayout = Literal["sbs", "tb", "rows", "columns", "checkerboard", "half-sbs", "half-tb"]
LAYOUT_CODES: dict[str, int] = {name: code for code, name in enumerate(get_args(PackLayout))}
HALVED = {"half-sbs": 1, "half-tb": 0}
"""The axis along which a layout halves each view."""


def reference(left: Array, right: Array, layout: PackLayout) -> Array:
    """The law of pack in NumPy; see kernels/ops/pack.op.h."""
    if layout in ("sbs", "tb"):
        return np.concatenate([left, right], axis=1 if layout == "sbs" else 0)
    if layout in HALVED:
        return np.concatenate([_means(view, HALVED[layout]) for view in (left, right)], axis=HALVED[layout])
    y, x = np.ogrid[: left.shape[0], : left.shape[1]]
    odd = {"rows": y + 0 * x, "columns": 0 * y + x, "checkerboard": y + x}[layout] % 2 == 1
    return np.where(odd[:, :, None], right, left)


def _means(view: Array, axis: int) -> Array:
    """Means of pairs along an axis, halves up; of any unsigned dtype."""
    first, second = (view[0::2], view[1::2]) if axis == 0 else (view[:, 0::2], view[:, 1::2])
    means: Array = ((first.astype(np.uint32) + second + 1) >> 1).astype(view.dtype)
    return means


@any_array
def pack(
    left: Array,
    right: Array,
    layout: PackLayout = "sbs",
    *,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """Put two views into one picture.

    Args:
        left: uint8 [H, W, C], C 1 to 4, any strides; numpy, or any library's array (see :mod:`._arrays`), here as
            everywhere in the ops. Arrays on a GPU are worked on there.
        right: the same shape.
        layout: ``sbs`` gives [H, 2W, C], left view on the left; ``tb`` gives [2H, W, C], left view on top; ``rows``,
            ``columns`` and ``checkerboard`` give [H, W, C] with the right view's pixels at odd places;
            ``half-sbs`` and ``half-tb`` give [H, W, C] of views whose width or height, an even one, is halved by means
            of two (:func:`resize` halves any size).
        out: where to write; allocated when None.
        backend: ``auto`` runs where the arrays lie; ``reference`` is the NumPy law.
        threads: 0 for one per core. Any count gives the same bytes.
        isa: instruction set, for tests and measurements.

    Returns:
        The packed picture, of left's kind.

    Raises:
        InvalidInputError: shapes, dtypes or layout do not fit.

    Numerics: EXACT.
    """
    check_pair(left, right)
    if layout not in LAYOUT_CODES:
        raise InvalidInputError(f"layout: expected one of {', '.join(LAYOUT_CODES)}, got {layout!r}.")
    height, width, channels = left.shape
    if layout in HALVED and left.shape[HALVED[layout]] % 2:
        side = ("height", "width")[HALVED[layout]]
        raise InvalidInputError(f"{layout}: expected an even {side}, got {left.shape[HALVED[layout]]}.")
    shape = {"sbs": (height, 2 * width, channels), "tb": (2 * height, width, channels)}.get(layout, left.shape)
    target = output(out, shape, np.uint8, left)
    if uses_reference(backend, left, right):
        target[...] = reference(left, right, layout)
    else:
        _native.pack(LAYOUT_CODES[layout], left, right, target, threads, isa_code(isa))
    return target
