# SPDX-License-Identifier: Apache-2.0
"""The contact sheet: source, disparity in colour, holes and anaglyph, to judge a conversion at a glance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from secondeye.runtime import ops
from secondeye.runtime.converter import StereoFrame
from secondeye.runtime.writers import flatten_alpha

Pixels = NDArray[np.uint8]
_TILE_WIDTH = 960
_BAR = 30

# Turbo's published polynomial approximation: A. Mikhailov, "Turbo, an improved rainbow colormap", 2019.
_TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


def colour_map(values: NDArray[np.float32]) -> Pixels:
    """A map in colour, uint8 [H, W, 3]: blue is the least, red the greatest; NaN is black."""
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    unit = (np.where(finite, values, low) - low) / (high - low if high > low else 1.0)
    steps = np.arange(256)[:, None] / 255.0
    table = np.clip((steps ** np.arange(6)) @ _TURBO.T * 255.0, 0, 255).astype(np.uint8)
    coloured = table[np.clip(unit * 255.0, 0, 255).astype(np.uint8)]
    coloured[~finite] = 0
    return coloured


def label_sheet(picture: Pixels, painted: Pixels, labels: NDArray[np.uint16]) -> Pixels:
    """Picture, what a model painted of it, and the objects found, side by side: uint8 [H, W, 3]."""
    height, width = picture.shape[:2]
    scale = min(1.0, _TILE_WIDTH / max(width, height))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    # Colours far from their neighbours', by the golden ratio round the circle.
    hue = (np.arange(int(labels.max()) + 1) * 0.61803399) % 1.0
    wheel = np.clip(np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1.0 * 6 - 3) - 1, 0, 1)
    table = (64 + 176 * wheel).astype(np.uint8)
    table[0] = 0
    tiles = [picture, painted, table[labels]]
    return np.concatenate([ops.resize(np.ascontiguousarray(tile), h, w) for tile in tiles], axis=1)


def contact_sheet(frame: StereoFrame, *, anaglyph: str = "dubois-red-cyan") -> Pixels:
    """Four pictures in one, uint8 [H, W, 3], each about 960 pixels wide, with their names.

    The holes picture is the right view before filling, holes in magenta.
    """
    views = {"left": frame.left, "right": frame.right, "source": frame.source}
    flat = {name: flatten_alpha(view) if view.shape[2] == 4 else view for name, view in views.items()}
    holes = flat["right"].copy()
    holes[frame.holes > 0] = (255, 0, 255)
    share = 100.0 * float((frame.holes > 0).mean())
    low, high = float(frame.disparity.min()), float(frame.disparity.max())
    tiles = [
        ("source", flat["source"]),
        (f"disparity {low:+.1f} (blue) to {high:+.1f} px (red)", colour_map(frame.disparity)),
        (f"filled in the right view: {share:.1f} %", holes),
        (f"anaglyph, {anaglyph}", ops.anaglyph(flat["left"], flat["right"], anaglyph)),  # type: ignore[arg-type]
    ]
    height, width = frame.source.shape[:2]
    scale = min(1.0, _TILE_WIDTH / max(width, height))
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = np.full((2 * (h + _BAR), 2 * w, 3), 24, np.uint8)
    for index, (_, tile) in enumerate(tiles):
        y, x = (index // 2) * (h + _BAR) + _BAR, (index % 2) * w
        sheet[y : y + h, x : x + w] = ops.resize(np.ascontiguousarray(tile), h, w)
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=16)
    for index, (title, _) in enumerate(tiles):
        place = ((index % 2) * w + 8, (index // 2) * (h + _BAR) + 5)
        draw.text(place, title, fill=(230, 230, 230), font=font)
    return np.asarray(image)
