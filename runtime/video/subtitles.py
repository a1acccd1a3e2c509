# SPDX-License-Identifier: Apache-2.0
"""Subtitles at a stated depth: text drawn into both eyes, so that no player has to.

Text comes from one of the film's own streams (SubRip, MOV text, WebVTT; of ASS its plain text) or from a file of such.
A cue is drawn once, white with a black rim; its two masks are blended into each frame that it is shown on, with a
disparity of its own.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError, ResourceLimitError
from secondeye.runtime.video.media import FilmInfo, opened, reason

if TYPE_CHECKING:
    from secondeye.runtime.converter import StereoFrame

KEEP, BURN, OFF = "keep", "burn", "off"
MAX_DEPTH = 5.0  # percent of the width, to either side of the screen
MAX_FILE_BYTES, MAX_CUES, MAX_LETTERS = 16 << 20, 100_000, 1000
TEXT_CODECS = ("subrip", "srt", "text", "mov_text", "webvtt", "ass", "ssa")
MARKS = "\ue000\ue001\ue002\ue003\ue004\ue005"  # bold, italic, underlined: on, off
_FILES = (".srt", ".vtt", ".ass", ".ssa")
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf", "Helvetica.ttc",
    "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "msyh.ttc",
)  # fmt: skip
_SIZE, _MARGIN, _WIDEST, _HIGHEST = 0.05, 0.05, 0.9, 0.45  # of the picture's height; of its width; of its height
_WHITE = {16: 0.58, 18: 0.75}  # of full scale, where the transfer is PQ or HLG: as bright as paper


@dataclass(frozen=True, kw_only=True)
class Cue:
    """A text and when it is shown: seconds from the film's first frame on; lines; at the top instead of the bottom."""

    start: float
    end: float
    text: str
    top: bool = False


@dataclass(frozen=True, kw_only=True)
class Track:
    """All cues of a film, in order of their start, and the font that they are drawn with (b"": Pillow's own)."""

    cues: tuple[Cue, ...]
    font: bytes

    def digest(self) -> str:
        """Tells a track from another."""
        told = "\n".join(f"{c.start!r} {c.end!r} {c.top} {c.text}" for c in self.cues)
        return hashlib.sha256(told.encode() + b"\0" + self.font).hexdigest()


def check_subtitles(kind: str, depth: float) -> None:
    """Refuse what names no subtitles.

    Raises:
        InvalidInputError: a word that is none, or a depth out of range.
    """
    file = Path(kind).suffix.lower() in _FILES
    if kind not in (KEEP, BURN, OFF) and not (kind.startswith(BURN + ":") and len(kind) > 5) and not file:
        raise InvalidInputError(
            f"subtitles: expected keep, off, burn, burn:LANGUAGE or a file ending in {', '.join(_FILES)}, got {kind!r}."
        )
    if not -MAX_DEPTH <= depth <= MAX_DEPTH:
        raise InvalidInputError(f"subtitle_depth: expected -5 to 5 percent of the width, got {depth!r}.")


