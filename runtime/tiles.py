# SPDX-License-Identifier: Apache-2.0
"""A picture worked on in tiles: which ones, cut out, and put together again without seams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops.mask import Tile

TILE, CONTEXT = 256, 32
"""A tile's side and the least that it sees round what it has to paint, pixels (at a picture's border there is less)."""
Pixels = NDArray[np.uint8]


def cover(where: Pixels, least: tuple[int, int]) -> list[Tile]:
    """The tiles that cover a mask, of one size.

    Args:
        where: uint8 [H, W], not 0 where something has to be painted; sides are multiples of 8 that a model takes.
        least: the least (height, width) that it takes, multiples of 8.

    Returns:
        As :func:`secondeye.runtime.ops.mask_tiles`.

    Raises:
        InvalidInputError: it takes nothing smaller than the picture.
    """
    side = max(TILE, *least)
    if side > TILE and side >= max(where.shape):
        raise InvalidInputError(
            f"tiles: the bundle takes no less than {least[0]} x {least[1]} pixels, so a tile is the whole picture; "
            "build it with a range such as --shape 256x256:768x1280:1088x1920, or use tiles='dense'."
        )
    return ops.mask_tiles(where, tile=side, overlap=2 * CONTEXT)


def cut(array: NDArray[Any], tiles: list[Tile], scale: int = 1) -> NDArray[Any]:
    """[H / scale, W / scale, ...] -> [tiles, h / scale, w / scale, ...]."""
    return np.stack(
        [
            array[t.y // scale : (t.y + t.height) // scale, t.x // scale : (t.x + t.width) // scale]
            for t in tiles
        ]
    )  # fmt: skip


def join(base: Pixels, parts: Pixels, tiles: list[Tile]) -> Pixels:
    """Tiles over a picture; where they overlap, the mean with weights that fall towards each tile's border.

    Args:
        base: uint8 [H, W, 3], kept where there is no tile.
        parts: uint8 [tiles, h, w, 3].
        tiles: where they lie.

    Returns:
        uint8 [H, W, 3], rounded to the nearest.
    """
    if not tiles:
        return base.copy()
    height, width = tiles[0].height, tiles[0].width
    across, down = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in (width, height))
    weight = np.minimum(np.minimum(down[:, None], across), CONTEXT).astype(np.uint32)[:, :, None]
    total = np.zeros(base.shape, np.uint32)
    weights = np.zeros((*base.shape[:2], 1), np.uint32)
    for tile, part in zip(tiles, parts, strict=True):
        place = np.s_[tile.y : tile.y + height, tile.x : tile.x + width]
        total[place] += weight * part
        weights[place] += weight
    covered = weights > 0
    weights[~covered] = 1
    return np.where(covered, (total + weights // 2) // weights, base).astype(np.uint8)
