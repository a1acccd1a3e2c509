# SPDX-License-Identifier: Apache-2.0
"""Film files: what is in them, their frames as pixels, and encoders."""

from __future__ import annotations

import itertools
import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import explain_os_error, for_ffmpeg
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.video import fields
from secondeye.runtime.video.hdr import HdrMetadata, side_data_of
from secondeye.runtime.video.signals import source_notes

if TYPE_CHECKING:
    import av

Pixels = NDArray[np.uint8]

READ_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv", ".y4m", ".nut", ".mxf",
)  # fmt: skip

_REORDERED = 17  # frames: H.264's and HEVC's decoders hold no more


@dataclass(frozen=True, kw_only=True)
class FilmInfo:
    """What a film's video is.

    Attributes:
        path: of the file.
        width, height: as shown, after rotation.
        rotation: quarter turns counter-clockwise that show it upright.
        mirrored: whether its lines are shown in reverse order, before that.
        time_base: seconds per timestamp.
        pts: int64, every frame's timestamp in order of showing; by counting where the file gives none.
        rate: frames a second, about.
        last: how long its last frame is shown, in time_base; by the rate where the file does not say.
        aspect: of a pixel.
        tags: colour tags by name, FFmpeg's numbers.
        depth_bits: of a sample.
        crop: lines left out at the top, bottom, left and right of what is decoded, after rotation.
        picks: where its frames are others of another film's: that film, and which of its frames each one is.
        hdr: what its HDR metadata says of the screen it was made on and of its brightest frames, if anything.
        seekable: whether frames can be found by their timestamps.
        interlaced: whether frames that are flagged as interlaced are to be made whole of their fields.
        notes: sentences about what its owner might not expect.
    """

    path: Path
    width: int
    height: int
    rotation: int
    time_base: Fraction
    pts: NDArray[np.int64]
    rate: Fraction
    aspect: Fraction
    tags: dict[str, int]
    depth_bits: int
    seekable: bool
    last: int = 1
    interlaced: bool = False
    mirrored: bool = False
    hdr: HdrMetadata = field(default_factory=HdrMetadata)
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    picks: tuple[FilmInfo, NDArray[np.int64]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """How many."""
        return int(self.pts.size)

    @property
    def uncropped(self) -> tuple[int, int]:
        """(width, height) with the lines that are left out."""
        top, bottom, left, right = self.crop
        return self.width + left + right, self.height + top + bottom

    @property
    def constant(self) -> bool:
        """Whether the frames are spaced evenly, as closely as their timestamps can say."""
        apart = np.abs(np.diff(self.pts) - float(1 / (self.rate * self.time_base)))
        return bool(np.all(apart <= 1.0))


def probe(path: str | os.PathLike[str], *, rate: Fraction | None = None, limits: Limits = DEFAULT_LIMITS) -> FilmInfo:
    """Look into a film: its packets are listed, none but the first frames are decoded.

    Args:
        path: a local film, or the pattern of numbered pictures (frames/%05d.png).
        rate: frames a second of such pictures; 24 when None.
        limits: of its size.

    Raises:
        MediaError: no such file, no video in it, or nothing that can be decoded.
        InvalidInputError, ResourceLimitError: its size is outside the limits.
    """
    file, numbered = local(path), rate
    with opened(file) as container:
        stream = video_stream(container, file)
        stamps: list[int] = []
        lasts = (-math.inf, 0)  # the latest timestamp, and for how long that is shown
        complete, packets, last = True, 0, None
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            packets += 1
            if packet.pts is None:
                complete = False
            else:
                stamps.append(packet.pts)
                lasts = max(lasts, (packet.pts, packet.duration or 0))
            if packet.dts is not None:
                complete = complete and (last is None or packet.dts >= last)
                last = packet.dts
        unique = np.unique(np.array(stamps, np.int64))
        seekable = complete and unique.size == len(stamps) and unique.size > 0 and _in_order(stamps)
        time_base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if is_sequence(file):
            rate = Fraction(24) if numbered is None else numbered
            time_base = 1 / rate
    with opened(file) as container:
        stream = video_stream(container, file)
        first = next(_decoded(container, stream), None)
        if first is None:
            raise MediaError(f"{file}: none of its video can be decoded; is the file complete?")
        context = stream.codec_context
        if seekable and context.has_b_frames and all(a < b for a, b in itertools.pairwise(stamps)):
            # An AVI has no times of showing: they may be made up of those of coding.
            early = (first, *itertools.islice(_decoded(container, stream), _REORDERED))
            shown = [frame.pts for frame in early if frame.pts is not None]
            seekable = all(a < b for a, b in itertools.pairwise(shown))
        turns = turns_of(first)
        bits = max((c.bits for c in first.format.components), default=8)
        tags = {
            name: int(getattr(context, name) or 0)
            for name in ("color_range", "colorspace", "color_primaries", "color_trc")
        }
        width, height = (first.width, first.height) if turns % 2 == 0 else (first.height, first.width)
        aspect = aspect if turns % 2 == 0 else 1 / aspect
        hdr = HdrMetadata.of(first)
        notes = source_notes(first, file)
        flags = {name.lower(): value for name, value in stream.metadata.items()}  # a WebM's; its decoder drops alpha
        if any(c.is_alpha for c in first.format.components) or flags.get("alpha_mode") == "1":
            notes.append("It has transparency (alpha), which is left out: its colours are shown as they lie beneath.")
        every = sum(1 for _ in _films_in(container))
        if every > 1:
            notes.append(f"It has {every} video streams; the first is converted, the others are left out.")
    limits.check_size(str(file), width, height)
    if not seekable:
        count = packets or 1
        step = max(1, round(1 / (rate * time_base)))
        unique = min(stamps[: _REORDERED + 1], default=0) + np.arange(count, dtype=np.int64) * step
        notes.append("Its timestamps are missing, repeated or run backwards: frames are spaced evenly.")
    elif unique.size > 1:
        told = (unique.size - 1) / (float(unique[-1] - unique[0]) * float(time_base))
        if not 0.98 < float(rate) / told < 1.02:  # a coded stream may name its clock's rate instead
            rate = max(Fraction(told).limit_denominator(1001), Fraction(1, 1001))
    last_shown = lasts[1] if seekable and lasts[1] > 0 else max(1, round(1 / (rate * time_base)))
    return FilmInfo(
        path=file, width=width, height=height, rotation=turns, time_base=time_base, pts=unique, rate=Fraction(rate),
        aspect=aspect, tags=tags, depth_bits=bits, seekable=seekable, last=last_shown, hdr=hdr, notes=tuple(notes),
        mirrored=is_mirrored(first),
    )  # fmt: skip


def _in_order(stamps: list[int]) -> bool:
    """Whether packets' timestamps are out of order by no more than an encoder reorders frames."""
    rank = np.argsort(np.argsort(np.array(stamps, np.int64)))
    return bool(np.abs(rank - np.arange(rank.size)).max() <= _REORDERED)


def is_sequence(path: str | os.PathLike[str]) -> bool:
    """Whether a name is a pattern of numbered pictures: one %d or %05d in its last part, and no film's ending."""
    return Path(path).suffix.lower() not in READ_SUFFIXES and len(re.findall(r"%(?:0\d)?d", Path(path).name)) == 1


def first_number(pattern: Path) -> int:
    """The least number of a sequence's pictures.

    Raises:
        MediaError: there is no such picture.
    """
    before, after = (re.escape(part) for part in re.split(r"%(?:0\d)?d", pattern.name))
    names = os.listdir(pattern.parent) if pattern.parent.is_dir() else []
    numbers = [int(m[1]) for name in names if (m := re.fullmatch(f"{before}(\\d+){after}", name))]
    first = next((n for n in sorted(numbers) if (pattern.parent / (pattern.name % n)).is_file()), None)
    if first is None:
        raise MediaError(f"{pattern}: no picture has such a name; check the pattern and its digits.")
    return first


def local(path: str | os.PathLike[str]) -> Path:
    """A local file.

    Raises:
        InvalidInputError: an address of something else.
        MediaError: there is none, or nothing in it.
    """
    text = os.fspath(path)
    if "://" in text:
        raise InvalidInputError(f"{text}: only local files are read; download it first, or add --allow-network.")
    file = Path(text)
    if is_sequence(file):
        first_number(file)
        return file
    if file.is_dir():
        raise MediaError(f"{file}: is a folder; give a file.")
    if not file.exists():
        raise MediaError(f"{file}: no such file; check the name.")
    if file.stat().st_size == 0:
        raise MediaError(f"{file}: is empty.")
    return file


def opened(file: Path, *, text: bool = False) -> Any:
    """The file, a film or one of subtitles, as a container of PyAV's.

    Raises:
        MediaError: it is none that can be read.
    """
    import av

    try:
        if is_sequence(file):
            pattern = {"start_number": str(first_number(file)), "pattern_type": "sequence"}
            return av.open(for_ffmpeg(file), format="image2", options={"protocol_whitelist": "file", **pattern})
        # What a playlist names must not be followed to other files or hosts.
        allowed = "srt,webvtt,ass" if text else _FORMATS
        return av.open(for_ffmpeg(file), options={"protocol_whitelist": "file", "format_whitelist": allowed})
    except (av.error.FFmpegError, ValueError) as error:
        what = "file of subtitles" if text else "film"
        raise MediaError(f"{file}: is no {what} that can be read ({reason(error)}).") from error


_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,yuv4mpegpipe,nut,mxf,h264,hevc,obu,ivf"
)