def open_track(info: FilmInfo, kind: str, font: str | None) -> Track | None:
    """The text that is to be drawn; None when it is to be kept or left out.

    Args:
        info: of the film.
        kind: ``keep``, ``off``, ``burn``, ``burn:LANGUAGE`` or a file's name.
        font: a font's file; None looks for one on this machine that has all letters.

    Raises:
        MediaError: there is no such file, or nothing in it, or the film has no such text.
        InvalidInputError: no font.
    """
    if kind in (KEEP, OFF):
        return None
    if kind == BURN or kind.startswith(BURN + ":"):
        cues = _cues(info.path, kind.partition(":")[2], float(info.pts[0] * info.time_base))
    else:
        path = Path(kind)
        if not path.is_file():
            raise MediaError(f"{path}: no such file; give the subtitles' file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ResourceLimitError(f"{path}: is over {MAX_FILE_BYTES >> 20} MiB; that is no file of subtitles.")
        cues = _cues(path, "", 0.0)
    return Track(cues=cues, font=_font(font, "".join(c.text for c in cues)))


# ---- reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Said:
    """A packet of text: its stream, when it is shown (seconds), its text with MARKS, whether it belongs to the top."""

    stream: int
    start: Fraction
    length: Fraction
    text: str
    top: bool


def texts_of(container: Any, path: Path, streams: list[Any]) -> Iterator[Said]:
    """What is said in streams of text, where there are letters in it and it is shown at all.

    Raises:
        MediaError: they cannot be read.
        ResourceLimitError: one says too much.
    """
    import av

    count = Counter[int]()
    try:
        for packet in container.demux(streams):
            if packet.pts is None or not packet.size:
                continue
            index, length = packet.stream_index, (packet.duration or 0) * packet.time_base
            text, top = marked_text(container.streams[index].codec_context.name, bytes(packet))
            if text.strip(MARKS) and length > 0:
                count[index] += 1
                yield Said(stream=index, start=packet.pts * packet.time_base, length=length, text=text, top=top)
            if count[index] > MAX_CUES:
                raise ResourceLimitError(f"{path}: has over {MAX_CUES} subtitles.")
    except av.error.FFmpegError as error:
        raise MediaError(f"{path}: its subtitles cannot be read ({reason(error)}).") from error


def _cues(path: Path, language: str, zero: float) -> tuple[Cue, ...]:
    found: list[Cue] = []
    with opened(path, text=Path(path).suffix.lower() in _FILES) as container:
        for said in texts_of(container, path, [_text_stream(container, path, language)]):
            start, text = float(said.start) - zero, plain(said.text)
            if text:
                found.append(Cue(start=start, end=start + float(said.length), text=text, top=said.top))
    if not found:
        raise MediaError(f"{path}: its subtitles have no text in them.")
    return tuple(sorted(found, key=lambda c: (c.start, c.end)))


def _text_stream(container: Any, path: Path, language: str) -> Any:
    """The stream that a player would show: of the language, the default one, the first."""
    streams = [s for s in container.streams.subtitles if s.codec_context.name in TEXT_CODECS]
    if language:
        streams = [s for s in streams if (s.metadata.get("language") or "").lower() == language.lower()]
    if not streams:
        others = [
            f"{s.codec_context.name} {s.metadata.get('language', '')}".strip() for s in container.streams.subtitles
        ]
        have = f"it has {', '.join(others)}" if others else "it has no subtitles at all"
        wanted = f"subtitles of text in {language}" if language else "subtitles of text"
        raise MediaError(f"{path}: has no {wanted} ({have}); give a file with --subtitles FILE.srt.")
    return next((s for s in streams if s.disposition.value & 1), streams[0])


def plain(text: str) -> str:
    """A text's lines without its marks."""
    return _tidy("".join(c for c in text if c not in MARKS))


def marked_text(codec: str, data: bytes) -> tuple[str, bool]:
    """(lines, whether they belong to the top) of a packet of a text codec.

    MARKS stand where bold, italic and underlined letters begin and end.
    """
    if codec == "mov_text":
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    text = re.sub(f"[{MARKS}]", "", text)
    if codec in ("ass", "ssa"):
        text = text.split(",", 8)[-1]  # after order, layer, style, name, three margins, effect
    if re.search(r"\{[^}]*\\p[1-9]", text):
        return "", False  # a drawing
    top = re.search(r"\{[^}]*\\an?[7-9]\b", text) is not None
    text = re.sub(r"\{\\[^}]*\}", _marks_of_block, text)
    if codec in ("ass", "ssa"):
        text = text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    text = re.sub(r"</?[a-zA-Z][^<>]*>", _mark_of_tag, text)
    if codec == "webvtt":
        text = html.unescape(text)
    text = "".join(c for c in text if c in "\n" + MARKS or unicodedata.category(c) not in ("Cc", "Cs", "Co", "Cn"))
    return _tidy(text), top


def _tidy(text: str) -> str:
    """Lines without needless blanks, and none that are empty."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    return "\n".join(line for line in lines if line)[:MAX_LETTERS]


def _marks_of_block(block: re.Match[str]) -> str:
    """Of ASS: {\\b1}, {\\i0}, {\\r}."""
    marks = ""
    for kind, value in re.findall(r"\\([biu]|r(?![a-z]))(\d*)", block[0]):
        if kind == "r":
            marks += MARKS[1::2]
        elif value:
            marks += MARKS[2 * "biu".index(kind) + (value == "0")]
    return marks


def _mark_of_tag(tag: re.Match[str]) -> str:
    """Of SubRip and WebVTT: <b>, </i>."""
    name = re.fullmatch(r"<(/?)([biu])(?:\.[^>]*)?\s*>", tag[0].lower())
    return "" if name is None else MARKS["biu".index(name[2]) * 2 + (name[1] == "/")]


# ---- drawing ----------------------------------------------------------------------------------------------


def _font(path: str | None, letters: str) -> bytes:
    """A font's file: the one named, or the first of the usual ones that lacks the fewest letters."""
    from PIL import ImageFont

    if path is not None:
        try:
            ImageFont.truetype(path, 20)
            return Path(path).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"subtitle_font: {path} is no font that can be read ({error}).") from error
    best, lacking = b"", _lacking(ImageFont.load_default(20), letters)
    for name in _FONTS if lacking else ():
        try:
            font = ImageFont.truetype(name, 20)
        except OSError:
            continue
        lacks = _lacking(font, letters)
        if len(lacks) < len(lacking):
            best, lacking = Path(str(font.path)).read_bytes(), lacks
        if not lacking:
            break
    if lacking:
        raise InvalidInputError(
            f"subtitle_font: no font found here has {lacking[:20]!r}, which is in these subtitles; name one that does."
        )
    return best


