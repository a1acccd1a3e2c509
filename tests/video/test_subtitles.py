# SPDX-License-Identifier: Apache-2.0
"""Subtitles in both eyes: where they are, when, at which depth; what is refused; and that a kill changes nothing."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from films import ASS_HEAD, with_text
from kills import kill_with_a_segment

from secondeye import FilmConfig, InvalidInputError, StereoConfig, convert_video
from secondeye.runtime.layouts import LAYOUTS
from secondeye.runtime.video import media
from secondeye.runtime.video.subtitles import Track, marked_text, open_track, plain

W, H = 320, 192
SRT = """1
00:00:00,400 --> 00:00:00,800
<i>Hello</i>, world

2
00:00:01,200 --> 00:00:01,600
{\\an8}On top
"""
ASS = (
    ASS_HEAD
    + """Dialogue: 0,0:00:00.40,0:00:00.80,Default,,0,0,0,,{\\b1}Hello,{\\b0}\\Nworld
Dialogue: 0,0:00:01.20,0:00:01.60,Default,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}
"""
)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """48 frames of one grey, 25 a second."""
    path = tmp_path_factory.mktemp("grey") / "grey.mkv"
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = W, H, "yuv420p"
        for _ in range(48):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((H, W, 3), 110, np.uint8), "rgb24")))
        file.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def srt(tmp_path_factory):
    """A file with a text at 0.4 to 0.8 s and one at 1.2 to 1.6 s, which belongs to the top."""
    path = tmp_path_factory.mktemp("srt") / "words.srt"
    path.write_text(SRT)
    return path


def place(view):
    """(top, bottom, left, right) of what is bright in a view, to a tenth of a pixel across; None of nothing."""
    bright = view.max(axis=2).astype(float) > 200
    rows = np.flatnonzero(bright.any(1))
    if not rows.size:
        return None
    columns = bright.sum(0)
    middle = float((columns * np.arange(columns.size)).sum() / columns.sum())
    return rows[0], rows[-1], middle


WORDS = ["--depth-model", "cues", "--codec", "ffv1", "--quiet"]


@pytest.mark.parametrize(("depth", "shift"), [("0.5", 2), ("2.5", 8), ("0", 0), ("-2.5", -8)])
def test_text_stands_at_its_depth_in_both_eyes(cli, grey, srt, tmp_path, look_at, depth, shift):
    out = tmp_path / "out.mkv"
    code, _, told = cli("convert", grey, "-o", out, *WORDS, "--subtitles", srt, "--subtitle-depth", depth)
    assert code == 0, told
    frames = look_at(out)[1]
    shown = [place(f) is not None for f in frames]
    assert shown == [10 <= k < 20 or 30 <= k < 40 for k in range(48)]
    for k, top in ((12, False), (32, True)):
        left, right = place(frames[k][:, :W]), place(frames[k][:, W:])
        assert left[:2] == right[:2]
        assert left[2] - right[2] == pytest.approx(shift, abs=0.05)  # in front: further left for the right eye
        assert (left[2] + right[2]) / 2 == pytest.approx(W / 2, abs=6)
        assert (left[1] < H / 3) if top else (left[0] > H * 2 / 3)
    assert np.abs(frames[12][: H // 2].astype(int) - frames[5][: H // 2]).max() <= 3


def test_swapped_eyes_keep_the_depth(cli, grey, srt, tmp_path, look_at):
    out = tmp_path / "out.mkv"
    code, _, told = cli("convert", grey, "-o", out, *WORDS, "--subtitles", srt, "--subtitle-depth", "2.5", "--swap")
    assert code == 0, told
    frame = look_at(out)[1][12]
    assert place(frame[:, W:])[2] - place(frame[:, :W])[2] == pytest.approx(8, abs=0.05)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_holds_it(grey, srt, tmp_path, look_at, layout):
    stereo = StereoConfig(depth="cues", strength=0.0)
    config = FilmConfig(
        stereo=stereo, layout=layout, codec="ffv1", subtitles=str(srt), subtitle_depth=0.0, end=0.8,
        anaglyph="dubois-red-cyan",
    )  # fmt: skip
    convert_video(grey, tmp_path / "out.mkv", config)
    frames = look_at(tmp_path / "out.mkv")[1]
    changed = np.abs(frames[12].astype(int) - frames[5]).max(axis=2) > 20
    height, width = changed.shape
    if layout in ("half-tb", "tb"):
        halves = [changed[: height // 2], changed[height // 2 :]]
    elif layout in ("sbs", "half-sbs", "cross", "rgbd"):
        halves = [changed[:, : width // 2], changed[:, width // 2 :]]
    elif layout == "disparity":
        return  # nothing stands out of nothing
    else:
        halves = [changed]
    if layout == "rgbd":
        halves = halves[:1]
    for half in halves:
        rows = np.flatnonzero(half.any(1))
        assert rows.size
        assert rows[0] > 2 / 3 * half.shape[0]


def test_a_map_shows_the_texts_depth(grey, srt, tmp_path, look_at):
    config = FilmConfig(
        stereo=StereoConfig(depth="cues", strength=1.0), layout="rgbd", codec="ffv1", subtitles=str(srt),
        subtitle_depth=5.0, end=0.8,
    )  # fmt: skip
    convert_video(grey, tmp_path / "out.mkv", config)
    frame = look_at(tmp_path / "out.mkv")[1][12]
    text = (frame[:, :W].max(axis=2) > 200).nonzero()
    assert (frame[:, W:, 0][text] == 255).all()


def test_what_is_looked_at_and_decoded_stays(grey, srt, tmp_path, look_at):
    """Text is drawn into copies: depth is that of the film without it, and repeated frames get it once."""
    plain = FilmConfig(stereo=StereoConfig(depth="cues"), codec="ffv1", fps="50")
    convert_video(grey, tmp_path / "plain.mkv", plain)
    convert_video(grey, tmp_path / "text.mkv", FilmConfig(**{**vars(plain), "subtitles": str(srt)}))
    one, other = (look_at(tmp_path / name)[1] for name in ("plain.mkv", "text.mkv"))
    np.testing.assert_array_equal(other[24], other[25])
    for k in (10, 50, 90):
        np.testing.assert_array_equal(one[k], other[k])


def test_a_stream_is_burned_kept_or_left_out(cli, grey, srt, tmp_path, look_at):
    film = with_text(tmp_path / "film.mkv", grey, srt)
    for word, bright, streams in (("keep", False, 1), ("off", False, 0), ("burn", True, 0), ("burn:eng", True, 0)):
        out = tmp_path / f"{word.replace(':', '_')}.mkv"
        code, _, told = cli("convert", film, "-o", out, *WORDS, "--subtitles", word)
        assert code == 0, told
        with av.open(str(out)) as file:
            assert len(file.streams.subtitles) == streams
        assert (place(look_at(out)[1][12]) is not None) is bright


def test_mov_text_and_ass_are_read(grey, tmp_path):
    (tmp_path / "words.ass").write_text(ASS)
    film = with_text(tmp_path / "ass.mkv", grey, tmp_path / "words.ass")
    track = open_track(media.probe(film), "burn", None)
    assert [(round(c.start, 2), round(c.end, 2), c.text) for c in track.cues] == [(0.4, 0.8, "Hello,\nworld")]
    with av.open(str(grey)) as source, av.open(str(tmp_path / "film.mp4"), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        text = out.add_stream("mov_text")
        text.codec_context.subtitle_header = ASS.partition("[Events]")[0].encode()
        text.time_base = Fraction(1, 1000)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        said = "Grüße".encode()
        packet = av.Packet(len(said).to_bytes(2, "big") + said + b"\0\0\0\x0cstyl\0\0\0\0")
        packet.stream, packet.time_base = text, Fraction(1, 1000)
        packet.pts = packet.dts = 400
        packet.duration = 400
        out.mux(packet)
    track = open_track(media.probe(tmp_path / "film.mp4"), "burn", None)
    assert [(round(c.start, 2), round(c.end, 2), c.text) for c in track.cues] == [(0.4, 0.8, "Grüße")]


@pytest.mark.parametrize(
    ("codec", "data", "text"),
    [
        ("subrip", b"<font color=red>a</font>\r\n b  c \n", ("a\nb c", False)),
        ("subrip", b"{\\an8}x < y & z", ("x < y & z", True)),
        ("subrip", "na\xefve".encode("cp1252"), ("na\xefve", False)),
        ("webvtt", b"<v Bob>a &lt; b", ("a < b", False)),
        ("ass", b"0,0,Default,,0,0,0,,a, b\\Nc\\hd{\\i1}", ("a, b\nc d", False)),
        ("ass", b"0,0,Default,,0,0,0,,{\\p1}m 0 0", ("", False)),
        ("mov_text", b"\0\3abcdef", ("abc", False)),
        ("mov_text", b"\0", ("", False)),
        ("subrip", b"a\0\x07b" * 2000, ("ab" * 500, False)),
    ],
)
def test_text_is_made_plain(codec, data, text):
    marked, top = marked_text(codec, data)
    assert (plain(marked), top) == text


def test_long_text_fits_the_picture(grey, tmp_path, look_at):
    (tmp_path / "long.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\n" + "word " * 60 + "o" * 200 + "\n")
    config = FilmConfig(stereo=StereoConfig(depth="cues"), codec="ffv1", subtitles=str(tmp_path / "long.srt"))
    convert_video(grey, tmp_path / "out.mkv", config)
    view = look_at(tmp_path / "out.mkv")[1][10][:, :W].max(axis=2)
    rows, columns = (np.flatnonzero((view > 160).any(axis)) for axis in (1, 0))
    assert rows[0] > H * 0.4
    assert rows[-1] < H - 5
    assert columns[0] > 4
    assert columns[-1] < W - 5


def test_every_line_has_its_rim(tmp_path):
    """White lies in the middle of black, on the last of several lines too."""
    from secondeye.runtime.video.subtitles import _draw

    drawn = _draw("III\nIII\nIII\nIII", b"", (H * 4, W * 4, 3), 1.0, 255.0)
    rim, white = drawn.keep[:, :, 0] < 128, drawn.light[:, :, 0] > 255
    assert (white <= rim).all()
    for rows in (slice(0, white.shape[0] // 4), slice(white.shape[0] * 3 // 4, None)):
        high = [np.flatnonzero(mask[rows].any(1)) for mask in (white, rim)]
        assert abs((high[0][0] - high[1][0]) - (high[1][-1] - high[0][-1])) <= 2


def test_ten_bits_and_hdr_take_text(grey, srt, tmp_path):
    film = tmp_path / "hdr.mkv"
    with av.open(str(film), "w") as file:
        video = file.add_stream("libx265", rate=25, options={"x265-params": "log-level=error", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = W, H, "yuv420p10le"
        video.codec_context.color_trc, video.codec_context.color_primaries = 16, 9
        video.codec_context.colorspace = 9
        for _ in range(24):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((H, W, 3), 9000, np.uint16), "rgb48le")))
        file.mux(video.encode(None))
    config = FilmConfig(stereo=StereoConfig(depth="cues"), codec="ffv1", subtitles=str(srt))
    convert_video(film, tmp_path / "out.mkv", config)
    with av.open(str(tmp_path / "out.mkv")) as file:
        frame = next(f for k, f in enumerate(file.decode(video=0)) if k == 12).to_ndarray(format="rgb48le")
    assert 0.55 * 65535 < frame.max() < 0.61 * 65535  # as bright as paper, not as the sun


RUN = """
import sys
import secondeye
clip, out, srt, jobs = sys.argv[1:]
stereo = secondeye.StereoConfig(depth="cues")
config = secondeye.FilmConfig(stereo=stereo, preset="ultrafast", segment=24, subtitles=srt)
if __name__ == "__main__":
    secondeye.convert_video(clip, out, config, jobs=int(jobs))
