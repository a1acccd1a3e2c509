# SPDX-License-Identifier: Apache-2.0
"""What comes in: rates, bars, numbered pictures, pipes, the network, and films that are not as they should be."""

import base64
import http.server
import io
import re
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from secondeye import FilmConfig, InvalidInputError, MediaError, StereoConfig, StereoConverter, convert_video
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video import adjust, media
from secondeye.runtime.video.film import FilmReport
from secondeye.runtime.video.pipe import stream_video
from secondeye.runtime.video.report import ShotLog, joined_shots, warnings_of

CUES = StereoConfig(depth="cues")
FAST = {"stereo": CUES, "preset": "ultrafast"}


def luma_steps(path, frames, *, rate=25, size=(64, 48), codec="libx264", base=None, pts=None, pix_fmt="yuv420p"):
    """A film whose k-th frame is grey 20 + 8 k."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options={"crf": "1"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if base is not None:
            stream.codec_context.time_base = base
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 20 + 8 * k, np.uint8), "rgb24")
            frame.pts = k if pts is None else pts[k]
            frame.time_base = base or Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def shown(path):
    """Which of luma_steps' frames a film shows, and when."""
    with av.open(str(path)) as file:
        frames = [(f.to_ndarray(format="rgb24"), float(f.pts * f.time_base)) for f in file.decode(video=0)]
    return [round((int(np.median(a)) - 20) / 8) for a, _ in frames], [t for _, t in frames]


# ---- rates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "which"),
    [("12.5", [0, 2, 4, 6, 8, 10]), ("50", [k // 2 for k in range(24)]), ("10", [0, 2, 5, 7, 10])],
)
def test_another_rate_shows_what_is_shown_then(tmp_path, fps, which):
    source = luma_steps(tmp_path / "film.mkv", 12)
    report = convert_video(source, tmp_path / "out.mkv", FilmConfig(fps=fps, **FAST))
    got, times = shown(tmp_path / "out.mkv")
    assert got == which
    np.testing.assert_allclose(times, np.arange(len(which)) / float(Fraction(fps)), atol=0.0011)
    assert report.frames == len(which)


@pytest.mark.parametrize("rate", [1, 1000])
def test_slow_and_fast_films_keep_their_rate(tmp_path, rate):
    source = luma_steps(tmp_path / "film.mp4", 12, rate=rate)
    convert_video(source, tmp_path / "out.mp4", FilmConfig(**FAST))
    got, times = shown(tmp_path / "out.mp4")
    assert got == list(range(12))
    np.testing.assert_allclose(times, np.arange(12) / rate, atol=1e-4)


def test_rates_are_read_as_people_write_them():
    assert adjust.parse_rate("23.976") == Fraction(24000, 1001)
    assert adjust.parse_rate("29.97") == Fraction(30000, 1001)
    assert adjust.parse_rate("24000/1001") == Fraction(24000, 1001)
    for text in ("0", "-1", "fast", "1/0", "1001"):
        with pytest.raises(InvalidInputError, match="fps"):
            adjust.parse_rate(text)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("frames", [1, 3])
def test_the_last_frame_is_shown_as_long_as_the_sources(tmp_path, suffix, frames):
    source = luma_steps(tmp_path / "film.mp4", frames)
    convert_video(source, tmp_path / f"out{suffix}", FilmConfig(**FAST))
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.duration / 1e6 == pytest.approx(frames / 25, abs=0.0011)


def test_a_last_frame_that_stays_longer_does_so(tmp_path):
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"bf": "0", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(3):
            packets = stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 8 * k, np.uint8), "rgb24"))
            for packet in packets:
                packet.duration = round((25 if k == 2 else 1) / 25 / packet.time_base)
                file.mux(packet)
    for words, length in (({}, 1.08), ({"end": 0.08}, 0.08), ({"fps": "12.5"}, 1.12)):
        convert_video(tmp_path / "film.mp4", tmp_path / "out.mp4", FilmConfig(**words, **FAST))
        with av.open(str(tmp_path / "out.mp4")) as file:
            assert file.duration / 1e6 == pytest.approx(length, abs=0.0011)