def _lacking(font: Any, letters: str) -> str:
    """The letters that a font does not have."""
    none = bytes(font.getmask("\U0010fffe"))
    seen = [c for c in sorted(set(letters)) if not c.isspace() and unicodedata.category(c) != "Cf"]
    return "".join(c for c in seen if bytes(font.getmask(c)) == none)


@dataclass(frozen=True)
class Drawn:
    """A text's masks, [h, w, 1], as weights of 255: what stays of the picture, and what white comes to it."""

    keep: NDArray[np.uint32]
    light: NDArray[np.uint32]
    scratch: NDArray[np.uint32]


class Burner:
    """Draws a film's subtitles into its frames' views.

    Args:
        track: the text.
        depth: in front of the screen, percent of the width; under 0 behind it.
        info: of the film.
        swapped: whether a frame's left view is the right eye's.
        map_too: whether the disparity map takes the text's depth.
    """

    def __init__(self, track: Track, depth: float, info: FilmInfo, *, swapped: bool, map_too: bool) -> None:
        self._track, self._depth, self._swapped, self._map_too = track, depth, swapped, map_too
        self._aspect = float(info.aspect)
        self._white = _WHITE.get(info.tags["color_trc"], 1.0)
        self._starts = np.array([c.start for c in track.cues])
        self._ends = np.array([c.end for c in track.cues])
        self._drawn: dict[tuple[str, bool, tuple[int, ...]], Drawn] = {}
        self._left: NDArray[Any] | None = None

    def __call__(self, frame: StereoFrame, seconds: float) -> StereoFrame:
        """The frame with what is said at a time; its left view is then overwritten by the next call."""
        shown = np.flatnonzero((self._starts <= seconds + 1e-4) & (self._ends > seconds + 1e-4))
        if not shown.size:
            return frame
        if self._left is None or self._left.shape != frame.left.shape or self._left.dtype != frame.left.dtype:
            self._left = np.empty_like(frame.left)
        np.copyto(self._left, frame.left)  # it may be the decoder's own picture
        right = frame.right if frame.right.flags.writeable else frame.right.copy()
        frame = replace(frame, left=self._left, right=right)
        if self._map_too:
            frame = replace(frame, source=frame.source.copy())
        for top in (False, True):
            said = "\n".join(c.text for c in (self._track.cues[k] for k in shown) if c.top == top)
            if said:
                self._put(frame, self._masks(said, top, frame.left), top)
        return frame

    def _masks(self, text: str, top: bool, view: NDArray[Any]) -> Drawn:
        key = (text, top, view.shape)
        if key not in self._drawn:
            if len(self._drawn) >= 4:
                self._drawn.pop(next(iter(self._drawn)))
            full = 255 if view.dtype == np.uint8 else 65535
            self._drawn[key] = _draw(text, self._track.font, view.shape, self._aspect, self._white * full)
        return self._drawn[key]

    def _put(self, frame: StereoFrame, drawn: Drawn, top: bool) -> None:
        height, width = frame.left.shape[:2]
        high, wide = drawn.keep.shape[:2]
        margin = round(_MARGIN * height)
        y = margin if top else height - margin - high
        shift = round(self._depth / 100 * width)  # a thing in front of the screen is further left for the right eye
        at_left = (width - wide) // 2 + (shift - shift // 2)
        eyes = (frame.right, frame.left) if self._swapped else (frame.left, frame.right)
        for view, x in zip(eyes, (at_left, at_left - shift), strict=True):
            _blend(view[y : y + high, x : x + wide], drawn)
        if self._map_too:
            x = (width - wide) // 2
            _blend(frame.source[y : y + high, x : x + wide], drawn)
            frame.disparity[y : y + high, x : x + wide][drawn.keep[:, :, 0] < 128] = np.float32(shift)


