# SPDX-License-Identifier: Apache-2.0
"""Films through pipes: raw frames (y4m) in and out, one pass, nothing kept on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.limits import DEFAULT_LIMITS
from secondeye.runtime.video import media
from secondeye.runtime.video.config import FilmConfig, open_film
from secondeye.runtime.video.fields import deinterlaced
from secondeye.runtime.video.look import look
from secondeye.runtime.video.subtitles import KEEP, OFF
from secondeye.runtime.video.temporal import TemporalState

MAGIC = b"YUV4MPEG2"


def stream_video(source: str | BinaryIO, sink: BinaryIO, config: FilmConfig) -> int:
    """Convert a film, or y4m from a pipe, to y4m as it comes; gives the number of frames.

    Frames leave 12 after their own came in, so that depth is steady. y4m holds one frame rate and no sound.

    Args:
        source: a film's path, or a binary stream of y4m.
        sink: a binary stream.
        config: codec, quality, preset and segment are not used; start, end, fps and crop_bars only of files.

    Raises:
        MediaError: the source is no film, or the reader at the sink's other end has gone.
        InvalidInputError: options that need a file.
    """
    import av

    if config.subtitles not in (KEEP, OFF):
        raise InvalidInputError("subtitles: are drawn into files, not into pipes; write to a file.")
    if config.projection != "flat":
        raise InvalidInputError("projection: y4m cannot say it; write to a file.")
    if config.depth_map is not None:
        raise InvalidInputError("depth map: films that go through pipes take none; write to a file.")
    if isinstance(source, str):
        info = open_film(source, config)
        frames = _part_of(info, config)
    else:
        if config.start or config.end is not None or config.fps or config.crop_bars:
            raise InvalidInputError("start, end, fps, crop_bars: need a file; a pipe is read once, from its beginning.")
        info, frames = _from_pipe(source)
        if info.interlaced and config.deinterlace == "auto":
            frames = (frame for _, frame in deinterlaced(enumerate(frames)))
    options = {"strict": "-1", "fflags": "+bitexact"}
    count, guarded = 0, _Sink(sink)
    try:
        with av.open(guarded, "w", format="yuv4mpegpipe", options=options) as output:
            writer: Any = None
            for picture in _converted(info, frames, config):
                if writer is None:
                    writer = _Writer(output, info, picture)
                writer.write(picture)
                count += 1
            if writer is None:
                raise MediaError("none of the film's frames could be decoded.")
            writer.close()
        sink.flush()
    except (OSError, av.error.FFmpegError) as error:
        failure = guarded.failure or error
        if isinstance(failure, MediaError):
            raise
        if isinstance(failure, BrokenPipeError):
            raise MediaError("the pipe's other end has been closed; nothing more can be written.") from error
        raise MediaError(f"standard output: cannot be written ({media.reason(failure)}).") from error
    return count


class _Sink:
    """A binary stream that remembers why it failed: FFmpeg tells it in other words, and again while closing."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """As the stream's."""
        try:
            return self._sink.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise


def _part_of(info: media.FilmInfo, config: FilmConfig) -> Iterator[Any]:
    seconds = (info.pts - info.pts[0]).astype(np.float64) * float(info.time_base)
    for index, frame in media.frames(info, int(np.searchsorted(seconds, (config.start or 0.0) - 1e-6))):
        if config.end is not None and seconds[index] >= config.end - 1e-6:
            return
        yield frame


def _from_pipe(source: BinaryIO) -> tuple[media.FilmInfo, Iterator[Any]]:
    """The film in a pipe, as its first frame shows it, and its frames."""
    import av

    try:
        container: Any = av.open(source, format="yuv4mpegpipe")
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError("standard input: is no y4m that can be read.") from error
    stream = container.streams.video[0]

    def decoded() -> Iterator[Any]:
        try:
            yield from container.decode(stream)
        except av.error.FFmpegError:
            return  # the pipe ended in the middle of a frame

    frames = decoded()
    first = next(frames, None)
    if first is None:
        raise MediaError("standard input: holds no whole frame.")
    DEFAULT_LIMITS.check_size("standard input", first.width, first.height)
    rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
    info = media.FilmInfo(
        path=Path("-"), width=first.width, height=first.height, rotation=0, time_base=1 / rate,
        pts=np.zeros(0, np.int64), rate=rate, aspect=Fraction(stream.sample_aspect_ratio or 1),
        tags={"color_range": int(first.color_range), "colorspace": 2, "color_primaries": 2, "color_trc": 2},
        depth_bits=max(c.bits for c in first.format.components), seekable=False, interlaced=first.interlaced_frame,
    )  # fmt: skip

    def all_of_them() -> Iterator[Any]:
        yield first
        yield from frames

    return info, all_of_them()


def _converted(info: media.FilmInfo, frames: Iterator[Any], config: FilmConfig) -> Iterator[Any]:
    """Pictures in their layout, WINDOW frames after theirs came."""
    from secondeye.runtime.video.draw import Ring, draw_frame, read_frame

    converter = StereoConverter(config.stereo)
    depth = converter.load()
    read = media.PixelReader(info, deep=config.keeps_depth(info))
    state, before, ring = TemporalState(), None, Ring()
    waiting: deque[tuple[Any, Any]] = deque()
    for frame in frames:
        pixels, values = read_frame(read, frame, info, config)
        before = look(pixels, depth(pixels), before)
        waiting.append((pixels.copy(), values))
        for ready in state.push(before):
            pixels, values = waiting.popleft()
            yield draw_frame(converter, config, pixels, values, ready, ring)[1]
    for ready in state.flush():
        pixels, values = waiting.popleft()
        yield draw_frame(converter, config, pixels, values, ready, ring)[1]


class _Writer:
    """Frames of one kind into a y4m."""

    def __init__(self, output: Any, info: media.FilmInfo, picture: Any) -> None:
        from av.video.reformatter import VideoReformatter

        deep = picture.dtype != np.uint8
        self._output, self._info, self._count = output, info, 0
        self._kinds = ("rgb48le", "yuv420p10le") if deep else ("rgb24", "yuv420p")
        self._reformatter: Any = VideoReformatter()
        self._stream = output.add_stream("rawvideo", rate=info.rate)
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = picture.shape[1], picture.shape[0], self._kinds[1]
        context.sample_aspect_ratio = info.aspect
        context.color_range = 2 if info.tags["color_range"] == 2 else 1

    def write(self, picture: Any) -> None:
        import av

        full = self._info.tags["color_range"] == 2
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), self._kinds[0])
        shown = media.coded(self._reformatter, frame, self._kinds[1], media.matrix_of(self._info), full=full)
        shown.pts, shown.time_base = self._count, 1 / self._info.rate
        self._count += 1
        self._output.mux(self._stream.encode(shown))

    def close(self) -> None:
        self._output.mux(self._stream.encode(None))
