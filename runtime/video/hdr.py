# SPDX-License-Identifier: Apache-2.0
"""HDR's static metadata (SMPTE ST 2086, CTA-861.3): read from frames, told to encoders, put into MP4's boxes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from secondeye.runtime.video.boxes import box

_MASTERING_BYTES = 88  # AVMasteringDisplayMetadata: ten rationals, two flags
# Encoders that write it into the video, and the option that tells them.
OPTIONS = {"libx265": "x265-params", "libx264": "x264-params", "libsvtav1": "svtav1-params"}


def side_data_of(frame: Any) -> list[Any]:
    """What a decoded frame carries beside its pixels, as PyAV gives it; nothing where it has no name for one's kind."""
    every = list[Any]()
    try:
        found = frame.side_data
        while True:  # by number: iterating gives kinds and len counts them from PyAV 19 on
            every.append(found[len(every)])
    except IndexError:
        return every
    except ValueError:  # spatial video's
        return []


@dataclass(frozen=True)
class HdrMetadata:
    """What a film says of the screen it was made on.

    Attributes:
        primaries: (x, y) of red, green, blue and white, in 1/50000; None when it does not say.
        luminance: greatest and least of that screen, in 1/10000 nits.
        light: the brightest pixel and the brightest frame's mean, nits; None when it does not say.
    """

    primaries: tuple[int, ...] | None = None
    luminance: tuple[int, int] = (0, 0)
    light: tuple[int, int] | None = None

    @classmethod
    def of(cls, frame: Any) -> HdrMetadata:
        """A decoded frame's."""
        primaries, luminance, light = None, (0, 0), None
        for data in side_data_of(frame):
            name, raw = data.type.name, bytes(data)
            if name == "MASTERING_DISPLAY_METADATA" and len(raw) >= _MASTERING_BYTES:
                numbers = struct.unpack_from("=22i", raw)
                ratios = [
                    Fraction(a, b) if b else Fraction(0) for a, b in zip(numbers[:20:2], numbers[1:20:2], strict=True)
                ]
                if numbers[20] and numbers[21]:
                    primaries = tuple(round(50_000 * v) for v in ratios[:8])
                    luminance = round(10_000 * ratios[9]), round(10_000 * ratios[8])
            elif name == "CONTENT_LIGHT_LEVEL" and len(raw) >= 8:
                most, mean = struct.unpack_from("=2I", raw)
                light = (most, mean) if most or mean else None
        fits = all(0 <= v < 1 << 16 for v in (*(primaries or ()), *(light or ())))
        if not fits or not all(0 <= v < 1 << 32 for v in luminance):
            return cls()
        return cls(primaries, luminance, light)

    def add_options(self, encoder: str, options: dict[str, str]) -> None:
        """Tell an encoder that writes it into the video; others get none."""
        name = OPTIONS.get(encoder)
        if name is None:
            return
        words = [options[name]] if name in options else []
        if self.primaries is not None:
            scale, bright = (50_000, 10_000) if encoder == "libsvtav1" else (1, 1)
            r, g, b, w = (
                f"({x / scale:g},{y / scale:g})" for x, y in zip(self.primaries[::2], self.primaries[1::2], strict=True)
            )
            levels = ",".join(f"{v / bright:.4f}".rstrip("0").rstrip(".") for v in self.luminance)
            key = "mastering-display" if encoder != "libx265" else "master-display"
            words.append(f"{key}=G{g}B{b}R{r}WP{w}L({levels})")
        if self.light is not None:
            key = {"libx265": "max-cll", "libx264": "cll", "libsvtav1": "content-light"}[encoder]
            words.append(f"{key}={self.light[0]},{self.light[1]}")
        if words:
            options[name] = ":".join(words)

    def boxes(self) -> list[bytes]:
        """MP4's mdcv and clli."""
        made = []
        if self.primaries is not None:
            red, green, blue, white = (self.primaries[i : i + 2] for i in (0, 2, 4, 6))
            made.append(box(b"mdcv", struct.pack(">8H2I", *green, *blue, *red, *white, *self.luminance)))
        if self.light is not None:
            made.append(box(b"clli", struct.pack(">2H", *self.light)))
        return made
