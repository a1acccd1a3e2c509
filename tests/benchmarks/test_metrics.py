# SPDX-License-Identifier: Apache-2.0
"""The numbers of the benchmarks against plain computations."""

import json
import sys

import cv2
import numpy as np
import pytest
from bundles import make_bundle
from PIL import Image

from secondeye.benchmarks import metrics, quality, stereo_metrics
from secondeye.benchmarks.pairs import read_pairs
from secondeye.runtime import ops
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import MediaError

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
    bundle = make_bundle(tmp_path / "bundle", prediction=0.5)
    words = [
        "quality",
        str(tmp_path / "pairs"),
        "--bundle",
        str(bundle),
        "--steps",
        "2",
        "--json",
        str(tmp_path / "r.json"),
        "--sheet",
        str(tmp_path / "s.png"),
    ]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        guarded(app)
    assert not stop.value.code, capfd.readouterr().err
    made = json.loads((tmp_path / "r.json").read_text())
    rows, told = made["results"], made["bundle"]
    assert (told["name"], told["scheduler"], told["steps"]) == ("bundle", "ddim", 2)
    scores = {row["view"]: row["siou"] for row in rows}
    assert scores["with measured disparity"] > 0.95
    kinds = {"as it is", "fitted", "as its authors"}
    assert {f"quality mode, {kind}" for kind in kinds} | {"identity", "secondeye, as it is"} <= set(scores)
    assert all(row["disparity_error_px"] is not None for row in rows if row["view"] == "identity")
    assert (tmp_path / "s.png").exists()


def test_without_a_sheet_no_views_are_kept(tmp_path, monkeypatch):
    home = tmp_path / "one"
    home.mkdir()
    for side in ("left", "right"):
        Image.fromarray(textured(48, 64)).save(home / f"{side}.png")
    monkeypatch.delattr(quality, "_small")
    quality.main(tmp_path, depth_model="cues")


def test_a_table_that_was_stopped_goes_on(tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for side in ("left", "right"):
            Image.fromarray(textured(48, 64)).save(tmp_path / "pairs" / name / f"{side}.png")
    table, measured, whole = tmp_path / "r.json", [], quality.views

    def run(stopped_at=None, **options):
        def views(pair, *rest):
            if pair.name == stopped_at:
                raise KeyboardInterrupt
            measured.append(pair.name)
            return whole(pair, *rest)

        measured.clear()
        monkeypatch.setattr(quality, "views", views)
        quality.main(tmp_path / "pairs", json_file=table, **{"depth_model": "cues"} | options)
        return json.loads(table.read_text())

    with pytest.raises(KeyboardInterrupt):
        run(stopped_at="c")
    assert not table.exists()
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at="b", depth_model="builtin")  # which is another table
    assert measured == ["a"]
    with pytest.raises(KeyboardInterrupt):
        run(stopped_at="c")
    result = run()
    assert measured == ["c"]
    assert list(dict.fromkeys(row["pair"] for row in result["results"])) == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs", "r.json"]
    assert run() == result
    assert measured == ["a", "b", "c"]  # a finished table is made anew


def test_a_table_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    for name in ("json_file", "sheet"):
        with pytest.raises(MediaError, match="make it first"):
            quality.main(tmp_path / "no pairs", **{name: tmp_path / "nowhere" / "r.png"})


def textured(height=120, width=400):
    noise = RNG.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.2), None, 0, 255, cv2.NORM_MINMAX)


def test_the_matcher_knows_the_sign_and_size_of_disparity():
    left = textured()
    for shift in (9, 0, -6):
        found = stereo_metrics.match(left, np.roll(left, -shift, 1))
        middle = found[10:-10, 60:-60]
        assert np.isfinite(middle).mean() > 0.8
        assert np.nanmedian(middle) == pytest.approx(shift, abs=0.1)


def test_a_pairs_own_numbers():
    left = textured()
    right = np.roll(left, -9, 1)
    assert stereo_metrics.disparity_error(right, right, left) == (0.0, 1.0)
    apart, found = stereo_metrics.disparity_error(np.roll(left, -5, 1), right, left)
    assert apart == pytest.approx(4, abs=0.3)
    assert found > 0.7
    assert stereo_metrics.consistency(left, right) > 0.9
    assert stereo_metrics.consistency(left, textured()) < 0.5
    flat = np.full_like(left, 90)
    assert stereo_metrics.consistency(flat, flat) == 0.0
    holes = np.zeros(left.shape[:2], bool)
    assert np.isnan(stereo_metrics.masked_psnr(left, right, holes))
    holes[20:60, 30:50] = True
    worse = right.copy()
    worse[~holes] = 0
    assert stereo_metrics.masked_psnr(worse, right, holes) == float("inf")


