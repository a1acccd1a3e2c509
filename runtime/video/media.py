# SPDX-License-Identifier: Apache-2.0
"""Film files: what is in them, their frames as pixels, and encoders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, MediaError
from secondeye.runtime.files import explain_os_error
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.video.hdr import HdrMetadata

if TYPE_CHECKING:
    import av

Pixels = NDArray[np.uint8]

READ_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv", ".y4m", ".nut", ".mxf",
)  # fmt: skip
_ENCODER_THREADS = 8  # always: an encoder's bits may depend on it


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec by its name on the command line.

    Attributes:
        encoder: FFmpeg's.
        pixel_format: of what it is given.
        deep_format: the same for films of more than 8 bits a sample; None where it takes none.
        quality: the option that holds the quality, and its default.
        options: further ones.
        presets: whether it takes ``preset``.
        segments: the container of its segments.
    """

    encoder: str
    pixel_format: str = "yuv420p"
    deep_format: str | None = None
    quality: tuple[str, int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    presets: bool = False
    segments: str = "nut"


CODECS: dict[str, Codec] = {
    "h264": Codec(
        encoder="libx264", deep_format="yuv420p10le", quality=("crf", 18), options={"preset": "fast"}, presets=True,
    ),
    "hevc": Codec(
        encoder="libx265", deep_format="yuv420p10le", quality=("crf", 20), presets=True,
        options={"preset": "fast", "x265-params": "log-level=error:pools=8:frame-threads=2"},
    ),
    "av1": Codec(
        encoder="libsvtav1", deep_format="yuv420p10le", quality=("crf", 28), options={"preset": "8"}, presets=True,
    ),
    "prores": Codec(
        encoder="prores_ks", pixel_format="yuv422p10le", deep_format="yuv422p10le", options={"profile": "3"},
        segments="mov",
    ),
    "ffv1": Codec(encoder="ffv1", pixel_format="yuv444p", deep_format="yuv444p16le", options={"level": "3"}),
    "h264-nvenc": Codec(encoder="h264_nvenc", quality=("cq", 19), options={"preset": "p5"}, presets=True),
    "hevc-nvenc": Codec(
        encoder="hevc_nvenc", deep_format="p010le", quality=("cq", 21), options={"preset": "p5"}, presets=True,
    ),
    "av1-nvenc": Codec(
        encoder="av1_nvenc", deep_format="p010le", quality=("cq", 28), options={"preset": "p5"}, presets=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FilmInfo:
    """What a film's video is.

    Attributes:
        path: of the file.
        width, height: as shown, after rotation.
        rotation: quarter turns counter-clockwise that show it upright.
        time_base: seconds per timestamp.
        pts: int64, every frame's timestamp in order of showing; by counting where the file gives none.
        rate: frames a second, about.
        aspect: of a pixel.
        tags: colour tags by name, FFmpeg's numbers.
        depth_bits: of a sample.
        hdr: what its HDR metadata says of the screen it was made on and of its brightest frames, if anything.
        seekable: whether frames can be found by their timestamps.
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
    hdr: HdrMetadata = field(default_factory=HdrMetadata)
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """How many."""
        return int(self.pts.size)


def probe(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> FilmInfo:
    """Look into a film: its packets are listed, none but the first frames are decoded.

    Raises:
        MediaError: no such file, no video in it, or nothing that can be decoded.
        InvalidInputError, ResourceLimitError: its size is outside the limits.
    """
    file = local(path)
    with opened(file) as container:
        stream = video_stream(container, file)
        stamps: list[int] = []
        complete = True
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.pts is None:
                complete = False
            else:
                stamps.append(packet.pts)
        unique = np.unique(np.array(stamps, np.int64))
        seekable = complete and unique.size == len(stamps) and unique.size > 0
        time_base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        notes = []
    with opened(file) as container:
        stream = video_stream(container, file)
        first = next(_decoded(container, stream), None)
        if first is None:
            raise MediaError(f"{file}: none of its video can be decoded; is the file complete?")
        context = stream.codec_context
        turns = round((first.rotation or 0) / 90) % 4
        bits = max((c.bits for c in first.format.components), default=8)
        tags = {
            name: int(getattr(context, name) or 0)
            for name in ("color_range", "colorspace", "color_primaries", "color_trc")
        }
        width, height = (first.width, first.height) if turns % 2 == 0 else (first.height, first.width)
        aspect = aspect if turns % 2 == 0 else 1 / aspect
        hdr = HdrMetadata.of(first)
    limits.check_size(str(file), width, height)
    if not seekable:
        count = len(stamps) or 1
        step = max(1, round(1 / (rate * time_base)))
        unique = np.arange(count, dtype=np.int64) * step
        notes.append("Its timestamps are missing or repeated: frames are spaced evenly.")
    return FilmInfo(
        path=file, width=width, height=height, rotation=turns, time_base=time_base, pts=unique, rate=Fraction(rate),
        aspect=aspect, tags=tags, depth_bits=bits, seekable=seekable, hdr=hdr, notes=tuple(notes),
    )  # fmt: skip


def local(path: str | os.PathLike[str]) -> Path:
    """A local file.

    Raises:
        InvalidInputError: an address of something else.
        MediaError: there is none, or nothing in it.
    """
    text = os.fspath(path)
    if "://" in text:
        raise InvalidInputError(f"{text}: only local files are read; download it first.")
    file = Path(text)
    if file.is_dir():
        raise MediaError(f"{file}: is a folder; give a file.")
    if not file.exists():
        raise MediaError(f"{file}: no such file; check the name.")
    if file.stat().st_size == 0:
        raise MediaError(f"{file}: is empty.")
    return file


def opened(file: Path) -> Any:
    """The file as a container of PyAV's.

    Raises:
        MediaError: it is none that can be read.
    """
    import av

    try:
        # What a playlist names must not be followed to other files or hosts.
        return av.open(str(file), options={"protocol_whitelist": "file", "format_whitelist": _FORMATS})
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{file}: is no film that can be read ({reason(error)}).") from error


_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,yuv4mpegpipe,nut,mxf,h264,hevc,obu,ivf"
)


def reason(error: Exception) -> str:
    """Why, in the system's own words."""
    return explain_os_error(error) if isinstance(error, OSError) else str(error)


def video_stream(container: Any, file: Path) -> Any:
    """The film's pictures: the first video stream that is no cover.

    Raises:
        MediaError: there is none.
    """
    streams = [s for s in container.streams.video if not (int(s.disposition) & 0x400)]  # 0x400: a cover picture
    if not streams:
        raise MediaError(f"{file}: has no video in it.")
    stream = streams[0]
    stream.thread_type = "AUTO"
    return stream


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
        size: (width, height) that those get; None for the film's.
    """

    def __init__(self, info: FilmInfo, *, deep: bool = False, size: tuple[int, int] | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._info = info
        self._size = size or (info.width, info.height)
        self._reformatter: Any = VideoReformatter()
        self._look = _look_table(info) if deep else None

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        """uint8 [H, W, 3], sRGB or whatever the film's primaries and transfer are; a view where that can be."""
        return self._read(frame, "rgb24", (self._info.width, self._info.height), np.uint8)

    def values(self, frame: av.VideoFrame) -> NDArray[np.uint16]:
        """uint16 [H, W, 3], the film's own values over the whole range of 16 bits."""
        return self._read(frame, "rgb48le", self._size, np.uint16)

    def look_of(self, values: NDArray[np.uint16]) -> Pixels:
        """uint8 [H, W, 3]: what such values look like, for networks that know ordinary pictures."""
        assert self._look is not None
        return np.take(self._look, values >> 6)

    def _read(self, frame: av.VideoFrame, kind: str, size: tuple[int, int], dtype: Any) -> NDArray[Any]:
        info = self._info
        width, height = size[::-1] if info.rotation % 2 == 1 else size
        rgb = self._reformatter.reformat(
            frame, width, height, kind, src_colorspace=matrix_of(info), dst_color_range="JPEG"
        )
        plane: Any = rgb.planes[0]
        each = np.dtype(dtype).itemsize
        pixels: NDArray[Any] = np.ndarray((height, width, 3), dtype, plane, strides=(plane.line_size, 3 * each, each))
        if info.rotation:
            pixels = np.ascontiguousarray(np.rot90(pixels, info.rotation))
        return pixels


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


def matrix_of(info: FilmInfo) -> str:
    """The YUV matrix by swscale's name; by size where the file does not say (as players do)."""
    named = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
    return named.get(info.tags["colorspace"], "ITU709" if min(info.height, info.width) >= 720 else "ITU601")


def tag(context: Any, info: FilmInfo) -> None:
    """Carry the colour tags over; RGB's matrix (0) means nothing here, and 2 is unspecified."""
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        if info.tags[name]:
            setattr(context, name, info.tags[name])


class SegmentWriter:
    """Encodes frames into a file of its own that begins with a key frame.

    Args:
        path: of the segment.
        info: of the film.
        size: (width, height) of the frames.
        codec: a name in CODECS.
        quality, preset: the encoder's own numbers and names; None for the default.
        deep: whether frames are uint16.
        drawn_on: what they are drawn onto before.
    """

    def __init__(
        self,
        path: Path,
        info: FilmInfo,
        size: tuple[int, int],
        codec: str,
        quality: int | None,
        preset: str | None,
        *,
        deep: bool = False,
        drawn_on: Callable[[Any], Any] | None = None,
    ) -> None:
        import av
        from av.codec.context import Flags
        from av.video.reformatter import VideoReformatter

        os.environ.setdefault("SVT_LOG", "1")  # that encoder tells its settings otherwise
        self._reformatter: Any = VideoReformatter()
        self._info, self._codec, self._frames, self._deep = info, CODECS[codec], 0, deep
        self._drawn_on = drawn_on
        self._format = (self._codec.deep_format if deep else None) or self._codec.pixel_format
        self._container = av.open(str(path), "w", format=self._codec.segments, options={"fflags": "+bitexact"})
        options = dict(self._codec.options)
        if self._codec.quality is not None:
            options[self._codec.quality[0]] = str(self._codec.quality[1] if quality is None else quality)
        if preset is not None and self._codec.presets:
            options["preset"] = preset
        if deep:
            info.hdr.add_options(self._codec.encoder, options)
        try:
            self._stream: Any = self._container.add_stream(self._codec.encoder, rate=info.rate, options=options)
        except (av.error.FFmpegError, ValueError) as error:
            raise BackendUnavailableError(
                f"{codec}: this PyAV has no {self._codec.encoder} ({reason(error)})."
            ) from error
        context: Any = self._stream.codec_context
        context.width, context.height = size
        context.pix_fmt = self._format
        context.time_base = info.time_base
        context.framerate = info.rate
        context.sample_aspect_ratio = info.aspect
        context.gop_size = max(1, round(2 * info.rate))
        context.thread_count = _ENCODER_THREADS
        context.flags |= Flags.global_header | Flags.bitexact
        tag(context, info)

    def frame_memory(self, height: int, width: int) -> tuple[Any, NDArray[Any]]:
        """A frame to draw into, and its pixels, uint8 or uint16 [H, W, 3]."""
        import av

        frame = av.VideoFrame(width, height, "rgb48le" if self._deep else "rgb24")
        plane: Any = frame.planes[0]
        each = 2 if self._deep else 1
        strides = (plane.line_size, 3 * each, each)
        return frame, np.ndarray((height, width, 3), np.uint16 if self._deep else np.uint8, plane, strides=strides)

    def write(self, frame: av.VideoFrame, pts: int) -> None:
        """Encode the next frame.

        Raises:
            MediaError: the encoder or the disk refuses.
        """
        import av

        full = self._info.tags["color_range"] == 2
        if self._drawn_on is not None:
            frame = self._drawn_on(frame)
        shown = self._reformatter.reformat(
            frame, format=self._format, src_color_range="JPEG", dst_colorspace=matrix_of(self._info),
            dst_color_range="JPEG" if full else "MPEG",
        )  # fmt: skip
        shown.pts, shown.time_base = pts, self._info.time_base
        shown.pict_type = 0 if self._frames else 1
        self._frames += 1
        try:
            self._container.mux(self._stream.encode(shown))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self._codec.encoder}: encoding failed ({reason(error)}).") from error

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        import av

        try:
            if self._frames:
                self._container.mux(self._stream.encode(None))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self._codec.encoder}: encoding failed ({reason(error)}).") from error
        finally:
            self._container.close()
