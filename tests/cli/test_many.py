# SPDX-License-Identifier: Apache-2.0
"""Several sources at once: films among them, names that meet, options that go with others."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from secondeye.runtime.cli._bar import progress_bar

FILM = ("--depth-model", "cues", "--preset", "ultrafast", "-q")


@pytest.fixture(scope="module")
def write_clip():
    """The films' tests' own writer of short clips."""
    path = Path(__file__).parent.parent / "video" / "conftest.py"
    spec = importlib.util.spec_from_file_location("film_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_clip


@pytest.fixture
def folder(tmp_path, write_clip):
    """A folder with two short films."""
    made = tmp_path / "films"
    made.mkdir()
    for name in ("a.mp4", "b.mkv"):
        write_clip(made / name, [0, 40, 80], sound=False)
    return made


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_of_films_and_pictures_goes_into_a_folder(cli, folder, photo, tmp_path):
    (folder / "c.jpg").write_bytes(photo.read_bytes())
    (folder / "d.mp4").write_bytes(b"no film at all")
    code, _, err = cli("convert", folder, "-o", tmp_path / "out", *FILM)
    assert code == 1
    assert "failed: " in err
    assert "d.mp4" in err
    assert names(tmp_path / "out") == ["a_SBS.mp4", "b_SBS.mkv", "c_SBS.png"]


def test_a_film_that_fails_does_not_stop_the_pictures_beside_it(cli, photo, tmp_path):
    mixed, out = tmp_path / "mixed", tmp_path / "out"
    mixed.mkdir()
    (mixed / "a.mp4").write_bytes(b"no film at all")
    (mixed / "b.png").write_bytes(photo.read_bytes())
    code, _, err = cli("convert", mixed, "-o", out, *FILM)
    assert (code, "failed: " in err, "a.mp4: is no film" in err) == (1, True, True)
    assert names(out) == ["b_SBS.png"]


def test_pictures_names_that_meet_are_told_before_the_films_work(cli, folder, photo, tmp_path):
    for name in ("c.png", "c.webp"):
        (folder / name).write_bytes(photo.read_bytes())
    code, _, err = cli("convert", folder, "-o", tmp_path / "out", *FILM)
    assert (code, "would become this file" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_films_that_are_there_are_skipped(cli, folder, tmp_path):
    out = tmp_path / "out"
    assert cli("convert", f"{folder}/*.m*", "-o", out, *FILM)[0] == 0
    stamps = [p.stat().st_mtime_ns for p in sorted(out.iterdir())]
    code, _, err = cli("convert", folder / "a.mp4", folder / "b.mkv", "-o", out, *FILM[:-1], "--skip-existing")
    assert code == 0
    assert err.count("was there already") == 2
    assert [p.stat().st_mtime_ns for p in sorted(out.iterdir())] == stamps


def test_several_results_do_not_fit_one_name(cli, folder, photo, tmp_path):
    code, _, err = cli("convert", photo, photo, "-o", tmp_path / "out.png")
    assert code == 2
    assert "several files need a folder" in err
    assert not (tmp_path / "out.png").exists()
    (folder / "a.mkv").write_bytes((folder / "b.mkv").read_bytes())
    code, _, err = cli("convert", folder, "-o", tmp_path / "out", "--codec", "av1", "--projection", "vr180")
    assert code == 2
    assert "a.mkv" in err
    assert "a.mp4 would become this file" in err


def test_two_pictures_of_one_name_are_both_told(cli, photo, tmp_path):
    for name in ("a.jpg", "a.jpeg"):
        (tmp_path / name).write_bytes(photo.read_bytes())
    code, _, err = cli("convert", tmp_path / "a.jpg", tmp_path / "a.jpeg", "-o", tmp_path / "out")
    assert code == 2
    assert "a.jpg and " in err
    assert "a.jpeg would become this file" in err


def test_options_without_effect_are_refused(cli, folder, photo, tmp_path):
    code, _, err = cli("convert", photo, "-o", tmp_path / "out.png", "--codec", "hevc", "--jobs", 2)
    assert code == 2
    assert "--codec, --jobs: for films" in err
    code, _, err = cli("convert", folder / "a.mp4", "-o", tmp_path / "out.mp4", "--quality", 80)
    assert code == 2
    assert "--crf" in err
    assert not list(tmp_path.glob("out*"))


def test_separate_views_are_told_by_their_names(cli, photo, tmp_path):
    code, _, err = cli("convert", photo, "-o", tmp_path / "out.png", "-l", "separate")
    assert code == 0
    assert f"{tmp_path / 'out_L.png'}, {tmp_path / 'out_R.png'}" in err


def test_an_encoder_that_cannot_start_says_what_it_needs(cli, folder, tmp_path):
    code, _, err = cli(
        "convert", folder / "a.mp4", "-o", tmp_path / "o.mp4", "--depth-model", "cues", "--preset", "odd"
    )
    assert code != 0
    assert "does it have a preset 'odd'?" in err


def test_the_names_that_models_go_by_are_shown_whole(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = cli("models", "list")
    assert code == 0
    assert "depth-anything-v2-small" in out


def test_a_narrow_terminal_shows_whole_numbers():
    for width, name in ((80, "[red]film.mp4"), (60, "a film of a very long name.mp4")):
        page = io.StringIO()
        with progress_bar(told=True, remaining=True, console=Console(file=page, width=width)) as bar:
            task = bar.add_task(name, total=172800, told="")
            bar.update(task, completed=123456, told="12.3 frames/s, shot 12: 1280 frames, slowest: depth")
        line = page.getvalue().rstrip()
        assert "\n" not in line
        assert line.startswith(name[:8])
        assert "123456/172800 12.3 fr" in line
        assert line.endswith(" 0:00:00 -:--:--")


def test_maps_and_sheets_of_many_pictures_lie_in_folders(cli, tmp_path, scene, read):
    """Maps that were written give the same pairs again; those within folders lie within folders."""
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "deep/a.png")):
        Image.fromarray(np.roll(scene[0], 9 * k, 1)).save(photos / name)
    words = ("convert", photos, "-r", "--depth-model", "cues", "--widen", "0")
    maps, sheets = photos / "maps", tmp_path / "sheets"
    code, _, err = cli(*words, "-o", tmp_path / "one", "--save-depth", maps, "--preview", f"{sheets}/")
    assert code == 0, err
    assert names(maps) == ["a.png", "b.png", "deep"]
    assert names(sheets) == ["a.jpg", "b.jpg", "deep"]
    assert read(maps / "deep" / "a.png").dtype == np.uint16
    # The maps lie within the pictures' folder, and are no pictures to convert.
    code, _, err = cli(*words, "-o", tmp_path / "two", "--depth-map", maps, "--depth-model", "none.onnx")
    assert (code, "3 converted" in err) == (0, True), err
    for name in ("a_SBS.png", "b_SBS.png", "deep/a_SBS.png"):
        one, two = (read(tmp_path / which / name).astype(int) for which in ("one", "two"))
        assert np.abs(one - two).mean() < 1.5
    (maps / "b.png").unlink()
    code, _, err = cli(*words, "-o", tmp_path / "three", "--depth-map", maps)
    assert code == 2
    assert "no map for 1 of 3 pictures" in err
    assert not list((tmp_path / "three").rglob("*.png"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--save-depth", "x.png"), "--save-depth x.png: several pictures need a folder"),
        (("--preview", "x.jpg"), "--preview x.jpg: several pictures need a folder"),
        (("--depth-map", "x.png"), "--depth-map x.png: several pictures need a folder"),
    ],
)
def test_one_name_for_many_is_refused(cli, photo, tmp_path, words, message):
    (tmp_path / "two.jpg").write_bytes(photo.read_bytes())
    code, _, err = cli("convert", photo, tmp_path / "two.jpg", "-o", tmp_path / "out", *words)
    assert (code, message in err) == (2, True), err
