# SPDX-License-Identifier: Apache-2.0
"""``secondeye live`` as a user types it: films, pipes, a network address, the screen, a window; and what it refuses."""

import contextlib
import fcntl
import functools
import http.server
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from kills import handlers_kept
from networks import brightness_network

from secondeye.runtime.cli.live import live as live_command
from secondeye.runtime.errors import MediaError
from secondeye.runtime.live import LiveSession
from secondeye.runtime.stream.sinks import Sink
from secondeye.runtime.stream.sources import Source, SourceOptions
from secondeye.runtime.video.signals import signal_of

COMMAND = (sys.executable, "-m", "secondeye")
QUICK = ("--size", "192x108", "--depth-model", "cues", "--depth-every", "4")
needs_display = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="no Xvfb (a display for tests) is installed")


def live(*words, **options):
    """Runs it to its end."""
    return subprocess.run([*COMMAND, "live", *map(str, words)], capture_output=True, timeout=120, **options)


def pictures(path):
    """Every picture of a film."""
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "film.mkv"
    done = live("sample", *QUICK, "--every", "--frames", "12", "--layout", "right", "--strength", "0", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


@contextlib.contextmanager
def display(size="640x480"):
    """A display of its own; gives its name."""
    read, write = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp"],
        pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield f":{int(pipe.readline())}"
    finally:
        process.terminate()
        process.wait(60)


def test_a_film_becomes_a_film(film, tmp_path):
    out = tmp_path / "out.mp4"
    done = live(film, *QUICK, "--every", "-o", out, "--layout", "tb")
    assert done.returncode == 0, done.stderr
    assert b"12 frames" in done.stderr
    made = pictures(out)
    assert len(made) == 12
    assert made[0].shape == (216, 192, 3)
    assert np.abs(made[5][:108].astype(int) - pictures(film)[5]).mean() < 4
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["nut", "y4m", "mpegts"])
def test_pipes_in_and_out(film, tmp_path, kind):
    out = tmp_path / f"out.{kind}"
    with open(film, "rb") as given, open(out, "wb") as taken:
        done = subprocess.run(
            [*COMMAND, "live", "-", *QUICK, "--every", "--format", kind], stdin=given, stdout=taken,
            stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.shape for p in pictures(out)] == [(108, 384, 3)] * 12


def test_a_segmenter_works_beside_the_frames(film, tmp_path):
    plain, labelled = tmp_path / "plain.mkv", tmp_path / "labelled.mkv"
    network = brightness_network(tmp_path / "net.onnx")
    done = live(film, *QUICK, "--every", "--segment", network, "--key-every", "2", "-o", labelled)
    assert done.returncode == 0, done.stderr
    assert re.search(r"objects for \d+ of [1-9]", " ".join(done.stderr.decode().split())), done.stderr
    assert len(pictures(labelled)) == 12
    done = live(film, *QUICK, "--every", "-o", plain)
    assert done.returncode == 0, done.stderr
    assert b"objects" not in done.stderr


def test_a_reader_that_leaves_ends_it(film):
    process = subprocess.Popen(
        [*COMMAND, "live", "sample", *QUICK], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.read(1000)
    process.stdout.close()
    assert process.wait(15) == 2
    said = process.stderr.read().decode()
    process.stderr.close()
    assert "Traceback" not in said
    assert "its reader has gone" in said


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGHUP])  # SIGTERM goes SIGHUP's way
def test_an_interrupt_finishes_the_film(tmp_path, ending):
    out = tmp_path / "evening.mkv"
    process = subprocess.Popen(
        [*COMMAND, "live", "sample", *QUICK, "-o", str(out)], stderr=subprocess.PIPE,
        # As a terminal starts it: a shell's background jobs ignore the one, nohup's the other.
        preexec_fn=lambda: [signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGHUP)],
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while sum(part.stat().st_size for part in tmp_path.glob(".evening.mkv.*.part")) <= 2000:
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(ending)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert len(pictures(out)) > 3
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_killed_film_can_be_played_up_to_its_last_second(tmp_path, suffix):
    with Sink(str(tmp_path / f"whole{suffix}"), signal=signal_of("sbs")) as whole:
        for k in range(20):
            whole.write(np.full((96, 192, 3), k, np.uint8), k * 100_000)
    data = (tmp_path / f"whole{suffix}").read_bytes()
    assert b"mvex" not in data[data.rindex(b"moov") :]  # an ordinary one
    assert len(pictures(tmp_path / f"whole{suffix}")) == 20
    dying = (
        "import os, numpy as np; from secondeye.runtime.stream.sinks import Sink\n"
        f"sink = Sink({str(tmp_path / f'film{suffix}')!r})\n"
        "for k in range(25): sink.write(np.full((96, 192, 3), k, np.uint8), k * 100_000)\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", dying]).returncode == -signal.SIGKILL
    (part,) = tmp_path.glob(f".film{suffix}.*.part")
    assert len(pictures(part)) >= 15


