# SPDX-License-Identifier: Apache-2.0
"""The pixel operations: each has one NumPy reference, and every implementation returns exactly its bytes."""

from secondeye.runtime.ops._common import isas
from secondeye.runtime.ops.anaglyph import MATRICES as ANAGLYPHS, anaglyph
from secondeye.runtime.ops.blend import blend, feather
from secondeye.runtime.ops.disparity import depth_range, disparity, smooth_edges, upsample, widen_foreground
from secondeye.runtime.ops.fill import fill
from secondeye.runtime.ops.level import level
from secondeye.runtime.ops.mask import Tile, inpaint_mask, mask_cells, mask_tiles
from secondeye.runtime.ops.motion import motion
from secondeye.runtime.ops.nv12 import nv12
from secondeye.runtime.ops.pack import pack
from secondeye.runtime.ops.resample import prepare, resize, restore
from secondeye.runtime.ops.warp import Eye, Law, Views, Warped, warp, warp_views, warped_disparity

__all__ = [
    "ANAGLYPHS",
    "Eye",
    "Law",
    "Tile",
    "Views",
    "Warped",
    "anaglyph",
    "blend",
    "depth_range",
    "disparity",
    "feather",
    "fill",
    "inpaint_mask",
    "isas",
    "level",
    "mask_cells",
    "mask_tiles",
    "motion",
    "nv12",
    "pack",
    "prepare",
    "resize",
    "restore",
    "smooth_edges",
    "upsample",
    "warp",
    "warp_views",
    "warped_disparity",
    "widen_foreground",
]