def _blend(place: NDArray[Any], drawn: Drawn) -> None:
    """(place keep + light + 127) / 255, rounded down."""
    np.multiply(place, drawn.keep, out=drawn.scratch, casting="unsafe")
    np.add(drawn.scratch, drawn.light, out=drawn.scratch)
    np.floor_divide(drawn.scratch, np.uint32(255), out=drawn.scratch)
    np.copyto(place, drawn.scratch, casting="unsafe")


def _draw(text: str, font_file: bytes, shape: tuple[int, ...], aspect: float, white: float) -> Drawn:
    """A text's masks: as large as a twentieth of the picture, smaller where that is too much of it."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = shape[:2]
    shown = width * aspect  # in square pixels
    size = max(8, round(_SIZE * height))
    while True:
        font: Any = ImageFont.truetype(io.BytesIO(font_file), size) if font_file else ImageFont.load_default(size)
        rim = max(1, round(size / 14))
        lines = _wrapped(text, font, _WIDEST * shown - 2 * rim)
        draw = ImageDraw.Draw(Image.new("L", (1, 1)))
        options: dict[str, Any] = {"font": font, "align": "center", "spacing": round(0.25 * size)}
        box = draw.multiline_textbbox((0, 0), lines, stroke_width=rim, **options)
        wide, high = (int(np.ceil(b)) - int(np.floor(a)) for a, b in ((box[0], box[2]), (box[1], box[3])))
        if size <= 8 or (high <= _HIGHEST * height and wide <= 0.95 * shown):
            break
        size = max(8, size * 9 // 10)
    masks = []
    for stroke in (255, 0):  # text and rim; text alone, laid out in the same way
        mask = Image.new("L", (wide, high), 0)
        place = (-int(np.floor(box[0])), -int(np.floor(box[1])))
        ImageDraw.Draw(mask).multiline_text(place, lines, fill=255, stroke_width=rim, stroke_fill=stroke, **options)
        if aspect != 1.0:
            mask = mask.resize((max(1, round(wide / aspect)), high), Image.Resampling.BOX)
        most = np.asarray(mask)[: height - 2 * round(_MARGIN * height), : round(0.95 * width)]
        masks.append(most.astype(np.uint32)[:, :, None])
    cover = np.maximum(masks[0], masks[1])
    light = np.rint(masks[1] * white).astype(np.uint32) + np.uint32(127)
    return Drawn(np.uint32(255) - cover, light, np.empty((*cover.shape[:2], shape[2]), np.uint32))


def _wrapped(text: str, font: Any, widest: float) -> str:
    """Lines broken between words, and within a word that is too long, where they are wider than that."""
    out: list[str] = []
    for line in text.split("\n"):
        now = ""
        for word in re.findall(r"\S+", line):
            joined = f"{now} {word}" if now else word
            if font.getlength(joined) <= widest:
                now = joined
                continue
            if now:
                out.append(now)
            while font.getlength(word) > widest and len(word) > 1:
                fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= widest)
                out.append(word[:fits])
                word = word[fits:]
            now = word
        out.append(now)
    return "\n".join(out)
