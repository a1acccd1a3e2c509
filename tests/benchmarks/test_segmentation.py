# SPDX-License-Identifier: Apache-2.0
"""How segmenters are measured."""

import numpy as np
import pytest

from secondeye.benchmarks import segmentation
from secondeye.benchmarks.metrics import covering, label_border_f_score


def test_covering_and_label_borders():
    true = np.ones((40, 60), np.uint16)
    true[10:30, 20:40] = 2
    assert covering(true, true) == label_border_f_score(true, true) == 1.0
    assert covering(true + 5, true) == 1.0  # names do not matter
    flat = np.ones_like(true)
    assert covering(flat, true) == pytest.approx((2000 * (2000 / 2400) + 400 * (400 / 2400)) / 2400)
    assert label_border_f_score(flat, true) == 0.0
    near, far = np.roll(true, 2, axis=1), np.roll(true, 9, axis=1)
    assert label_border_f_score(near, true) > 0.99 > 0.7 > label_border_f_score(far, true)
    assert covering(near, true) > covering(far, true)


def test_labels_help_where_depth_is_right_but_soft(tmp_path):
    """The whole benchmark, on one made scene: exact labels put the edge where it is."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:270, :480]
    near = (x - 220) ** 2 + (y - 140) ** 2 < 80**2
    picture = np.clip(120 + rng.normal(0, 30, (270, 480, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    disparity = np.where(near, 1.0, 0.3).astype(np.float16)
    np.savez(
        tmp_path / "validation_0.npz", picture=picture[None], disparity=disparity[None],
        objects=near.astype(np.uint16)[None],
    )  # fmt: skip
    (case,) = segmentation.rendered(tmp_path)
    rows = list(segmentation.measure(case, lambda picture: near[::4, ::4].astype(np.float32), {}))
    found = {(one["depth"], one["segment"]): one for one in segmentation.summary(rows)}
    plain, exact, read = (found["soft truth", name] for name in ("off", "exact", "colours"))
    assert read["covering"] > 0.97
    assert read["border_f"] > 0.9
    assert read["edge"] < 0.7 * plain["edge"]
    assert {"upsample_ms", "warp_ms"} <= plain.keys()
    assert {"labels_ms", "align_ms", "upsample_ms", "warp_ms"} <= read.keys()
    assert exact["edge"] < 0.6 * plain["edge"]
    assert exact["hole_border"] < plain["hole_border"]
    assert exact["edge_better"] == exact["hole_border_better"] == 1.0
