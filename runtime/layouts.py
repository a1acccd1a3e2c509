# SPDX-License-Identifier: Apache-2.0
"""Output layouts: one entry each. A layout turns a stereo frame into the picture that is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.converter import StereoFrame
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops.pack import HALVED, PackLayout, reference
from secondeye.runtime.writers import flatten_alpha

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One output layout.

    Attributes:
        name: as given to ``--layout``.
        suffix: what players look for at the end of a file's name.
        summary: one line for the table.
        wide, tall: the picture's size in views.
        compose: (frame, anaglyph kind) -> uint8 [H, W, 1|3|4].
    """

    name: str
    suffix: str
    summary: str
    compose: Callable[[StereoFrame, str], Pixels]
    wide: float = 1.0
    tall: float = 1.0


WIDE_LAYOUTS = ("sbs", "half-sbs", "tb", "half-tb", "cross", "rows", "columns", "checkerboard", "left", "right")
"""Those that also take views of 16-bit values."""


def _pack(first: Pixels, second: Pixels, layout: PackLayout) -> Pixels:
    packed: Pixels = ops.pack(first, second, layout) if first.dtype == np.uint8 else reference(first, second, layout)
    return packed


def _half(frame: StereoFrame, layout: PackLayout) -> Pixels:
    """Each view halved along one axis; of an odd side the last half pixel is lost."""
    axis, whole = HALVED[layout], frame.left.shape[HALVED[layout]]
    if whole % 2 == 0:
        return _pack(frame.left, frame.right, layout)
    if frame.left.dtype != np.uint8:
        even = slice(0, whole - 1) if whole > 1 else np.zeros(2, np.intp)
        left, right = ((v[:, even] if axis else v[even]) for v in (frame.left, frame.right))
        return reference(left, right, layout)
    height, width, _ = frame.left.shape
    half = max(1, whole // 2)
    size = (height, half) if axis else (half, width)
    pair: Pixels = np.concatenate([ops.resize(v, *size, filter="area") for v in (frame.left, frame.right)], axis=axis)
    return pair


def _anaglyph(frame: StereoFrame, kind: str) -> Pixels:
    views = [flatten_alpha(v) if v.shape[2] == 4 else v for v in (frame.left, frame.right)]
    return ops.anaglyph(views[0], views[1], kind)  # type: ignore[arg-type]


def grey_disparity(frame: StereoFrame, dtype: type[np.uint8 | np.uint16] = np.uint8) -> NDArray[Any]:
    """Disparity as grey, dtype [H, W, 1]: far black, near white, over the frame's `ends` or its own range."""
    low, high = frame.ends or (float(frame.disparity.min()), float(frame.disparity.max()))
    scale = np.float32(np.iinfo(dtype).max / (high - low) if high > low else 0.0)
    grey = (np.clip(frame.disparity, np.float32(low), np.float32(high)) - np.float32(low)) * scale
    return np.rint(grey).astype(dtype)[:, :, None]


def _rgbd(frame: StereoFrame, _: str) -> Pixels:
    grey = np.repeat(grey_disparity(frame), 3, axis=2)
    colour = flatten_alpha(frame.source) if frame.source.shape[2] == 4 else frame.source
    return ops.pack(np.ascontiguousarray(colour), grey, "sbs")


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="sbs", suffix="_SBS", wide=2.0, summary="full side by side, left view on the left",
            compose=lambda f, _: _pack(f.left, f.right, "sbs"),
        ),
        Layout(
            name="half-sbs", suffix="_HSBS", summary="half side by side: each view at half width, for 3D TVs",
            compose=lambda f, _: _half(f, "half-sbs"),
        ),
        Layout(
            name="tb", suffix="_TB", tall=2.0, summary="full top-bottom, left view on top",
            compose=lambda f, _: _pack(f.left, f.right, "tb"),
        ),
        Layout(
            name="half-tb", suffix="_HTB", summary="half top-bottom: each view at half height",
            compose=lambda f, _: _half(f, "half-tb"),
        ),
        Layout(
            name="cross", suffix="_RL", wide=2.0, summary="cross-eyed: right view on the left, for free viewing",
            compose=lambda f, _: _pack(f.right, f.left, "sbs"),
        ),
        Layout(
            name="rows", suffix="_RI", summary="row-interleaved, for passive 3D monitors",
            compose=lambda f, _: _pack(f.left, f.right, "rows"),
        ),
        Layout(
            name="columns", suffix="_CI", summary="column-interleaved",
            compose=lambda f, _: _pack(f.left, f.right, "columns"),
        ),
        Layout(
            name="checkerboard", suffix="_CB", summary="checkerboard, for DLP projectors",
            compose=lambda f, _: _pack(f.left, f.right, "checkerboard"),
        ),
        Layout(
            name="anaglyph", suffix="_ANA", summary="one picture for coloured glasses; see --anaglyph",
            compose=_anaglyph,
        ),
        Layout(
            name="left", suffix="_L", summary="the left view alone", compose=lambda f, _: f.left,
        ),
        Layout(
            name="right", suffix="_R", summary="the right view alone", compose=lambda f, _: f.right,
        ),
        Layout(
            name="disparity", suffix="_disparity", summary="the disparity map in grey, near is white",
            compose=lambda f, _: grey_disparity(f),
        ),
        Layout(
            name="rgbd", suffix="_RGBD", wide=2.0, summary="colour on the left, grey disparity on the right",
            compose=_rgbd,
        ),
    )
}  # fmt: skip
SEPARATE = "separate"
"""Not a picture but two: NAME_L and NAME_R."""


def compose(frame: StereoFrame, layout: str = "sbs", *, anaglyph: str = "dubois-red-cyan") -> Pixels:
    """The picture of a layout.

    Args:
        frame: what :meth:`secondeye.StereoConverter.convert` returned.
        layout: a name in :data:`LAYOUTS`.
        anaglyph: a name in :data:`secondeye.runtime.ops.ANAGLYPHS`, for that layout.

    Returns:
        uint8 [H, W, C]; C is 4 where the source had transparency and the layout can keep it, 1 for ``disparity``.

    Raises:
        InvalidInputError: no such layout or kind, listing those there are.
    """
    if layout not in LAYOUTS:
        raise InvalidInputError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}.")
    return LAYOUTS[layout].compose(frame, anaglyph)
