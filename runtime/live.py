# SPDX-License-Identifier: Apache-2.0
"""Live sessions: frames in, stereo pictures out, on time. A thin layer over the C interface (secondeye/session.h).

>>> with secondeye.LiveSession(secondeye.LiveConfig(width=1280, height=720)) as session:  # doctest: +SKIP
...     session.submit(frame)
...     show(session.wait().picture)
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime import ops
from secondeye.runtime.depth import BUILTIN, DepthModel, DepthOptions, open_depth
from secondeye.runtime.errors import InvalidInputError, SessionError
from secondeye.runtime.interpolate import interpolate
from secondeye.runtime.ops._arrays import take
from secondeye.runtime.ops.anaglyph import matrix_q12
from secondeye.runtime.ops.nv12 import STANDARDS, Standard

Pixels = NDArray[np.uint8]
Policy = Literal["newest", "every"]
LiveLayout = Literal[
    "sbs", "tb", "rows", "columns", "checkerboard", "half-sbs", "half-tb", "anaglyph", "right", "depth"
]  # fmt: skip
Cheaper = Literal["small-depth", "no-depth", "plain-edges"]

LAYOUT_CODES = {name: code for code, name in enumerate(get_args(LiveLayout))}
_CHEAPER_BITS = {"small-depth": 1, "no-depth": 2, "plain-edges": 4}
_LATE, _OWN_DEPTH, _CHEAPER, _CUT, _DEPTH_FAILED = 1, 2, 4, 8, 16
_LOOKS = ("strength", "convergence", "layout", "view", "swap", "fill", "anaglyph", "roll")


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """How a live session works. What stands before `depth` may be changed while it runs; see :meth:`LiveSession.set`.

    Attributes:
        width, height: of every frame, 16 to 8192 pixels.
        channels: 3 (RGB) or 4 (RGBA, alpha is carried along).
        strength, convergence, view, swap, fill: as :class:`secondeye.StereoConfig`'s.
        layout: ``sbs``, ``tb``, ``rows``, ``columns``, ``checkerboard``, ``half-sbs``, ``half-tb``, ``anaglyph``,
            ``right`` or ``depth``.
        anaglyph: the glasses, a name in :data:`secondeye.ops.ANAGLYPHS`.
        roll: of the viewer's head, -60 to 60 degrees: over 0 the right eye is the lower one, and disparity turns too.
        depth: ``builtin``, ``cues``, an ONNX model's path, or a function (or :class:`DepthModel`) from uint8 [H, W, C]
            (the session's memory: copy what you keep) to float32 [h, w], larger is nearer.
        depth_every: every n-th frame gets depth of its own, the others the last depth carried along the picture's
            motion; 0 makes depth on the side, as often as it can be had.
        policy: ``newest``: a new frame takes the place of one that waits, and a slow consumer sees the newest (one that
            waits already gets each); ``every``: every frame comes out, in order.
        slots: frames in flight, results that you hold among them, 2 to 16.
        deadline_ms: from submit to ready; 0 is none. A frame that would miss it takes the first of `cheaper` that
            helps.
        cheaper: ``small-depth`` (the network at half its size, where it can), ``no-depth`` (the last depth, carried;
            with ``newest`` also where its own is not there when the next frame comes), ``plain-edges``.
        steady: 0 to 0.98, how much of the past stays in depth that agrees with it.
        widen: near objects grow by this many pixels; None takes 2 at 1080p.
        nv12: frames come as NV12 by this standard (``bt601``, ``bt709``, ``bt2020``), as cameras and decoders give
            them, and the width is even; None: as RGB or RGBA.
        full_range: of NV12: values span 0 to 255.
        remember: what the second eye uncovers shows what was seen there before, where a still or panning camera has
            seen it (a camera that turns or zooms is noticed, and nothing is remembered). Needs `fill`.
        threads: 0 for one per core.
    """

    width: int
    height: int
    channels: int = 3
    strength: float = 2.5
    convergence: float = 0.5
    layout: LiveLayout = "sbs"
    view: Literal["right", "both"] = "right"
    swap: bool = False
    fill: bool = True
    anaglyph: str = "dubois-red-cyan"
    roll: float = 0.0
    depth: Any = BUILTIN
    depth_every: int = 1
    policy: Policy = "newest"
    slots: int = 4
    deadline_ms: float = 0.0
    cheaper: tuple[Cheaper, ...] = ("no-depth",)
    steady: float = 0.8
    widen: int | None = None
    nv12: Standard | None = None
    full_range: bool = False
    remember: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name}: expected {low:g} to {high:g}, got {value!r}"
            for name, low, high in (
                ("width", 16, 8192), ("height", 16, 8192), ("channels", 3, 4), ("strength", 0, 20),
                ("convergence", 0, 1), ("roll", -60, 60), ("depth_every", 0, 1000), ("slots", 2, 16),
                ("deadline_ms", 0, 1e6),
                ("steady", 0, 0.98), ("widen", 0, 16), ("threads", 0, 256),
            )
            if (value := getattr(self, name)) is not None
            and not (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high)
        ]  # fmt: skip
        choices: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("layout", get_args(LiveLayout)), ("view", ("right", "both")), ("policy", get_args(Policy)),
            ("anaglyph", tuple(ops.ANAGLYPHS)), ("nv12", ("", *STANDARDS)),
        )  # fmt: skip
        problems += [
            f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}"
            for name, allowed in choices
            if (getattr(self, name) or "") not in allowed
        ]
        if self.nv12 is not None and self.width % 2:
            problems.append(f"width: expected an even one with nv12, got {self.width}")
        unknown = sorted(set(self.cheaper) - set(_CHEAPER_BITS))
        if unknown:
            problems.append(f"cheaper: expected some of {', '.join(_CHEAPER_BITS)}, got {', '.join(map(str, unknown))}")
        if problems:
            raise InvalidInputError("; ".join(problems) + ".")

    def _look(self) -> dict[str, Any]:
        return {
            "strength": self.strength, "convergence": self.convergence, "layout": LAYOUT_CODES[self.layout],
            "both": self.view == "both", "swap": self.swap, "fill": self.fill, "anaglyph": matrix_q12(self.anaglyph),
            "roll": float(self.roll),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """A finished frame.

    Attributes:
        ticket: as :meth:`LiveSession.submit` gave it.
        timestamp: as submitted.
        picture: uint8 [h, w, C], read-only, in the session's own memory: it goes back when the last reference to it
            goes, so copy what you keep.
        latency_ms: submit to ready.
        depth_ticket: the frame that the depth is of, 0 before there is any.
        own_depth: depth was made for this very frame.
        cut: the first frame of a shot.
        late: ready after its deadline.
        cheaper: a cheaper path was taken for the deadline's sake.
        depth_failed: depth failed here; see :attr:`LiveSession.depth_error`.
    """

    ticket: int
    timestamp: int
    picture: Pixels
    latency_ms: float
    depth_ticket: int
    own_depth: bool
    cut: bool
    late: bool
    cheaper: bool
    depth_failed: bool


@dataclass(frozen=True, slots=True)
class StageStats:
    """Milliseconds of a stage's last 1024 runs, and how often it has run."""

    p50: float
    p90: float
    p99: float
    max: float
    count: int


@dataclass(frozen=True, slots=True)
class LiveStats:
    """Counters since the start, the session's memory (the network's own apart), and times per stage.

    Stages: ``look`` (small grey picture, motion, carrying depth), ``depth``, ``warp`` (disparity, warp, fill),
    ``pack``, ``total`` (submit to ready), ``depth_age`` (of the depth that a frame used).
    """

    submitted: int
    ready: int
    dropped: int
    late: int
    cheaper: int
    depth_runs: int
    depth_failures: int
    memory_bytes: int
    stages: dict[str, StageStats]


_open_sessions: weakref.WeakSet[LiveSession] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for session in list(_open_sessions):
        session.close()


class LiveSession:
    """Frames in, stereo pictures out, by threads of the session's own. Methods may be called from any thread.

    Raises:
        InvalidInputError: the configuration is none.
        ModelFormatError: the depth model cannot be opened.
        ResourceLimitError: the buffers do not fit into memory.
    """

    def __init__(self, config: LiveConfig) -> None:
        self.config = config
        options: dict[str, Any] = config._look() | {
            name: getattr(config, name)
            for name in (
                "width", "height", "channels", "slots", "depth_every", "deadline_ms", "steady", "widen", "remember",
                "threads", "full_range",
            )
        }  # fmt: skip
        options |= {
            "nv12": -1 if config.nv12 is None else list(STANDARDS).index(config.nv12),
            "policy": get_args(Policy).index(config.policy),
            "cheaper": sum(_CHEAPER_BITS[name] for name in set(config.cheaper)),
            "depth_model": "", "onnxruntime": "", "depth": None, "depth_width": 0, "depth_height": 0,
        }  # fmt: skip
        if isinstance(config.depth, str) and config.depth == BUILTIN:
            path = Path(str(resources.files("secondeye.runtime") / "assets" / "depth_builtin.onnx"))
            options |= {"depth_model": str(path), "onnxruntime": onnxruntime_library()}
        else:
            function = _depth_function(config)
            first = function(np.zeros((config.height, config.width, config.channels), np.uint8))
            options |= {"depth": function, "depth_height": first.shape[0], "depth_width": first.shape[1]}
        self._session = _native.Session(options)
        _open_sessions.add(self)

    def submit(self, frame: Any, timestamp: int = 0, *, timeout: float | None = 0.0) -> int | None:
        """Hand a frame in; it is copied.

        Args:
            frame: uint8 [height, width, channels] on the host, any strides, numpy or DLPack; with `nv12`
                [height + ceil(height / 2), width], luma above chroma.
            timestamp: yours; it comes back with the result.
            timeout: seconds to wait for room with the policy ``every``; None waits without end.

        Returns:
            The frame's ticket, or None when there was no room.

        Raises:
            InvalidInputError: a frame of another shape or dtype.
            BackendUnavailableError: the frame lies on a GPU.
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
        ticket, timestamp, depth_ticket, flags, latency, picture = result
        return LiveFrame(
            ticket, timestamp, picture, latency, depth_ticket, bool(flags & _OWN_DEPTH), bool(flags & _CUT),
            bool(flags & _LATE), bool(flags & _CHEAPER), bool(flags & _DEPTH_FAILED),
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
        out: Sequence[Pixels] | None = None,
        **look: Any,
    ) -> list[Pixels] | None:
        """Views of the newest finished frame, now, on this thread: at the display's rate, for a moved head, for many.

        Args:
            eyes: where they stand: 1 is the right view of a pair, -1 the left one, 0 the frame itself; -2 to 2.
            down: how far below they stand, by the same measure; -2 to 2.
            shift: moves every view to the left, pixels.
            out: uint8 [height, width, channels] each, to write into.
            look: strength, convergence, fill, roll, for these views alone.

        Returns:
            One picture per eye; None before the first frame is ready.

        Raises:
            InvalidInputError, SessionError: as :meth:`submit`.
        """
        shape = (self.config.height, self.config.width, self.config.channels)
        views = [np.empty(shape, np.uint8) for _ in eyes] if out is None else list(out)
        if len(views) != len(eyes) or len(eyes) == 0:
            raise InvalidInputError(f"out: expected one picture for each of {len(eyes)} eyes, got {len(views)}.")
        request = [(float(eye), float(down), float(shift), view) for eye, view in zip(eyes, views, strict=True)]
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
        out: Pixels | None = None,
        **look: Any,
    ) -> Pixels | None:
        """Many views of the newest finished frame in one picture, for displays that show each to another direction.

        The eye goes in equal steps from the first tile to the last; every view is sheared about the plane of
        convergence (off-axis), which lies still in all of them.

        Args:
            columns, rows: of tiles, at most 256 in all.
            eyes: where the first and the last view stand, -2 to 2.
            down: how far below all of them stand, by the same measure.
            from_top: the first tile is at the top left; else at the bottom left, as such displays take it.
            tile: (width, height) of a tile; the frame's when None. Others are resampled.
            out: uint8 [rows * tile height, columns * tile width, channels], to write into.
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
        elif out.shape != shape:
            raise InvalidInputError(f"out: expected {list(shape)}, got {list(out.shape)}.")
        layout = (columns, rows, float(eyes[0]), float(eyes[1]), float(down), from_top)
        return None if self._session.render_quilt(layout, out, self._with(look)._look()) is None else out

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
        unknown = sorted(set(look) - set(_LOOKS))
        if unknown:
            raise InvalidInputError(f"unknown option {', '.join(unknown)}; expected {', '.join(_LOOKS)}.")
        return replace(self.config, **look) if look else self.config


def onnxruntime_library() -> str:
    """The path of ONNX Runtime's shared library: ``SECONDEYE_ONNXRUNTIME``, or the installed package's.

    Raises:
        SessionError: there is none.
    """
    given = os.environ.get("SECONDEYE_ONNXRUNTIME")
    if given:
        return given
    spec = importlib.util.find_spec("onnxruntime")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [str(p) for place in places for p in sorted((Path(place) / "capi").glob("libonnxruntime.so*"))]
    if not found:
        raise SessionError(
            "ONNX Runtime's shared library was not found beside its Python package; "
            "install onnxruntime, or name the library in SECONDEYE_ONNXRUNTIME."
        )
    return found[0]


def _depth_function(config: LiveConfig) -> Any:
    """A function from a frame to float32 [h, w], always of the shape that its first answer had."""
    model: DepthModel | Any = config.depth
    if isinstance(model, str | os.PathLike):
        model = open_depth(model, DepthOptions(threads=config.threads))
    if not callable(model):
        raise InvalidInputError(f"depth: expected a name, a path or a function, got {type(model).__name__}.")
    shape: list[tuple[int, int]] = []

    def depth(frame: Pixels) -> NDArray[np.float32]:
        values = np.ascontiguousarray(model(frame[:, :, :3]), np.float32)
        if values.ndim != 2 or min(values.shape) < 8 or max(values.shape) > 4096:
            raise InvalidInputError(f"depth: expected a map [h, w] of 8 to 4096, got {list(values.shape)}.")
        if not shape:
            shape.append((values.shape[0], values.shape[1]))
        return values if values.shape == shape[0] else interpolate(values, *shape[0], "linear")

    return depth
