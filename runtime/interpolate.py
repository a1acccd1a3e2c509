# SPDX-License-Identifier: Apache-2.0
"""Float maps and pictures at another size, sample for sample as the libraries that models were trained with."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Kind = Literal["cubic", "linear", "linear-corners"]
_AT_ONCE = 1 << 18  # bytes of rows


def _taps(inputs: int, outputs: int, kind: Kind) -> tuple[NDArray[np.int64], Floats]:
    """Indices and weights [outputs, taps] of one axis."""
    i = np.arange(outputs, dtype=np.float64)
    if kind == "linear-corners":
        place = i * ((inputs - 1) / (outputs - 1)) if outputs > 1 else np.zeros(1)
    else:
        place = (i + 0.5) * (inputs / outputs) - 0.5
    if kind == "linear":
        place = np.maximum(place, 0.0)
    first = np.floor(place)
    t = place - first
    if kind == "cubic":
        a = -0.75
        near, far = np.stack([t, 1 - t]), np.stack([t + 1, 2 - t])
        inner = ((a + 2) * near - (a + 3)) * near * near + 1
        outer = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
        weights = np.stack([outer[0], inner[0], inner[1], outer[1]], axis=1)
        index = first[:, None] + np.arange(-1, 3)
    else:
        weights = np.stack([1 - t, t], axis=1)
        index = first[:, None] + np.arange(2)
    return np.clip(index, 0, inputs - 1).astype(np.int64), weights.astype(np.float32)


def interpolate(values: Floats, height: int, width: int, kind: Kind) -> Floats:
    """Resample an array's first two axes, without antialiasing.

    Args:
        values: float32 [h, w] or [h, w, C].
        height, width: of the result.
        kind: ``cubic`` as OpenCV's INTER_CUBIC; ``linear`` as PyTorch's bilinear with align_corners False;
            ``linear-corners`` with align_corners True.

    Returns:
        float32 [height, width(, C)].

    Numerics: within 2e-6 of those libraries for values in [0, 1].
    """
    down, across = _taps(values.shape[0], height, kind), _taps(values.shape[1], width, kind)
    tail = (1,) * (values.ndim - 2)
    result = np.empty((height, width, *values.shape[2:]), np.float32)
    step = max(1, _AT_ONCE // (values[0].nbytes + result[0].nbytes))  # rows that stay in the processor's cache
    for first in range(0, height, step):
        part = slice(first, first + step)
        rows = _weighted(values, down[0][part], down[1][part].reshape(-1, down[1].shape[1], 1, *tail), 0)
        _weighted(rows, across[0], across[1].reshape(*across[1].shape, *tail), 1, result[part])
    return result


def _weighted(
    values: Floats, index: NDArray[np.int64], weights: Floats, axis: int, out: Floats | None = None
) -> Floats:
    """The sum over taps, in order, of what they take along an axis times their weights [outputs, taps, ...]."""
    total = np.take(values, index[:, 0], axis, out=out, mode="clip")
    total *= weights[:, 0]
    total += np.float32(0)  # -0 becomes 0
    taken = np.empty_like(total)
    for k in range(1, index.shape[1]):
        np.take(values, index[:, k], axis, out=taken, mode="clip")
        taken *= weights[:, k]
        total += taken
    return total