# ---- bars -------------------------------------------------------------------------------------------------


def with_bars(path, top, bottom, left, right):
    picture, _ = render_sample(200, 120)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 200 + left + right, 120 + top + bottom, "yuv420p"
        for k in range(10):
            whole = np.zeros((stream.height, stream.width, 3), np.uint8)
            whole[top : top + 120, left : left + 200] = np.roll(picture, 3 * k, 1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(whole, "rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("bars", [(20, 20, 0, 0), (0, 0, 16, 24), (8, 24, 6, 6)])
def test_bars_are_left_out(tmp_path, bars):
    source = with_bars(tmp_path / "film.mkv", *bars)
    report = convert_video(source, tmp_path / "out.mkv", FilmConfig(crop_bars=True, **FAST))
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (400, 120)
    assert f"{bars[0]} and {bars[1]} lines at the top and bottom" in report.notes[0]


def test_a_film_without_bars_stays_whole(tmp_path, clip):
    info = media.probe(clip)
    assert adjust.without_bars(info) == info
    black = luma_steps(tmp_path / "black.mkv", 1)
    assert adjust.without_bars(media.probe(black)).crop == (0, 0, 0, 0)


# ---- numbered pictures ------------------------------------------------------------------------------------


def test_numbered_pictures_in_and_out(cli, tmp_path):
    picture, _ = render_sample(120, 64)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for k in range(7, 15):  # they need not begin at 0
        Image.fromarray(np.roll(picture, k, 1)).save(tmp_path / "in" / f"p_{k:04d}.png")
    code, _, told = cli(
        "convert", tmp_path / "in" / "p_%04d.png", "-o", tmp_path / "out" / "q_%03d.png", "--depth-model", "cues"
    )
    assert code == 0, told
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == [f"q_{k:03d}.png" for k in range(1, 9)]
    for k in range(8):
        with Image.open(tmp_path / "out" / f"q_{k + 1:03d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image)[:, :120], np.roll(picture, k + 7, 1))


def test_numbered_pictures_become_a_film_of_their_rate(tmp_path):
    picture, _ = render_sample(120, 64)
    for k in range(10):
        Image.fromarray(np.roll(picture, k, 1)).save(tmp_path / f"{k}.jpg")
    convert_video(tmp_path / "%d.jpg", tmp_path / "out.mkv", FilmConfig(fps="10", **FAST))
    np.testing.assert_allclose(shown(tmp_path / "out.mkv")[1], np.arange(10) / 10, atol=0.0011)


def test_pictures_of_16_bits_stay_so(tmp_path):
    values = (np.arange(64 * 96 * 3, dtype=np.uint32) * 977 % 65536).astype(np.uint16).reshape(64, 96, 3)
    from secondeye.runtime.video.sequence import _write_deep

    for k in range(3):
        _write_deep(tmp_path / f"{k}.png", av.VideoFrame.from_ndarray(values, "rgb48le"), "rgb48be")
    convert_video(tmp_path / "%d.png", tmp_path / "out_%d.png", FilmConfig(stereo=CUES))
    with av.open(str(tmp_path / "out_1.png")) as file:
        frame = next(file.decode(video=0))
        assert frame.format.name == "rgb48be"
        got = frame.reformat(format="rgb48le").to_ndarray()
    np.testing.assert_array_equal(got[:, :96], values)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none_%03d.png", "out.mkv", "no picture has such a name"),
        ("CLIP", "no/%d.png", "does not exist"),
        ("CLIP", "%d.gif3", "cannot tell the format"),
        ("p_%d.png", "p_%01d.png", "source's own pictures"),
    ],
)
def test_patterns_that_fit_nothing_are_refused(cli, clip, tmp_path, source, target, message):
    Image.new("RGB", (64, 48)).save(tmp_path / "p_1.png")
    source = clip if source == "CLIP" else tmp_path / source
    code, _, told = cli("convert", source, "-o", tmp_path / target)
    assert (code, message in told) == (2, True), told


# ---- pipes ------------------------------------------------------------------------------------------------


def y4m(frames, width=96, height=64):
    picture, _ = render_sample(width, height)
    data = io.BytesIO()
    with av.open(data, "w", format="yuv4mpegpipe") as file:
        stream = file.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, k, 1)), "rgb24")
            frame.pts = k
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode(None))
    return data.getvalue()


