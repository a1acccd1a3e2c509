# SPDX-License-Identifier: Apache-2.0
"""Film files: what is in them, their frames as pixels, encoders, and the joining of segments with everything else."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, MediaError
from secondeye.runtime.files import atomic_write, explain_os_error
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    import av

Pixels = NDArray[np.uint8]

READ_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ".ogv", ".y4m", ".nut", ".mxf",
)  # fmt: skip
CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".nut": "nut",
}
_ENCODER_THREADS = 8  # always: an encoder's bits may depend on it


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec by its name on the command line.

    Attributes:
        encoder: FFmpeg's.
        pixel_format: of what it is given.
        quality: the option that holds the quality, and its default.
        options: further ones.
        presets: whether it takes ``preset``.
    """

    encoder: str
    pixel_format: str = "yuv420p"
    quality: tuple[str, int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    presets: bool = False


CODECS: dict[str, Codec] = {
    "h264": Codec(encoder="libx264", quality=("crf", 18), options={"preset": "fast"}, presets=True),
    "hevc": Codec(
        encoder="libx265", quality=("crf", 20), presets=True,
        options={"preset": "fast", "x265-params": "log-level=error:pools=8:frame-threads=2"},
    ),
    "av1": Codec(encoder="libsvtav1", quality=("crf", 28), options={"preset": "8"}, presets=True),
    "prores": Codec(encoder="prores_ks", pixel_format="yuv422p10le", options={"profile": "3"}),
    "ffv1": Codec(encoder="ffv1", pixel_format="yuv444p", options={"level": "3"}),
    "h264-nvenc": Codec(encoder="h264_nvenc", quality=("cq", 19), options={"preset": "p5"}, presets=True),
    "hevc-nvenc": Codec(encoder="hevc_nvenc", quality=("cq", 21), options={"preset": "p5"}, presets=True),
    "av1-nvenc": Codec(encoder="av1_nvenc", quality=("cq", 28), options={"preset": "p5"}, presets=True),
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
    file = _local(path)
    with _opened(file) as container:
        stream = _video_stream(container, file)
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
    with _opened(file) as container:
        stream = _video_stream(container, file)
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
    limits.check_size(str(file), width, height)
    if not seekable:
        count = len(stamps) or 1
        step = max(1, round(1 / (rate * time_base)))
        unique = np.arange(count, dtype=np.int64) * step
        notes.append("Its timestamps are missing or repeated: frames are spaced evenly.")
    if bits > 8:
        notes.append(f"Its {bits} bits a sample become 8.")
    if tags["color_trc"] in (16, 18):
        notes.append("It is HDR; its tags are kept, its pixels are converted with 8 bits, which may show bands.")
    return FilmInfo(
        path=file, width=width, height=height, rotation=turns, time_base=time_base, pts=unique, rate=Fraction(rate),
        aspect=aspect, tags=tags, depth_bits=bits, seekable=seekable, notes=tuple(notes),
    )  # fmt: skip


def _local(path: str | os.PathLike[str]) -> Path:
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


def _opened(file: Path) -> Any:
    import av

    try:
        # What a playlist names must not be followed to other files or hosts.
        return av.open(str(file), options={"protocol_whitelist": "file", "format_whitelist": _FORMATS})
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"{file}: is no film that can be read ({_reason(error)}).") from error


_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,yuv4mpegpipe,nut,mxf,h264,hevc,obu,ivf"
)


def _reason(error: Exception) -> str:
    return explain_os_error(error) if isinstance(error, OSError) else str(error)


def _video_stream(container: Any, file: Path) -> Any:
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
        with _opened(info.path) as container:
            stream = _video_stream(container, info.path)
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
    """Turns decoded frames into uint8 [H, W, 3] pixels, upright and of one size."""

    def __init__(self, info: FilmInfo) -> None:
        from av.video.reformatter import VideoReformatter

        self._info = info
        self._reformatter: Any = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        """uint8 [H, W, 3], sRGB or whatever the film's primaries and transfer are; a view where that can be."""
        info = self._info
        turned = info.rotation % 2 == 1
        width, height = (info.height, info.width) if turned else (info.width, info.height)
        rgb = self._reformatter.reformat(
            frame, width, height, "rgb24", src_colorspace=matrix_of(info), dst_color_range="JPEG"
        )
        plane: Any = rgb.planes[0]
        pixels: Pixels = np.ndarray((height, width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))
        if info.rotation:
            pixels = np.ascontiguousarray(np.rot90(pixels, info.rotation))
        return pixels


def matrix_of(info: FilmInfo) -> str:
    """The YUV matrix by swscale's name; by size where the file does not say (as players do)."""
    named = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
    return named.get(info.tags["colorspace"], "ITU709" if min(info.height, info.width) >= 720 else "ITU601")


