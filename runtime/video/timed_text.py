# SPDX-License-Identifier: Apache-2.0
"""Subtitles of text as MP4 and MOV hold them: timed text (3GPP TS 26.245, ``tx3g``), one sample at a time; and such
as SubRip, for Matroska, which does not hold it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secondeye.runtime.video.boxes import box
from secondeye.runtime.video.media import FilmInfo, opened
from secondeye.runtime.video.subtitles import MARKS, TEXT_CODECS, texts_of

TIME_BASE = Fraction(1, 1000)
# FFmpeg makes the sample description of this: white on nothing, low in the middle.
_STYLE = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
_FACES = (1, 2, 4)  # bold, italic, underlined
_FONT = (1, 16, 0xFFFFFFFF)  # identity, size, colour (RGBA), as in the description


@dataclass(frozen=True)
class _Shown:
    """A text with marks, and when it is shown: thousandths of a second."""

    start: int
    end: int
    text: str
    top: bool


def text_stream(output: Any, stream: Any) -> Any | None:
    """A stream of timed text, in Matroska of SubRip, for one of the source's, of its language, title and disposition;
    None if it is no text."""
    if stream.type != "subtitle" or stream.codec_context.name not in TEXT_CODECS:
        return None
    if not hasattr(stream.codec_context, "subtitle_header"):
        return None  # a PyAV of before it wrote subtitles
    made = output.add_stream("subrip" if output.format.name == "matroska" else "mov_text")
    made.codec_context.subtitle_header = _STYLE
    made.time_base = TIME_BASE
    made.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})
    made.disposition = stream.disposition
    return made


def text_packets(
    info: FilmInfo, streams: dict[int, Any], start: int, end: int | None
) -> Iterator[tuple[float, int, Any]]:
    """The samples of the part: (seconds, stream, packet), in order.

    Args:
        info: of the source.
        streams: of :func:`text_stream`, by their index in the source.
        start, end: as of :func:`secondeye.runtime.video.mux.join`.

    Raises:
        MediaError: the source cannot be read.
    """
    import av

    if not streams:
        return
    begin = round(Fraction(start) * info.time_base / TIME_BASE)
    stop = None if end is None else round(Fraction(end) * info.time_base / TIME_BASE)
    samples = []
    for index, said in _read(info, list(streams)).items():
        samples += [(at, until, index, texts) for at, until, texts in _samples(said, begin, stop)]
    for at, until, index, texts in sorted(samples):
        packet = av.Packet(sample(texts) if streams[index].codec_context.name == "mov_text" else subrip(texts))
        packet.stream, packet.time_base = streams[index], TIME_BASE
        packet.pts = packet.dts = at
        packet.duration = until - at
        yield float(at * TIME_BASE), 1 + index, packet


def _read(info: FilmInfo, wanted: list[int]) -> dict[int, list[_Shown]]:
    found: dict[int, list[_Shown]] = {index: [] for index in wanted}
    with opened(info.path) as source:
        for said in texts_of(source, info.path, [source.streams[index] for index in wanted]):
            at, until = (round(t / TIME_BASE) for t in (said.start, said.start + said.length))
            if until > at:
                found[said.stream].append(_Shown(at, until, said.text, said.top))
    return found


def _samples(said: list[_Shown], begin: int, stop: int | None) -> Iterator[tuple[int, int, list[str]]]:
    """(start, end, texts), none over another: what is said at once becomes one sample, the top's first."""
    moments = sorted(
        {t for one in said for t in (one.start, one.end)} | {begin} | ({stop} if stop is not None else set())
    )
    waiting = sorted(said, key=lambda one: one.start, reverse=True)
    shown: list[_Shown] = []
    before: tuple[int, int, list[str]] | None = None
    for at, until in itertools.pairwise(moments):
        while waiting and waiting[-1].start <= at:
            shown.append(waiting.pop())
        shown = [one for one in shown if one.end > at]
        if not shown or at < begin or (stop is not None and at >= stop):
            continue
        texts = [one.text for one in shown if one.top] + [one.text for one in shown if not one.top]
        if before is not None and before[1:] == (at - begin, texts):
            before = (before[0], until - begin, texts)
            continue
        if before is not None:
            yield before
        before = (at - begin, until - begin, texts)
    if before is not None:
        yield before


def subrip(texts: list[str]) -> bytes:
    """Texts, one below the other, as a packet of SubRip: UTF-8 with HTML's <b>, <i> and <u>."""
    tags = ("<b>", "</b>", "<i>", "</i>", "<u>", "</u>")
    return "\n".join(texts).translate({ord(mark): tag for mark, tag in zip(MARKS, tags, strict=True)}).encode()


def sample(texts: list[str]) -> bytes:
    """Texts, one below the other, as one sample: a length, UTF-8, and a box that says which letters look how."""
    letters: list[str] = []
    runs: list[tuple[int, int, int]] = []  # first letter, the one after the last, face
    for text in texts:
        if letters:
            letters.append("\n")
        face, since = 0, len(letters)
        for c in text + MARKS[1::2]:
            if c not in MARKS:
                letters.append(c)
                continue
            kind, off = divmod(MARKS.index(c), 2)
            now = face & ~_FACES[kind] if off else face | _FACES[kind]
            if now != face:
                if face and len(letters) > since:
                    runs.append((since, len(letters), face))
                face, since = now, len(letters)
    coded = "".join(letters).encode()
    while len(coded) > 65_535:
        letters.pop()
        coded = "".join(letters).encode()
    styled = b"".join(struct.pack(">HHHBBI", a, b, _FONT[0], face, *_FONT[1:]) for a, b, face in runs)
    style = box(b"styl", struct.pack(">H", len(runs)) + styled) if runs else b""
    return struct.pack(">H", len(coded)) + coded + style
