# SPDX-License-Identifier: Apache-2.0
"""What a model has to paint, cut out of a picture and laid side by side on a smaller one.

Disocclusions are thin strips along things' edges. Squares that cover them, each with room round it, come to the whole
picture; so here a mask is cut into boxes as narrow as it is, and the boxes are packed onto one canvas, which the model
sees as one picture. Attention has no sense of place, so over a canvas it is attention over the picture with most of it
left out, and norms are taken over everything that is painted, not over each box.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops

CELL = 8  # every edge is a multiple of this, pixels: a latent's side
CONTEXT = 3  # what is seen round a box, latents: the picture itself, not its neighbour on the canvas
STEP = 8  # a canvas's sides are multiples of this, latents: the networks halve them three times
MOST = 0.75  # of the picture's area; a larger canvas saves too little for what the model then does not see
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


class Piece(NamedTuple):
    """A box of a picture, pixels, and where it lies on the canvas."""

    y: int
    x: int
    height: int
    width: int
    top: int
    left: int


class Layout(NamedTuple):
    """A canvas and what lies on it.

    Attributes:
        height, width: of the canvas, pixels.
        pieces: none where nothing is masked; the picture as it is where a canvas would not be much smaller.
        share: of the canvas that would be needed in the picture's area, also where it was not taken.
    """

    height: int
    width: int
    pieces: tuple[Piece, ...]
    share: float

    @property
    def whole(self) -> bool:
        """Whether the canvas is the picture."""
        return self.share > MOST


def lay_out(where: Pixels, least: tuple[int, int]) -> Layout:
    """Pieces that cover a mask with room round it, on a canvas of least area.

    Args:
        where: uint8 [H, W], not 0 where something has to be painted; sides are multiples of 8 that a model takes.
        least: the least (height, width) that it takes, multiples of 8.
    """
    height, width = where.shape
    cells = ops.mask_cells(where, CELL) != 0
    if not cells.any():
        return Layout(0, 0, (), 0.0)
    boxes = _boxes(cells)
    sizes = [(y1 - y0, x1 - x0) for y0, y1, x0, x1 in boxes]
    high, wide = cells.shape
    best: tuple[int, int, list[tuple[int, int]]] = high, wide, [(0, 0)]
    for across in range(_up(max(least[1] // CELL, *(size[1] for size in sizes))), wide + STEP, STEP):
        needed, places = _pack(sizes, min(across, wide))
        down = min(_up(max(least[0] // CELL, needed)), high)
        if needed <= high and down * across < best[0] * best[1]:
            best = down, across, places
    share = best[0] * best[1] / cells.size
    if share > MOST:
        return Layout(height, width, (Piece(0, 0, height, width, 0, 0),), share)
    pieces = tuple(
        Piece(*(CELL * n for n in (y0, x0, y1 - y0, x1 - x0, *place)))
        for (y0, y1, x0, x1), place in zip(boxes, best[2], strict=True)
    )
    return Layout(best[0] * CELL, best[1] * CELL, pieces, share)


def _up(cells: int) -> int:
    return -(-cells // STEP) * STEP


def _boxes(cells: NDArray[np.bool_]) -> list[Box]:
    """Boxes (top, bottom, left, right) with room round what they cover: cut in two where that saves most, and again."""
    found, left = [], [(0, cells.shape[0], 0, cells.shape[1])]
    while left:
        y0, y1, x0, x1 = left.pop()
        part = cells[y0:y1, x0:x1]
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        y0, y1, x0, x1 = y0 + rows[0], y0 + rows[-1] + 1, x0 + columns[0], x0 + columns[-1] + 1
        part = cells[y0:y1, x0:x1]
        area, (down, row), (across, column) = _room(*part.shape), _best_cut(part), _best_cut(part.T)
        if min(down, across) >= area:
            high, wide = cells.shape
            found.append(
                (max(0, y0 - CONTEXT), min(high, y1 + CONTEXT), max(0, x0 - CONTEXT), min(wide, x1 + CONTEXT))
            )  # fmt: skip
        elif down <= across:
            left += [(y0, y0 + row, x0, x1), (y0 + row, y1, x0, x1)]
        else:
            left += [(y0, y1, x0, x0 + column), (y0, y1, x0 + column, x1)]
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in found]


def _room(height: Any, width: Any) -> Any:
    return (height + 2 * CONTEXT) * (width + 2 * CONTEXT)


def _best_cut(part: NDArray[np.bool_]) -> tuple[float, int]:
    """(the area of two boxes above and below a cut, the first row below it); the first and the last row are masked."""
    if len(part) < 2:
        return np.inf, 0
    both = _growing(part)[:-1] + _growing(part[::-1])[-2::-1]
    return float(both.min()), int(both.argmin()) + 1


def _growing(part: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The area of the box that covers the first row, the first two rows, and so on."""
    high, wide = part.shape
    masked = part.any(1)
    first = np.where(masked, part.argmax(1), wide)
    last = np.where(masked, wide - part[:, ::-1].argmax(1), 0)
    bottom = np.maximum.accumulate(np.where(masked, np.arange(1, high + 1), 0))
    span = np.maximum.accumulate(last) - np.minimum.accumulate(first)
    return np.asarray(_room(bottom, span), np.int64)