def _tag(context: Any, info: FilmInfo) -> None:
    """Carry the colour tags over; RGB's matrix (0) means nothing here, and 2 is unspecified."""
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        if info.tags[name]:
            setattr(context, name, info.tags[name])


class Segment(NamedTuple):
    """An encoded segment.

    Attributes:
        path: of its file. Its timestamps say only in which order its frames are shown.
        pts: every frame's true timestamp, in that order.
    """

    path: Path
    pts: list[int]


class SegmentWriter:
    """Encodes frames into a file of its own that begins with a key frame.

    Args:
        path: of the segment (NUT).
        info: of the film.
        size: (width, height) of the frames.
        codec: a name in CODECS.
        quality, preset: the encoder's own numbers and names; None for the default.
        metadata: of the video stream.
    """

    def __init__(
        self, path: Path, info: FilmInfo, size: tuple[int, int], codec: str, quality: int | None, preset: str | None
    ) -> None:
        import av
        from av.codec.context import Flags
        from av.video.reformatter import VideoReformatter

        self._reformatter: Any = VideoReformatter()
        self._info, self._codec, self._frames = info, CODECS[codec], 0
        self._container = av.open(str(path), "w", format="nut", options={"fflags": "+bitexact"})
        options = dict(self._codec.options)
        if self._codec.quality is not None:
            options[self._codec.quality[0]] = str(self._codec.quality[1] if quality is None else quality)
        if preset is not None and self._codec.presets:
            options["preset"] = preset
        try:
            self._stream: Any = self._container.add_stream(self._codec.encoder, rate=info.rate, options=options)
        except (av.error.FFmpegError, ValueError) as error:
            raise BackendUnavailableError(
                f"{codec}: this PyAV has no {self._codec.encoder} ({_reason(error)})."
            ) from error
        context: Any = self._stream.codec_context
        context.width, context.height = size
        context.pix_fmt = self._codec.pixel_format
        context.time_base = info.time_base
        context.framerate = info.rate
        context.sample_aspect_ratio = info.aspect
        context.gop_size = max(1, round(2 * info.rate))
        context.thread_count = _ENCODER_THREADS
        context.flags |= Flags.global_header | Flags.bitexact
        _tag(context, info)

    def frame_memory(self, height: int, width: int) -> tuple[Any, Pixels]:
        """A frame to draw into, and its pixels, uint8 [H, W, 3]."""
        import av

        frame = av.VideoFrame(width, height, "rgb24")
        plane: Any = frame.planes[0]
        return frame, np.ndarray((height, width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))

    def write(self, frame: av.VideoFrame, pts: int) -> None:
        """Encode the next frame.

        Raises:
            MediaError: the encoder or the disk refuses.
        """
        import av

        full = self._info.tags["color_range"] == 2
        shown = self._reformatter.reformat(
            frame, format=self._codec.pixel_format, src_color_range="JPEG", dst_colorspace=matrix_of(self._info),
            dst_color_range="JPEG" if full else "MPEG",
        )  # fmt: skip
        shown.pts, shown.time_base = pts, self._info.time_base
        shown.pict_type = 0 if self._frames else 1
        self._frames += 1
        try:
            self._container.mux(self._stream.encode(shown))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self._codec.encoder}: encoding failed ({_reason(error)}).") from error

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        import av

        try:
            if self._frames:
                self._container.mux(self._stream.encode(None))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{self._codec.encoder}: encoding failed ({_reason(error)}).") from error
        finally:
            self._container.close()


def join(
    target: Path, segments: list[Segment], info: FilmInfo, *, start: int, end: int | None, stereo_mode: str | None
) -> list[str]:
    """Write the film: the segments one after another, and what else the source has, as it is.

    Args:
        target: the file; its suffix names the container.
        segments: in order.
        info: of the source.
        start, end: timestamps of the first frame and of the one after the last, in info.time_base; the film begins
            at 0 when start is over 0.
        stereo_mode: Matroska's name of the layout, for containers that hold one.

    Returns:
        Sentences about what could not be taken along.

    Raises:
        MediaError: the container takes no such video, or the disk is full.
    """
    import av

    notes: list[str] = []
    with (
        atomic_write(target) as file,
        _opened(info.path) as source,
        av.open(file, "w", format=CONTAINERS[target.suffix.lower()], options={"fflags": "+bitexact"}) as output,
    ):
        with av.open(str(segments[0].path)) as one:
            video = output.add_stream_from_template(one.streams.video[0])
        video.time_base = info.time_base
        _tag(video.codec_context, info)
        if stereo_mode is not None:
            video.metadata["stereo_mode"] = stereo_mode
        original = _video_stream(source, info.path)
        if original.metadata.get("language"):
            video.metadata["language"] = original.metadata["language"]
        copies: dict[int, Any] = {}
        for stream in source.streams:
            if stream.index == original.index or stream.type not in ("audio", "subtitle", "attachment"):
                continue
            if stream.type != "attachment" and not _holds(output.format.name, stream):
                notes.append(
                    f"{target.suffix} cannot hold its {stream.type} ({stream.codec_context.name}): left out; .mkv can."
                )
                continue
            try:
                copies[stream.index] = output.add_stream_from_template(stream)
                copies[stream.index].metadata.update(stream.metadata)
            except (av.error.FFmpegError, ValueError):
                notes.append(
                    f"{target.suffix} cannot hold its {stream.type} stream {stream.index}: left out; .mkv can."
                )
        output.metadata.update({k: v for k, v in source.metadata.items() if k in _KEPT_METADATA})
        if not start and end is None and source.chapters():
            output.set_chapters(source.chapters())
        picture = _video_packets(segments, info, video, start)
        # MP4 cuts a sound frame that begins before the picture with an edit list; elsewhere it would push all back.
        early = output.format.name in ("mp4", "mov")
        others = _other_packets(source, copies, info.time_base, start, end, early=early)
        try:
            for _, _, packet in heapq.merge(picture, others, key=lambda item: item[:2]):
                output.mux(packet)
        except av.error.FFmpegError as error:
            raise MediaError(f"{target}: {target.suffix} does not take this video ({_reason(error)}).") from error
    return notes


