# SPDX-License-Identifier: Apache-2.0
"""Depth's edges put on the borders of objects, at the depth map's own resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.labels import AROUND, near_border

Map = NDArray[np.float32]
REACH = 2  # cells on each side of a border that a network's soft edge spoils
STEP = 1 / 16  # of the map's range: less, within REACH, is no edge


def aligned(values: Map, labels: NDArray[np.uint16]) -> Map:
    """The map with soft edges at objects' borders made steps there.

    Cells near a border, where the map is not smooth, take the mean of the cells beside them that are of the same object
    and farther from the border, ring after ring; objects too thin to have such cells keep what they had.

    Args:
        values: float32 [h, w], finite, disparity or nearness.
        labels: uint16 [h, w], its objects; 0 is none, and is left as it is.
    """
    soft = near_border(labels, REACH) & (labels != 0)
    soft &= _window(values, np.maximum) - _window(values, np.minimum) > STEP * float(np.ptp(values))
    if not soft.any():
        return values
    width = values.shape[1] + 2
    result, whose = np.pad(values, 1).ravel(), np.pad(labels, 1).ravel()
    known = np.pad(~soft, 1).ravel()
    known &= whose != 0
    left = np.flatnonzero(np.pad(soft, 1).ravel())
    steps = np.array([dy * width + dx for dy, dx in AROUND])
    for _ in range(REACH + 1):
        beside = left[:, None] + steps
        use = known[beside] & (whose[beside] == whose[left][:, None])
        count = use.sum(1)
        found = count > 0
        if not found.any():
            break
        total = np.where(use, result[beside], np.float32(0)).sum(1)
        result[left[found]] = total[found] / count[found].astype(np.float32)
        known[left[found]] = True
        left = left[~found]
    return np.ascontiguousarray(result.reshape(-1, width)[1:-1, 1:-1])


def _window(values: Map, best: np.ufunc) -> Map:
    """The greatest (or least) value within REACH cells in both directions."""
    height, width = values.shape
    padded = np.pad(values, REACH, mode="edge")
    rows = best.reduce([padded[k : k + height] for k in range(2 * REACH + 1)])
    result: Map = best.reduce([rows[:, k : k + width] for k in range(2 * REACH + 1)])
    return result
