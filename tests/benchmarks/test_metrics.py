# SPDX-License-Identifier: Apache-2.0
"""The numbers of the benchmarks against plain computations."""

import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from secondeye.benchmarks import metrics, quality
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