@pytest.mark.parametrize("target", ["-", "out.mkv"])
def test_a_full_disk_is_no_reader_that_has_gone(tmp_path, target):
    words = [*COMMAND, "live", "sample", *QUICK, "--every", "--frames", "90", "-o", target]
    with (tmp_path / "out.nut").open("wb") as out:
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, 40_000))
        done = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, cwd=tmp_path, preexec_fn=limit, timeout=120)
    assert done.returncode == 2
    name = "standard output" if target == "-" else "out.mkv"
    assert f"{name}: file too large." in done.stderr.decode()


def test_two_runs_into_one_file_leave_a_whole_one(tmp_path):
    out = tmp_path / "out.mkv"
    runs = [
        subprocess.Popen(
            [*COMMAND, "live", "sample", *QUICK, "--every", "--frames", count, "-o", str(out)], stderr=subprocess.PIPE
        )
        for count in ("40", "60")
    ]
    for run in runs:
        assert run.wait(120) == 0
        run.stderr.close()
    assert len(pictures(out)) in (40, 60)
    assert list(tmp_path.iterdir()) == [out]


def test_a_film_held_upright_is_shown_upright(film, tmp_path):
    turned, out = tmp_path / "turned.mp4", tmp_path / "Out: upright.mkv"  # the colon is part of the name
    with av.open(str(film)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    words = ("--depth-model", "cues", "--every", "--layout", "right", "--strength", "0")
    done = live(turned, *words, "-o", out.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with av.open(str(turned)) as source:
        first = next(source.decode(video=0))
        true = np.rot90(first.to_ndarray(format="rgb24"), round(first.rotation / 90) % 4)
    shown = pictures(out)
    assert len(shown) == len(pictures(turned))
    assert shown[0].shape == true.shape == (192, 108, 3)
    assert np.abs(shown[0].astype(int) - true).mean() < 4


def test_a_film_is_opened_once(film, monkeypatch):
    opened = []
    plain = av.open
    monkeypatch.setattr(av, "open", lambda *words, **options: opened.append(words) or plain(*words, **options))
    frames = Source(str(film), SourceOptions(paced=False, loop=True)).frames()
    found = [next(frames) for _ in range(14)]  # twelve, and the first two again
    frames.close()
    assert len(opened) == 1
    np.testing.assert_array_equal(found[12][0], found[0][0])
    np.testing.assert_array_equal(found[13][0], found[1][0])
    assert [due for _, due in found] == sorted({due for _, due in found})


def test_a_film_says_its_layout(film, tmp_path, cli):
    for layout, suffix, told in (
        ("half-tb", ".mkv", "top-bottom, left view first"),
        ("anaglyph", ".mkv", "anaglyph"),
        ("right", ".mkv", "a flat film"),
        ("sbs", ".mp4", "st3d"),
        ("half-tb", ".mov", "st3d"),
        ("sbs", ".mp4", "SEI"),
        ("rows", ".ts", "SEI"),
        ("right", ".mp4", "a flat film"),
    ):
        out = tmp_path / f"{layout}{suffix}"
        done = live(film, *QUICK, "--every", "--frames", "2", "--layout", layout, "-o", out)
        assert done.returncode == 0, done.stderr
        assert told in cli("inspect", out)[1]


def test_pixels_that_are_not_square_stay_so(tmp_path):
    source = tmp_path / "wide.mp4"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 180, 144, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((216, 180), 99, np.uint8), "yuv420p")))
        file.mux(stream.encode(None))
    shape = Fraction(64, 45)
    for words, out, aspect in (((), "o.mp4", shape), ((), "o.mkv", shape), (("--size", "256x144"), "p.mkv", 1)):
        done = live(source, *words, "--every", "--depth-model", "cues", "-o", tmp_path / out)
        assert done.returncode == 0, done.stderr
        with av.open(str(tmp_path / out)) as file:
            assert abs(float(file.streams.video[0].sample_aspect_ratio / aspect) - 1) < 0.01  # as finely as it is told
            assert len(list(file.decode(video=0))) == 1


