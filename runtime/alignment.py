# SPDX-License-Identifier: Apache-2.0
"""What labels do at a depth map's resolution: carried from key frames along the motion, and depth's edges put on them.

Films and live sessions do this by the same native code (kernels/session/labels.cpp). The references state it; every
step is exact, or one rounding in a stated order, so both give the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime import ops
from secondeye.runtime.labels import AROUND, near_border, regrown

Map = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]
Parts = NDArray[np.int32]
REACH = 2  # cells on each side of a border that a network's soft edge spoils
STEP = 1 / 16  # of the map's range: less, within REACH, is no edge
POOR = 10 * 64  # a block of 8 x 8 that differs by more in all has not been found
ALIKE = 8  # difference of brightness, up to which a label is carried
RINGS = 4  # cells that labels may grow into what became unknown


def aligned(values: Map, labels: Labels) -> Map:
    """The map with soft edges at objects' borders made steps there.

    Cells near a border, where the map is not smooth, take the mean of the cells beside them that are of the same object
    and farther from the border, ring after ring; objects too thin to have such cells keep what they had.

    Args:
        values: float32 [h, w], finite, disparity or nearness.
        labels: uint16 [h, w], its objects; 0 is none, and is left as it is.
    """
    result: Map = np.array(values, np.float32, order="C")
    _native.align_edges(result, np.ascontiguousarray(labels))
    return result


def aligned_reference(values: Map, labels: Labels) -> Map:
    """The law of :func:`aligned` in NumPy."""
    soft = near_border(labels, REACH) & (labels != 0)
    soft &= _window(values, np.maximum) - _window(values, np.minimum) > STEP * float(np.ptp(values))
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
        of = np.where(use, result[beside], np.float32(0)).T
        total = ((of[0] + of[1]) + (of[2] + of[3])) + ((of[4] + of[5]) + (of[6] + of[7]))
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


def carried(now: Pixels, key: Pixels, labels: Labels, start: Parts, small: Pixels) -> tuple[Parts, Parts]:
    """The labels of a key frame at another frame of the shot.

    Each block is sought in the key frame, within 2 pixels of its start; one that is not found there is sought about
    where the blocks beside it were found. A pixel takes the label of the one that it was there, if its block was found,
    inside the picture, both are as bright, and no border runs beside it; labels then grow into what is not known, where
    its colours are most like theirs.

    Args:
        now, key: uint8 [h, w], brightness of the two frames.
        labels: uint16 [h, w], the key frame's.
        start: int32 [ceil(h / 8), ceil(w / 8), 2], (dy, dx) of each block to seek about.
        small: uint8 [h, w, 3], the frame's colours.

    Returns:
        int32 [h, w], label + 1, or 0 where it is not known; int32 [ceil(h / 8), ceil(w / 8), 3], where each block was
        found, and how far it differs (:func:`secondeye.runtime.ops.motion`).
    """
    moves = np.zeros((*start.shape[:2], 3), np.int32)
    moves[:, :, :2] = start
    parts = np.empty(now.shape, np.int32)
    _native.carry_labels(
        np.ascontiguousarray(now), np.ascontiguousarray(key), np.ascontiguousarray(labels),
        np.ascontiguousarray(small), moves, parts,
    )  # fmt: skip
    return parts, moves


def _found(now: Pixels, key: Pixels, start: Parts) -> Parts:
    """Where each block is in the key frame."""
    first = ops.motion(now, key, 2, start=np.ascontiguousarray(start), backend="reference")
    best = first.copy()
    beside = np.pad(first, ((1, 1), (1, 1), (0, 0)), constant_values=POOR + 1)
    for dy, dx in AROUND[:4]:
        theirs = beside[1 + dy : beside.shape[0] - 1 + dy, 1 + dx : beside.shape[1] - 1 + dx]
        other = ops.motion(now, key, 2, start=np.ascontiguousarray(theirs[:, :, :2]), backend="reference")
        better = (first[:, :, 2] > POOR) & (theirs[:, :, 2] <= POOR) & (other[:, :, 2] < best[:, :, 2])
        best[better] = other[better]
    return best


def carried_reference(now: Pixels, key: Pixels, labels: Labels, start: Parts, small: Pixels) -> tuple[Parts, Parts]:
    """The law of :func:`carried` in NumPy."""
    height, width = now.shape
    moves = _found(now, key, start)
    dy, dx, apart = (np.repeat(np.repeat(moves[:, :, k], 8, 0), 8, 1)[:height, :width] for k in range(3))
    y, x = np.ogrid[:height, :width]
    from_y, from_x = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
    known = (apart <= POOR) & (from_y == y + dy) & (from_x == x + dx)
    known &= np.abs(now.astype(np.int32) - key[from_y, from_x]) <= ALIKE
    moved = labels[from_y, from_x].astype(np.int32) + 1
    known &= ~near_border(moved, 1)
    return regrown(np.where(known, moved, 0), small, RINGS), moves
