# SPDX-License-Identifier: Apache-2.0
"""The benchmark of quality mode: what it counts, and that its table is made."""

import json
import sys

import numpy as np
import pytest
import typer
from bundles import make_bundle

from secondeye.benchmarks import latency_quality
from secondeye.runtime.bundle import read_bundle
from secondeye.runtime.cli._guard import guarded


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("q") / "bundle", prediction=0.5, batch=4)


def test_work_is_counted_as_by_hand(bundle):
    opened = read_bundle(bundle)
    latent = (2, 4, 17, 24)
    shapes = (("source", latent), ("warped", latent), ("latent", latent), ("timestep", (2,)), ("keep", (2,)),
              ("gain", (2,)))  # fmt: skip
    cells = 2 * 17 * 24
    assert latency_quality.count(opened, "unet", shapes) == (2 * cells * 12 * 4, 4 * cells * (12 + 4))
    picture = (("picture", (1, 3, 136, 192)),)
    assert latency_quality.count(opened, "encoder", picture)[0] == 2 * 17 * 24 * 3 * 4


def run(words, monkeypatch, capfd):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(latency_quality.main)
    monkeypatch.setattr(sys, "argv", ["latency", *words])
    with pytest.raises(SystemExit) as stop:
        guarded(app)
    return stop.value.code or 0, capfd.readouterr()


def test_dense_and_sparse_stand_side_by_side(bundle, tmp_path, monkeypatch, capfd):
    words = ["--mode", "quality", "--bundle", str(bundle), "--size", "640x384", "--steps", "1,6", "--repeats", "2"]
    places = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    code, told = run([*words, *places], monkeypatch, capfd)
    assert code == 0, told.err
    result = json.loads((tmp_path / "r.json").read_text())
    rows = result["results"]
    assert [(row["tiles"], row["steps"]) for row in rows] == [
        ("dense", 1), ("sparse", 1), ("dense", 6), ("sparse", 6),
    ]  # fmt: skip
    assert [row["scheduler"] for row in rows] == ["warped", "warped", "ddim", "ddim"]
    for row in rows:
        stages = row["stages"]
        assert stages["all"]["p50_ms"] >= stages["denoise"]["p50_ms"] > 0
        assert stages["all"]["p99_ms"] >= stages["all"]["p50_ms"]
    for dense, sparse in (rows[:2], rows[2:]):
        assert ("from_another_seed" in dense) == (dense["steps"] == 1)
        assert 0 < sparse["tiles_of_picture"] <= 1
        assert sparse["pieces"] >= 1
        assert sparse["stages"]["denoise"]["gflop"] <= dense["stages"]["denoise"]["gflop"]
    assert result["model_size"] == "640 x 384"
    page = (tmp_path / "r.html").read_text()
    assert page.count("<rect class=") == 3 + 3 * len(rows)
    assert page.count("<td>all") == len(rows)
    cells = 48 * 80
    dense = rows[2]["stages"]["denoise"]
    assert dense["gflop"] == round(6 * 2 * cells * 12 * 4 / 1e9, 2)
    assert rows[3]["from_dense"]["mean"] <= 1  # this network sees no further than a cell


def test_shares_are_of_a_limit_that_was_measured(bundle, monkeypatch):
    opened = read_bundle(bundle)
    model = latency_quality._Watched(opened)
    times = {"to latents": [2.0], "denoise": [1.0], "to pixels": [1.0], "all": [5.0]}
    stages = latency_quality._stages(model, times, 1, {}, {})
    assert not [key for one in stages.values() for key in one if "share" in key]


def test_a_picture_with_nothing_hidden_is_told(bundle, tmp_path, monkeypatch, capfd):
    flat = np.full((384, 640, 3), 90, np.uint8)
    monkeypatch.setattr(latency_quality, "_scenes", lambda *rest: [("flat", flat)])
    words = ["--bundle", str(bundle), "--size", "640x384", "--steps", "1", "--html", str(tmp_path / "r.html")]
    code, told = run(words, monkeypatch, capfd)
    assert code == 0
    assert ("nothing to paint" in told.err) == ("<h2>" not in (tmp_path / "r.html").read_text())


def test_what_cannot_be_measured_is_one_sentence(bundle, monkeypatch, capfd):
    code, told = run(["--bundle", str(bundle), "--size", "big"], monkeypatch, capfd)
    assert code == 2
    assert "WIDTHxHEIGHT" in told.err
    for steps in ("0", "51", "1,x"):
        code, told = run(["--bundle", str(bundle), "--steps", steps], monkeypatch, capfd)
        assert (code, "--steps" in told.err) == (2, True)