@pytest.mark.parametrize("tagged", [False, True])
def test_colours_of_large_films_are_what_players_show(tmp_path, tagged):
    """BT.709 where a film of that size says nothing, too; BT.601, FFmpeg's own choice, made red 18 levels brighter."""
    red, source, out = (63, 102, 240), tmp_path / "red.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.codec_context.colorspace = 1 if tagged else 2
        planes = [np.full((720, 1280), red[0]), np.full((180, 1280), red[1]), np.full((180, 1280), red[2])]
        for _ in range(2):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.concatenate(planes).astype(np.uint8), "yuv420p")))
        file.mux(stream.encode(None))
    pixels, _ = next(Source(str(source)).frames())
    np.testing.assert_allclose(pixels[360, 640], (255, 0, 0), atol=2)
    words = ("--every", "--layout", "right", "--strength", "0", "--depth-model", "cues")
    assert live(source, *words, "-o", out).returncode == 0
    with av.open(str(out)) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)
        got = frame.to_ndarray()
    np.testing.assert_allclose([got[360, 640], got[720 + 90, 640], got[900 + 90, 640]], red, atol=2)


def test_what_cannot_be_decoded_is_left_out_and_told(tmp_path):
    """Cameras often begin with half a picture, and networks lose parts: what comes after is shown all the same."""
    for damaged, code, said in (((0, 5), 0, "2 of its frames could not be decoded"), (range(12), 2, "breaks off")):
        given, out = tmp_path / "given.avi", tmp_path / "out.mkv"
        with av.open(str(given), "w") as target:
            stream = target.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 192, 108, "yuvj420p"
            for k in range(12):
                for packet in stream.encode(av.VideoFrame(192, 108, "yuvj420p")):
                    made = av.Packet(bytes(200) if k in damaged else bytes(packet))
                    made.pts = made.dts = k
                    made.time_base, made.stream, made.is_keyframe = packet.time_base, stream, True
                    target.mux(made)
        done = live(given, *QUICK, "--every", "-o", out)
        assert done.returncode == code, done.stderr
        assert said in " ".join(done.stderr.decode().split())
        if code == 0:
            assert len(pictures(out)) == 10


def test_slow_frames_all_come_out_after_the_source_has_ended(film, tmp_path, monkeypatch):
    def slow(config):
        def depth(frame):
            time.sleep(0.5)
            return np.zeros((24, 32), np.float32)

        return LiveSession(replace(config, depth=depth))

    monkeypatch.setattr("secondeye.runtime.live.LiveSession", slow)
    out = tmp_path / "out.mkv"
    with handlers_kept():
        live_command(str(film), str(out), size="192x108", every=True, frames=4)
    assert len(pictures(out)) == 4


def test_a_source_that_fails_in_a_way_of_its_own_is_told(tmp_path, monkeypatch):
    def frames(source):
        yield np.zeros((108, 192, 3), np.uint8), 0
        raise TypeError("of no class of ours")

    monkeypatch.setattr(Source, "frames", frames)
    with handlers_kept(), pytest.raises(TypeError, match="of no class of ours"):
        live_command("sample", str(tmp_path / "out.mkv"), size="192x108", depth_model="cues")


