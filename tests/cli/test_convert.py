# SPDX-License-Identifier: Apache-2.0
"""The main job through the command: every layout and format, folders, pipes."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secondeye.runtime.layouts import LAYOUTS


def test_a_photo_becomes_a_pair_through_the_installed_command(photo, tmp_path, read, scene):
    out = tmp_path / "photo_3d.png"
    done = subprocess.run(
        [sys.executable, "-m", "secondeye", "convert", photo, "-o", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    pair = read(out)
    assert pair.shape == (216, 768, 3)
    np.testing.assert_array_equal(pair[:, :384], read(photo))
    assert np.abs(pair[:, 384:].astype(int) - pair[:, :384]).mean() > 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("layout", [*LAYOUTS, "separate"])
def test_every_layout_is_written_at_its_size(cli, photo, tmp_path, read, layout):
    out = tmp_path / "out.png"
    code, _, err = cli("convert", photo, "-o", out, "-l", layout)
    assert code == 0, err
    if layout == "separate":
        assert read(tmp_path / "out_L.png").shape == read(tmp_path / "out_R.png").shape == (216, 384, 3)
    else:
        one = LAYOUTS[layout]
        assert read(out).shape[:2] == (216 * one.tall, 384 * one.wide)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".avif", ".jps", ".mpo"])
def test_every_format_can_be_opened_again(cli, photo, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    code, _, err = cli("convert", photo, "-o", out)
    assert code == 0, err
    with Image.open(out) as image:
        assert image.size == ((384, 216) if suffix == ".mpo" else (768, 216))
        if suffix == ".mpo":
            assert image.n_frames == 2
            kinds = {entry["Attribute"]["MPType"] for entry in image.mpinfo[0xB002]}
            assert kinds == {"Multi-Frame Image: (Disparity)"}
        if suffix == ".jps":
            assert ("APP3", b"_JPSJPS_\x00\x04\x00\x00\x02\x01") in image.applist


def test_a_jps_is_cross_eyed(cli, photo, tmp_path, read):
    assert cli("convert", photo, "-o", tmp_path / "a.jps", "--quality", 100)[0] == 0
    right_half = read(tmp_path / "a.jps")[:, 384:]
    assert np.abs(right_half.astype(int) - read(photo)).mean() < 2


def test_a_jps_through_a_pipe_is_cross_eyed_too(photo, tmp_path, read):
    options = ["-o", "-", "--format", "jps", "--quality", "100"]
    with (tmp_path / "a.jps").open("wb") as out:
        subprocess.run([sys.executable, "-m", "secondeye", "convert", str(photo), *options], stdout=out, check=True)
    right_half = read(tmp_path / "a.jps")[:, 384:]
    assert np.abs(right_half.astype(int) - read(photo)).mean() < 2


def test_the_longest_names(cli, photo, tmp_path):
    for name in ("n" * 251 + ".png", "名" * 83 + ".png"):  # file systems take 255 bytes
        assert cli("convert", photo, "-o", tmp_path / name)[0] == 0
        assert (tmp_path / name).exists()


def test_a_slash_names_a_folder_whatever_its_name(cli, photo, tmp_path):
    assert cli("convert", photo, "-o", f"{tmp_path}/3d.v2/")[0] == 0
    assert (tmp_path / "3d.v2" / "photo_SBS.png").is_file()
    assert cli("convert", photo, photo.with_name("*.jpg"), "-o", f"{tmp_path}/many.v2/")[0] == 2  # twice the same
    assert not (tmp_path / "many.v2").exists()


def test_folders_within_a_folder_become_folders_and_results_are_no_sources(cli, photo, tmp_path):
    home, out = tmp_path / "in", tmp_path / "in" / "3d"
    for day in ("", "monday", "monday/late"):  # a camera counts anew on every card
        (home / day).mkdir(exist_ok=True)
        (home / day / "DSC_1.jpg").write_bytes(photo.read_bytes())
    for _ in range(2):
        code, _, err = cli("convert", home, "-r", "-o", out)
        assert code == 0, err
        assert "3 converted, 0 failed" in err
        made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*"))
        assert made == ["DSC_1_SBS.png", "monday/DSC_1_SBS.png", "monday/late/DSC_1_SBS.png"]


def test_a_folder_goes_into_a_folder_and_one_bad_file_does_not_stop_it(cli, photo, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.jpg", "b.JPG", "c.jpg"):
        (source / name).write_bytes(photo.read_bytes())
    (source / "b.JPG").write_bytes(photo.read_bytes()[:2000])
    (source / "notes.txt").write_text("not a picture")
    code, _, err = cli("convert", source, "-o", out, "--layout", "half-sbs", "--format", "jpg")
    assert code == 1
    assert "2 converted, 1 failed" in err
    assert "damaged or cut short" in err
    assert sorted(p.name for p in out.iterdir()) == ["a_HSBS.jpg", "c_HSBS.jpg"]
    stamp = (out / "a_HSBS.jpg").stat().st_mtime_ns
    code, _, err = cli("convert", source, "-o", out, "--layout", "half-sbs", "--format", "jpg", "--skip-existing")
    assert "2 were there already" in err
    assert (out / "a_HSBS.jpg").stat().st_mtime_ns == stamp


def test_patterns_and_default_names(cli, photo, tmp_path):
    code, _, err = cli("convert", tmp_path / "*.jpg")
    assert code == 0, err
    assert (tmp_path / "photo_SBS.png").exists()


def test_pipes(photo):
    done = subprocess.run(
        [sys.executable, "-m", "secondeye", "convert", "-", "-o", "-", "--format", "jpg", "-q"],
        input=photo.read_bytes(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout[:2] == b"\xff\xd8"


def test_swap_exchanges_the_views(cli, photo, tmp_path, read):
    cli("convert", photo, "-o", tmp_path / "a.png")
    cli("convert", photo, "-o", tmp_path / "b.png", "--swap")
    a, b = read(tmp_path / "a.png"), read(tmp_path / "b.png")
    np.testing.assert_array_equal(a[:, :384], b[:, 384:])


def test_strength_in_degrees_and_what_is_uncomfortable_is_said(cli, photo, tmp_path):
    words = ("convert", photo, "-o", tmp_path / "o.png", "--depth-model", "cues", "--screen", "0.6x0.7")
    assert "comfort" not in cli(*words, "--strength", "0.9deg")[2]
    assert "1.2 degrees on this screen, over its comfort limit" in cli(*words, "--strength", "1.2deg")[2]
    assert "comfort" not in cli(*words[:-2], "--strength", "10px")[2]
    assert "over the comfort limit of 3" in cli(*words[:-2], "--strength", "3.5%")[2]


def test_depth_map_preview_and_saved_depth(cli, photo, tmp_path, scene, read):
    np.save(tmp_path / "map.npy", scene[1])
    code, _, err = cli(
        "convert", photo, "-o", tmp_path / "o.png", "--depth-map", tmp_path / "map.npy", "--preview",
        tmp_path / "sheet.png", "--save-depth", tmp_path / "d.npy", "--size", "192x", "--view", "both",
    )  # fmt: skip
    assert code == 0, err
    assert "is resized to 192 x 108" in err
    saved = np.load(tmp_path / "d.npy")
    assert saved.shape == (108, 192)
    assert saved.dtype == np.float32
    assert read(tmp_path / "sheet.png").ndim == 3
    code, _, err = cli("convert", photo, "-o", tmp_path / "p.png", "--save-depth", tmp_path / "d.png")
    assert read(tmp_path / "d.png").dtype == np.uint16


@pytest.mark.parametrize(
    "words", [(), ("convert",), ("sample",), ("models",), ("models", "get"), ("doctor",), ("layouts",)]
)
def test_help_teaches(cli, words):
    code, out, _ = cli(*words, "--help")
    assert code == 0
    assert "Usage" in out
    assert len(out) > 150


def test_doctor_and_lists(cli):
    for words in (("doctor",), ("layouts",), ("models", "list")):
        code, out, err = cli(*words)
        assert code == 0, err
        assert len(out) > 200
        assert "built-in depth built-in depth" not in " ".join(out.split())  # what it says, beside what it is about


def test_the_doctor_names_the_extra_that_would_help(cli, monkeypatch):
    module = importlib.import_module("secondeye.runtime.cli.doctor")
    monkeypatch.setattr(module, "_version", lambda name: None)
    out = " ".join(cli("doctor")[1].split())
    assert "pip install 'secondeye[export]' gives training and exporting models" in out
    assert "pip install 'secondeye[serve]' gives secondeye serve" in out


def test_models_that_need_a_licence_or_the_internet_say_so(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path))
    code, _, err = cli("models", "get", "depth-anything-v2-large")
    assert code == 2
    assert "--accept-licence" in err
    code, _, err = cli("models", "get", "nonesuch")
    assert code == 2
    assert "depth-anything-v2-small" in err


def test_fetching_without_a_connection_ends_at_once_with_a_sentence(cli, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="fetching needs huggingface_hub")
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")  # nobody listens there
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    begun = time.monotonic()
    code, _, err = cli("models", "get", "depth-anything-v2-small")
    assert code == 2
    assert time.monotonic() - begun < 5
    assert "Apache-2.0" in err
    assert "no connection to 127.0.0.1" in err
    assert "put the file at" in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*"))


@pytest.mark.posix
def test_an_interrupt_as_the_command_ends_prints_nothing():
    code = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["secondeye", "--version"]
from secondeye.runtime.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.posix
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupt_leaves_whole_files_only(photo, tmp_path, how):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(60):
        (source / f"{i:02d}.jpg").write_bytes(photo.read_bytes())
    run = subprocess.Popen(
        [sys.executable, "-m", "secondeye", "convert", source, "-o", out], stderr=subprocess.PIPE, text=True
    )
    begun = time.monotonic()
    while len(list(out.glob("*.png"))) < 3:
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() - begun < 60
        time.sleep(0.02)
    run.send_signal(getattr(signal, how))
    _, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "stopped; every file that was written is whole" in err
    assert "Traceback" not in err
    made = sorted(out.iterdir())
    assert 3 <= len(made) < 60
    for path in made:
        assert path.suffix == ".png"
        with Image.open(path) as image:
            image.load()
    done = subprocess.run(
        [sys.executable, "-m", "secondeye", "convert", source, "-o", out, "--skip-existing"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{len(made)} were there already" in done.stderr
    assert len(list(out.iterdir())) == 60


def test_completion_works():
    environment = {
        **os.environ,
        "_SECONDEYE_COMPLETE": "complete_bash",
        "COMP_WORDS": "secondeye con",
        "COMP_CWORD": "1",
    }
    command = "import sys; sys.argv = ['secondeye']; from secondeye.runtime.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert "convert" in done.stdout


@pytest.mark.parametrize(
    ("name", "seen", "more"),
    [
        ("pair.jps", "side by side, right view first, each view 384 x 216", "JPEG, 768 x 216, RGB"),
        ("pair.mpo", "two views, left view first, each 384 x 216", "MPO, 384 x 216, RGB, 2 of them"),
        ("photo_SBS.png", "side by side, left view first, each view 384 x 216", "Only its name says"),
    ],
)
def test_inspect_knows_stereo_pictures(cli, photo, tmp_path, name, seen, more):
    assert cli("convert", photo, "-o", tmp_path / name, "--depth-model", "cues", "-q")[0] == 0
    code, told, _ = cli("inspect", tmp_path / name)
    assert code == 0
    assert f"a stereo picture: {seen}" in told
    assert more in told
    code, told, _ = cli("inspect", tmp_path / name, "--json")
    assert json.loads(told)["verdict"] == f"a stereo picture: {seen}"


def test_inspect_says_that_a_picture_is_flat_or_none(cli, photo, tmp_path):
    assert "a flat picture" in cli("inspect", photo)[1]
    (tmp_path / "text.jpg").write_text("no picture")
    code, _, told = cli("inspect", tmp_path / "text.jpg")
    assert code != 0
    assert "not a picture that can be read" in told
    assert cli("inspect", tmp_path / "none.png")[2].count("no such file") == 1


@pytest.mark.parametrize("words", [["-h"], ["--mode", "quality", "-h"]])
def test_bench_has_help(cli, words):
    code, told, _ = cli("bench", *words)
    assert code == 0
    assert "Measure" in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full")
def test_a_full_disk_behind_standard_output_is_told_in_a_line(photo):
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "secondeye", "convert", str(photo), "-o", "-"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("secondeye: standard output: cannot be written (")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_a_source(cli, photo, tmp_path):
    """As a shell's <(...) is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(photo.read_bytes()), daemon=True)
    feeder.start()
    code, _, err = cli("convert", pipe, "-o", tmp_path / "out.png", "-q")
    assert (code, err) == (0, "")
    feeder.join(10)
    assert (tmp_path / "out.png").is_file()
