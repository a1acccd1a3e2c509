# SPDX-License-Identifier: Apache-2.0
"""The pixel operations: each has one NumPy reference, and every implementation returns exactly its bytes."""

from secondeye.runtime.ops._common import isas
from secondeye.runtime.ops.anaglyph import MATRICES as ANAGLYPHS, anaglyph
from secondeye.runtime.ops.disparity import (
    depth_range,
    disparity,
    strength_for_degrees,
    upsample,
    widen_foreground,
)
from secondeye.runtime.ops.fill import fill
from secondeye.runtime.ops.pack import pack
from secondeye.runtime.ops.resample import prepare, resize
from secondeye.runtime.ops.warp import Eye, Law, Warped, warp

__all__ = [
    "ANAGLYPHS",
    "Eye",
    "Law",
    "Warped",
    "anaglyph",
    "depth_range",
    "disparity",
    "fill",
    "isas",
    "pack",
    "prepare",
    "resize",
    "strength_for_degrees",
    "upsample",
    "warp",
    "widen_foreground",
]
