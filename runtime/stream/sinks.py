# SPDX-License-Identifier: Apache-2.0
"""Where live pictures go: a film that grows, a pipe into a player, or a camera that others open (v4l2 loopback)."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import check_place, for_ffmpeg, temporary_beside
from secondeye.runtime.video.boxes import add_to_sample_entry
from secondeye.runtime.video.media import BT601, BT709, coded, matrix_numbered
from secondeye.runtime.video.signals import Signal, frame_packing_nal, shape_matroska, stereo_boxes, told_packet

if TYPE_CHECKING:
    import av

FILES = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".ts": "mpegts", ".nut": "nut"}
PIPES = {"nut": "rawvideo", "y4m": "rawvideo", "mpegts": "libx264"}
MICROSECONDS = Fraction(1, 1_000_000)
_COUNTED = ("yuv4mpegpipe", "v4l2")
# A film that is killed can be played up to its last second; one that ends well is an ordinary one.
_GROWING = {"movflags": "+hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"}


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


class Sink:
    """Encodes pictures as they come. As a context manager it finishes the file, after an error too.

    Args:
        target: a film's path (.mkv, .mp4, .mov, .ts, .nut), ``-`` for standard output, or ``/dev/videoN`` for a v4l2
            loopback device.
        kind: of what goes to standard output: ``nut`` and ``y4m`` as it is, ``mpegts`` compressed.
        rate: frames a second, about; what is written goes by the timestamps.
        signal: of the pictures' layout, which the film then tells: in Matroska's StereoMode, in the st3d box of MP4 and
            MOV, and beside H.264's key frames.
        aspect: of a pixel.

    Raises:
        InvalidInputError: a suffix or kind that is none of these.
        MediaError: it cannot be written.
    """

    def __init__(
        self,
        target: str,
        *,
        kind: str = "nut",
        rate: float = 30.0,
        signal: Signal | None = None,
        aspect: Fraction = Fraction(1),
    ) -> None:
        self.target = target
        self._signal, self._aspect = signal, aspect
        self._fault: Exception | None = None
        self.written = 0
        self.ended = False  # a film does not end by itself
        self._part: Path | None = None
        self._stream: Any = None
        self._rate = Fraction(rate).limit_denominator(1001)
        if target == "-":
            if kind not in PIPES:
                raise InvalidInputError(f"--format: expected one of {', '.join(PIPES)}, got {kind!r}.")
            self._codec, self._kind = PIPES[kind], {"y4m": "yuv4mpegpipe"}.get(kind, kind)
        elif target.startswith("/dev/video"):
            if not Path(target).exists():
                raise MediaError(f"{target}: no such device; 'sudo modprobe v4l2loopback' makes one.")
            self._codec, self._kind = "rawvideo", "v4l2"
        else:
            suffix = Path(target).suffix.lower()
            if suffix not in FILES:
                raise InvalidInputError(f"{target}: expected a name that ends in {', '.join(FILES)}, or -.")
            check_place(target)
            self._codec, self._kind = "libx264", FILES[suffix]
            self._part = temporary_beside(Path(target))
        nal = None if signal is None or self._codec != "libx264" else frame_packing_nal("h264", signal)
        self._sei = None if nal is None else ("h264", nal)
        from av.video.reformatter import VideoReformatter

        self._reformatter: Any = VideoReformatter()
        self._matrix = BT601
        self._container = self._open()
        self._last = -1

    def _open(self) -> av.container.OutputContainer:
        import av

        file: Any = sys.stdout.buffer if self.target == "-" else self.target
        if self._part is not None:
            file = for_ffmpeg(self._part)
        try:
            return av.open(file, "w", format=self._kind, options=_GROWING if self._kind in ("mp4", "mov") else {})
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.target}: cannot be written ({_reason(error)}).") from error

    def tick(self) -> None:
        """Nothing: a film needs no looking after."""

    def write(self, picture: NDArray[np.uint8], timestamp: int) -> None:
        """Add a picture.

        Args:
            picture: uint8 [H, W, 3], every one of the first one's shape.
            timestamp: microseconds, rising.

        Raises:
            MediaError: the disk is full, or the pipe is gone.
        """
        import av

        try:
            if self._stream is None:
                self._begin(picture)
            frame = self._coded(picture)
            # A pipe of raw pictures and a device know no timestamps: there, they are counted.
            counted = self._kind in _COUNTED
            self._last = self._last + 1 if counted else max(self._last + 1, timestamp)
            frame.pts, frame.time_base = self._last, 1 / self._rate if counted else MICROSECONDS
            for packet in self._stream.encode(frame):
                self._container.mux(told_packet(packet, self._sei))
        except (av.FFmpegError, OSError) as error:
            raise self._lost(error) from error
        self.written += 1

    def _coded(self, picture: NDArray[np.uint8]) -> Any:
        """A picture as the encoder has it: of even sides, in the matrix that its film names."""
        import av

        even = picture[: self._stream.height, : self._stream.width]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        return coded(self._reformatter, frame, "yuv420p", self._matrix)

    def _begin(self, picture: NDArray[np.uint8]) -> None:
        live = {"preset": "veryfast", "tune": "zerolatency", "crf": "18"} if self._codec == "libx264" else {}
        stream: Any = self._container.add_stream(self._codec, rate=self._rate, options=live)
        stream.height, stream.width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = self._aspect
        # As players take a film's size where nothing says it, as in raw ones; a device's frames are a camera's.
        self._matrix = BT601 if self._kind == "v4l2" else matrix_numbered(2, stream.width, stream.height)
        stream.codec_context.colorspace, stream.codec_context.color_range = 1 if self._matrix == BT709 else 6, 1
        if self._signal is not None:
            stream.metadata["stereo_mode"] = self._signal.matroska
        stream.codec_context.time_base = 1 / self._rate if self._kind in _COUNTED else MICROSECONDS
        self._stream = stream

    def _lost(self, error: Exception) -> MediaError:
        self._fault = error = self._fault or error  # closing fails after writing has, with words that say less
        gone = self.target == "-" and isinstance(error, BrokenPipeError)
        name = "standard output" if self.target == "-" else self.target
        return MediaError(f"{name}: {'its reader has gone' if gone else _reason(error)}.")

    def close(self) -> None:
        """Finish; a film gets its name now.

        Raises:
            MediaError: it cannot be finished; what was written of it stays where the message says.
        """
        import av

        try:
            if self._stream is not None:
                for packet in self._stream.encode(None):
                    self._container.mux(told_packet(packet, self._sei))
            self._container.close()
            if self._part is not None and self._stream is not None:
                new = stereo_boxes(self._signal) if self._kind in ("mp4", "mov") else []
                with self._part.open("r+b") as file:
                    if new:
                        add_to_sample_entry(file, new)
                    elif self._kind == "matroska" and self._signal is not None:
                        shape_matroska(file, self._aspect)
                os.replace(self._part, self.target)
            elif self._part is not None:
                self._part.unlink(missing_ok=True)
        except (av.FFmpegError, OSError) as error:
            lost = self._lost(error)
            raise MediaError(f"{lost} What was written lies in {self._part}.") if self._part else lost from error

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