def test_an_mp4_through_a_pipe_that_cannot_be_read_says_why(tmp_path):
    late = tmp_path / "late.mp4"  # its index lies behind the pictures, farther than what is read to look into it
    random = np.random.default_rng(5)
    with av.open(str(late), "w") as film:
        stream = film.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for _ in range(20):
            pixels = random.integers(0, 256, (128, 192, 3), np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        film.mux(stream.encode(None))
    done = live("-", *QUICK, "-o", tmp_path / "out.mkv", input=late.read_bytes())
    assert done.returncode == 2
    assert b"+faststart" in done.stderr


def test_a_source_that_falls_silent_is_told_as_that(monkeypatch):
    monkeypatch.setattr("secondeye.runtime.stream.sources.PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/camera"
        with pytest.raises(MediaError, match="nothing came for"):
            Source(address, SourceOptions(allow_network=True))


def test_an_address_is_opened_with_leave_only(film, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(film.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/film.mkv"
        refused = live(address, *QUICK, "-o", tmp_path / "never.mkv")
        assert refused.returncode == 2
        assert b"--allow-network" in refused.stderr
        done = live(address, *QUICK, "--every", "--frames", "5", "--allow-network", "-o", tmp_path / "net.mkv")
        begun = time.monotonic()  # a film, not a camera: it comes at its own pace
        due = [due for _, due in Source(address, SourceOptions(size=(192, 108), allow_network=True)).frames()]
        assert time.monotonic() - begun >= due[-1] / 1e6 > 0.3
        stream = film.parent / "film.ts"  # this server cannot seek, so no length in seconds is known
        with Sink(str(stream)) as sink:
            for k in range(12):
                sink.write(np.full((108, 192, 3), k, np.uint8), k * 50_000)
        begun = time.monotonic()
        due = [due for _, due in Source(address[:-3] + "ts", SourceOptions(allow_network=True)).frames()]
        assert time.monotonic() - begun >= due[-1] / 1e6 > 0.3
        server.shutdown()
    assert done.returncode in (0, 1), done.stderr
    assert len(pictures(tmp_path / "net.mkv")) >= 5


@pytest.mark.parametrize("kind", ["address", "pipe"])
def test_an_interrupt_does_not_wait_for_a_silent_source(tmp_path, kind):
    read, write = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as silent, os.fdopen(read) as pipe, os.fdopen(write, "wb", 0) as end:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mkv"
        words = ["live", address if kind == "address" else "-", "--allow-network", "-o", tmp_path / "never.mkv"]
        process = subprocess.Popen([sys.executable, "-m", "secondeye", *words], stdin=pipe, stderr=subprocess.PIPE)
        end.write(b"begins")
        if kind == "address":
            asking, _ = silent.accept()
            asking.recv(100)
        else:
            while fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4):  # until it has read that
                time.sleep(0.05)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
        assert time.monotonic() - begun < 5
        if kind == "address":
            asking.close()
    assert process.returncode == 130
    assert said.strip() == b""


@needs_display
def test_the_screen_is_a_source(tmp_path):
    out = tmp_path / "screen.mkv"
    with display("320x240") as name:
        done = live(
            "screen", "--size", "320x240", "--depth-model", "cues", "--frames", "4", "--fps", "10", "-o", out,
            env={**os.environ, "DISPLAY": name},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pictures(out)[0].shape == (240, 640, 3)


@needs_display
def test_a_window_shows_it():
    pytest.importorskip("pyglet", reason="the extra 'window' is not installed")
    with display() as name:
        process = subprocess.Popen(
            [*COMMAND, "live", "sample", *QUICK, "--layout", "anaglyph", "-o", "window", "--frames", "60"],
            env={**os.environ, "DISPLAY": name}, stderr=subprocess.PIPE,
        )  # fmt: skip
        brightest = 0.0
        with av.open(name, format="x11grab", options={"framerate": "10"}) as screen:
            for frame in screen.decode(video=0):
                brightest = max(brightest, float(frame.to_ndarray(format="rgb24").mean()))
                if brightest > 2 or process.poll() is not None:
                    break
        said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0, said
    assert "Keys:" in said
    assert brightest > 2


@needs_display
def test_a_window_keeps_the_shape_of_pixels_that_are_not_square(tmp_path):
    pytest.importorskip("pyglet", reason="the extra 'window' is not installed")
    with av.open(str(tmp_path / "wide.mkv"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.sample_aspect_ratio = 64, 96, "yuv420p", Fraction(3, 1)
        for _ in range(100):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 64, 3), 255, np.uint8), "rgb24")))
        file.mux(stream.encode(None))
    with display() as name:
        process = subprocess.Popen(
            [*COMMAND, "live", tmp_path / "wide.mkv", "--depth-model", "cues", "--layout", "right", "-o", "window"],
            env={**os.environ, "DISPLAY": name}, stderr=subprocess.PIPE,
        )  # fmt: skip
        shapes = set()
        with av.open(name, format="x11grab", options={"framerate": "10"}) as screen:
            for frame in screen.decode(video=0):
                bright = frame.to_ndarray(format="gray") > 200
                shape = tuple(int((bright.sum(axis) > 50).sum()) for axis in (0, 1))  # a pointer is smaller
                shapes |= {shape} - {(0, 0)}
                if shapes or process.poll() is not None:
                    break
        said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 0, said
    assert shapes == {(192, 96)}


def test_no_display_is_a_sentence():
    pytest.importorskip("pyglet", reason="the extra 'window' is not installed")
    done = live("sample", *QUICK, "-o", "window", env={k: v for k, v in os.environ.items() if k != "DISPLAY"})
    assert done.returncode == 1
    assert b"a window cannot be opened" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sample", "-o", "x.gif"], 2, "expected a name that ends in .mkv"),
        (["sample", "--format", "avi"], 2, "--format: expected one of nut"),
        (["sample", "--size", "big"], 2, "--size: expected WIDTHxHEIGHT"),
        (["sample", "--size", "160x²"], 2, "--size: expected WIDTHxHEIGHT"),
        (["sample", "--size", "9x9", "-o", "x.mkv"], 2, "at least 16 pixels"),
        (["sample", "-o", "none/x.mkv"], 2, "the folder none does not exist"),
        (["sample", "-o", "/dev/video99"], 2, "modprobe v4l2loopback"),
        (["/dev/video99", "-o", "x.mkv"], 2, "no such camera"),
        (["nothing.mp4", "-o", "x.mkv"], 2, "no such file"),
        ([".", "-o", "x.mkv"], 2, "is a folder"),
        (["sample", "--layout", "hologram", "-o", "x.mkv"], 2, "layout: expected one of"),
        (["sample", "--segment", "nothing.onnx", "-o", "x.mkv"], 2, "nothing.onnx: no such file; give sgt:FOLDER"),
        (["sample", "--segment", "sgt:nowhere", "-o", "x.mkv"], 2, "nowhere"),
        (["sample", "--segment", "on", "-o", "x.mkv"], 2, "on: no such file"),
        (["sample", "--segment", "off", "--key-every", "0", "-o", "x.mkv"], 2, "--key-every"),
        (["sample", "--key-every", "many", "-o", "x.mkv"], 2, "--key-every"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, words, code, said):
    done = live(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.decode().split())
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["depth", "anaglyph"])
def test_on_a_gpu_it_makes_the_same_film(cuda, film, tmp_path, layout):
    made = []
    for device in ("cpu", "cuda"):
        path = tmp_path / f"{device}.mkv"
        done = live(film, *QUICK, "--every", "--remember", "--layout", layout, "--device", device, "-o", path)
        assert done.returncode == 0, done.stderr
        made.append(pictures(path))
    np.testing.assert_array_equal(*made)


def test_a_film_is_not_put_in_its_own_place(film):
    before = film.read_bytes()
    done = live(film, *QUICK, "-o", film)
    assert done.returncode == 2
    assert b"is the source itself" in done.stderr
    assert film.read_bytes() == before


def test_a_terminal_gets_no_film():
    main, other = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "live", "sample", *QUICK], stdout=other, stderr=subprocess.PIPE, timeout=120, check=False
    )
    os.close(main)
    os.close(other)
    assert done.returncode == 2
    assert b"is a terminal" in done.stderr
