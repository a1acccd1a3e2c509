# SPDX-License-Identifier: Apache-2.0
"""Text subtitles in MP4 and MOV: what is said, when and how, with a film's part, several streams and several jobs."""

import av
import pytest
from films import ASS_HEAD, with_text

from secondeye import FilmConfig, StereoConfig, convert_video
from secondeye.runtime.video.timed_text import sample, subrip

SRT = """1
00:00:00,400 --> 00:00:00,800
<i>Hello</i>, world & <b>\u00e9</b>

2
00:00:00,600 --> 00:00:01,000
{\\an8}On top

3
00:00:01,200 --> 00:00:01,600
Last
"""
ASS = (
    ASS_HEAD
    + """Dialogue: 0,0:00:00.40,0:00:00.80,Default,,0,0,0,,{\\b1}Hello,{\\b0}\\Nworld
Dialogue: 0,0:00:01.00,0:00:01.20,Default,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}
Dialogue: 0,0:00:01.20,0:00:01.60,Default,,0,0,0,,{\\pos(3,4)}Last
"""
)


@pytest.fixture(scope="module")
def silent(make_clip, tmp_path_factory):
    """48 frames, 25 a second."""
    return make_clip(tmp_path_factory.mktemp("silent") / "silent.mkv", [40 * k for k in range(48)], sound=False)


def said(path, index=0):
    """[(start, end in seconds, text as ASS)] of a stream, as FFmpeg reads it."""
    found = []
    with av.open(str(path)) as file:
        stream = file.streams.subtitles[index]
        assert stream.codec_context.name == "mov_text"
        for packet in file.demux(stream):
            shown = stream.codec_context.decode2(packet) if packet.size else None
            if shown is not None:
                at, length = (float(t * packet.time_base) for t in (packet.pts, packet.duration))
                text = shown[0].ass.decode().split(",", 8)[-1]
                found.append((round(at, 3), round(at + length, 3), text))
    return found


def convert(source, out, **more):
    return convert_video(source, out, FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", **more))


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_subrip_keeps_its_times_its_italics_and_its_name(silent, tmp_path, suffix):
    (tmp_path / "words.srt").write_text(SRT)
    film = with_text(tmp_path / "film.mkv", silent, tmp_path / "words.srt", "ger")
    report = convert(film, tmp_path / f"out{suffix}")
    assert any("become timed text" in note for note in report.notes)
    hello = "{\\i1}Hello{\\r}, world & {\\b1}\u00e9"
    assert said(tmp_path / f"out{suffix}") == [
        (0.4, 0.6, hello),
        (0.6, 0.8, f"On top\\N{hello}"),  # nothing lies over another in this format
        (0.8, 1.0, "On top"),
        (1.2, 1.6, "Last"),
    ]
    with av.open(str(tmp_path / f"out{suffix}")) as file:
        assert file.streams.subtitles[0].metadata["language"] == "ger"


def test_ass_becomes_its_text(silent, tmp_path):
    (tmp_path / "words.ass").write_text(ASS)
    film = with_text(tmp_path / "film.mkv", silent, tmp_path / "words.ass")
    report = convert(film, tmp_path / "out.mp4")
    assert any("without their fonts and places" in note for note in report.notes)
    assert said(tmp_path / "out.mp4") == [(0.4, 0.8, "{\\b1}Hello,{\\r}\\Nworld"), (1.2, 1.6, "Last")]


def test_timed_text_becomes_subrip_in_matroska(silent, tmp_path):
    (tmp_path / "words.srt").write_text(SRT)
    convert(with_text(tmp_path / "film.mkv", silent, tmp_path / "words.srt", "ger"), tmp_path / "film.mp4")
    report = convert(tmp_path / "film.mp4", tmp_path / "out.mkv")
    assert any("(mov_text) become SubRip" in note for note in report.notes)
    with av.open(str(tmp_path / "out.mkv")) as file:
        stream = file.streams.subtitles[0]
        assert stream.codec_context.name in ("subrip", "srt")
        assert stream.metadata["language"] == "ger"
        texts = [(p.pts, p.pts + p.duration, bytes(p).decode()) for p in file.demux(stream) if p.size]
    hello = "Hello, world & \u00e9"
    assert texts == [(400, 600, hello), (600, 800, f"On top\n{hello}"), (800, 1000, "On top"), (1200, 1600, "Last")]
    assert subrip(["\ue002a\ue003", "\ue000b\ue001"]) == b"<i>a</i>\n<b>b</b>"


def test_a_part_has_its_own_texts_and_jobs_change_nothing(silent, tmp_path):
    (tmp_path / "words.srt").write_text(SRT)
    film = with_text(tmp_path / "film.mkv", silent, tmp_path / "words.srt")
    settings = {"start": 0.72, "end": 1.4, "segment": 24}
    convert(film, tmp_path / "out.mp4", **settings)
    got = [(a, b, text[-6:]) for a, b, text in said(tmp_path / "out.mp4")]
    assert [one[:2] for one in got] == [(0.0, 0.08), (0.08, 0.28), (0.48, 0.68)]
    assert [one[2] for one in got[1:]] == ["On top", "Last"]
    stereo = StereoConfig(depth="cues")
    convert_video(film, tmp_path / "two.mp4", FilmConfig(stereo=stereo, preset="ultrafast", **settings), jobs=2)
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()


def test_streams_keep_their_order_languages_and_marks(silent, tmp_path):
    (tmp_path / "words.srt").write_text(SRT)
    (tmp_path / "more.srt").write_text("1\n00:00:00,000 --> 00:00:00,400\nnun\n")
    one = with_text(tmp_path / "one.mkv", silent, tmp_path / "words.srt", "eng")
    film = tmp_path / "film.mkv"
    with av.open(str(one)) as source, av.open(str(tmp_path / "more.srt")) as words, av.open(str(film), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        second = out.add_stream_from_template(words.streams.subtitles[0])
        copies[1].metadata["language"], copies[1].metadata["title"] = "eng", "Signs"
        second.metadata["language"], second.disposition = "ger", 0x40  # forced
        for packet in [*words.demux(subtitles=0), *source.demux()]:
            if packet.size:
                packet.stream = second if packet.stream.container is words else copies[packet.stream_index]
                out.mux(packet)
    convert(film, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [s.metadata["language"] for s in file.streams.subtitles] == ["eng", "ger"]
        assert file.streams.subtitles[0].metadata["name"] == "Signs"
        assert int(file.streams.subtitles[1].disposition) & 0x40
    assert said(tmp_path / "out.mp4", 1) == [(0.0, 0.4, "nun")]


def test_a_sample_counts_letters_and_has_a_longest():
    data = sample(["\u00e9\ue002ab\ue003c\ue002", "d"])
    assert data[:2] == (7).to_bytes(2, "big")
    assert data[2:9] == "\u00e9abc\nd".encode()
    assert data[9:17] == b"\0\0\0\x16styl"
    assert data[17:].hex() == "00010001000300010210ffffffff"
    long = sample(["\u4e00" * 30_000])
    assert int.from_bytes(long[:2], "big") == len(long) - 2 == 65_535


def test_pictures_of_text_stay_left_out(silent, tmp_path):
    film = tmp_path / "film.mkv"
    with av.open(str(silent)) as source, av.open(str(film), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        out.add_stream("dvbsub")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    report = convert(film, tmp_path / "out.mp4")
    assert any("cannot hold its subtitle (dvb_subtitle)" in note for note in report.notes)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert not file.streams.subtitles
