# SPDX-License-Identifier: Apache-2.0
"""How good a depth map or a right view is, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.benchmarks.machine import bench_extra

cv2 = bench_extra("cv2")
Pixels = NDArray[np.uint8]
Map = NDArray[Any]


def ordinal_error(predicted: Map, true: Map, *, pairs: int = 50_000, apart: float = 0.05, seed: int = 0) -> float:
    """Share of random pairs of points that a map puts in the wrong order; 0.5 is guessing.

    Only pairs count whose true disparities differ by more than `apart` of the larger; a tie in the prediction is half
    wrong. Both maps [H, W], larger = nearer; NaN in `true` is unknown.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(true.ravel()))
    p, t = predicted.ravel(), true.ravel()
    wrong = total = 0.0
    while total < pairs:
        i, j = rng.choice(known, (2, 2 * pairs))
        gap = t[i] - t[j]
        use = np.flatnonzero(np.abs(gap) > apart * np.maximum(t[i], t[j]))[: int(pairs - total)]
        if use.size == 0:
            raise ValueError("the true map is flat: no pair of points differs enough")
        order = np.sign(p[i[use]].astype(np.float64) - p[j[use]]) * np.sign(gap[use])
        wrong += float((order < 0).sum() + 0.5 * (order == 0).sum())
        total += use.size
    return wrong / total


def border_f_score(predicted: Map, true: Map, *, tolerance: int = 3) -> float:
    """How well the steps of a depth map lie where the true ones are: F score of their pixels, 0 to 1.

    True steps are where neighbours differ by over 10 % of the map's range; as many of the predicted map's strongest
    gradient pixels are taken. Either counts as met within `tolerance` pixels.
    """
    filled = np.where(np.isfinite(true), true, np.nan)
    low, high = np.nanpercentile(filled, (1, 99))
    step = _steps(filled.astype(np.float32))
    steps = np.nan_to_num(step) > 0.1 * (high - low)
    count = int(steps.sum())
    if count == 0:
        return float("nan")
    strength = np.where(np.isfinite(step), _steps(predicted.astype(np.float32)), -1.0)
    found = strength >= np.partition(strength.ravel(), -count)[-count]
    found &= strength > 0
    kernel = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    near_true = cv2.dilate(steps.astype(np.uint8), kernel) > 0
    near_found = cv2.dilate(found.astype(np.uint8), kernel) > 0
    precision = float(near_true[found].mean()) if found.any() else 0.0
    recall = float(near_found[steps].mean())
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _steps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Greatest absolute difference to the pixels two away on the right and below; NaN where one is unknown."""
    result = np.zeros_like(values)
    across = np.abs(values[:, 2:] - values[:, :-2])
    down = np.abs(values[2:] - values[:-2])
    result[:, 1:-1] = across
    result[1:-1] = np.maximum(result[1:-1], down)
    return result


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int(np.count_nonzero(a | b))
    return float(np.count_nonzero(a & b)) / union if union else 0.0


def _grey(picture: Pixels) -> Pixels:
    """The authors hand RGB to a BGR conversion; that changes the weights, and is kept."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def siou(predicted: Pixels, right: Pixels, left: Pixels) -> float:
    """Stereo intersection over union, as Mono2Stereo's authors compute it (arXiv 2503.22262), 0 to 1.

    0.75 IoU(edges(predicted), edges(right)) + 0.25 IoU(diff(predicted, left), diff(right, left)), edges = Canny 100/200
    of the grey picture, diff = grey absolute difference over 5. All uint8 [H, W, 3], RGB.
    """
    edges = [np.asarray(cv2.Canny(_grey(p), 100, 200)) > 0 for p in (predicted, right)]
    moved = [_grey(np.asarray(cv2.absdiff(p, left), np.uint8)) > 5 for p in (predicted, right)]
    return 0.75 * _iou(edges[0], edges[1]) + 0.25 * _iou(moved[0], moved[1])


def psnr(predicted: Pixels, true: Pixels) -> float:
    """Peak signal to noise in dB over all channels, peak 255; infinite for equal pictures."""
    mse = float(np.mean((predicted.astype(np.float64) - true) ** 2))
    return 10 * float(np.log10(255.0**2 / mse)) if mse else float("inf")


def ssim(predicted: Pixels, true: Pixels) -> float:
    """Structural similarity from scikit-image, window 7."""
    compared = bench_extra("skimage.metrics").structural_similarity
    result: Any = compared(predicted, true, win_size=7, channel_axis=2)
    return float(result)


def height_prior(height: int, width: int) -> NDArray[np.float32]:
    """What knowing nothing gives: lower in the picture is nearer."""
    return np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, axis=1)


def covering(predicted: Map, true: Map) -> float:
    """How well labels cover the true objects: each one's best IoU with a predicted one, weighed by area, 0 to 1.

    Arbelaez et al., Contour Detection and Hierarchical Image Segmentation (TPAMI 2011). Both maps are integers [H, W].
    """
    _, p = np.unique(predicted, return_inverse=True)
    _, t = np.unique(true, return_inverse=True)
    wide = int(p.max()) + 1
    joint = np.bincount(t.ravel() * wide + p.ravel(), minlength=(int(t.max()) + 1) * wide).reshape(-1, wide)
    area, theirs = joint.sum(1), joint.sum(0)
    overlap = joint / (area[:, None] + theirs[None] - joint)
    return float((area * overlap.max(1)).sum() / area.sum())


def label_border_f_score(predicted: Map, true: Map, *, tolerance: int = 2) -> float:
    """F score of the pixels on borders between labels, met within `tolerance` pixels, 0 to 1."""
    borders = [_label_borders(one) for one in (predicted, true)]
    kernel = np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8)
    near = [cv2.dilate(one.astype(np.uint8), kernel) > 0 for one in borders]
    precision = float(near[1][borders[0]].mean()) if borders[0].any() else 0.0
    recall = float(near[0][borders[1]].mean()) if borders[1].any() else 0.0
    return 2 * precision * recall / max(precision + recall, 1e-9)


def _label_borders(labels: Map) -> NDArray[np.bool_]:
    border = np.zeros(labels.shape, bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    return border