def reason(error: Exception) -> str:
    """Why, in the system's own words."""
    return explain_os_error(error) if isinstance(error, OSError) else getattr(error, "strerror", None) or str(error)


def video_stream(container: Any, file: Path) -> Any:
    """The film's pictures: the first video stream that is no cover.

    Raises:
        MediaError: there is none.
    """
    stream = pictures_of(container)
    if stream is None:
        raise MediaError(f"{file}: has no video in it.")
    stream.thread_type = "AUTO"
    return stream


def pictures_of(container: Any) -> Any:
    """The first video stream that is no cover; None where there is none."""
    return next(_films_in(container), None)


def _films_in(container: Any) -> Iterator[Any]:
    return (s for s in container.streams.video if not s.disposition.value & 0x400)  # 0x400: a cover


def turns_of(frame: Any) -> int:
    """Quarter turns counter-clockwise that show a frame upright."""
    return round((frame.rotation or 0) / 90) % 4


def is_mirrored(frame: Any) -> bool:
    """Whether a frame's lines are to be reversed before those turns: a camera's that looks at its owner may say so."""
    matrix = next((bytes(data) for data in side_data_of(frame) if data.type.name == "DISPLAYMATRIX"), b"")
    if len(matrix) < 36:
        return False
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    return bool(a * d < b * c)


