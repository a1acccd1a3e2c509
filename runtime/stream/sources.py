# SPDX-License-Identifier: Apache-2.0
"""Where live frames come from: a camera, a film, the screen, a pipe, an address, or a sample that moves."""

from __future__ import annotations

import functools
import itertools
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import for_ffmpeg
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.video.media import is_mirrored, matrix_numbered, pictures_of, turns_of, upright

if TYPE_CHECKING:
    import av

Pixels = NDArray[np.uint8]
PATIENCE = 10.0  # seconds without a word from a source, before it counts as broken
MOST_DAMAGED = 100  # packets in a row that cannot be decoded, before a source counts as broken
WINDOWS = os.name == "nt"
CAMERA = "video=" if WINDOWS else "/dev/video"  # how a camera's name begins
NETWORK = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        size: (width, height) that frames are scaled to; for a camera also what it is asked for.
        rate: frames a second of the sample, and what a camera or the screen is asked for.
        loop: a film begins again at its end.
        paced: a film's frames come when they are due, as a camera's do; else as fast as they can be read.
        allow_network: whether an address (rtsp, http ...) is opened.
    """

    size: tuple[int, int] | None = None
    rate: float = 30.0
    loop: bool = False
    paced: bool = True
    allow_network: bool = False


class Source:
    """Frames of one size, one after another.

    Args:
        spec: ``sample``; ``camera`` (the first one), ``/dev/videoN`` or, on Windows, ``video=NAME``; ``screen`` (X11 or
            Windows); ``-`` for standard input; an address, where that is allowed; else a film's path.
        options: how it is read.

    Raises:
        MediaError: it cannot be opened, or holds no pictures.
        InvalidInputError: an address without leave.
    """

    def __init__(self, spec: str, options: SourceOptions | None = None, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.spec = spec
        self.options = options or SourceOptions()
        self._limits = limits
        self._stop = threading.Event()
        self._container: av.container.InputContainer | None = None
        self._turns, self._mirrored = 0, False
        self._seen = False
        self.damaged = 0  # packets that could not be decoded and are left out
        self.aspect = Fraction(1)  # of a pixel; a size that is asked for is that of square ones
        if spec == "sample":
            self.width, self.height = self.options.size or (960, 540)
        else:
            self._container = _open(spec, self.options)
            self._stream = pictures_of(self._container)
            native = (self._stream.codec_context.width, self._stream.codec_context.height)
            self._frames: Iterator[Any] = self._pictures(self._container)
            if not _is_live(spec):
                self._frames = self._upright(self._frames)
            self.width, self.height = self.options.size or (native[::-1] if self._turns % 2 else native)
            if self.options.size is None and self._stream.sample_aspect_ratio:
                aspect = Fraction(self._stream.sample_aspect_ratio)
                self.aspect = 1 / aspect if self._turns % 2 else aspect
        limits.check_size("source", self.width, self.height)

    def _pictures(self, container: av.container.InputContainer) -> Iterator[Any]:
        """Frames; packets that cannot be decoded are passed over, as long as there are others."""
        import av

        row, last = 0, None
        for packet in container.demux(self._stream):
            try:
                for frame in packet.decode():
                    row, self._seen = 0, True
                    yield frame
            except av.error.InvalidDataError as error:
                self.damaged, row, last = self.damaged + 1, row + 1, error
                if row == MOST_DAMAGED:
                    raise
        if last is not None and not self._seen:
            raise last

    def _upright(self, frames: Iterator[Any]) -> Iterator[Any]:
        """The same frames; the first one says how they are turned."""
        import av

        try:
            first = next(frames, None)
        except av.FFmpegError as error:
            raise self._broken(error) from error
        if first is None:
            return iter(())
        self._turns, self._mirrored = turns_of(first), is_mirrored(first)
        return itertools.chain([first], frames)

    def _broken(self, error: av.FFmpegError) -> MediaError:
        late = self.spec == "-" and self._container is not None and self._container.format.name.startswith("mov")
        tip = "; an MP4's index has to come first in a pipe: name the file, or make it with -movflags +faststart"
        return MediaError(f"{self.spec}: breaks off ({_reason(error)}){tip if late else ''}.")

    def close(self) -> None:
        """Ends :meth:`frames` soon, from any thread."""
        self._stop.set()

    def frames(self) -> Iterator[tuple[Pixels, int]]:
        """(uint8 [height, width, 3], microseconds since the start) until the end, or until :meth:`close`.

        Raises:
            MediaError: it breaks off.
        """
        frames = self._sample() if self._container is None else self._decoded(self._container)
        try:
            for frame, due in frames:
                if self._stop.is_set():
                    return
                yield frame, due
        finally:
            if self._container is not None:
                self._container.close()

    def _wait_until(self, moment: float) -> None:
        self._stop.wait(max(0.0, moment - time.monotonic()))

    def _sample(self) -> Iterator[tuple[Pixels, int]]:
        """The sample picture, swaying, so that nearer things do not simply slide along."""
        from secondeye.runtime.sample import render_sample

        wide = self.width + self.width // 8
        scene, _ = render_sample(wide, self.height)
        begun, k = time.monotonic(), 0
        while not self._stop.is_set():
            due = k / self.options.rate
            self._wait_until(begun + due)
            at = round((wide - self.width) * (0.5 + 0.5 * np.sin(due * 0.8)))
            yield scene[:, at : at + self.width], round(due * 1e6)
            k += 1

    def _decoded(self, container: av.container.InputContainer) -> Iterator[tuple[Pixels, int]]:
        import av
        from av.video.reformatter import VideoReformatter

        self._reformatter: Any = VideoReformatter()
        live = _is_live(self.spec)
        # What has a length is no camera, though it be told in bytes alone; a playlist's bytes are not its films'.
        size = container.size or 0  # devices and pipes have none: None, or less than 0 before PyAV 19
        film = container.duration is not None or (size > 0 and container.format.name not in ("hls", "dash"))
        paced = self.options.paced and (film or not live)
        begun, offset, last = time.monotonic(), 0.0, 0.0
        while True:
            first: float | None = None
            count = 0
            try:
                for frame in self._frames:
                    at = float(frame.time) if frame.time is not None else last + 1 / 30
                    first = at if first is None else first
                    last = offset + max(0.0, at - first)
                    if paced:
                        self._wait_until(begun + last)
                    count += 1
                    yield self._pixels(frame), round(last * 1e6)
                    if self._stop.is_set():
                        return
            except av.FFmpegError as error:
                if count == 0 or live:
                    raise self._broken(error) from error
            if live or not self.options.loop or self.spec == "-" or count == 0:
                return
            offset = last + 1 / 30
            container.seek(0)
            self._frames = self._pictures(container)

    def _pixels(self, frame: Any) -> Pixels:
        size = (self.width, self.height) if self._turns % 2 == 0 else (self.height, self.width)
        matrix: int | None = matrix_numbered(int(frame.colorspace), frame.width, frame.height)
        if _is_camera(self.spec):
            matrix = None  # the frame's own; cameras that do not say mean BT.601, of any size
        pixels: Pixels = self._reformatter.reformat(frame, *size, "rgb24", src_colorspace=matrix).to_ndarray()
        return upright(pixels, self._turns, mirrored=self._mirrored)


def _is_live(spec: str) -> bool:
    return spec == "screen" or _is_camera(spec) or spec.lower().startswith(NETWORK)


def _is_camera(spec: str) -> bool:
    return spec == "camera" or spec.startswith(CAMERA)


def _reason(error: Exception) -> str:
    import av

    if isinstance(error, av.error.ExitError):  # FFmpeg's word for a timeout of ours
        return f"nothing came for {PATIENCE:g} seconds"
    return str(getattr(error, "strerror", None) or error)


def _open(spec: str, options: SourceOptions) -> av.container.InputContainer:
    import av

    asked: dict[str, str] = {}
    if options.size is not None:
        asked["video_size"] = f"{options.size[0]}x{options.size[1]}"
    kind: str | None = None
    target: Any = spec
    if spec == "screen":
        kind, target = ("gdigrab", "desktop") if WINDOWS else ("x11grab", os.environ.get("DISPLAY", ":0"))
        asked["framerate"] = f"{options.rate:g}"
    elif _is_camera(spec):
        kind, target = _camera(spec)
        asked["framerate"] = f"{options.rate:g}"
    elif spec == "-":
        if sys.stdin is None:
            raise MediaError("standard input: is closed; give a film, a camera or an address.")
        target, asked = "fd:", {"fd": str(sys.stdin.fileno())}  # by FFmpeg: Python's own reading heeds no interrupt
    elif spec.lower().startswith(NETWORK):
        if not options.allow_network:
            raise InvalidInputError(f"{spec}: addresses are opened with --allow-network only.")
        asked = {"rtsp_transport": "tcp", "rw_timeout": "10000000"} if spec.lower().startswith("rtsp") else {}
    else:
        asked = {}
        _check_film(Path(spec))
        target = for_ffmpeg(spec)
    patience = None if spec == "-" else (PATIENCE, PATIENCE)
    try:
        begin = functools.partial(av.open, target, "r", format=kind, options=asked, timeout=patience)
        container = _at_once(begin) if spec == "-" or spec.lower().startswith(NETWORK) else begin()
    except (av.FFmpegError, ValueError, OSError) as error:
        tip = f"; it needs an X11 display, and DISPLAY names {target}" if kind == "x11grab" else ""
        raise MediaError(f"{spec}: cannot be opened ({_reason(error)}){tip}.") from error
    found = pictures_of(container)
    if found is None:
        container.close()
        raise MediaError(f"{spec}: holds no pictures.")
    found.thread_type = "AUTO"
    return container


def _camera(spec: str) -> tuple[str, str]:
    """FFmpeg's kind of device, and a camera's name there."""
    if WINDOWS and spec != "camera":
        return "dshow", spec
    if WINDOWS:
        import av

        try:
            found = [one.name for one in av.enumerate_input_devices("dshow") if "video" in one.media_types]
        except (OSError, AttributeError):  # there is none, or this PyAV cannot tell
            found = []
        if not found:
            raise MediaError("camera: none was found; name it (video=NAME), or give a film's path, or 'sample'.")
        return "dshow", f"video={found[0]}"
    name = "/dev/video0" if spec == "camera" else spec
    if not Path(name).exists():
        raise MediaError(f"{name}: no such camera; give a film's path, or 'sample' to try without one.")
    return "v4l2", name


def _at_once(task: Callable[[], Any]) -> Any:
    """A task's result; an interrupt does not wait for it, as it would for what FFmpeg waits for in the main thread."""
    made: Future[Any] = Future()

    def work() -> None:
        try:
            made.set_result(task())
        except BaseException as error:  # handed to the calling thread
            made.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return made.result()


def _check_film(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise MediaError(
            f"{path}: no such file; give a film, 'camera', 'screen', '-', or 'sample' to try without one."
        ) from error
    if stat.S_ISDIR(mode):
        raise MediaError(f"{path}: is a folder where a film is meant.")
