# SPDX-License-Identifier: Apache-2.0
"""Interlaced films: told, made whole, with their times; and that parts, kills and processes change nothing."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from kills import kill_with_a_segment

from secondeye import FilmConfig, StereoConfig, convert_video
from secondeye.runtime.video import media
from secondeye.runtime.video.config import open_film

W, H = 160, 96
CUES = StereoConfig(depth="cues")


def interlaced(path, frames, codec="libx264", options=None, flagged=lambda k: True, times=None):
    """A film of vertical bars that move 4 pixels from field to field; `flagged` are its interlaced frames."""
    wide = np.kron(np.arange(400)[None] % 2 * 180 + 30, np.ones((H, 8)))
    wide = np.repeat(wide[:, :, None], 3, axis=2).astype(np.uint8)
    options = {"x264-params": "interlaced=1:tff=1", "crf": "4"} if options is None else options
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if codec == "libx264" else 25)
        for k in range(frames):
            first, second = (wide[:, 8 * k + 4 * field :][:, :W].copy() for field in (0, 1))
            if flagged(k):
                first[1::2] = second[1::2]
            frame = av.VideoFrame.from_ndarray(first, "rgb24")
            frame.pts, frame.time_base = 40 * k if times is None else times[k], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def teeth(pixels):
    """How much neighbouring rows differ, levels."""
    rows = pixels[8:-8].astype(float)
    return float(np.abs(np.diff(rows, axis=0)).mean())


@pytest.mark.parametrize(("codec", "options"), [("libx264", None), ("mpeg2video", {"flags": "+ilme+ildct", "b": "8M"})])
def test_fields_are_told_and_made_whole(tmp_path, look_at, codec, options):
    uneven = [0, 40, 80, 130, 170, 250, 290, 330, 370, 410, 450, 490]
    times = uneven if codec == "libx264" else [40 * k for k in range(12)]
    film = interlaced(tmp_path / "film.mkv", 12, codec, options, times=times)
    report = convert_video(film, tmp_path / "out.mkv", FilmConfig(stereo=CUES, codec="ffv1"))
    assert any("interlaced" in note for note in report.notes)
    whole, left = look_at(tmp_path / "out.mkv")[:2]
    report = convert_video(film, tmp_path / "off.mkv", FilmConfig(stereo=CUES, codec="ffv1", deinterlace="off"))
    assert not report.notes
    kept, source = look_at(tmp_path / "off.mkv")[:2]
    assert whole == kept == look_at(film)[0]
    assert teeth(source[6][:, :W]) > 30
    assert teeth(left[6][:, :W]) < 0.25 * teeth(source[6][:, :W])
    changed = np.abs(left[6][16:-16, :W].astype(int) - source[6][16:-16, :W])
    assert min(changed[0::2].mean(), changed[1::2].mean()) < 2  # one field stays as it is


def test_frames_that_are_whole_stay_so(tmp_path):
    film = interlaced(tmp_path / "film.mkv", 12, options={"crf": "4"}, flagged=lambda _: False)
    info = open_film(film, FilmConfig())
    assert not info.interlaced
    assert not info.notes


def test_any_beginning_gives_the_same_frames(tmp_path):
    film = interlaced(tmp_path / "film.mkv", 60)
    info = open_film(film, FilmConfig())
    assert info.interlaced
    whole = [frame.to_ndarray() for _, frame in media.frames(info)]
    assert len(whole) == 60
    for first in (1, 17, 58, 59):
        found = list(media.frames(info, first))
        assert [index for index, _ in found] == list(range(first, 60))
        for index, frame in found:
            np.testing.assert_array_equal(frame.to_ndarray(), whole[index])
    slow = open_film(film, FilmConfig(fps="12.5"))
    for index, frame in media.frames(slow, 7):
        np.testing.assert_array_equal(frame.to_ndarray(), whole[2 * index])


def test_few_frames_are_decoded_to_look_for_fields(tmp_path, monkeypatch):
    film = interlaced(tmp_path / "film.mkv", 120, options={"crf": "20", "g": "250"}, flagged=lambda _: False)
    counted = []
    plain = media._decoded

    def decoded(*words):
        for frame in plain(*words):
            counted.append(frame)
            yield frame

    monkeypatch.setattr(media, "_decoded", decoded)
    assert not open_film(film, FilmConfig()).interlaced
    assert 3 < len(counted) < 20  # not the 120 from the only key frame


RUN = """
import sys
import secondeye
film, out, jobs = sys.argv[1:]
config = secondeye.FilmConfig(stereo=secondeye.StereoConfig(depth="cues"), preset="ultrafast", segment=24)
if __name__ == "__main__":
    secondeye.convert_video(film, out, config, jobs=int(jobs))
"""


@pytest.mark.posix
def test_kills_and_processes_change_nothing(tmp_path):
    film = interlaced(tmp_path / "film.mkv", 80)
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", film]
    subprocess.run([*command, tmp_path / "whole.mp4", "1"], check=True)
    subprocess.run([*command, tmp_path / "shared.mp4", "2"], check=True)
    assert (tmp_path / "shared.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    out = tmp_path / "killed.mp4"
    kill_with_a_segment([*command, out, "1"], out)
    subprocess.run([*command, out, "2"], check=True)
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


@pytest.mark.parametrize("mode", ["t", "b"])
def test_pipes_have_fields_too(cli, tmp_path, mode):
    film = interlaced(tmp_path / "film.mkv", 6)
    raw = [b"YUV4MPEG2 W160 H96 F25:1 I" + mode.encode() + b" A1:1 C420jpeg\n"]
    with av.open(str(film)) as file:
        raw += [b"FRAME\n" + frame.to_ndarray(format="yuv420p").tobytes() for frame in file.decode(video=0)]
    (tmp_path / "film.y4m").write_bytes(b"".join(raw))
    results = {}
    for word in ("auto", "off"):
        words = [sys.executable, "-m", "secondeye", "convert", "-", "-o", "-", "--depth-model", "cues"]
        with (tmp_path / "film.y4m").open("rb") as source, (tmp_path / f"{word}.y4m").open("wb") as sink:
            subprocess.run([*words, "--deinterlace", word], stdin=source, stdout=sink, check=True)
        with av.open(str(tmp_path / f"{word}.y4m")) as file:
            results[word] = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert len(results[word]) == 6
    assert teeth(results["auto"][3][:, :W]) < 0.3 * teeth(results["off"][3][:, :W])


def test_other_words_are_refused(cli, clip, tmp_path):
    code, _, told = cli("convert", clip, "-o", tmp_path / "out.mkv", "--deinterlace", "maybe")
    assert code == 2
    assert "auto or off" in told
