# SPDX-License-Identifier: Apache-2.0
"""What a conversion looks like: every setting of a picture's way into stereo, checked at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from secondeye.runtime.comfort import HIGHEST, Screen, Unit, strength_percent
from secondeye.runtime.depth import AUTO, Normalisation, OutputKind
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.limits import DEFAULT_LIMITS
from secondeye.runtime.objects import OFF
from secondeye.runtime.schedulers import MAX_STEPS, Scheduler
from secondeye.runtime.sessions import Device

View = Literal["right", "both"]
Mode = Literal["fast", "quality"]
Compose = Literal["inpaint", "generated"]
Conditioning = Literal["stereo", "authors"]
Tiles = Literal["dense", "sparse"]
_WHOLE = frozenset(("widen", "threads", "seed", "steps", "depth_size"))


def plain_numbers(config: Any) -> None:
    """Numbers of numpy's in a frozen configuration become Python's: they are compared, hashed and written as JSON."""
    for name, value in vars(config).items():
        if isinstance(value, np.generic):
            object.__setattr__(config, name, value.item())


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """What a conversion looks like. Every field has a default that suits a photograph on a screen.

    Attributes:
        strength: full disparity range, in percent of the picture's width, 0 to 20; about 3 is the comfort limit.
        strength_unit: ``percent``, ``pixels`` of the picture, or ``degrees`` on a `screen`.
        screen: where the result will be looked at; see :func:`secondeye.comfort_limit` too.
        convergence: the depth, 0 (far) to 1 (near), that lies on the screen; what is nearer stands out of it.
        gamma: bends the depth before it becomes disparity; over 1 flattens the background.
        view: ``right`` keeps the source as the left view; ``both`` moves each eye half way.
        swap: exchange the two views at the end.
        size: (width, height) that the picture is scaled to first; None keeps it.
        depth: ``builtin``, ``cues``, or the path of an ONNX depth model; ``auto`` is the bundle's own in quality mode,
            else the built-in one.
        depth_size, depth_normalisation, depth_output: how a depth model of your own is fed and read; see
            :class:`secondeye.runtime.depth.DepthOptions`. Found by themselves for the public ones.
        segment: who tells objects apart, so that depth's edges fall on their borders: ``off``, ``sgt:FOLDER`` (a
            bundle), an ONNX segmentation network, or labels of the picture (16-bit PNG, .npy).
        device: where the models run: ``cpu``, ``cuda``, ``tensorrt`` or ``tensorrt-rtx``; see
            :mod:`secondeye.runtime.backends`.
        widen: the rim of near objects moves with them by up to this many pixels at 1080p; 0 to 16.
        fill: whether disocclusions are painted; when not, they stay black.
        threads: 0 for one per core. What the kernels give does not depend on it.
        mode: ``fast`` fills disocclusions by kernels; ``quality`` has them painted by the model of a bundle.
        bundle: the folder of a Mono2Stereo bundle, for quality mode; ``secondeye build-engine`` makes one.
        scheduler: ``ddim`` starts from noise, as the model's authors do; ``warped`` starts from the warped view with
            noise added, for few steps.
        steps: 1 to 1000; None is 50 for ``ddim`` and 4 for ``warped``.
        noise: how far towards noise ``warped`` starts, over 0 to 1.
        seed: of the noise; the same seed gives the same picture.
        compose: ``inpaint`` keeps the warped pixels and takes the model's in and round disocclusions, blended;
            ``generated`` takes the model's whole picture.
        tiles: ``dense`` has the model see the whole picture; ``sparse`` only tiles round the disocclusions, for
            ``inpaint``, where they come to at most three quarters of it: less work, and the model knows nothing of
            what lies beyond them.
        conditioning: ``stereo`` moves pixels by strength and convergence; ``authors`` does what the published code
            does (8 x 0.6 x raw depth, nearest pixel, wrapping round the left border), exactly where the picture has
            the bundle's size.
    """

    strength: float = 2.5
    strength_unit: Unit = "percent"
    screen: Screen | None = None
    convergence: float = 0.5
    gamma: float = 1.0
    view: View = "right"
    swap: bool = False
    size: tuple[int, int] | None = None
    depth: str | os.PathLike[str] = AUTO
    depth_size: int | None = None
    depth_normalisation: Normalisation = "auto"
    depth_output: OutputKind = "auto"
    segment: str | os.PathLike[str] = OFF
    device: Device = "cpu"
    widen: int = 2
    fill: bool = True
    threads: int = 0
    mode: Mode = "fast"
    bundle: str | os.PathLike[str] | None = None
    scheduler: Scheduler = "ddim"
    steps: int | None = None
    noise: float = 0.8
    seed: int = 0
    compose: Compose = "inpaint"
    tiles: Tiles = "dense"
    conditioning: Conditioning = "stereo"

    def __post_init__(self) -> None:
        plain_numbers(self)
        problems = [
            *self._strength(),
            *self._range("convergence", 0.0, 1.0, "0 far to 1 near"),
            *self._range("gamma", 0.1, 10.0, "1 is neutral"),
            *self._range("widen", 0, 16, "pixels at 1080p"),
            *self._range("threads", 0, 256, "0 is one per core"),
            *self._choice("view", get_args(View)),
            *self._choice("device", get_args(Device)),
            *self._choice("depth_normalisation", get_args(Normalisation)),
            *self._choice("depth_output", get_args(OutputKind)),
            *self._choice("mode", get_args(Mode)),
            *self._choice("scheduler", get_args(Scheduler)),
            *self._choice("compose", get_args(Compose)),
            *self._choice("tiles", get_args(Tiles)),
            *self._choice("conditioning", get_args(Conditioning)),
            *self._range("noise", 0.01, 1.0, "1 is pure noise"),
            *self._range("seed", 0, 2**63 - 1, "any number"),
        ]
        if self.steps is not None:
            problems += self._range("steps", 1, MAX_STEPS, "of the scheduler")
        if self.mode == "quality":
            problems += self._quality()
        if self.depth_size is not None:
            problems += self._range("depth_size", 32, 2048, "pixels")
        if self.size is not None:
            problems += self._size(self.size)
        if problems:
            raise InvalidInputError("; ".join(problems) + ".")
        if self.size is not None:
            DEFAULT_LIMITS.check_size("size", *self.size)

    def _size(self, size: Any) -> Iterator[str]:
        pair = tuple(size) if isinstance(size, tuple | list) else ()
        if len(pair) != 2 or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in pair):
            yield f"size: expected (width, height), whole numbers of pixels, got {size!r}"
        else:  # a tuple of Python's numbers is compared and written as JSON
            object.__setattr__(self, "size", (int(pair[0]), int(pair[1])))

    def strength_for(self, width: int) -> float:
        """The strength in percent of a picture's width.

        Raises:
            InvalidInputError: pixels or degrees that are over 20 percent of it.
        """
        return strength_percent(self.strength, self.strength_unit, frame_width=width, screen=self.screen)

    def _strength(self) -> Iterator[str]:
        yield from self._choice("strength_unit", get_args(Unit))
        highest = HIGHEST.get(self.strength_unit, HIGHEST["percent"])
        meaning = "percent of the width" if self.strength_unit == "percent" else self.strength_unit
        yield from self._range("strength", 0.0, highest, meaning)
        if self.strength_unit == "degrees" and self.screen is None:
            yield "screen: degrees need one, its width and the viewer's distance in metres"

    def _quality(self) -> Iterator[str]:
        if self.bundle is None:
            yield "bundle: quality mode needs a bundle's folder; build one with: secondeye build-engine"
        if not self.fill:
            yield "fill: quality mode paints the disocclusions; use mode fast to leave them"
        if self.tiles == "sparse" and self.compose != "inpaint":
            yield "tiles: sparse paints the disocclusions alone; use compose inpaint"
        if self.conditioning == "authors" and str(self.depth) != AUTO:
            yield "depth: the authors' conditioning takes the bundle's own depth; leave it out"

    def _range(self, name: str, low: float, high: float, meaning: str) -> Iterator[str]:
        value = getattr(self, name)
        kind = int if name in _WHOLE else int | float
        if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
            yield f"{name}: expected {low:g} to {high:g} ({meaning}), got {value!r}"

    def _choice(self, name: str, choices: tuple[str, ...]) -> Iterator[str]:
        if getattr(self, name) not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}"
