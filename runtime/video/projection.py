# SPDX-License-Identifier: Apache-2.0
"""VR180: flat views drawn onto the inside of half a sphere, where a headset's viewer looks round.

Each view becomes a square, equirectangular picture of 180 x 180 degrees. The flat frame stands straight ahead and
covers `fov` degrees of it; the rest is black. In its middle a pixel stays about a pixel.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError

MAX_SIDE_PX = 4096
_STEREO = {"sbs": "sbs", "tb": "tb"}


def side_of(width: int, fov: float) -> int:
    """The side of a view's square, pixels: a multiple of 16, at most 4096."""
    exact = width * math.pi / (2.0 * math.tan(math.radians(fov) / 2.0))
    return min(MAX_SIDE_PX, max(64, round(exact / 16) * 16))


class Vr180:
    """Draws packed frames onto half a sphere, by FFmpeg's v360 filter (bilinear).

    Args:
        width, height: of one flat view, pixels.
        aspect: of a pixel.
        layout: ``sbs`` or ``tb``.
        fov: how much of the half sphere the picture's width covers, 20 to 150 degrees.

    Raises:
        InvalidInputError: another layout, or fov out of range.
    """

    def __init__(self, width: int, height: int, aspect: float, layout: str, fov: float) -> None:
        check(layout, fov)
        side = side_of(width, fov)
        sbs = layout == "sbs"
        self.size = (2 * side, side) if sbs else (side, 2 * side)
        upright = 2.0 * math.degrees(math.atan(math.tan(math.radians(fov) / 2.0) * height / (width * aspect)))
        self._options = (
            f"input=flat:output=hequirect:interp=linear:ih_fov={fov:.6f}:iv_fov={upright:.6f}:"
            f"w={side}:h={side}:in_stereo={_STEREO[layout]}:out_stereo={_STEREO[layout]}"
        )
        self._graph: Any = None
        self._corners = [(0, 0), (0, side) if sbs else (side, 0)]
        self._outside = _outside(side, math.radians(fov) / 2.0, math.radians(upright) / 2.0)

    def __call__(self, frame: Any) -> Any:
        """An rgb24 or rgb48le frame of both views as one on half spheres."""
        import av.filter

        if self._graph is None:
            planar = "gbrp" if frame.format.name == "rgb24" else "gbrp16le"
            graph = av.filter.Graph()
            steps = [
                graph.add_buffer(
                    width=frame.width, height=frame.height, format=frame.format.name, time_base=Fraction(1, 1000)
                ),
                graph.add("format", planar),
                graph.add("v360", self._options),
                graph.add("buffersink"),
            ]
            graph.link_nodes(*steps).configure()
            self._graph = graph
        self._graph.push(frame)
        drawn = self._graph.pull()
        # The filter leaves the first pixel's colour where the frame does not reach.
        top, left, mask = self._outside
        (side, _), (height, width) = sorted(self.size), mask.shape
        for plane in drawn.planes:
            size = 1 if drawn.format.name == "gbrp" else 2
            whole = np.ndarray(self.size[::-1], f"u{size}", plane, strides=(plane.line_size, size))
            for y, x in self._corners:
                view = whole[y : y + side, x : x + side]
                view[:top], view[top + height :], view[:, :left], view[:, left + width :] = 0, 0, 0, 0
                view[top : top + height, left : left + width] *= mask
        return drawn


def _outside(side: int, across: float, up: float) -> tuple[int, int, NDArray[np.uint8]]:
    """Where the frame lies in a view: top, left, and 1 for its pixels, 0 for those round it."""
    angle = (np.arange(side) + 0.5) * (math.pi / side) - math.pi / 2.0
    inside = (np.abs(np.tan(angle)) <= math.tan(across))[None] & (
        np.abs(np.tan(angle))[:, None] <= math.tan(up) * np.cos(angle)[None]
    )
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, inside[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].astype(np.uint8)


def check(layout: str, fov: float) -> None:
    """Whether VR180 takes these.

    Raises:
        InvalidInputError: it does not.
    """
    if layout not in _STEREO:
        raise InvalidInputError(f"layout: VR180 takes sbs or tb, got {layout!r}.")
    if not 20.0 <= fov <= 150.0:
        raise InvalidInputError(f"fov: expected 20 to 150 degrees, got {fov:g}.")