_KEPT_METADATA = (
    "title",
    "artist",
    "album",
    "comment",
    "date",
    "genre",
    "copyright",
    "description",
    "language",
    "show",
)
_MP4_CODECS = {
    "aac", "ac3", "eac3", "mp3", "mp2", "alac", "opus", "flac", "dts", "dca", "truehd", "mov_text", "vorbis",
}  # fmt: skip
_HELD = {
    "mp4": _MP4_CODECS,
    "mov": _MP4_CODECS | {"pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be", "pcm_f32le"},
    "webm": {"opus", "vorbis", "webvtt"},
    "avi": {"mp3", "mp2", "ac3", "aac", "pcm_s16le", "pcm_u8", "dca"},
}


def _holds(container: str, stream: Any) -> bool:
    held = _HELD.get(container)
    return held is None or stream.codec_context.name in held or (container == "nut" and stream.type == "audio")


def _video_packets(segments: list[Segment], info: FilmInfo, video: Any, start: int) -> Iterator[tuple[float, int, Any]]:
    """Every packet in coding order, with decoding times made for the whole: (seconds, stream, packet)."""
    import av

    listed: list[int] = []
    for segment in segments:
        with av.open(str(segment.path)) as file:
            shown = [p.pts for p in file.demux(video=0) if p.size and p.pts is not None]
        if len(shown) != len(segment.pts):
            raise MediaError(
                f"{segment.path}: holds {len(shown)} frames of {len(segment.pts)}; remove it and run again."
            )
        rank = {pts: k for k, pts in enumerate(sorted(shown))}
        listed.extend(segment.pts[rank[pts]] for pts in shown)
    order = sorted(listed)
    # The least delay with which every packet is decoded no later than it is shown.
    delay = next(d for d in range(len(order) + 1) if all(order[i - d] <= listed[i] for i in range(d, len(order))))
    step = int(np.median(np.diff(order))) if len(order) > 1 else 1
    after = dict(itertools.pairwise(order))
    count = 0
    for segment in segments:
        with av.open(str(segment.path)) as file:
            for packet in file.demux(video=0):
                if not packet.size or packet.pts is None:
                    continue
                dts = order[count - delay] if count >= delay else order[0] - (delay - count) * step
                packet.stream = video
                packet.time_base = info.time_base
                packet.duration = after.get(listed[count], listed[count] + step) - listed[count]
                packet.pts, packet.dts = listed[count] - start, dts - start
                count += 1
                yield float(packet.dts * info.time_base), 0, packet


def _other_packets(
    source: Any, copies: dict[int, Any], time_base: Fraction, start: int, end: int | None, *, early: bool
) -> Iterator[tuple[float, int, Any]]:
    """The packets of the copied streams that lie in the part: (seconds, stream, packet)."""
    if not copies:
        return
    begin = float(start * time_base)
    stop = None if end is None else float(end * time_base)
    if start:
        source.seek(int(begin * 1_000_000), backward=True)
    for packet in source.demux([source.streams[i] for i in copies]):
        if not packet.size or packet.dts is None or packet.pts is None:
            continue
        base = packet.time_base
        at = float(packet.pts * base)
        length = float((packet.duration or 0) * base)
        if (start and at + length <= begin) or (stop is not None and at >= stop) or (at < begin and not early):
            continue
        shift = round(Fraction(start) * time_base / base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        index = packet.stream_index
        packet.stream = copies[index]
        yield float(packet.dts * base), 1 + index, packet
