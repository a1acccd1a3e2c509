# SPDX-License-Identifier: Apache-2.0
"""What a live session is told, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.config import plain_numbers
from secondeye.runtime.depth import BUILTIN
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.objects import OFF
from secondeye.runtime.ops._common import ISA_CODES
from secondeye.runtime.ops.anaglyph import matrix_q12
from secondeye.runtime.ops.nv12 import STANDARDS, Standard

Pixels = NDArray[np.uint8]
Policy = Literal["newest", "every"]
LiveLayout = Literal[
    "sbs", "tb", "rows", "columns", "checkerboard", "half-sbs", "half-tb", "anaglyph", "right", "depth"
]  # fmt: skip
Cheaper = Literal["small-depth", "no-depth", "plain-edges"]

LAYOUT_CODES = {name: code for code, name in enumerate(get_args(LiveLayout))}
CHEAPER_BITS = {"small-depth": 1, "no-depth": 2, "plain-edges": 4}
_WHOLE = frozenset(("width", "height", "channels", "depth_every", "slots", "widen", "threads", "key_every"))
LOOKS = ("strength", "convergence", "layout", "view", "swap", "fill", "anaglyph", "roll")


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
        segment: who tells objects apart, so that depth's edges fall on their borders: ``off``, ``sgt:FOLDER`` (a
            bundle), an ONNX segmentation network, labels of what a still camera sees (16-bit PNG, .npy), or a function
            from uint8 [H, W, 3] to (uint16 [h, w], confidence). It works on key frames, on a thread of its own, and no
            frame waits for it: its labels are carried along the picture's motion until the next ones come.
        key_every: frames from one key frame to the next, where the segmenter is as fast, 1 to 1000. The first frame of
            a shot is one, and the frame at hand when a fifth of the picture is no longer known.
        threads: 0 for one per core.
        device: ``cpu``, or ``cuda``: pictures are made on the current NVIDIA GPU, and so is the depth of a network
            (ONNX Runtime's CUDA provider, or there is an error).
        isa: on the CPU, as in :func:`secondeye.ops.pack`; ``blocks`` takes a GPU's steps on the host, for tests.
        keep_on_gpu: results' pictures stay on the GPU.
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
    segment: Any = OFF
    key_every: int = 24
    threads: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    isa: str = "auto"
    keep_on_gpu: bool = False

    def __post_init__(self) -> None:
        plain_numbers(self)
        problems = [
            f"{name}: expected {low:g} to {high:g}, got {value!r}"
            for name, low, high in (
                ("width", 16, 8192), ("height", 16, 8192), ("channels", 3, 4), ("strength", 0, 20),
                ("convergence", 0, 1), ("roll", -60, 60), ("depth_every", 0, 1000), ("slots", 2, 16),
                ("deadline_ms", 0, 1e6),
                ("steady", 0, 0.98), ("widen", 0, 16), ("threads", 0, 256),
                ("key_every", 1, 1000),
            )
            if (value := getattr(self, name)) is not None
            and not (
                isinstance(value, int if name in _WHOLE else int | float)
                and not isinstance(value, bool)
                and low <= value <= high
            )
        ]  # fmt: skip
        choices: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("layout", get_args(LiveLayout)), ("view", ("right", "both")), ("policy", get_args(Policy)),
            ("anaglyph", tuple(ops.ANAGLYPHS)), ("nv12", ("", *STANDARDS)),
            ("device", ("cpu", "cuda")), ("isa", tuple(ISA_CODES)),
        )  # fmt: skip
        problems += [
            f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}"
            for name, allowed in choices
            if (getattr(self, name) or "") not in allowed
        ]
        if self.nv12 is not None and self.width % 2:
            problems.append(f"width: expected an even one with nv12, got {self.width}")
        if self.keep_on_gpu and self.device == "cpu":
            problems.append("keep_on_gpu: expected with device='cuda', and only there")
        problems += [
            f"{name}: expected True or False, got {getattr(self, name)!r}"
            for name in ("swap", "fill", "full_range", "remember", "keep_on_gpu")
            if not isinstance(getattr(self, name), bool)
        ]
        unknown = sorted(set(self.cheaper) - set(CHEAPER_BITS))
        if unknown:
            problems.append(f"cheaper: expected some of {', '.join(CHEAPER_BITS)}, got {', '.join(map(str, unknown))}")
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
            goes, so copy what you keep. With `keep_on_gpu` anything that ``__cuda_array_interface__`` takes in
            (``torch.as_tensor(picture, device="cuda")``), finished for every stream; keep it until your
            streams are through.
        latency_ms: submit to ready.
        depth_ticket: the frame that the depth is of, 0 before there is any.
        objects_ticket: the key frame whose labels depth's edges were put on, 0 when there are none.
        own_depth: depth was made for this very frame.
        cut: the first frame of a shot.
        late: ready after its deadline.
        cheaper: a cheaper path was taken for the deadline's sake.
        depth_failed: depth failed here; see :attr:`LiveSession.depth_error`.
    """

    ticket: int
    timestamp: int
    picture: Any
    latency_ms: float
    depth_ticket: int
    objects_ticket: int
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
    ``pack``, ``total`` (submit to ready), ``depth_age`` (of the depth that a frame used), ``objects_age`` (of the
    key frame whose labels it used). ``look`` has what labels cost. Key frames are counted when they are offered to the
    segmenter, and when its labels have come.
    """

    submitted: int
    ready: int
    dropped: int
    late: int
    cheaper: int
    depth_runs: int
    depth_failures: int
    keys_offered: int
    keys_labelled: int
    memory_bytes: int
    stages: dict[str, StageStats]
