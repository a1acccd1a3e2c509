# SPDX-License-Identifier: Apache-2.0
"""When something fails in the middle: whole segments are kept, and the message says how to go on."""

import functools
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from secondeye import FilmConfig, MediaError, StereoConfig, convert_video
from secondeye.runtime.video import encode

CONFIG = FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", segment=24)


@pytest.fixture(scope="module")
def source(tmp_path_factory, make_clip):
    """96 frames: four segments."""
    return make_clip(tmp_path_factory.mktemp("source") / "film.mkv", [40 * k for k in range(96)], sound=False)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, source):
    """The uninterrupted conversion's bytes."""
    path = tmp_path_factory.mktemp("wanted") / "film.mp4"
    convert_video(source, path, CONFIG)
    return path.read_bytes()


def test_ctrl_c_says_how_to_go_on(source, wanted, tmp_path):
    out = tmp_path / "film.mp4"
    words = [sys.executable, "-m", "secondeye", "convert", source, "-o", out, "--depth-model", "cues"]
    words += ["--preset", "ultrafast", "--size", "640x384"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "film.mp4.parts" / "journal.json"
    deadline = time.monotonic() + 60
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "the same command goes on from" in told
    assert "Traceback" not in told
    assert not out.exists()
    assert journal.exists()


def test_a_full_disk_is_no_encoders_fault(source, tmp_path):
    words = [sys.executable, "-m", "secondeye", "convert", source, "-o", tmp_path / "film.mkv", "--depth-model", "cues"]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, 40_000))
    done = subprocess.run([*words, "--codec", "ffv1"], stderr=subprocess.PIPE, text=True, preexec_fn=limit)
    assert done.returncode == 2
    assert "film.mkv.parts: cannot be written (file too large)." in done.stderr.lower()
    assert not list(tmp_path.iterdir())


def test_a_kill_while_the_parts_are_joined_leaves_nothing_for_ever(source, wanted, tmp_path):
    run = (
        "import os, sys, secondeye\nfrom secondeye.runtime.video import mux\n"
        "mux._finish = lambda *_, **__: os.kill(os.getpid(), 9)\n"  # the film is all but whole
        "config = secondeye.FilmConfig(stereo=secondeye.StereoConfig(depth='cues'), preset='ultrafast', segment=24)\n"
        "secondeye.convert_video(sys.argv[1], sys.argv[2], config)\n"
    )
    out = tmp_path / "film.mp4"
    assert subprocess.run([sys.executable, "-c", run, source, out]).returncode == -signal.SIGKILL
    assert convert_video(source, out, CONFIG).reused == 96
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == wanted


def test_an_encoder_that_fails_keeps_what_is_done(source, wanted, tmp_path, monkeypatch):
    out = tmp_path / "film.mp4"
    encoded = encode.SegmentWriter.encode
    count = 0

    def failing(self, shown, pts):
        nonlocal count
        count += 1
        if count > 60:
            raise MediaError("libx264: encoding failed (out of luck).")
        encoded(self, shown, pts)

    monkeypatch.setattr(encode.SegmentWriter, "encode", failing)
    with pytest.raises(MediaError, match=r"out of luck.*2 finished segments are kept in .*the same command goes on"):
        convert_video(source, out, CONFIG)
    assert len(list(tmp_path.glob("film.mp4.parts/*.seg"))) == 2
    assert not list(tmp_path.glob("film.mp4.parts/*.part"))
    monkeypatch.undo()
    report = convert_video(source, out, CONFIG)
    assert report.reused == 48
    assert out.read_bytes() == wanted


@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="limits of file sizes are told by Linux")
def test_a_full_disk_keeps_what_is_done(source, wanted, tmp_path):
    # A limit on the size of files stands for the disk: the system refuses writes in the middle of the joined film.
    out = tmp_path / "film.mp4"
    run = (
        "import resource, signal, sys\nimport secondeye\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))\n"
        "config = secondeye.FilmConfig(stereo=secondeye.StereoConfig(depth='cues'), preset='ultrafast', segment=24)\n"
        "try:\n    secondeye.convert_video(sys.argv[1], sys.argv[2], config)\n"
        "except secondeye.SecondEyeError as error:\n    print(type(error).__name__, error)\n"
    )
    words = [sys.executable, "-c", run, source, out]
    done = subprocess.run([*words, str(len(wanted) // 2)], capture_output=True, text=True, check=True)
    assert re.search(r"MediaError .*film\.mp4: cannot be written.*4 finished segments are kept", done.stdout), done
    assert len(list(tmp_path.glob("film.mp4.parts/*.seg"))) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4.parts"]
    # And in the middle of a segment.
    other = tmp_path / "other"
    other.mkdir()
    words[4] = other / "film.mp4"
    done = subprocess.run([*words, "6000"], capture_output=True, text=True, check=True)
    assert "MediaError" in done.stdout, done
    assert "Traceback" not in done.stderr
    assert not list(other.glob("film.mp4.parts/*.part"))
    report = convert_video(source, out, CONFIG)
    assert report.reused == 96
    assert out.read_bytes() == wanted
