# SPDX-License-Identifier: Apache-2.0
"""A film as numbered pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write, for_ffmpeg
from secondeye.runtime.video.encode import GREY
from secondeye.runtime.video.mux import Segment
from secondeye.runtime.writers import format_of, save_picture


def check_pattern(target: Path, *, deep: bool = False) -> None:
    """Refuse a pattern whose ending is no picture's.

    Raises:
        InvalidInputError: it is none.
    """
    format_of(target.name % 1)
    if deep and target.suffix.lower() != ".png":
        raise InvalidInputError(f"{target}: only .png keeps more than 8 bits; choose it, or --bits 8.")


def write_pictures(target: Path, segments: list[Segment], *, quality: int = 95) -> int:
    """Write every frame of the segments as target % 1, target % 2 and so on; gives how many.

    Raises:
        MediaError: a picture cannot be written. Those before it are whole.
    """
    import av

    count = 0
    for segment in segments:
        with av.open(for_ffmpeg(segment.path)) as file:
            for frame in file.decode(video=0):
                count += 1
                path = target.with_name(target.name % count)
                if frame.format.name == GREY:
                    _write_deep(path, frame, "gray16be")
                elif frame.format.name.startswith(("gbrp16", "rgb48")):
                    _write_deep(path, frame, "rgb48be")
                else:
                    save_picture(path, frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False), quality=quality)
    return count


def _write_deep(path: Path, frame: Any, kind: str) -> None:
    """A PNG of 16 bits a sample."""
    import av

    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, kind
    frame = frame.reformat(format=kind)
    with atomic_write(path) as file:
        for packet in (*encoder.encode(frame), *encoder.encode(None)):
            file.write(bytes(packet))
