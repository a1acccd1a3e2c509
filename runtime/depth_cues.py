# SPDX-License-Identifier: Apache-2.0
"""The classical depth cues, without a network: the bar that any learned model has to clear.

Four cues, each in 0..1 with 1 = near: height in the picture (the ground comes nearer downwards), saliency (what differs
from the picture's border in colour stands before it), sharpness (what is in focus and has texture is near) and colour
(far things turn pale and blue in the air).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops

Map = NDArray[np.float32]

_SIDE = 192
_WEIGHTS = {"height": 0.5, "saliency": 0.25, "sharpness": 0.15, "colour": 0.1}


def cue_disparity(picture: NDArray[np.uint8]) -> Map:
    """Nearness by the classical cues.

    Args:
        picture: uint8 [H, W, 3], sRGB.

    Returns:
        float32 [h, w] in 0..1, near = 1; the longer side is 192 cells or the picture's own length.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    h, w = max(2, round(height * scale)), max(2, round(width * scale))
    small = ops.resize(picture, h, w, filter="area").astype(np.float32) / 255.0
    y = np.linspace(0.0, 1.0, h, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, w, dtype=np.float32)[None, :]
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    chroma = np.stack([grey, small[..., 0] - grey, small[..., 2] - grey], -1)
    edge = max(1, min(h, w) // 16)
    border = np.concatenate(
        [chroma[:edge].reshape(-1, 3), chroma[:, :edge].reshape(-1, 3), chroma[:, -edge:].reshape(-1, 3)]
    )
    spread = border.std(0) + 0.05
    different = np.sqrt((((chroma - border.mean(0)) / spread) ** 2).sum(-1))
    central = np.exp(-(x**2) / 0.8 - ((y - 0.55) * 2) ** 2 / 0.9)
    detail = np.abs(grey - _blur(grey, 2))
    cues = {
        "height": np.broadcast_to(y, (h, w)),
        "saliency": _unit(_blur(different, 4) * central),
        "sharpness": _unit(_blur(detail, 6)),
        "colour": _unit(_blur(small[..., 0] - small[..., 2] + 0.5 * (small.max(-1) - small.min(-1)), 4)),
    }
    total = sum(weight * cues[name] for name, weight in _WEIGHTS.items())
    return np.asarray(total, np.float32)


def _unit(values: Map) -> Map:
    low, high = np.quantile(values, (0.02, 0.98))
    return np.clip((values - low) / max(float(high - low), 1e-6), 0.0, 1.0).astype(np.float32)


def _blur(values: Map, radius: int) -> Map:
    """Two box filters in a row, each (2 radius + 1) cells wide, borders repeated."""
    for axis in (0, 1, 0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis, dtype=np.float64)
        size = 2 * radius + 1
        later, earlier = (total[size:], total[:-size]) if axis == 0 else (total[:, size:], total[:, :-size])
        values = ((later - earlier) / size).astype(np.float32)
    return values
