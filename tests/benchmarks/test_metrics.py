# SPDX-License-Identifier: Apache-2.0
"""The numbers of the benchmarks against plain computations."""

import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from secondeye.benchmarks import metrics, quality, segmentation
from secondeye.benchmarks.metrics import covering, label_border_f_score
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.converter import StereoConfig, StereoConverter

RNG = np.random.default_rng(5)


def plain_siou(a, right, left):
    def grey(p):
        return cv2.cvtColor(p, cv2.COLOR_BGR2GRAY)

    ea, er = (cv2.Canny(grey(p), 100, 200) > 0 for p in (a, right))
    da, dr = (grey(np.abs(p.astype(np.int16) - left).astype(np.uint8)) > 5 for p in (a, right))
    return 0.75 * (ea & er).sum() / (ea | er).sum() + 0.25 * (da & dr).sum() / (da | dr).sum()


def test_siou_equals_a_plain_computation():
    pictures = [cv2.GaussianBlur(RNG.integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 1.5) for _ in range(3)]
    pictures = [cv2.normalize(p, None, 0, 255, cv2.NORM_MINMAX) for p in pictures]
    assert metrics.siou(*pictures) == pytest.approx(plain_siou(*pictures), abs=1e-12)
    assert metrics.siou(pictures[0], pictures[0], pictures[1]) == 1.0
    flat = np.zeros((9, 9, 3), np.uint8)
    assert metrics.siou(flat, flat, flat) == 0.0


def test_ordinal_error_of_known_maps():
    true = RNG.random((50, 60)).astype(np.float32) + 0.1
    assert metrics.ordinal_error(true * 7 + 3, true) == 0.0
    assert metrics.ordinal_error(-true, true) == 1.0
    assert metrics.ordinal_error(np.zeros_like(true), true) == 0.5
    assert metrics.ordinal_error(RNG.random((50, 60)), true) == pytest.approx(0.5, abs=0.02)


def test_border_score_of_known_maps():
    true = np.zeros((60, 80), np.float32)
    true[20:40, 30:60] = 1
    assert metrics.border_f_score(true, true) == pytest.approx(1.0)
    assert metrics.border_f_score(np.roll(true, 15, axis=1), true) < 0.7


def test_fitting_finds_the_two_numbers(scene):
    picture, depth = scene
    low, high = (float(v) for v in np.quantile(depth, (0.02, 0.98)))
    true = (np.clip((depth - low) / (high - low), 0, 1) * 9 + 2).astype(np.float32)
    right = StereoConverter(StereoConfig()).render(picture, true).right
    pair = quality.Pair(name="x", left=picture, right=right, disparity=true)
    assert np.abs(quality.fitted_disparity(pair, depth) - true).mean() < 0.1


def test_the_quality_command(tmp_path, scene, monkeypatch, capfd):
    picture, depth = scene
    home = tmp_path / "pairs" / "one"
    home.mkdir(parents=True)
    true = (depth - depth.min()) / np.ptp(depth) * 12
    Image.fromarray(picture).save(home / "left.png")
    Image.fromarray(StereoConverter(StereoConfig()).render(picture, true).right).save(home / "right.png")
    np.savez(home / "disparity.npz", disparity=true)
    import typer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(quality.main)
    words = ["quality", str(tmp_path / "pairs"), "--json", str(tmp_path / "r.json"), "--sheet", str(tmp_path / "s.png")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        guarded(app)
    assert not stop.value.code, capfd.readouterr().err
    rows = json.loads((tmp_path / "r.json").read_text())["results"]
    scores = {row["view"]: row["siou"] for row in rows}
    assert scores["with measured disparity"] > 0.95
    assert (tmp_path / "s.png").exists()


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
    plain, exact = found["soft truth", "off"], found["soft truth", "exact"]
    assert exact["edge"] < 0.6 * plain["edge"]
    assert exact["hole_border"] < plain["hole_border"]
    assert exact["edge_better"] == exact["hole_border_better"] == 1.0
