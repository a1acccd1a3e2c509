# SPDX-License-Identifier: Apache-2.0
"""mask: where a model should paint, made from a warp's holes; its cells and the tiles that cover it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import Array, Backend, Isa, check_host, check_plane, isa_code, output, uses_reference
from secondeye.runtime.ops.warp import EYE_CODES, Eye, Warped

DISOCCLUSION, FRAME_EDGE = 255, 128


class Tile(NamedTuple):
    """A rectangle of a picture, pixels."""

    y: int
    x: int
    height: int
    width: int


# ---- inpaint_mask -----------------------------------------------------------------------------------------


def _window(bits: Array, radius: int, join: bool) -> Array:
    """Union (join) or intersection over squares of side 2 * radius + 1, cut at the borders."""
    padded = np.pad(bits, radius, constant_values=not join)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(windows.any((2, 3)) if join else windows.all((2, 3)))


def _grown(run: Array, back: Array, far: int, near: int) -> NDArray[np.uint8]:
    """One row: its runs grown, by kind."""
    width = run.size
    kinds = np.zeros(width, np.uint8)
    q = back.astype(np.int64) - 256 * np.arange(width)
    known = np.flatnonzero(back >= 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], run.astype(np.int8), [0]])))
    for left, right in edges.reshape(-1, 2):
        before, after = known[known < left], known[known >= right]
        far_right = after.size > 0 and (before.size == 0 or q[after[0]] <= q[before[-1]])
        low, high = (near, far) if far_right else (far, near)
        kind = FRAME_EDGE if left == 0 or right == width else DISOCCLUSION
        part = kinds[max(0, left - low) : right + high]
        np.maximum(part, kind, out=part)
    return kinds


def reference(holes: Array, back: Array, eye: Eye, sizes: tuple[int, int, int, int, int]) -> NDArray[np.uint8]:
    """The law of inpaint_mask in NumPy; see kernels/ops/mask.op.h."""
    if eye == "left":
        return reference(holes[:, ::-1], back[:, ::-1], "right", sizes)[:, ::-1]
    close, speck, far, near, tall = sizes
    closed = _window(_window(holes != 0, close, True), close, False)
    opened = _window(_window(closed, speck, False), speck, True)
    rows = np.stack([_grown(opened[y], back[y], far, near) for y in range(holes.shape[0])])
    padded = np.pad(rows, ((tall, tall), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * tall + 1, axis=0).max(2)


@any_array
def inpaint_mask(
    warped: Warped,
    *,
    eye: Eye = "right",
    close: int = 1,
    speck: int = 1,
    far: int = 4,
    near: int = 1,
    tall: int = 1,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.uint8]:
    """The pixels that a model should paint: a warp's holes, cleaned and widened.

    Pinholes are closed, slivers that :func:`fill` does well are dropped, and what is left grows: over the background
    beside it, where a model needs room to join its texture, further than over the foreground, whose edge it must keep.

    Args:
        warped: what :func:`secondeye.runtime.ops.warp` returned.
        eye: the view that it is.
        close: 0 to 4; gaps inside holes up to twice this wide are closed.
        speck: 0 to 4; holes thinner than 2 * speck + 1 pixels are left out.
        far, near, tall: 0 to 64 pixels of growth toward the background, toward the foreground, up and down.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W]: 255 disocclusion, 128 hole at the frame's edge (which no neighbour frame shows), 0 none.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    _, holes, back = warped
    check_plane("holes", holes, np.uint8)
    check_plane("map", back, np.int32, holes.shape)
    if eye not in EYE_CODES:
        raise InvalidInputError(f"eye: expected right or left, got {eye!r}.")
    if not (0 <= close <= 4 and 0 <= speck <= 4 and all(0 <= n <= 64 for n in (far, near, tall))):
        raise InvalidInputError(
            "inpaint_mask: expected close and speck 0 to 4 and far, near and tall 0 to 64 pixels, "
            f"got {close}, {speck}, {far}, {near} and {tall}."
        )
    target = output(out, holes.shape, np.uint8, holes)
    sizes = (close, speck, far, near, tall)
    if uses_reference(backend, holes, back):
        target[...] = reference(holes, back, eye, sizes)
    else:
        _native.inpaint_mask(EYE_CODES[eye], sizes, holes, back, target, threads, isa_code(isa))
    return target


# ---- mask_cells -------------------------------------------------------------------------------------------


