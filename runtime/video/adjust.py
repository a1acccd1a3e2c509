# SPDX-License-Identifier: Apache-2.0
"""A film as if it were another: without fields, without its black bars, or at another frame rate."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.video import media

_DARK = 20  # of 255; a bar's noise stays under it
_SAMPLES, _LOOKED_AT = 24, 4
MAX_RATE = 1000


def parse_rate(text: str) -> Fraction:
    """Frames a second: 24, 23.976 or 24000/1001.

    Raises:
        InvalidInputError: it is no such number, or not over 0 and up to 1000.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInputError(f"fps: expected a number like 24, 23.976 or 24000/1001, got {text!r}.") from error
    for whole in (24, 30, 48, 60, 120):  # what 23.976 and 29.97 stand for
        if abs(rate - Fraction(whole * 1000, 1001)) < Fraction(2, 1000):
            rate = Fraction(whole * 1000, 1001)
    if not 0 < rate <= MAX_RATE:
        raise InvalidInputError(f"fps: expected over 0 and up to {MAX_RATE}, got {text}.")
    return rate


def at_rate(info: media.FilmInfo, rate: Fraction) -> media.FilmInfo:
    """The film at another rate: at each time the frame that is shown then; none is made up between two.

    Raises:
        InvalidInputError: the rate needs a finer clock than files have.
    """
    ticks = math.lcm(info.time_base.denominator, rate.numerator)
    if ticks > 1 << 31:
        raise InvalidInputError(
            f"fps: {rate} does not fit this film's clock of {info.time_base} s; choose a simpler one."
        )
    base = Fraction(1, ticks)
    stamps = info.pts * int(info.time_base / base)
    step = int(1 / rate / base)
    tick = int(info.time_base / base)
    whole = int(stamps[-1] - stamps[0]) + info.last * tick
    count = max(1, -(-(whole - min(2 * tick, step // 4)) // step))  # no frame for what the old clock's rounding added
    pts = stamps[0] + step * np.arange(count, dtype=np.int64)
    # Half a tick of the old clock forgives the rounding of its stamps.
    which = np.searchsorted(stamps, pts + tick // 2, side="right") - 1
    return replace(info, time_base=base, pts=pts, last=step, rate=rate, picks=(info, np.maximum(which, 0)))


def scaled(info: media.FilmInfo, size: tuple[int, int]) -> media.FilmInfo:
    """The film with pixels of such a shape that it looks the same when it is scaled to a (width, height)."""
    kept = info.aspect * Fraction(info.width * size[1], info.height * size[0])
    if abs(kept / info.aspect - 1) < Fraction(1, 50):  # its own shape, but for sides made even
        return info
    return replace(info, aspect=kept.limit_denominator(1000))


def made_whole(info: media.FilmInfo) -> media.FilmInfo:
    """The film with its frames made whole of their fields, if some that are looked at are flagged as interlaced."""
    for k in range(3):
        index = k * info.frames // 3
        frames = list(itertools.islice(media.near(info, index), _LOOKED_AT)) if info.seekable else []
        if not frames:
            frames = [frame for _, frame in itertools.islice(media.frames(info, index), _LOOKED_AT)]
        if any(frame.interlaced_frame for frame in frames):
            note = "It is interlaced: each frame is made whole of its two fields (--deinterlace off keeps them)."
            return replace(info, interlaced=True, notes=(*info.notes, note))
    return info


def without_bars(info: media.FilmInfo) -> media.FilmInfo:
    """The film without black bars: lines at its borders that are dark in every one of 24 frames across it."""
    read = media.PixelReader(info)
    rows = np.zeros(info.height, bool)
    columns = np.zeros(info.width, bool)
    for k in range(min(_SAMPLES, info.frames)):
        first = (2 * k + 1) * info.frames // (2 * min(_SAMPLES, info.frames))
        found = next(media.frames(info, first), None)
        if found is None:
            continue
        bright = read(found[1]).max(axis=2) > _DARK
        # A few bright specks (a station's mark, noise) do not make a line part of the picture.
        rows |= bright.mean(axis=1) > 0.01
        columns |= bright.mean(axis=0) > 0.01
    if not rows.any() or not columns.any():
        return info
    y, x = np.flatnonzero(rows), np.flatnonzero(columns)
    top, left = (int(v[0]) + 1 & ~1 for v in (y, x))  # even, as encoders and chroma want it
    bottom, right = ((size - 1 - int(v[-1])) + 1 & ~1 for size, v in ((info.height, y), (info.width, x)))
    height, width = info.height - top - bottom, info.width - left - right
    if not (top or bottom or left or right) or 2 * height < info.height or 2 * width < info.width:
        return info
    note = f"Bars are left out: {top} and {bottom} lines at the top and bottom, {left} and {right} at the sides."
    return replace(info, width=width, height=height, crop=(top, bottom, left, right), notes=(*info.notes, note))