def test_holes_of_a_true_pair(scene):
    picture, depth = scene
    true = ((depth - depth.min()) / np.ptp(depth) * 12).astype(np.float32)
    warped = ops.warp(picture, true)
    np.testing.assert_array_equal(stereo_metrics.true_holes(picture, picture, true), warped.holes != 0)


def test_every_number_of_a_row_is_what_it_says():
    left = textured()
    right = np.roll(left, -9, 1)
    row = stereo_metrics.all_metrics(right, right, left, np.zeros(left.shape[:2], bool))
    perfect = {"siou": 1.0, "psnr": None, "ssim": 1.0, "rmse": 0.0, "mae": 0.0, "hole_psnr": None}
    assert {name: row[name] for name in perfect} == perfect
    row = stereo_metrics.all_metrics(left, right, left, np.zeros(left.shape[:2], bool))
    error = left.astype(float) - right
    assert row["mae"] == pytest.approx(np.abs(error).mean(), abs=0.005)
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=0.005)


def test_pairs_of_a_side_by_side_film(tmp_path):
    import av

    path = tmp_path / "pair.mkv"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 48, "bgr0"
        for k in range(18):
            pixels = np.full((48, 128, 3), k, np.uint8)
            pixels[:, 64:] += 100
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode(None))
    found = list(read_pairs(path))
    assert [pair.name for pair in found] == ["pair:0", "pair:8", "pair:16"]
    for number, pair in zip((0, 8, 16), found, strict=True):
        assert (pair.left == number).all()
        assert (pair.right == 100 + number).all()
    (tmp_path / "no.mp4").write_bytes(b"no film")
    with pytest.raises(MediaError, match="not a film"):
        list(read_pairs(tmp_path / "no.mp4"))


def test_the_authors_folders(tmp_path):
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        for name in ("b", "a"):
            Image.fromarray(textured(32, 48)).save(tmp_path / side / f"{name}.png")
    Image.fromarray(textured(32, 48)).save(tmp_path / "left" / "alone.png")
    assert [pair.name for pair in read_pairs(tmp_path)] == ["a", "b"]


def test_pairs_are_those_of_one_name_whatever_it_holds(tmp_path):
    for side, names in (("left", ("f", "x[1]")), ("right", ("f", "f.1", "x[1]"))):
        (tmp_path / side).mkdir()
        for number, name in enumerate(names):
            Image.fromarray(np.full((32, 48, 3), 40 * number, np.uint8)).save(tmp_path / side / f"{name}.png")
    assert [(pair.name, pair.right[0, 0, 0]) for pair in read_pairs(tmp_path)] == [("f", 0), ("x[1]", 80)]


def test_a_disparity_that_cannot_be_read_is_told(tmp_path):
    home = tmp_path / "one"
    home.mkdir()
    for side in ("left", "right"):
        Image.fromarray(textured(32, 48)).save(home / f"{side}.png")
    known = np.ones((32, 48), np.float32)
    for named in (
        {"depth": known},
        {"disparity": np.array([{}])},
        {"disparity": known * np.nan},
        {"disparity": known[0]},
    ):
        np.savez(home / "disparity.npz", **named)
        with pytest.raises(MediaError, match=r"disparity\.npz: "):
            list(read_pairs(tmp_path))
    (home / "disparity.npz").write_bytes(b"no archive")
    with pytest.raises(MediaError, match=r"disparity\.npz: "):
        list(read_pairs(tmp_path))


def test_the_contact_sheet_names_its_rows_and_columns():
    tile = np.full((270, 480, 3), 200, np.uint8)
    strips = {"one": {"truth": (tile, ""), "identity": (tile, "SIoU 0.1")}, "two": {"fast": (tile[:240], "SIoU 0.2")}}
    sheet = quality.contact_sheet(strips)
    margin = sheet.shape[1] - 3 * 480
    assert margin > 16
    assert sheet.shape[0] == 30 + 300 + 270
    np.testing.assert_array_equal(sheet[60:330, margin : margin + 960], np.hstack([tile, tile]))
    np.testing.assert_array_equal(sheet[360:600, margin + 960 :], tile[:240])
    background = sheet[0, -1]
    assert (sheet[30:, margin + 960 :][:300] == background).all()  # no view of that name
    for bar in (sheet[:30, margin : margin + 480], sheet[:30, margin + 960 :], sheet[30:330, :margin],
                sheet[30:60, margin + 480 : margin + 960]):  # fmt: skip
        assert bar.max() > 150  # something is written