def _pack(sizes: list[tuple[int, int]], width: int) -> tuple[int, list[tuple[int, int]]]:
    """(height needed, where each size lies): the tallest first, each as high up as it goes."""
    skyline = np.zeros(width, np.int64)
    places = [(0, 0)] * len(sizes)
    for k in sorted(range(len(sizes)), key=lambda k: (-sizes[k][0], -sizes[k][1])):
        tall, wide = sizes[k]
        tops = _highest(skyline, wide)
        left = int(tops.argmin())
        places[k] = int(tops[left]), left
        skyline[left : left + wide] = tops[left] + tall
    return int(skyline.max()), places


def _highest(values: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The greatest of `count` neighbours, from each place on that has as many."""
    seen = 1
    while seen < count:
        step = min(seen, count - seen)
        values = np.maximum(values[:-step], values[step:])
        seen += step
    return values


def cut(array: NDArray[Any], layout: Layout, scale: int = 1) -> NDArray[Any]:
    """[H / scale, W / scale, ...] -> [height / scale, width / scale, ...] of a canvas.

    Between the pieces there is more of the picture, so that a network's norms see what they would see.
    """
    canvas = array[: layout.height // scale, : layout.width // scale].copy()
    for y, x, height, width, top, left in (tuple(n // scale for n in piece) for piece in layout.pieces):
        canvas[top : top + height, left : left + width] = array[y : y + height, x : x + width]
    return canvas


def join(base: Pixels, canvas: Pixels, layout: Layout) -> Pixels:
    """A canvas's pieces over a picture; where they overlap, the mean with weights that fall towards a piece's border.

    Args:
        base: uint8 [H, W, 3], kept where there is no piece.
        canvas: uint8 [height, width, 3].
        layout: where the pieces lie.

    Returns:
        uint8 [H, W, 3], rounded to the nearest.
    """
    joined = base.copy()
    for y, x, height, width, top, left in layout.pieces:  # where one piece lies alone, its weights cancel out
        joined[y : y + height, x : x + width] = canvas[top : top + height, left : left + width]
    for part in _shared(layout.pieces):
        joined[part] = _mean(canvas, layout.pieces, part)
    return joined


def _shared(pieces: tuple[Piece, ...]) -> list[tuple[slice, slice]]:
    """The rectangles of a picture that two pieces share."""
    boxes = np.array(pieces)[:, :4]
    first = boxes[:, :2]
    low = np.maximum(first[:, None], first)
    high = np.minimum((first + boxes[:, 2:])[:, None], first + boxes[:, 2:])
    pairs = np.argwhere(np.triu((low < high).all(2), 1))
    return [
        (slice(int(low[i, j, 0]), int(high[i, j, 0])), slice(int(low[i, j, 1]), int(high[i, j, 1]))) for i, j in pairs
    ]


def _mean(canvas: Pixels, pieces: tuple[Piece, ...], part: tuple[slice, slice]) -> Pixels:
    """The weighted mean of all pieces in a rectangle that at least one of them covers."""
    (y0, y1), (x0, x1) = ((one.start, one.stop) for one in part)
    total = np.zeros((y1 - y0, x1 - x0, canvas.shape[2]), np.uint32)
    weights = np.zeros((y1 - y0, x1 - x0, 1), np.uint32)
    for y, x, height, width, top, left in pieces:
        a, b, c, d = max(y, y0), min(y + height, y1), max(x, x0), min(x + width, x1)
        if a >= b or c >= d:
            continue
        down, across = (
            np.minimum(np.arange(low - start, high - start) + 1, start + length - np.arange(low, high))
            for low, high, start, length in ((a, b, y, height), (c, d, x, width))
        )
        weight = np.minimum(np.minimum(down[:, None], across), CONTEXT * CELL).astype(np.uint32)[:, :, None]
        seen = canvas[top + a - y : top + b - y, left + c - x : left + d - x]
        total[a - y0 : b - y0, c - x0 : d - x0] += weight * seen
        weights[a - y0 : b - y0, c - x0 : d - x0] += weight
    return ((total + weights // 2) // weights).astype(np.uint8)