def test_raw_frames_go_through_pipes():
    command = [sys.executable, "-m", "secondeye", "convert", "-", "-o", "-", "--depth-model", "cues", "-q"]
    data = y4m(20)
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    with av.open(io.BytesIO(done.stdout), format="yuv4mpegpipe") as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
        assert file.streams.video[0].average_rate == 25
    with av.open(io.BytesIO(data), format="yuv4mpegpipe") as file:
        want = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert len(frames) == 20
    for got, source in zip(frames, want, strict=True):
        assert got.shape == (64, 192, 3)
        assert np.abs(got[:, :96].astype(int) - source).mean() < 1.5
    # A pipe that ends in the middle of a frame gives the whole ones.
    done = subprocess.run(command, input=data[:-500], capture_output=True, check=True)
    assert len(done.stdout) == pytest.approx(len(y4m(19, 192, 64)), rel=0.01)


@pytest.mark.parametrize("full", [False, True])
def test_a_pipe_that_takes_no_more_is_told_in_a_line(clip, full):
    if full and not Path("/dev/full").exists():
        pytest.skip("a device that is full")
    command = [sys.executable, "-m", "secondeye", "convert", clip, "-o", "-", "--depth-model", "cues", "-q"]
    if full:
        with open("/dev/full", "wb") as sink:
            process = subprocess.Popen(command, stdout=sink, stderr=subprocess.PIPE, text=True)
    else:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.close()
    with process.stderr:
        told = process.stderr.read()
    assert process.wait() in (1, 2)
    assert ("cannot be written" if full else "other end has been closed") in told
    assert told.count("\n") == 1


def _plane(frame):
    return np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)[:, : frame.width]


def test_a_pipe_gives_what_a_file_gives(clip, tmp_path):
    sink = io.BytesIO()
    assert stream_video(str(clip), sink, FilmConfig(stereo=CUES)) == 60
    convert_video(clip, tmp_path / "out.mkv", FilmConfig(stereo=CUES, codec="ffv1"))
    with av.open(io.BytesIO(sink.getvalue())) as one, av.open(str(tmp_path / "out.mkv")) as other:
        for a, b in zip(one.decode(video=0), other.decode(video=0), strict=True):
            luma = [_plane(f) for f in (a, b)]
            np.testing.assert_array_equal(*luma)  # the one has half the chroma


@pytest.mark.parametrize(
    ("options", "message"),
    [({"start": 1.0}, "need a file"), ({"fps": "5"}, "need a file"), ({"projection": "vr180"}, "write to a file")],
)
def test_pipes_refuse_what_needs_a_file(options, message):
    with pytest.raises(InvalidInputError, match=message):
        stream_video(io.BytesIO(y4m(2)), io.BytesIO(), FilmConfig(stereo=CUES, **options))


@pytest.mark.parametrize("data", [b"", b"YUV4MPEG2 W96 H64 F25:1\n", b"YUV4MPEG2 W0 H0\nFRAME\n", b"nonsense"])
def test_pipes_without_a_film_are_refused(data):
    with pytest.raises((MediaError, InvalidInputError)):
        stream_video(io.BytesIO(data), io.BytesIO(), FilmConfig(stereo=CUES))


def test_a_pipe_goes_to_a_pipe():
    command = [sys.executable, "-m", "secondeye", "convert", "-", "-o", "out.mp4"]
    done = subprocess.run(command, input=y4m(2), capture_output=True, check=False)
    assert done.returncode == 2
    assert b"goes to a pipe" in done.stderr


