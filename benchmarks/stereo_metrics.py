# SPDX-License-Identifier: Apache-2.0
"""What only a pair of views can tell: whether a made right view holds the same depth as the true one, and what it shows
where the left view shows nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.benchmarks.machine import bench_extra
from secondeye.benchmarks.metrics import psnr
from secondeye.runtime import ops

cv2 = bench_extra("cv2")
Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


def match(left: Pixels, right: Pixels) -> Map:
    """Disparity of the left view by OpenCV's semi-global matcher, float32 [H, W] pixels; NaN where it finds none.

    A left pixel at x is seen at x - disparity in the right view; from -4 to 12 % of the width is looked for.
    """
    width = left.shape[1]
    least = -(-(width * 4 // 100) // 16) * 16
    count = max(16, -(-(width * 16 // 100) // 16) * 16)
    block = 5
    matcher = cv2.StereoSGBM.create(
        minDisparity=-least, numDisparities=count, blockSize=block, P1=8 * 3 * block**2, P2=32 * 3 * block**2,
        disp12MaxDiff=1, uniquenessRatio=10, speckleWindowSize=100, speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )  # fmt: skip
    # It never looks beyond the left border, so what reaches out there is put on a wider canvas.
    a, b = (cv2.copyMakeBorder(p, 0, 0, count, least, cv2.BORDER_REPLICATE) for p in (left, right))
    raw = np.asarray(matcher.compute(a, b))[:, count : count + width]
    return np.where(raw < -16 * least, np.nan, raw / 16.0).astype(np.float32)


def disparity_error(predicted: Pixels, right: Pixels, left: Pixels) -> tuple[float, float]:
    """(mean absolute difference in pixels of the disparities matched to a made and to the true right view, the share of
    the pixels matched to the true one that are matched to the made one too)."""
    made, true = match(left, predicted), match(left, right)
    known, both = np.isfinite(true), np.isfinite(true) & np.isfinite(made)
    if not both.any():
        return float("nan"), 0.0
    return float(np.abs(made - true)[both].mean()), float(both.sum() / known.sum())


def consistency(left: Pixels, right: Pixels) -> float:
    """Share of the left view's matched pixels whose match leads back to within a pixel; 0 where nothing matches."""
    forth = match(left, right)
    # The right view's own disparity: both mirrored, the right view is the left one.
    back = match(np.ascontiguousarray(right[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))[:, ::-1]
    rows, columns = np.nonzero(np.isfinite(forth))
    seen = np.rint(columns - forth[rows, columns]).astype(int)
    inside = (seen >= 0) & (seen < left.shape[1])
    rows, columns, seen = rows[inside], columns[inside], seen[inside]
    if not rows.size:
        return 0.0
    returned = np.abs(back[rows, seen] - forth[rows, columns]) <= 1.0
    return float(returned.mean())


def filled_in(disparity: Map) -> Map:
    """A disparity map with its unknown pixels at the lesser of their row's nearest known neighbours."""
    height, width = disparity.shape
    known = np.isfinite(disparity)
    if not known.any():
        return np.zeros_like(disparity)
    columns = np.arange(width)
    before = np.maximum.accumulate(np.where(known, columns, 0), axis=1)
    after = np.minimum.accumulate(np.where(known, columns, width - 1)[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(height)[:, None]
    sides = np.stack([disparity[rows, before], disparity[rows, after]])
    least = np.where(np.isnan(sides).all(0), np.nanmin(disparity), np.fmin(sides[0], sides[1]))
    return np.where(known, disparity, least).astype(np.float32)


def true_holes(left: Pixels, right: Pixels, disparity: Map | None) -> NDArray[np.bool_]:
    """The true right view's pixels that the left view does not show, by measured disparity or else by matching."""
    moves = filled_in(match(left, right) if disparity is None else disparity)
    return np.asarray(ops.warp(left, moves).holes) != 0


def masked_psnr(predicted: Pixels, true: Pixels, where: NDArray[np.bool_]) -> float:
    """PSNR over some pixels, dB; NaN where there are none."""
    return psnr(predicted[where], true[where]) if where.any() else float("nan")


def all_metrics(predicted: Pixels, right: Pixels, left: Pixels, holes: NDArray[np.bool_]) -> dict[str, Any]:
    """The numbers of a row, rounded; NaN as None."""
    from secondeye.benchmarks.metrics import siou, ssim

    error = predicted.astype(np.float64) - right
    apart, found = disparity_error(predicted, right, left)
    numbers = {
        "siou": (siou(predicted, right, left), 4),
        "psnr": (psnr(predicted, right), 2),
        "ssim": (ssim(predicted, right), 4),
        "rmse": (float(np.sqrt((error**2).mean())), 2),
        "mae": (float(np.abs(error).mean()), 2),
        "hole_psnr": (masked_psnr(predicted, right, holes), 2),
        "disparity_error_px": (apart, 2),
        "disparity_found": (found, 3),
        "consistency": (consistency(left, predicted), 3),
    }
    return {name: round(value, digits) if np.isfinite(value) else None for name, (value, digits) in numbers.items()}
