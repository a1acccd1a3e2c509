# SPDX-License-Identifier: Apache-2.0
"""A film's frame from the decoder's pixels to the picture that is encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.converter import StereoConverter, StereoFrame
from secondeye.runtime.layouts import compose, grey_disparity
from secondeye.runtime.video import media
from secondeye.runtime.video.config import FilmConfig
from secondeye.runtime.video.objects import Labels
from secondeye.runtime.video.stages import QUEUE
from secondeye.runtime.video.temporal import Steady

Pixels = NDArray[np.uint8]
WINDOW_LIMIT = 0.03  # of the width: a floating window's widest bar


def read_frame(
    read: media.PixelReader, frame: Any, info: media.FilmInfo, config: FilmConfig
) -> tuple[Pixels, NDArray[np.uint16] | None]:
    """A decoded frame as uint8 [H, W, 3] and, where its depth of samples is kept, as uint16."""
    size = config.stereo.size
    if config.keeps_depth(info):
        values = _even(read.values(frame, size))
        return read.look_of(values), values
    pixels = _even(read(frame))
    return pixels if size is None else ops.resize(pixels, size[1], size[0], filter="bilinear"), None


def _even(pixels: NDArray[Any]) -> NDArray[Any]:
    """Without the last line and column where their number is odd: encoders want even sides."""
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


class Ring:
    """Memory for packed frames, used again in turn: fresh pages cost more than the packing."""

    def __init__(self, turns: int = QUEUE + 4) -> None:
        self._kept: list[Pixels | None] = [None] * turns  # more than are on their way at once
        self._next = 0

    def __call__(self, height: int, width: int) -> Pixels:
        """uint8 [H, W, 3], undefined."""
        self._next = (self._next + 1) % len(self._kept)
        kept = self._kept[self._next]
        if kept is None or kept.shape != (height, width, 3):
            kept = self._kept[self._next] = np.empty((height, width, 3), np.uint8)
        return kept


def draw_frame(
    converter: StereoConverter,
    config: FilmConfig,
    pixels: Pixels,
    values: NDArray[np.uint16] | None,
    steady: Steady,
    ring: Ring,
    labels: Labels | None = None,
    *,
    own: NDArray[np.uint16] | None = None,
    burn: Callable[[StereoFrame], StereoFrame] | None = None,
) -> tuple[StereoFrame, NDArray[Any]]:
    """A frame's two views, and its picture in its layout, [H, W, 3]; that is overwritten some frames later.

    `own` is a map of the film's, for steady depth; `burn` draws text into the views. A map of 16 bits is [H, W].
    """
    nearness = steady.depth if own is None else own
    frame = converter.convert_with(pixels, nearness, screen_of(config, steady), labels, values=values)
    if config.floating_window:
        _float(frame, window_of(config, steady, pixels.shape[1]), swapped=config.stereo.swap)
    if burn is not None:
        frame = burn(frame)
    if values is None and config.layout in ("sbs", "tb"):
        height, width = pixels.shape[:2]
        wide = config.layout == "sbs"
        into = ring(height if wide else 2 * height, 2 * width if wide else width)
        packed: Pixels = ops.pack(frame.left, frame.right, config.layout, out=into)  # type: ignore[arg-type]
        return frame, packed
    if config.deep_map:
        return frame, grey_disparity(frame, np.uint16)[:, :, 0]
    made = compose(frame, config.layout, anaglyph=config.anaglyph)
    return frame, np.repeat(made, 3, axis=2) if made.shape[2] == 1 else made


def window_of(config: FilmConfig, steady: Steady, width: int) -> tuple[int, int]:
    """How wide a floating window's bars are, pixels: as far as what the left and the right border cut stands out."""
    stereo, screen = config.stereo, screen_of(config, steady)
    full = stereo.strength_for(width) / 100.0 * width
    out = (full * (max(border, 0.0) ** stereo.gamma - screen) for border in steady.borders)
    left, right = (min(round(max(0.0, v)), round(width * WINDOW_LIMIT)) for v in out)
    return left, right


def _float(frame: StereoFrame, bars: tuple[int, int], *, swapped: bool) -> None:
    """Black over what one eye alone sees beside a border: the frame's edge then stands as far out as what it cuts."""
    left, right = (frame.right, frame.left) if swapped else (frame.left, frame.right)
    left[:, : bars[0]] = 0
    right[:, right.shape[1] - bars[1] :] = 0


def screen_of(config: FilmConfig, steady: Steady) -> float:
    """The depth that lies on the screen."""
    return steady.convergence if config.auto_convergence else config.stereo.convergence