# ---- the network ------------------------------------------------------------------------------------------


@pytest.fixture
def served(clip):
    """An address of the clip, on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words):
            super().__init__(*words, directory=str(clip.parent))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{clip.name}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_network_is_used_only_when_allowed(cli, served, tmp_path):
    words = [
        "convert",
        served,
        "-o",
        tmp_path / "out.mkv",
        "--depth-model",
        "cues",
        "--preset",
        "ultrafast",
        "--end",
        "0.4",
    ]
    code, _, told = cli(*words)
    assert (code, "--allow-network" in told) == (2, True)
    assert not list(tmp_path.iterdir())
    code, _, told = cli(*words, "--allow-network")
    assert code == 0, told
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]
    assert len(shown(tmp_path / "out.mkv")[0]) == 10


def test_playlists_lead_nowhere(cli, tmp_path, clip):
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:2,\n{clip}\n")
    (tmp_path / "list.mkv").write_text(f"ffconcat version 1.0\nfile '{clip}'\n")
    for name in ("list.m3u8", "list.mkv"):
        code, _, told = cli("convert", tmp_path / name, "-o", tmp_path / "out.mp4")
        assert (code, "Traceback" in told) == (2, False)
    assert not (tmp_path / "out.mp4").exists()


# ---- films that are not as they should be -----------------------------------------------------------------


def test_films_without_times_are_counted(tmp_path):
    # AVI has no timestamps of its own.
    source = luma_steps(tmp_path / "film.avi", 10, codec="mpeg4")
    convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    got, times = shown(tmp_path / "out.mkv")
    assert len(got) == 10
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)


def test_frames_that_an_avi_stamps_in_coding_order_are_all_there(tmp_path):
    source = luma_steps(tmp_path / "a.avi", 24)
    with av.open(str(source)) as film:
        assert film.streams.video[0].codec_context.has_b_frames
    convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    got, times = shown(tmp_path / "out.mkv")
    assert got == list(range(24))
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_that_begins_at_ten_hours_becomes_a_film_that_begins_at_once(tmp_path, suffix, make_clip, look_at):
    early = make_clip(tmp_path / "a.ts", [40 * k for k in range(8)])
    with av.open(str(early)) as source, av.open(str(tmp_path / "film.ts"), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                packet.pts, packet.dts = packet.pts + 36000 * 90000, packet.dts + 36000 * 90000
                out.mux(packet)
    pictures, _, sound, _ = look_at(tmp_path / "film.ts")
    assert min(pictures[0], sound[0][0]) > 36000
    convert_video(tmp_path / "film.ts", tmp_path / f"out{suffix}", FilmConfig(**FAST))
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.duration / 1e6 < 2
    got, _, heard, _ = look_at(tmp_path / f"out{suffix}")
    zero = min(pictures[0], sound[0][0])
    np.testing.assert_allclose(got, np.array(pictures) - zero, atol=0.0011)
    np.testing.assert_allclose([t for t, _ in heard], [t - zero for t, _ in sound], atol=0.0011)


def test_two_frames_an_hour_apart_are_a_film(tmp_path):
    source = luma_steps(tmp_path / "film.mkv", 2, base=Fraction(1, 1000), pts=[0, 3_600_000])
    convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    got, times = shown(tmp_path / "out.mkv")
    assert (got, times) == ([0, 1], [0, 3600])


@pytest.mark.parametrize("first", [400, 3, 0])  # far ahead, within what a decoder reorders, the same again
def test_timestamps_that_jump_backwards_are_counted(tmp_path, first):
    """Two recordings one after another in one transport stream: every frame is there, evenly spaced."""
    parts = [luma_steps(tmp_path / "a.ts", 12, pts=[first + k for k in range(12)])]
    parts.append(luma_steps(tmp_path / "b.ts", 10))
    source = tmp_path / "film.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    report = convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    assert any("run backwards: frames are spaced evenly" in note for note in report.notes)
    got, times = shown(tmp_path / "out.mkv")
    assert got == [*range(12), *range(10)]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)


TRUEHD = bytes.fromhex(  # 40 samples of silence
    "a023ffd8f8726fba00008001b752000000008c7f11055400000080800000841d2012f1"
    "ea00000110000000000840000000032dfb0802004880632ba040018cae81000400f25f"
)


def test_what_a_container_cannot_hold_is_left_out_and_the_rest_keeps_its_marks(tmp_path, clip):
    film, sound = tmp_path / "film.mkv", tmp_path / "sound.thd"
    sound.write_bytes(TRUEHD * 40)
    with av.open(str(clip)) as source, av.open(str(sound)) as other, av.open(str(film), "w") as out:
        if not hasattr(out, "add_attachment"):
            pytest.skip("this PyAV writes no attachments")
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        second = out.add_stream_from_template(other.streams[0])
        copies[1].disposition, second.disposition = 0, 0x41  # the second one is shown first (default), and forced
        out.add_attachment("letters.ttf", "application/x-truetype-font", b"\0\1\0\0")
        for container, streams in ((source, copies), (other, {0: second})):
            for packet in container.demux():
                if packet.size:
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
    for suffix, kinds in (
        (".mkv", ["video", "audio", "audio", "attachment"]),
        (".mp4", ["video", "audio"]),
        (".mov", ["video", "audio"]),
    ):
        report = convert_video(film, tmp_path / f"out{suffix}", FilmConfig(**FAST, end=0.2))
        with av.open(str(tmp_path / f"out{suffix}")) as file:
            assert [s.type for s in file.streams] == kinds
            assert suffix != ".mkv" or [int(s.disposition) for s in file.streams.audio] == [0, 0x41]
        left_out = [note for note in report.notes if "left out; .mkv can" in note]
        assert len(left_out) == 4 - len(kinds), report.notes


@pytest.mark.parametrize(
    ("codec", "source", "kept", "told"),
    [
        ("libmp3lame", ".avi", (".mp4", ".mov", ".avi", ".mkv"), {}),  # whose decoder is called mp3float
        ("flac", ".mkv", (".mp4", ".mkv"), {".mov": "(flac): left out; .mkv can."}),
        ("pcm_mulaw", ".avi", (".mov", ".avi"), {".mkv": "(pcm_mulaw): left out; .mov can."}),
    ],
)
def test_sound_goes_where_it_can(tmp_path, make_clip, look_at, codec, source, kept, told):
    film = make_clip(tmp_path / f"film{source}", [40 * k for k in range(8)], audio=codec)
    sound = [data for _, data in look_at(film)[2]]
    assert sound
    for suffix in (*kept, *told):
        report = convert_video(film, tmp_path / f"out{suffix}", FilmConfig(**FAST))
        got = [data for _, data in look_at(tmp_path / f"out{suffix}")[2]]
        assert b"".join(got) == (b"" if suffix in told else b"".join(sound))
        assert suffix not in told or any(note.endswith(told[suffix]) for note in report.notes)


def test_what_will_be_left_out_is_told_before_the_work_and_once(cli, tmp_path, make_clip):
    film = make_clip(tmp_path / "film.mkv", [40 * k for k in range(8)], audio="flac")
    order = []
    config = FilmConfig(**FAST)
    report = convert_video(
        film, tmp_path / "a.mov", config, notify=order.append, progress=lambda now: order.append(now.done)
    )
    assert order == [*report.notes, *range(1, 9)]
    assert any("(flac): left out" in note for note in report.notes)
    code, _, told = cli("convert", film, "-o", tmp_path / "b.mov", "--depth-model", "cues", "--preset", "ultrafast")
    assert (code, told.count("(flac): left out")) == (0, 1)


def test_sound_goes_on_where_its_times_jump_back(tmp_path, make_clip, look_at):
    parts = [make_clip(tmp_path / "a.ts", [40 * k + 4000 for k in range(20)]), make_clip(tmp_path / "b.ts", [0, 400])]
    source = tmp_path / "film.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    sound = look_at(tmp_path / "out.mkv")[2]
    want = [data[7:] for part in parts for _, data in look_at(part)[2]]  # without ADTS's own headers
    assert [data for _, data in sound] == want
    np.testing.assert_allclose(np.diff([t for t, _ in sound]), 1024 / 48000, atol=0.0011)


def test_missing_timestamps_become_even(tmp_path):
    source = tmp_path / "film.h264"  # the bare stream: no container, no times
    with av.open(str(luma_steps(tmp_path / "film.mkv", 8))) as film, av.open(str(source), "w", format="h264") as raw:
        stream = raw.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.size:
                packet.stream = stream
                raw.mux(packet)
    report = convert_video(source, tmp_path / "out.mkv", FilmConfig(**FAST))
    assert "spaced evenly" in report.notes[0]
    got, times = shown(tmp_path / "out.mkv")
    assert got == list(range(8))
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.0011)


def test_a_film_that_changes_its_size_keeps_its_first(tmp_path):
    small, large = luma_steps(tmp_path / "a.ts", 8), luma_steps(tmp_path / "b.ts", 8, size=(96, 80))
    both = tmp_path / "film.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    convert_video(both, tmp_path / "out.mkv", FilmConfig(**FAST))
    with av.open(str(tmp_path / "out.mkv")) as file:
        sizes = {(f.width, f.height) for f in file.decode(video=0)}
    assert sizes == {(128, 48)}


@pytest.mark.parametrize(("name", "codec", "pixels"), [
    ("film.mov", "png", "rgba"), ("film.webm", "libvpx-vp9", "yuva420p"), ("film.mov", "prores_ks", "yuva444p10le"),
])  # fmt: skip
def test_films_lose_their_transparency_and_say_so(tmp_path, name, codec, pixels):
    source = tmp_path / name
    picture, _ = render_sample(96, 64)
    rgba = np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)])
    with av.open(str(source), "w") as file:
        stream = file.add_stream(codec, rate=25, options={"profile": "4"} if codec == "prores_ks" else {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        stream.bit_rate = 4_000_000
        stream.metadata["alpha_mode"] = "1"  # a WebM's flag
        for _ in range(4):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format=pixels)))
        file.mux(stream.encode(None))
    report = convert_video(source, tmp_path / "out.mkv", FilmConfig(stereo=CUES, codec="ffv1"))
    with av.open(str(tmp_path / "out.mkv")) as file:
        got = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(got[:, :96].astype(int) - picture).mean() < (1.5 if codec == "png" else 5)
    assert sum("transparency (alpha)" in note for note in report.notes) == 1


def test_turned_films_are_upright_and_pixels_keep_their_shape(tmp_path):
    source = tmp_path / "film.mp4"
    picture, _ = render_sample(128, 64)
    with av.open(str(source), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    convert_video(source, tmp_path / "out.mp4", FilmConfig(layout="left", stereo=CUES, preset="ultrafast", quality=4))
    with av.open(str(tmp_path / "out.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (64, 128, 0)
        assert file.streams.video[0].sample_aspect_ratio == Fraction(3, 4)
        got = frame.to_ndarray(format="rgb24").astype(int)
    turned = [np.rot90(picture, k) for k in (1, 3)]
    with av.open(str(source)) as file:
        angle = next(file.decode(video=0)).rotation
    want = turned[0] if angle == 90 else turned[1]
    assert np.abs(got - want).mean() < 5  # another quarter turn: over 30


@pytest.mark.parametrize(
    ("size", "aspect"), [((128, 72), Fraction(1)), ((180, 144), Fraction(64, 45)), ((182, 144), Fraction(64, 45))]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_that_is_scaled_keeps_its_shape(tmp_path, size, aspect, suffix):
    source = tmp_path / "film.mkv"
    with av.open(str(source), "w") as file:  # 16:9 as on a DVD
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 90, 72, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for _ in range(2):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((72, 90, 3), 90, np.uint8), "rgb24")))
        file.mux(stream.encode(None))
    convert_video(source, tmp_path / f"out{suffix}", FilmConfig(stereo=replace(CUES, size=size), preset="ultrafast"))
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert float(file.streams.video[0].sample_aspect_ratio) == pytest.approx(float(aspect), rel=0.01)


def test_further_video_streams_are_told(tmp_path, make_clip):
    parts = [make_clip(tmp_path / f"{k}.mkv", [0, 40], sound=False) for k in range(2)]
    with av.open(str(tmp_path / "two.mkv"), "w") as out, av.open(str(parts[0])) as a, av.open(str(parts[1])) as b:
        copies = [(one, out.add_stream_from_template(one.streams.video[0])) for one in (a, b)]
        for one, stream in copies:
            for packet in one.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)
    assert any("It has 2 video streams" in note for note in media.probe(tmp_path / "two.mkv").notes)
    assert media.probe(parts[0]).notes == ()


MATRICES = {  # a, b, c, d of a track's matrix, which takes (x, y) to (ax + cy, bx + dy); what that is
    (-1, 0, 0, 1): lambda a: a[:, ::-1], (1, 0, 0, -1): lambda a: a[::-1], (-1, 0, 0, -1): lambda a: a[::-1, ::-1],
    (0, 1, -1, 0): lambda a: np.rot90(a, -1), (0, -1, 1, 0): lambda a: np.rot90(a),
    (0, 1, 1, 0): lambda a: a.swapaxes(0, 1), (0, -1, -1, 0): lambda a: np.rot90(a, 2).swapaxes(0, 1),
}  # fmt: skip


@pytest.mark.parametrize("matrix", MATRICES)
def test_mirrored_films_are_shown_as_players_do(tmp_path, matrix, clip):
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd") + 44  # of the video's track, the first
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "film.mp4").write_bytes(data)
    plain, turned = (media.probe(path) for path in (clip, tmp_path / "film.mp4"))
    want, got = (media.PixelReader(info)(next(media.frames(info))[1]) for info in (plain, turned))
    np.testing.assert_array_equal(got, MATRICES[matrix](want))


def test_a_source_that_vanishes_is_told(tmp_path, make_clip):
    source = make_clip(tmp_path / "film.mkv", [40 * k for k in range(60)], sound=False)
    config = FilmConfig(segment=24, **FAST)

    def gone(now):
        if now.done == 30:
            source.unlink(missing_ok=True)
            source.write_bytes(b"")

    with pytest.raises(MediaError):
        convert_video(source, tmp_path / "out.mkv", config, progress=gone)
    assert not (tmp_path / "out.mkv").exists()


# ---- the report -------------------------------------------------------------------------------------------


def test_the_report_shows_every_shot(cli, tmp_path, make_clip):
    source = make_clip(tmp_path / "film.mkv", [40 * k for k in range(60)], cut_at=30, sound=False)
    page = tmp_path / "report.html"
    words = ["--depth-model", "cues", "--preset", "ultrafast", "--strength", "5", "--report", page]
    code, _, told = cli("convert", source, "-o", tmp_path / "out.mkv", *words)
    assert code == 0, told
    text = page.read_text()
    pictures = re.findall(r"data:image/jpeg;base64,([^']+)", text)
    assert len(pictures) == 2 * 3
    for one in pictures:
        with Image.open(io.BytesIO(base64.b64decode(one))) as image:
            assert image.width == 200
    assert "http" not in text
    assert "comfort limit" in text
    assert "comfort limit" in told
    for stage in ("decode", "depth", "steady", "warp", "encode"):
        assert f"<td>{stage}</td>" in text


def test_a_screen_that_moves_within_a_shot_is_no_discomfort(scene):
    log = ShotLog()
    for k in range(3):  # each frame has 2.5 percent of the width, and the screen goes from the back to the front
        converter = StereoConverter(StereoConfig(depth="cues", convergence=k / 2))
        log.add(k, k / 25, k == 0, converter.convert(scene[0]), k / 2)
    (shot,) = joined_shots([log.shots()])
    assert shot.high - shot.low > 3.0 > shot.reach > 1.0
    report = FilmReport(
        output=Path("out.mkv"), frames=3, reused=0, shots=1, seconds=1.0, timings={}, notes=(), shot_list=(shot,)
    )
    assert not any("comfort" in told for told in warnings_of(report))


def test_the_report_takes_no_films_place(cli, clip):
    code, _, told = cli("convert", clip, "--report", clip)
    assert (code, "ending in .html" in told) == (2, True)


def test_a_resumed_run_reports_all_shots(tmp_path, make_clip):
    source = make_clip(tmp_path / "film.mkv", [40 * k for k in range(72)], cut_at=30, sound=False)
    config = FilmConfig(segment=24, **FAST)

    def stop(now):
        if now.done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_video(source, tmp_path / "out.mkv", config, progress=stop)
    report = convert_video(source, tmp_path / "out.mkv", config)
    assert report.reused == 24 or report.reused == 48
    assert [(s.first, s.frames) for s in report.shot_list] == [(0, 30), (30, 42)]
    assert all(s.low <= 0 or s.high >= 0 for s in report.shot_list)


# ---- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Alien: the film", "concat:a|b", "100%d love", "-i", "why? #1", "映画"])
def test_a_name_is_a_name_whatever_it_holds(tmp_path, monkeypatch, cli, name):
    monkeypatch.chdir(tmp_path)  # FFmpeg reads a protocol or a pattern out of such names only where they come first
    luma_steps(tmp_path / "film.mkv", 6).rename(f"{name}.mkv")
    code, _, err = cli("convert", "-o", f"{name}: 3d.mkv", "--depth-model", "cues", "--", f"{name}.mkv")
    assert code == 0, err
    assert shown(tmp_path / f"{name}: 3d.mkv")[0] == [*range(6)]
    assert cli("inspect", "--", f"{name}.mkv", f"{name}: 3d.mkv")[0] == 0


def test_films_in_folders_within_a_folder_become_such(tmp_path, cli):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for place in ("in", "in/deep"):
        luma_steps(tmp_path / place / "film.mkv", 6)
    code, _, err = cli("convert", tmp_path / "in", "-r", "-o", f"{tmp_path}/out.v2/", "--depth-model", "cues")
    assert code == 0, err
    made = sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "out.v2").rglob("*.*"))
    assert made == ["out.v2/deep/film_SBS.mkv", "out.v2/film_SBS.mkv"]


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path, cli):
    source = luma_steps(tmp_path / "film.mkv", 6)
    code, _, err = cli("convert", source, "-o", tmp_path / "out.mkv", "--report", tmp_path / "none" / "r.html")
    assert code == 2
    assert "does not exist" in err
    assert [p.name for p in tmp_path.iterdir()] == ["film.mkv"]


def test_what_is_refused_before_the_first_frame_has_no_bar(tmp_path, cli):
    source = luma_steps(tmp_path / "film.mkv", 6)
    code, _, err = cli("convert", source, "-o", tmp_path / "out.mkv", "--start", "9:00")
    assert (code, len(err.splitlines())) == (2, 1)
    code, _, err = cli("convert", source, "-o", tmp_path / "out.png")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "out_%05d.png" in err


def test_a_run_that_finishes_nothing_leaves_nothing(tmp_path, cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    source = luma_steps(tmp_path / "film.mkv", 6)
    code, _, err = cli("convert", source, "-o", tmp_path / "out.mkv", "--cluster", "local")
    assert code == 1
    assert "needs Ray" in err
    assert [p.name for p in tmp_path.iterdir()] == ["film.mkv"]


def test_the_codec_of_numbered_pictures_is_no_films(tmp_path):
    source = luma_steps(tmp_path / "film.mkv", 6)
    with pytest.raises(InvalidInputError, match="is numbered pictures'"):
        convert_video(source, tmp_path / "out.mp4", FilmConfig(codec="pictures", **FAST))