def upright(pixels: NDArray[Any], turns: int, *, mirrored: bool) -> NDArray[Any]:
    """A decoded picture [H, W, ...] as it is shown; a view."""
    return np.rot90(pixels[::-1] if mirrored else pixels, turns)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames; packets that cannot be decoded are passed over."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            packet = None  # a file that ends in the middle
        try:
            if packet is None:
                yield from stream.codec_context.decode(None)
                return
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            if packet is None:
                return


def frames(info: FilmInfo, first: int = 0) -> Iterator[tuple[int, Any]]:
    """(index, frame) from a frame on, in order of showing.

    Raises:
        MediaError: the file has vanished or changed.
    """
    if info.picks is not None:
        original, which = info.picks
        for index, frame in frames(original, int(which[first])):
            while first < which.size and which[first] <= index:
                yield first, frame
                first += 1
            if first == which.size:
                return
        return
    if info.interlaced:
        early = _frames(info, max(0, first - fields.WARM_UP))
        yield from (found for found in fields.deinterlaced(early) if found[0] >= first)
        return
    yield from _frames(info, first)


def _frames(info: FilmInfo, first: int) -> Iterator[tuple[int, Any]]:
    """The same as they are decoded."""
    begin = first if info.seekable else 0
    for attempt in (begin, 0):
        with opened(info.path) as container:
            stream = video_stream(container, info.path)
            if attempt > 0:
                container.seek(int(info.pts[attempt]), stream=stream, backward=True)
            found = _indexed(info, _decoded(container, stream))
            start = next(found, None)
            if attempt > 0 and (start is None or start[0] > first):
                continue  # this file's index does not lead there: from its beginning, then
            while start is not None:
                if start[0] >= first:
                    yield start
                start = next(found, None)
            return


def near(info: FilmInfo, index: int) -> Iterator[Any]:
    """Frames from the key frame before a frame on, as they are decoded; none where the file's index leads nowhere."""
    with opened(info.path) as container:
        stream = video_stream(container, info.path)
        if index > 0:
            container.seek(int(info.pts[index]), stream=stream, backward=True)
        yield from _decoded(container, stream)