def cells_reference(mask: Array, side: int, area: bool) -> NDArray[np.uint8]:
    """The law of mask_cells in NumPy; see kernels/ops/mask.op.h."""
    tops, lefts = np.arange(0, mask.shape[0], side), np.arange(0, mask.shape[1], side)
    counted = np.add.reduceat(np.add.reduceat((mask != 0).astype(np.int64), tops, axis=0), lefts, axis=1)
    if not area:
        return np.where(counted > 0, 255, 0).astype(np.uint8)
    high = np.minimum(tops + side, mask.shape[0]) - tops
    wide = np.minimum(lefts + side, mask.shape[1]) - lefts
    pixels = high[:, None] * wide[None]
    return ((255 * counted + pixels // 2) // pixels).astype(np.uint8)


@any_array
def mask_cells(
    mask: Array,
    side: int = 8,
    *,
    kind: Literal["any", "area"] = "any",
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> NDArray[np.uint8]:
    """A mask at the resolution of a model's latents.

    Args:
        mask: uint8 [H, W]; what is not 0 counts.
        side: of a cell, 1 to 256 pixels.
        kind: ``any`` gives 255 where a cell has a masked pixel; ``area`` gives their share, 0 to 255.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [ceil(H / side), ceil(W / side)].

    Raises:
        InvalidInputError: shape, dtype or parameters do not fit.

    Numerics: EXACT.
    """
    check_plane("mask", mask, np.uint8)
    if not 1 <= side <= 256 or kind not in ("any", "area"):
        raise InvalidInputError(f"mask_cells: expected side 1 to 256 and kind any or area, got {side}, {kind!r}.")
    target = output(out, (-(-mask.shape[0] // side), -(-mask.shape[1] // side)), np.uint8, mask)
    if uses_reference(backend, mask):
        target[...] = cells_reference(mask, side, kind == "area")
    else:
        _native.mask_cells(side, kind == "area", mask, target, threads, isa_code(isa))
    return target


@any_array
def mask_tiles(mask: Array, *, tile: int = 512, overlap: int = 64, align: int = 8) -> list[Tile]:
    """The tiles that a model has to work on to paint all of a mask.

    Tiles lie on a grid whose neighbours overlap by at least `overlap` pixels; those in whose own part (without half of
    each overlap) nothing is masked are left out. At the picture's far borders tiles are moved inward, so that all
    are of one size (the picture's, aligned down, where it is smaller than a tile).

    Args:
        mask: uint8 [H, W], on the host.
        tile: side, pixels; a multiple of `align`.
        overlap: pixels, at most `tile` - `align`.
        align: every edge is a multiple of this; the masked rest of a picture whose sides are none is not covered.

    Returns:
        Tiles from top to bottom, then left to right. Empty when nothing is masked.

    Raises:
        InvalidInputError: shape, dtype or parameters do not fit, or the picture is smaller than `align`.
    """
    check_plane("mask", mask, np.uint8)
    check_host("mask", mask)
    if not (1 <= align <= tile and tile % align == 0 and 0 <= overlap <= tile - align):
        raise InvalidInputError(
            "mask_tiles: expected tile a multiple of align and overlap at most tile - align, "
            f"got {tile}, {align} and {overlap}."
        )
    rows = _starts(mask.shape[0], tile, overlap, align)
    columns = _starts(mask.shape[1], tile, overlap, align)
    height, width = (min(tile, side // align * align) for side in mask.shape)
    tiles = []
    for top, bottom, y in rows:
        for left, right, x in columns:
            if mask[top:bottom, left:right].any():
                tiles.append(Tile(y, x, height, width))
    return tiles


def _starts(length: int, tile: int, overlap: int, align: int) -> list[tuple[int, int, int]]:
    """Along one axis: where each tile's own part begins and ends, and where the tile begins."""
    whole = length // align * align
    if whole == 0:
        raise InvalidInputError(f"mask_tiles: expected a picture of at least {align} pixels, got {length}.")
    size, overlap = min(tile, whole), -(-overlap // align) * align
    count = 1 if whole <= size else -(-(whole - overlap) // (size - overlap))
    # Spread evenly, on aligned places; the last one ends with the picture.
    begins = [(whole - size) * k // max(1, count - 1) // align * align for k in range(count)]
    cuts = [0, *((begins[k] + size + begins[k + 1]) // 2 for k in range(count - 1)), length]
    return [(cuts[k], cuts[k + 1], begins[k]) for k in range(count)]
