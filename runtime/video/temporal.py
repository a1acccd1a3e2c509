# SPDX-License-Identifier: Apache-2.0
"""Steady depth: what a network says of single frames, made to agree over time.

A depth network sees every frame for the first time: its scale and offset jump, and its surfaces shimmer. Averaging
pixels over time takes that away and leaves trails. Here, within a shot:

1. Each frame's depth is fitted to its predecessor's, carried along the picture's motion, by a robust line a d + b.
2. A frame's range (robust percentiles) is the mean of its neighbours' ranges over a window of +-12 frames, each
   carried to the frame through those lines: the jump of a single frame is undone, and a new object changes the range
   slowly, before and after it comes.
3. What is left is averaged along the motion, where the picture and the depth agree that it is the same surface: with
   the frames before, each place by as many of them as have shown it, and with the next few where nothing moves. So a
   place that something has just uncovered takes its depth from itself and its future, and none from what hid it.

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

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.video.look import Look

Map = NDArray[np.float32]

WINDOW = 12  # frames on each side whose ranges count
SETTLE = 36  # frames after which the running average has forgotten how it began ((16 / 17) ** 36 = 11 %)
WARM_UP = WINDOW + SETTLE  # frames before a frame that its result depends on
AHEAD = 4  # frames to come that a still place is averaged with
# How many frames the past may weigh as much as, and the difference of depth, of the range, up to which a surface is the
# same and from which it is not: where the picture moves, and where it stands still.
MOVING = (1.5, 0.03, 0.09)
STILL = (16.0, 0.06, 0.15)
BEHIND = 0.08  # automatic convergence: how far behind the screen the subject lies, of the range


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


def _alike(apart: Map, same: float, other: float) -> Map:
    """How far two depths are one surface's, 0 to 1, by their difference, which is overwritten."""
    np.abs(apart, out=apart)
    np.subtract(np.float32(other), apart, out=apart)
    apart *= np.float32(1.0 / (other - same))
    return np.clip(apart, 0.0, 1.0, out=apart)


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
    _average: Map | None = None  # of the frames out
    _age: Map | None = None  # how many frames of each place that holds, and at most as many as it may weigh

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
        depth = self._averaged(at, 1.0 / max(high - low, 1e-9), low)
        subject, left, right = (min(1.0, max(0.0, (v - low) / max(high - low, 1e-9))) for v in told)
        steady = Steady(self.first + self._out, depth, min(1.0, subject + BEHIND), one.cut, (left, right))
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

    def _averaged(self, at: int, scale: float, low: float) -> Map:
        """A frame's depth, (depth - low) scale, averaged with what came before and what comes."""
        one = self._looks[at]
        unit = one.depth * np.float32(scale)
        unit -= np.float32(low * scale)
        np.clip(unit, 0.0, 1.0, out=unit)
        past, age, still = self._average, self._age, one.still
        if self._out == 0 or one.cut or one.source is None or still is None or past is None or age is None:
            past, age = unit.copy(), np.ones_like(unit)
        else:
            assert one.sure is not None
            moved = np.flatnonzero(~still)
            source, now = one.source.ravel()[moved], unit.ravel()[moved]
            carried, carried_age = past.ravel()[source], np.minimum(age.ravel()[source], np.float32(MOVING[0]))
            carried -= now
            carried_age *= one.sure.ravel()[moved]
            carried_age *= _alike(carried.copy(), *MOVING[1:])
            past -= unit
            np.minimum(age, np.float32(STILL[0]), out=age)
            age *= _alike(past.copy(), *STILL[1:])
            past.ravel()[moved], age.ravel()[moved] = carried, carried_age
            past *= age
            age += np.float32(1.0)
            past /= age
            past += unit
        self._average, self._age = past, age
        future = self._future(at, scale, low)
        if future is None:
            return past.copy()
        ahead, count = future
        np.clip(ahead, 0.0, 1.0, out=ahead)
        count *= _alike(ahead - unit, *STILL[1:])
        ahead -= past
        ahead *= count
        count += age
        ahead /= count
        ahead += past
        return ahead

    def _future(self, at: int, scale: float, low: float) -> tuple[Map, Map] | None:
        """The mean of the frames to come where nothing moves until then, in a frame's units, and of how many it is."""
        ahead: list[tuple[Map, NDArray[np.bool_]]] = []
        offset = -low * scale
        for one in [self._looks[k] for k in range(at + 1, min(at + 1 + AHEAD, len(self._looks)))]:
            if one.cut or one.still is None:
                break
            scale /= one.line[0]
            offset -= scale * one.line[1]
            depth = one.depth * np.float32(scale)
            depth += np.float32(offset)
            ahead.append((depth, one.still))
        if not ahead:
            return None
        mean, still = ahead.pop()
        count = still.astype(np.float32)
        for depth, still in reversed(ahead):
            mean -= depth
            count *= _alike(mean.copy(), *STILL[1:])
            mean *= count
            count += np.float32(1.0)
            mean /= count
            mean += depth
            count *= still
        return mean, count

    # ---- saving ----

    def to_bytes(self) -> bytes:
        """The state as bytes, for :meth:`from_bytes`."""
        arrays: dict[str, Any] = {"counts": np.array([self.first, self._behind, self._out, len(self._looks)])}
        if self._average is not None:
            arrays["average"], arrays["age"] = self._average, self._age
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
                state = cls(first, deque(), behind, out, arrays.get("average"), arrays.get("age"))
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
