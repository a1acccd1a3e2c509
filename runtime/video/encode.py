# SPDX-License-Identifier: Apache-2.0
"""Encoders by name, and the segments that they write."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import BackendUnavailableError, MediaError
from secondeye.runtime.files import for_ffmpeg
from secondeye.runtime.video.media import FilmInfo, coded, matrix_of, reason

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
        full: whether it can say that a film's range is full.
        views: 2 where the halves of a side-by-side picture become streams of their own, of one structure.
    """

    encoder: str
    pixel_format: str = "yuv420p"
    deep_format: str | None = None
    quality: tuple[str, int] | None = None
    options: dict[str, str] = field(default_factory=dict)
    presets: bool = False
    segments: str = "nut"
    full: bool = True
    views: int = 1


GREY = "gray16le"  # of maps
PICTURES = "pictures"  # that a run takes by itself where it writes numbered pictures

CODECS: dict[str, Codec] = {
    "h264": Codec(
        encoder="libx264", deep_format="yuv420p10le", quality=("crf", 18), options={"preset": "fast"}, presets=True,
    ),
    "hevc": Codec(
        encoder="libx265", deep_format="yuv420p10le", quality=("crf", 20), presets=True,
        options={"preset": "fast", "x265-params": "log-level=error:pools=8:frame-threads=2"},
    ),
    "mv-hevc": Codec(
        encoder="libx265", quality=("crf", 20), presets=True, views=2,
        options={
            "preset": "fast",
            "x265-params": "log-level=error:pools=8:frame-threads=2:b-adapt=0:scenecut=0:open-gop=0:log2-max-poc-lsb=8",
        },
    ),
    "av1": Codec(
        encoder="libsvtav1", deep_format="yuv420p10le", quality=("crf", 28), options={"preset": "8"}, presets=True,
    ),
    "prores": Codec(
        encoder="prores_ks", pixel_format="yuv422p10le", deep_format="yuv422p10le", options={"profile": "3"},
        segments="mov", full=False,
    ),
    "ffv1": Codec(encoder="ffv1", pixel_format="yuv444p", deep_format="yuv444p16le", options={"level": "3"}),
    PICTURES: Codec(encoder="ffv1", pixel_format="bgr0", deep_format="gbrp16le", options={"level": "3"}),
    "h264-nvenc": Codec(encoder="h264_nvenc", quality=("cq", 19), options={"preset": "p5"}, presets=True),
    "hevc-nvenc": Codec(
        encoder="hevc_nvenc", deep_format="p010le", quality=("cq", 21), options={"preset": "p5"}, presets=True,
    ),
    "av1-nvenc": Codec(
        encoder="av1_nvenc", deep_format="p010le", quality=("cq", 28), options={"preset": "p5"}, presets=True,
    ),
}  # fmt: skip


# Errors that are the disk's, and no encoder's.
_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)


def tag(to: Any, info: FilmInfo, *, full: bool) -> None:
    """Carry the colour tags over to an encoder or a frame.

    A matrix that the source does not say (2), or that is RGB's (0), is named: players guess it by the picture's size,
    and two views have another one.
    """
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        if info.tags[name]:
            setattr(to, name, info.tags[name])
    if info.tags["colorspace"] in (0, 2):
        to.colorspace = matrix_of(info)
    if info.tags["color_range"] == 2 and not full:
        to.color_range = 1


