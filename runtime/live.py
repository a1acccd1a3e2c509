# SPDX-License-Identifier: Apache-2.0
"""Live sessions: frames in, stereo pictures out, on time. A thin layer over the C interface (secondeye/session.h).

>>> with secondeye.LiveSession(secondeye.LiveConfig(width=1280, height=720)) as session:  # doctest: +SKIP
...     session.submit(frame)
...     show(session.wait().picture)
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.depth import BUILTIN, builtin_path
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.live_config import CHEAPER_BITS, LOOKS, LiveConfig, LiveFrame, LiveStats, Policy, StageStats
from secondeye.runtime.live_models import Labelling, depth_function, onnxruntime_library, open_segmenter
from secondeye.runtime.ops._arrays import take
from secondeye.runtime.ops._common import isa_code, need_gpu
from secondeye.runtime.ops.nv12 import STANDARDS

Pixels = NDArray[np.uint8]
_LATE, _OWN_DEPTH, _CHEAPER, _CUT, _DEPTH_FAILED = 1, 2, 4, 8, 16

_open_sessions: weakref.WeakSet[LiveSession] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for session in list(_open_sessions):
        session.close()


class LiveSession:
    """Frames in, stereo pictures out, by threads of the session's own. Methods may be called from any thread, but in a
    process that was forked they raise SessionError.

    Raises:
        InvalidInputError: the configuration is none.
        ModelFormatError, MediaError, BackendUnavailableError: the depth model or the segmenter cannot be opened, or
            there is no GPU.
        ResourceLimitError: the buffers do not fit into memory.
    """

    def __init__(self, config: LiveConfig) -> None:
        self.config = config
        need_gpu(config.device)
        labeller = open_segmenter(config)
        options: dict[str, Any] = config._look() | {
            name: getattr(config, name)
            for name in (
                "width", "height", "channels", "slots", "depth_every", "deadline_ms", "steady", "widen", "remember",
                "threads", "full_range", "keep_on_gpu",
            )
        }  # fmt: skip
        options |= {
            "nv12": -1 if config.nv12 is None else list(STANDARDS).index(config.nv12),
            "key_every": 0 if labeller is None else config.key_every,
            "device": int(config.device == "cuda"), "isa": isa_code(config.isa),
            "policy": get_args(Policy).index(config.policy),
            "cheaper": sum(CHEAPER_BITS[name] for name in set(config.cheaper)),
            "depth_model": "", "onnxruntime": "", "depth": None, "depth_width": 0, "depth_height": 0,
        }  # fmt: skip
        if isinstance(config.depth, str) and config.depth == BUILTIN:
            library = onnxruntime_library(needed=config.device == "cuda")  # on the CPU it runs on our own kernels
            options |= {"depth_model": str(builtin_path()), "onnxruntime": library}
        else:
            function = depth_function(config)
            first = function(np.zeros((config.height, config.width, config.channels), np.uint8))
            options |= {"depth": function, "depth_height": first.shape[0], "depth_width": first.shape[1]}
        self._session = _native.Session(options)
        self._labelling: Labelling | None = None
        if labeller is not None:
            shape = (config.height, config.width, config.channels)
            self._labelling = Labelling(self._session, labeller, shape)
            weakref.finalize(self, self._session.close)  # or the thread would keep what nobody holds any more
        _open_sessions.add(self)

    def submit(self, frame: Any, timestamp: int = 0, *, timeout: float | None = 0.0) -> int | None:
        """Hand a frame in; it is copied.

        Args:
            frame: uint8 [height, width, channels] on the host, any strides, numpy or DLPack; with `nv12`
                [height + ceil(height / 2), width], luma above chroma. With ``device="cuda"`` and the built-in network
                also where torch, cupy and pycuda have it on that GPU, read on its current stream (without `segment` and
                `remember`, which look at frames on the host).
            timestamp: yours; it comes back with the result.
            timeout: seconds to wait for room with the policy ``every``; None waits without end.

        Returns:
            The frame's ticket, or None when there was no room.

        Raises:
            InvalidInputError: a frame of another shape or dtype.
            BackendUnavailableError: the frame lies on a GPU, and the session cannot take it from there.
            SessionError: the session has ended.
        """
        return self._session.submit(take("frame", frame), timestamp, -1.0 if timeout is None else timeout)

    def wait(self, timeout: float | None = None) -> LiveFrame | None:
        """The next finished frame, or None when there is none within `timeout` seconds (None waits without end).

        Raises:
            SessionError: the session has ended.
        """
        result = self._session.wait(-1.0 if timeout is None else timeout)
        if result is None:
            return None
        ticket, timestamp, depth_ticket, objects_ticket, flags, latency, picture = result
        return LiveFrame(
            ticket, timestamp, picture, latency, depth_ticket, objects_ticket, bool(flags & _OWN_DEPTH),
            bool(flags & _CUT), bool(flags & _LATE), bool(flags & _CHEAPER), bool(flags & _DEPTH_FAILED),
        )  # fmt: skip

    def poll(self) -> LiveFrame | None:
        """The next finished frame if there is one now."""
        return self.wait(0.0)

    def set(self, **look: Any) -> None:
        """Change strength, convergence, layout, view, swap, fill, anaglyph or roll, from the next warped frame on.

        Raises:
            InvalidInputError: another field, or a value out of range. Nothing changes then.
        """
        config = self._with(look)
        self._session.set_params(config._look())
        self.config = config

    def render(
        self,
        eyes: Sequence[float] = (0.0, 1.0),
        *,
        down: float = 0.0,
        shift: float = 0.0,
        out: Sequence[Any] | None = None,
        **look: Any,
    ) -> list[Any] | None:
        """Views of the newest finished frame, now, on this thread: at the display's rate, for a moved head, for many.

        Args:
            eyes: where they stand: 1 is the right view of a pair, -1 the left one, 0 the frame itself; -2 to 2.
            down: how far below they stand, by the same measure; -2 to 2.
            shift: moves every view to the left, pixels.
            out: uint8 [height, width, channels] each, to write into: numpy arrays or, with ``device="cuda"``, torch's,
                cupy's or pycuda's on that GPU, written after what their current stream has queued.
            look: strength, convergence, fill, roll, for these views alone.

        Returns:
            One picture per eye; None before the first frame is ready.

        Raises:
            InvalidInputError, SessionError: as :meth:`submit`.
            BackendUnavailableError: `out` lies on a GPU, and the session does not.
            ResourceLimitError: no memory for its own views, which the first call needs.
        """
        shape = (self.config.height, self.config.width, self.config.channels)
        views: list[Any] = [np.empty(shape, np.uint8) for _ in eyes] if out is None else list(out)
        if len(views) != len(eyes) or len(eyes) == 0:
            raise InvalidInputError(f"out: expected one picture for each of {len(eyes)} eyes, got {len(views)}.")
        request = [
            (float(eye), float(down), float(shift), take("out", view)) for eye, view in zip(eyes, views, strict=True)
        ]
        return None if self._session.render(request, self._with(look)._look()) is None else views

    def render_quilt(
        self,
        columns: int,
        rows: int,
        *,
        eyes: tuple[float, float] = (-1.0, 1.0),
        down: float = 0.0,
        from_top: bool = False,
        tile: tuple[int, int] | None = None,
        out: Any = None,
        **look: Any,
    ) -> Any:
        """Many views of the newest finished frame in one picture, for displays that show each to another direction.

        The eye goes in equal steps from the first tile to the last; every view is sheared about the plane of
        convergence (off-axis), which lies still in all of them.

        Args:
            columns, rows: of tiles, at most 256 in all.
            eyes: where the first and the last view stand, -2 to 2.
            down: how far below all of them stand, by the same measure.
            from_top: the first tile is at the top left; else at the bottom left, as such displays take it.
            tile: (width, height) of a tile; the frame's when None. Others are resampled.
            out: uint8 [rows * tile height, columns * tile width, channels], to write into, as :meth:`render`'s.
            look: as :meth:`render`'s.

        Returns:
            The quilt; None before the first frame is ready.

        Raises:
            InvalidInputError, SessionError: as :meth:`submit`.
        """
        wide, high = tile or (self.config.width, self.config.height)
        shape = (high * rows, wide * columns, self.config.channels)
        if columns < 1 or not 1 <= columns * rows <= 256 or not all(0 < side <= 16384 for side in shape[:2]):
            raise InvalidInputError(
                f"quilt: expected 1 to 256 tiles and sides up to 16384, got {columns} x {rows} of {wide} x {high}."
            )
        if out is None:
            out = np.empty(shape, np.uint8)
        elif tuple(out.shape) != shape:
            raise InvalidInputError(f"out: expected {list(shape)}, got {list(out.shape)}.")
        layout = (columns, rows, float(eyes[0]), float(eyes[1]), float(down), from_top)
        return None if self._session.render_quilt(layout, take("out", out), self._with(look)._look()) is None else out

    def set_mask(self, mask: NDArray[np.uint8] | None, *, disparity: float = 0.0) -> None:
        """Say what in the frames themselves is text or menus: it stays flat and sharp in every view.

        Args:
            mask: uint8 or bool [height, width], not 0 where the picture stays flat; None takes it away.
            disparity: pixels; 0 lies on the screen, more stands before it.
        """
        self._session.set_mask(mask, disparity)

    def set_overlay(self, picture: Pixels | None, *, x: int = 0, y: int = 0, disparity: float = 0.0) -> None:
        """Lay text or menus over every view, flat and sharp.

        Args:
            picture: uint8 [h, w, 4], RGBA with straight alpha, at most the frame's size; None takes it away.
            x, y: where its corner lies in the frame.
            disparity: pixels; 0 lies on the screen, more stands before it.
        """
        self._session.set_overlay(picture, x, y, disparity)

    @property
    def stats(self) -> LiveStats:
        """Counters and times so far."""
        raw = self._session.stats()
        stages = {name: StageStats(*values) for name, values in raw.pop("stages").items()}
        return LiveStats(**raw, stages=stages)

    @property
    def depth_error(self) -> str:
        """What went wrong last with depth; empty when nothing did."""
        return self._session.depth_error()

    @property
    def segment_error(self) -> str:
        """Why the last key frame has no labels; empty when it has. The session goes on without."""
        return "" if self._labelling is None else self._labelling.error

    def close(self) -> None:
        """End the session, within a second. Whoever waits gets a SessionError. Pictures that are held stay valid."""
        self._session.close()
        _open_sessions.discard(self)

    def __enter__(self) -> LiveSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with(self, look: dict[str, Any]) -> LiveConfig:
        unknown = sorted(set(look) - set(LOOKS))
        if unknown:
            raise InvalidInputError(f"unknown option {', '.join(unknown)}; expected {', '.join(LOOKS)}.")
        return replace(self.config, **look) if look else self.config