"""


@pytest.mark.posix
def test_kills_and_processes_change_nothing(clip, srt, tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", clip]
    subprocess.run([*command, tmp_path / "whole.mp4", srt, "1"], check=True)
    subprocess.run([*command, tmp_path / "shared.mp4", srt, "2"], check=True)
    assert (tmp_path / "shared.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    out = tmp_path / "killed.mp4"
    kill_with_a_segment([*command, out, srt, "1"], out)
    other = tmp_path / "other.srt"
    other.write_text(SRT.replace("world", "there"))
    if not out.exists():
        with pytest.raises(InvalidInputError, match=r"subtitles"):
            convert_video(
                clip, out, FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", segment=24,
                                      subtitles=str(other)),
            )  # fmt: skip
        subprocess.run([*command, out, srt, "1"], check=True)
    assert out.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_what_cannot_be_is_refused(cli, grey, srt, tmp_path):
    (tmp_path / "empty.srt").write_text("\n")
    (tmp_path / "strange.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\n\U00012345\n")
    film = with_text(tmp_path / "film.mkv", grey, srt)
    for source, words, message in (
        (grey, ["--subtitles", "burn"], "no subtitles at all"),
        (film, ["--subtitles", "burn:ger"], "no subtitles of text in ger (it has srt eng"),
        (grey, ["--subtitles", "maybe"], "expected keep, off, burn"),
        (grey, ["--subtitles", tmp_path / "none.srt"], "no such file"),
        (grey, ["--subtitles", tmp_path / "empty.srt"], "subtitles"),
        (grey, ["--subtitles", tmp_path / "strange.srt"], "no font found here has"),
        (grey, ["--subtitles", srt, "--subtitle-depth", "9"], "-5 to 5"),
        (grey, ["--subtitles", srt, "--subtitle-font", srt], "is no font"),
        (grey, ["--subtitles", srt, "-o", "-"], "not into pipes"),
    ):
        extra = [] if "-o" in words else ["-o", tmp_path / "out.mkv"]
        code, _, told = cli("convert", source, *extra, *WORDS, *words)
        assert code == 2, (words, told)
        assert message in told
        assert "Traceback" not in told


def test_a_track_knows_itself_again(grey, srt):
    info = media.probe(grey)
    one, other = open_track(info, str(srt), None), open_track(info, str(srt), None)
    assert one.digest() == other.digest()
    assert one.digest() != Track(cues=one.cues[:1], font=one.font).digest()