class SegmentWriter:
    """Encodes frames into a file of its own that begins with a key frame.

    Args:
        path: of the segment, or a binary file.
        info: of the film.
        size: (width, height) of the frames.
        codec: a name in CODECS.
        quality, preset: the encoder's own numbers and names; None for the default.
        deep: whether frames are uint16.
        grey: whether they are maps, uint16 [H, W], which a lossless codec keeps.
        drawn_on: what they are drawn onto before.
    """

    def __init__(
        self,
        path: Path | BinaryIO,
        info: FilmInfo,
        size: tuple[int, int],
        codec: str,
        quality: int | None,
        preset: str | None,
        *,
        deep: bool = False,
        grey: bool = False,
        drawn_on: Callable[[Any], Any] | None = None,
    ) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        os.environ.setdefault("SVT_LOG", "1")  # that encoder tells its settings otherwise
        self._reformatter: Any = VideoReformatter()
        self._info, self._codec, self._frames, self._deep = info, CODECS[codec], 0, deep
        self._drawn_on, self._preset, self._path = drawn_on, preset, path
        self._format = GREY if grey else (self._codec.deep_format if deep else None) or self._codec.pixel_format
        file = for_ffmpeg(path) if isinstance(path, Path) else path
        self._container: Any = av.open(file, "w", format=self._codec.segments, options={"fflags": "+bitexact"})
        options = dict(self._codec.options)
        if self._codec.quality is not None:
            options[self._codec.quality[0]] = str(self._codec.quality[1] if quality is None else quality)
        if preset is not None and self._codec.presets:
            options["preset"] = preset
        if self._codec.encoder == "libx264" and info.constant:  # else the stream names our clock's rate as its own
            options["x264-params"] = "force-cfr=1"
        if deep:
            info.hdr.add_options(self._codec.encoder, options)
        self._streams = [self._opened(codec, info, size, options) for _ in range(self._codec.views)]

    def _opened(self, codec: str, info: FilmInfo, size: tuple[int, int], options: dict[str, str]) -> Any:
        import av
        from av.codec.context import Flags

        try:
            stream: Any = self._container.add_stream(self._codec.encoder, rate=info.rate, options=options)
        except (av.error.FFmpegError, ValueError) as error:
            raise BackendUnavailableError(
                f"{codec}: this PyAV has no {self._codec.encoder} ({reason(error)})."
            ) from error
        context: Any = stream.codec_context
        context.width, context.height = size[0] // self._codec.views, size[1]
        context.pix_fmt = self._format
        context.time_base = info.time_base
        context.framerate = info.rate
        context.sample_aspect_ratio = info.aspect
        context.gop_size = max(1, round(2 * info.rate))
        context.thread_count = _ENCODER_THREADS
        context.flags |= Flags.global_header | Flags.bitexact
        tag(context, info, full=self._codec.full)
        return stream

    def check(self) -> None:
        """Start the encoder, as the first frame would.

        Raises:
            MediaError: it refuses.
        """
        import av

        try:
            for stream in self._streams:
                stream.codec_context.open(strict=False)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(self._failure(error)) from error

    def framed(self, picture: NDArray[Any]) -> list[Any]:
        """A picture, uint8 or uint16 [H, W, 3] or uint16 [H, W], as frames of even sides, not copied if possible."""
        import av

        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        if picture.ndim == 2:
            return [av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), GREY)]
        kind = "rgb48le" if self._deep else "rgb24"
        if self._codec.views == 1 and picture.shape[:2] == (height, width) and not self._deep:
            return [av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), kind)]
        each = width // self._codec.views
        parts = [picture[:height, k * each : (k + 1) * each] for k in range(self._codec.views)]
        return [av.VideoFrame.from_ndarray(np.ascontiguousarray(part), kind) for part in parts]

    def write(self, frames: list[Any], pts: int) -> None:
        """Encode the next frame.

        Raises:
            MediaError: the encoder or the disk refuses.
        """
        self.encode(self.prepared(frames), pts)

    def prepared(self, frames: list[Any]) -> list[Any]:
        """Frames as the encoder wants them."""
        if self._format == GREY:
            return frames
        drawn = frames if self._drawn_on is None else [self._drawn_on(frame) for frame in frames]
        full, matrix = self._info.tags["color_range"] == 2 and self._codec.full, matrix_of(self._info)
        shown = [coded(self._reformatter, frame, self._format, matrix, full=full) for frame in drawn]
        for frame in shown:
            tag(frame, self._info, full=full)  # ProRes takes them from its frames
        return shown

    def encode(self, frames: list[Any], pts: int) -> None:
        """Encode prepared frames.

        Raises:
            MediaError: the encoder or the disk refuses.
        """
        import av

        for stream, shown in zip(self._streams, frames, strict=True):
            shown.pts, shown.time_base = pts, self._info.time_base
            shown.pict_type = 0 if self._frames else 1
            try:
                self._container.mux(stream.encode(shown))
            except (av.error.FFmpegError, OSError) as error:
                raise MediaError(self._failure(error)) from error
        self._frames += 1

    def _failure(self, error: Exception) -> str:
        """What the encoder's words mean, where they are hard to read: it is opened with the first frame."""
        name = self._codec.encoder
        if isinstance(error, OSError) and error.errno in _PLACE:
            place = self._path.parent if isinstance(self._path, Path) else "output"
            return f"{place}: cannot be written ({reason(error)})."
        if self._frames == 0 and name.endswith("_nvenc"):
            return f"{name}: needs an NVIDIA GPU that encodes, and its driver ({reason(error)}); choose another codec."
        if self._frames == 0 and self._preset is not None:
            return f"{name}: does not start; does it have a preset {self._preset!r}? ({type(error).__name__})"
        return f"{name}: encoding failed ({reason(error)})."

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        import av

        try:
            for stream in self._streams if self._frames else ():
                self._container.mux(stream.encode(None))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(self._failure(error)) from error
        finally:
            self._container.close()
