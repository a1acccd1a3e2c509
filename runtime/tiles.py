# SPDX-License-Identifier: Apache-2.0
"""A picture worked on in tiles: which ones, cut out, and put together again without seams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops.mask import Tile

SIDES, CONTEXT = (128, 192, 256, 384), 32
"""Sides of tiles to choose from, and the least that a tile sees round what it has to paint (at a picture's border there
is less), pixels."""
Pixels = NDArray[np.uint8]


def cover(where: Pixels, least: tuple[int, int]) -> list[Tile]:
    """Tiles of one size that cover a mask with context round it, of least area in all.

    Where tiles would be more work than the picture, the picture is the one tile.

    Args:
        where: uint8 [H, W], not 0 where something has to be painted; sides are multiples of 8 that a model takes.
        least: the least (height, width) that it takes, multiples of 8.

    Returns:
        From top to bottom, every edge a multiple of 8. Empty when nothing is masked.

    Raises:
        InvalidInputError: it takes nothing smaller than the picture.
    """
    height, width = where.shape
    if max(least) > SIDES[-1] and max(least) >= max(height, width):
        raise InvalidInputError(
            f"tiles: the bundle takes no less than {least[0]} x {least[1]} pixels, so a tile is the whole picture; "
            "build it with a range such as --shape 128x128:768x1280:1088x1920, or use tiles='dense'."
        )
    mask = np.asarray(where != 0, np.bool_)
    if not mask.any():
        return []
    best = [Tile(0, 0, height, width)]
    for side in sorted({max(side, *least) for side in SIDES}, reverse=True):
        tiles = _shelves(mask, min(side, height), min(side, width))
        if sum(t.height * t.width for t in tiles) < sum(t.height * t.width for t in best):
            best = tiles
    return best


def _shelves(mask: NDArray[np.bool_], height: int, width: int) -> list[Tile]:
    """Tiles in rows, each row and each tile beginning at the first masked pixel that is not covered yet."""

    def place(first: int, size: int, length: int) -> tuple[int, int]:
        """Where a tile with context before `first` begins, and where what it covers ends."""
        begin = max(0, min((first - CONTEXT) // 8 * 8, length - size))
        return begin, length if begin + size == length else begin + size - CONTEXT

    rows = np.asarray(mask.any(1), np.bool_)
    tiles, y = [], 0
    while rows[y:].any():
        y += int(rows[y:].argmax())
        top, bottom = place(y, height, mask.shape[0])
        columns, x = np.asarray(mask[y:bottom].any(0), np.bool_), 0
        while columns[x:].any():
            x += int(columns[x:].argmax())
            left, right = place(x, width, mask.shape[1])
            tiles.append(Tile(top, left, height, width))
            x = right
        y = bottom
    return tiles


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