def _indexed(info: FilmInfo, decoded: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    last = -1
    for count, frame in enumerate(decoded):
        index = count
        if info.seekable:
            if frame.pts is None:
                continue
            index = int(np.searchsorted(info.pts, frame.pts))
            if index >= info.pts.size or info.pts[index] != frame.pts:
                continue
        if index > last and index < info.pts.size:
            last = index
            yield index, frame


class PixelReader:
    """Turns decoded frames into pixels, upright and of one size.

    Args:
        info: of the film.
        deep: whether :meth:`values` will be asked for, in place of a call.
    """

    def __init__(self, info: FilmInfo, *, deep: bool = False) -> None:
        from av.video.reformatter import VideoReformatter

        self._info = info
        self._reformatter: Any = VideoReformatter()
        self._look = _look_table(info) if deep else None

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        """uint8 [H, W, 3], sRGB or whatever the film's primaries and transfer are; a view where that can be."""
        return self._read(frame, "rgb24", np.uint8)

    def values(self, frame: av.VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint16]:
        """uint16 [H, W, 3], the film's own values over the whole range of 16 bits; scaled to a (width, height)."""
        pixels = self._read(frame, "rgb48le", np.uint16)
        if size is None:
            return pixels
        import av

        whole = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb48le")
        return self._reformatter.reformat(whole, *size, interpolation="BILINEAR").to_ndarray()

    def look_of(self, values: NDArray[np.uint16]) -> Pixels:
        """uint8 [H, W, 3]: what such values look like, for networks that know ordinary pictures."""
        assert self._look is not None
        return np.take(self._look, values >> 6)

    def _read(self, frame: av.VideoFrame, kind: str, dtype: Any) -> NDArray[Any]:
        info = self._info
        top, _, left, _ = info.crop
        size = info.uncropped
        width, height = size[::-1] if info.rotation % 2 == 1 else size
        rgb = self._reformatter.reformat(
            frame, width, height, kind, src_colorspace=matrix_of(info), dst_color_range="JPEG"
        )
        plane: Any = rgb.planes[0]
        each = np.dtype(dtype).itemsize
        pixels: NDArray[Any] = np.ndarray((height, width, 3), dtype, plane, strides=(plane.line_size, 3 * each, each))
        if info.rotation or info.mirrored:
            pixels = np.ascontiguousarray(upright(pixels, info.rotation, mirrored=info.mirrored))
        return pixels[top : top + info.height, left : left + info.width]


def _look_table(info: FilmInfo) -> Pixels:
    """1024 values to what a screen without HDR would show: PQ's light (SMPTE ST 2084), rolled off over 203 nits."""
    v = np.arange(1024) / 1023.0
    if info.tags["color_trc"] != 16:
        return np.rint(255.0 * v).astype(np.uint8)  # HLG is made to be looked at like this
    power = v ** (1 / 78.84375)
    nits = 10000.0 * (np.maximum(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    light = nits / 203.0
    return np.rint(255.0 * np.clip(light * (1.0 + light / 16.0) / (1.0 + light) * 1.25, 0.0, 1.0) ** (1 / 2.2)).astype(
        np.uint8
    )


BT709, BT601, BT2020 = 1, 5, 9  # swscale's numbers of these matrices


def matrix_of(info: FilmInfo) -> int:
    """The YUV matrix by swscale's number; by size where the file does not say (as players do)."""
    return matrix_numbered(info.tags["colorspace"], *info.uncropped)


def matrix_numbered(colorspace: int, width: int, height: int) -> int:
    """The same of a tag, FFmpeg's number, and a size. PyAV 17 has no name for BT.2020's."""
    known = {1: BT709, 4: 4, 5: BT601, 6: BT601, 7: 7, 9: BT2020, 10: BT2020}
    return known.get(colorspace, BT709 if width >= 1280 or height > 576 else BT601)


def coded(reformatter: Any, frame: Any, kind: str, matrix: int, *, full: bool = False) -> Any:
    """An RGB frame as an encoder has it: of a kind of YUV, in a matrix, of full or of limited range."""
    asked: int | None = matrix
    if matrix == BT2020:  # PyAV 17 takes this from a frame alone
        frame.colorspace, asked = 9, None
    return reformatter.reformat(
        frame, format=kind, src_color_range="JPEG", dst_colorspace=asked, dst_color_range="JPEG" if full else "MPEG"
    )
