# SPDX-License-Identifier: Apache-2.0
"""Steady depth: what a network says of single frames, made to agree over time.

A depth network sees every frame for the first time: its scale and offset jump, and its surfaces shimmer. Averaging
pixels over time takes that away and leaves trails. Here, within a shot:

1. Each frame's depth is fitted to its predecessor's, carried along the picture's motion, by a robust line a d + b.
2. A frame's range (robust percentiles) is the mean of its neighbours' ranges over a window of +-12 frames, each
   carried to the frame through those lines: the jump of a single frame is undone, and a new object changes the range
   slowly, before and after it comes.
3. What is left is averaged along the motion, where the picture and the depth agree that it is the same surface.

Everything has a finite memory (see WARM_UP), so that a film can be converted from any frame on with the same result.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.errors import InvalidInputError

Map = NDArray[np.float32]

WINDOW = 12  # frames on each side whose ranges count
SETTLE = 36  # frames after which the running average has forgotten how it began (0.94 ** 36 = 11 %)
WARM_UP = WINDOW + SETTLE  # frames before a frame that its result depends on
# Share of the past in the running average, and the difference of depth, of the range, up to which a surface is the same
# and from which it is not: where the picture moves, and where it stands still (and what is seen must be the same).
MOVING = (0.6, 0.03, 0.09)
STILL = (0.94, 0.06, 0.15)
CALM = 5 * 64  # a block of 8 x 8 whose brightness differs by less in all has not changed
LIKE, UNLIKE = 4, 12  # difference of brightness, in the same way
BEHIND = 0.08  # automatic convergence: how far behind the screen the subject lies, of the range


@dataclass(frozen=True, slots=True)
class Look:
    """One frame, looked at beside the frame before it.

    Attributes:
        luma: uint8 [h, w], at the depth map's size.
        depth: float32 [h, w], the network's, larger is nearer.
        marks: least, greatest and the subject's depth, and what is near at the left and the right border, in the
            network's units.
        cut: the frame is the first of a shot.
        line: (a, b): depth here is about a * depth before + b.
        source: int32 [h, w], flat index of each pixel in the frame before.
        sure: float32 [h, w], 0 to 1, how far the motion is to be trusted.
        still: bool [h, w], where the picture has not changed.
    """

    luma: NDArray[np.uint8]
    depth: Map
    marks: tuple[float, float, float, float, float]
    cut: bool = True
    line: tuple[float, float] = (1.0, 0.0)
    source: NDArray[np.int32] | None = None
    sure: Map | None = None
    still: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Steady:
    """A frame's steady depth.

    Attributes:
        index: of the frame, counted by the state's pushes from its first index.
        depth: float32 [h, w], 0 far to 1 near.
        convergence: the depth that automatic convergence puts on the screen.
        cut: the frame is the first of a shot.
        borders: depth of what is near at the left and the right border, 0 far to 1 near.
    """

    index: int
    depth: Map
    convergence: float
    cut: bool
    borders: tuple[float, float] = (0.0, 0.0)


def look(pixels: NDArray[np.uint8], depth: Map, before: Look | None) -> Look:
    """Look at a frame.

    Args:
        pixels: uint8 [H, W, 3].
        depth: float32 [h, w], finite.
        before: the look at the frame before; None for a film's first.
    """
    height, width = depth.shape
    small = ops.resize(pixels, height, width)
    luma = ((small.astype(np.uint16) * np.array([77, 150, 29], np.uint16)).sum(2, dtype=np.uint16) >> 8).astype(
        np.uint8
    )
    marks = (*ops.depth_range(depth, 0.01, 0.99), _subject(depth), *_borders(depth))
    if before is None or before.depth.shape != depth.shape:
        return Look(luma, depth, marks)
    blocks = _calmed(_motion(luma, before.luma), luma, before.luma)
    unmatched = float((blocks[:, :, 2] > 20 * 64).mean())
    if unmatched > 0.8 or (unmatched > 0.25 and _histogram_distance(luma, before.luma) > 0.3):
        return Look(luma, depth, marks)
    spread, source, sure = trace(luma, before.luma, blocks)
    still = (spread[:, :, :2] == 0).all(2) & (spread[:, :, 2] < CALM)
    good = sure[::3, ::3] > 0.5
    line = _line(before.depth.ravel()[source[::3, ::3]][good], depth[::3, ::3][good])
    return Look(luma, depth, marks, False, line, source, sure, still)


def trace(
    now: NDArray[np.uint8], before: NDArray[np.uint8], blocks: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], Map]:
    """What block motion says of every pixel.

    Returns:
        the blocks' motion at each pixel, int32 [h, w, 3]; the flat index of each pixel in the frame before; how far
        that is to be trusted, by how alike the two are, 0 to 1.
    """
    height, width = now.shape
    spread = np.repeat(np.repeat(blocks, 8, 0), 8, 1)[:height, :width]
    y, x = np.ogrid[:height, :width]
    from_y = np.clip(y + spread[:, :, 0], 0, height - 1)
    from_x = np.clip(x + spread[:, :, 1], 0, width - 1)
    source = (from_y * width + from_x).astype(np.int32)
    apart = np.abs(now.astype(np.int16) - before.ravel()[source].astype(np.int16))
    sure = np.clip((UNLIKE - apart) * np.float32(1 / (UNLIKE - LIKE)), 0.0, 1.0).astype(np.float32)
    sure[spread[:, :, 2] > 10 * 64] = 0.0
    return spread, source, sure


def _motion(now: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Block motion in two steps: +-16 pixels at half size, then +-2 about that."""
    height, width = now.shape
    half = [ops.resize(a[:, :, None], max(1, height // 2), max(1, width // 2))[:, :, 0] for a in (now, before)]
    coarse = ops.motion(half[0], half[1], 8)
    rows, columns = -(-height // 8), -(-width // 8)
    i = np.minimum(np.arange(rows) // 2, coarse.shape[0] - 1)
    j = np.minimum(np.arange(columns) // 2, coarse.shape[1] - 1)
    start = np.ascontiguousarray(2 * coarse[i][:, j, :2])
    return ops.motion(now, before, 2, start=start)


def _calmed(blocks: NDArray[np.int32], now: NDArray[np.uint8], before: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Block motion without what noise makes up: a block that has hardly changed stands still, unless another place
    suits it far better.
    """
    height, width = now.shape
    apart = np.zeros((blocks.shape[0] * 8, blocks.shape[1] * 8), np.int32)
    apart[:height, :width] = np.abs(now.astype(np.int16) - before)
    here = apart.reshape(blocks.shape[0], 8, blocks.shape[1], 8).sum((1, 3))
    calm = (here < CALM) & (blocks[:, :, 2] > 0.7 * here)
    calmed = np.where(calm[:, :, None], 0, blocks)
    calmed[:, :, 2] = np.where(calm, here, blocks[:, :, 2])
    return calmed


def _histogram_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Half the sum of absolute differences of two brightness histograms, 0 to 1."""
    one, other = (np.bincount(v.ravel() >> 3, minlength=32) / v.size for v in (a, b))
    return float(np.abs(one - other).sum() / 2)


def _line(before: Map, now: Map) -> tuple[float, float]:
    """The line now = a before + b that most points agree on: least squares, then thrice with Cauchy weights."""
    if before.size < 64:
        return 1.0, 0.0
    x, y = before.astype(np.float64), now.astype(np.float64)
    weight = np.ones_like(x)
    a, b = 1.0, 0.0
    for _ in range(4):
        total = weight.sum()
        mx, my = (weight * x).sum() / total, (weight * y).sum() / total
        spread = (weight * (x - mx) ** 2).sum()
        if spread <= 1e-12 * total:
            return 1.0, float(my - mx)
        a = float((weight * (x - mx) * (y - my)).sum() / spread)
        b = float(my - a * mx)
        apart = np.abs(y - a * x - b)
        scale = max(float(np.median(apart)) * 1.5, 1e-6)
        weight = 1.0 / (1.0 + (apart / scale) ** 2)
    return (a, b) if 0.4 < a < 2.5 else (1.0, float(np.median(y - x)))


def _subject(depth: Map) -> float:
    """The depth of what a picture is about: the upper quartile, pixels weighing more toward the middle."""
    part = depth[::4, ::4]
    y = np.abs(np.linspace(-1, 1, part.shape[0]))[:, None]
    x = np.abs(np.linspace(-1, 1, part.shape[1]))[None]
    weight = ((1.05 - y) * (1.05 - x)).ravel()
    order = np.argsort(part, axis=None, kind="stable")
    total = np.cumsum(weight[order])
    return float(part.ravel()[order[int(np.searchsorted(total, 0.75 * total[-1]))]])


def _borders(depth: Map) -> tuple[float, float]:
    """The depth of what is near in a strip at the left and at the right border: nine tenths of it lie farther."""
    wide = max(1, depth.shape[1] // 50)
    strips = np.sort(depth[:, :wide], axis=None), np.sort(depth[:, -wide:], axis=None)
    return float(strips[0][strips[0].size * 9 // 10]), float(strips[1][strips[1].size * 9 // 10])


@dataclass
class TemporalState:
    """What steady depth remembers; frames go in one by one and come out WINDOW frames later.

    Args:
        first: index of the first frame that will be pushed.
    """

    first: int = 0
    _looks: deque[Look] = field(default_factory=deque)  # up to WINDOW frames before the next one out, it, and after it
    _behind: int = 0  # how many of these are already out
    _out: int = 0
    _average: Map | None = None

    @property
    def pushed(self) -> int:
        """How many frames have gone in."""
        return self._out + len(self._looks) - self._behind

    def push(self, one: Look) -> list[Steady]:
        """Take the next frame; gives the frames that are ready, none or one."""
        self._looks.append(one)
        return [self._next()] if len(self._looks) - self._behind > WINDOW else []

    def flush(self) -> list[Steady]:
        """The film is over: gives the frames that are left."""
        return [self._next() for _ in range(len(self._looks) - self._behind)]

    def _next(self) -> Steady:
        at = self._behind
        one = self._looks[at]
        low, high, *told = self._marks(at)
        unit = np.clip((one.depth - np.float32(low)) * np.float32(1.0 / max(high - low, 1e-9)), 0.0, 1.0)
        average = self._averaged(one, unit.astype(np.float32), begins=self._out == 0)
        subject, left, right = (min(1.0, max(0.0, (v - low) / max(high - low, 1e-9))) for v in told)
        steady = Steady(self.first + self._out, average, min(1.0, subject + BEHIND), one.cut, (left, right))
        self._average = average
        self._out += 1
        self._behind += 1
        if self._behind > WINDOW:
            self._looks.popleft()
            self._behind -= 1
        return steady

    def _marks(self, at: int) -> NDArray[np.float64]:
        """A frame's range and subject: its neighbours' within the shot, carried to it and averaged."""
        total, weights = np.array(self._looks[at].marks, np.float64), 1.0
        for step in (-1, 1):
            a, b = 1.0, 0.0  # depth of the neighbour to depth of the frame
            for distance in range(1, WINDOW + 1):
                k = at + step * distance
                link = k + 1 if step < 0 else k  # the later of the two frames holds the line between them
                if not (0 <= k < len(self._looks)) or link == 0 or self._looks[link].cut:
                    break
                slope, offset = self._looks[link].line
                if step < 0:
                    a, b = a * slope, b + a * offset
                else:
                    a, b = a / slope, b - a * offset / slope
                weight = 1.0 - distance / (WINDOW + 1)
                total += weight * (a * np.array(self._looks[k].marks, np.float64) + b)
                weights += weight
        return np.asarray(total / weights)

    def _averaged(self, one: Look, unit: Map, *, begins: bool) -> Map:
        if begins or one.cut or one.source is None or one.sure is None or one.still is None or self._average is None:
            return unit
        past = self._average.ravel()[one.source]
        apart = np.abs(past - unit)
        most, same, other = (np.where(one.still, s, m).astype(np.float32) for s, m in zip(STILL, MOVING, strict=True))
        keep = one.sure * most * np.clip((other - apart) / (other - same), 0.0, 1.0)
        return (unit + keep * (past - unit)).astype(np.float32)

    # ---- saving ----

    def to_bytes(self) -> bytes:
        """The state as bytes, for :meth:`from_bytes`."""
        arrays: dict[str, Any] = {"counts": np.array([self.first, self._behind, self._out, len(self._looks)])}
        if self._average is not None:
            arrays["average"] = self._average
        for k, one in enumerate(self._looks):
            arrays[f"luma{k}"], arrays[f"depth{k}"] = one.luma, one.depth
            arrays[f"numbers{k}"] = np.array([*one.marks, *one.line, float(one.cut)], np.float64)
            if one.source is not None and one.sure is not None and one.still is not None:
                arrays[f"source{k}"], arrays[f"sure{k}"], arrays[f"still{k}"] = one.source, one.sure, one.still
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> TemporalState:
        """A saved state.

        Raises:
            InvalidInputError: the bytes are no saved state.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                first, behind, out, count = (int(v) for v in arrays["counts"])
                state = cls(first, deque(), behind, out, arrays.get("average"))
                for k in range(count):
                    numbers = arrays[f"numbers{k}"].tolist()
                    moved = f"source{k}" in arrays
                    state._looks.append(
                        Look(
                            arrays[f"luma{k}"], arrays[f"depth{k}"], tuple(numbers[:5]),
                            bool(numbers[7]), (numbers[5], numbers[6]),
                            *((arrays[f"{name}{k}"] for name in ("source", "sure", "still")) if moved else ()),
                        )
                    )  # fmt: skip
        except (ValueError, KeyError, OSError, EOFError, IndexError, zipfile.BadZipFile) as error:
            raise InvalidInputError(f"these bytes are no saved temporal state ({error}).") from error
        return state
