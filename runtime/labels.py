# SPDX-License-Identifier: Apache-2.0
"""From a map of colours to objects: nearest colour, connected parts, borders on the picture's edges. Deterministic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.errors import InvalidInputError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]

# matplotlib's tab20, with which SGT's maps are drawn.
PALETTE = np.array(
    [
        (31, 119, 180), (174, 199, 232), (255, 127, 14), (255, 187, 120), (44, 160, 44), (152, 223, 138), (214, 39, 40),
        (255, 152, 150), (148, 103, 189), (197, 176, 213), (140, 86, 75), (196, 156, 148), (227, 119, 194),
        (247, 182, 210), (127, 127, 127), (199, 199, 199), (188, 189, 34), (219, 219, 141), (23, 190, 207),
        (158, 218, 229), (0, 0, 0),
    ],
    np.uint8,
)  # fmt: skip
"""Its twenty colours, and black for what is no object."""
NEAR, MARGIN = 14.0, 5.0  # CIE76: how near a colour has to be, and how much nearer than the next one
MOST_COLOURS = 48
GROWTH = 64  # pixels that an unsure one may lie from the next sure one


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a picture.

    Attributes:
        labels: uint16 [H, W]: 1 .. n, the largest first.
        confidence: 0 to 1, the share of pixels that were near one of few flat colours; under about 0.7 the map is no
            colour map, and its objects mean nothing.
        colours: uint8 [n, 3], the colour that each object had in the map.
    """

    labels: Labels
    confidence: float
    colours: Pixels


def lab(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB bytes [..., 3] to CIE L*a*b* (D65), float32."""
    line = np.arange(256) / 255.0
    linear = np.where(line <= 0.04045, line / 12.92, ((line + 0.055) / 1.055) ** 2.4).astype(np.float32)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
        np.float32,
    )
    xyz = linear[colours] @ (matrix / np.array([[0.95047], [1.0], [1.08883]], np.float32)).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), xyz * 7.787 + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def find_objects(
    colour_map: Pixels, picture: Pixels | None = None, *, palette: Pixels | None = PALETTE, least: float = 5e-4
) -> Objects:
    """The objects of a colour map.

    Each pixel takes its nearest colour in Lab, if that is near and clearly nearer than the next; connected pixels of
    a colour are an object (colours repeat); specks are given away; unsure pixels, and the band along borders when a
    picture is given, go to the neighbour whose colours in the picture they are like.

    Args:
        colour_map: uint8 [h, w, 3], flat colours with soft borders, noise and all.
        picture: uint8 [H, W, 3], what the map is of, of any size; borders then lie on its edges.
        palette: uint8 [n, 3]; None finds the map's own colours. A map that fits it badly has its own found too.
        least: the smallest object, share of the pixels.

    Returns:
        Labels of the picture's size, or the map's.

    Raises:
        InvalidInputError: not pictures, or a palette that is none.
    """
    _check(colour_map, picture, palette)
    values = lab(colour_map)
    choice, sure = _nearest(values, palette if palette is not None else _own_colours(colour_map))
    if palette is not None and float(sure.mean()) < 0.6:
        own = _own_colours(colour_map)
        other, clear = _nearest(values, own)
        if clear.mean() > sure.mean():
            choice, sure, palette = other, clear, own
    confidence = float(sure.mean())
    classes = np.where(sure, choice + 1, 0).astype(np.int32)
    parts = components(classes)
    parts = without_specks(parts, max(16, round(least * parts.size)))
    if not parts.any():
        parts = np.ones(colour_map.shape[:2], np.int32)
    guide = None
    if picture is not None:
        guide = picture if picture.shape[:2] == parts.shape else ops.resize(picture, *parts.shape, filter="area")
        parts = np.where(near_border(parts, 2), 0, parts)
    parts = filled(parts, guide)
    if picture is not None and picture.shape[:2] != parts.shape:
        parts = _enlarged(parts, picture)
    labels, kept = ordered(parts)
    small = parts if parts.shape == colour_map.shape[:2] else None
    return Objects(labels, confidence, _colours(colour_map, labels, kept, small))


def _check(colour_map: Pixels, picture: Pixels | None, palette: Pixels | None) -> None:
    for name, value in (("colour_map", colour_map), ("picture", picture)):
        if value is not None and (value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or value.size == 0):
            raise InvalidInputError(
                f"{name}: expected uint8 [height, width, 3], got {value.dtype} {list(value.shape)}."
            )
    if palette is not None and (
        palette.dtype != np.uint8 or palette.ndim != 2 or palette.shape[1] != 3 or len(palette) < 2
    ):
        raise InvalidInputError("palette: expected uint8 [n, 3] with at least two colours.")


def _nearest(values: NDArray[np.float32], palette: Pixels) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """(the nearest colour of each pixel, whether it is near and clearly the nearest)."""
    centres = lab(palette)
    planes = [np.ascontiguousarray(values[:, :, k]) for k in range(3)]
    best = np.full(values.shape[:2], np.inf, np.float32)
    second = best.copy()
    choice = np.zeros(values.shape[:2], np.int32)
    for number, centre in enumerate(centres):
        one, two, three = (plane - middle for plane, middle in zip(planes, centre, strict=True))
        apart = np.sqrt(one * one + two * two + three * three)
        nearer = apart < best
        second = np.where(nearer, best, np.minimum(second, apart))
        best = np.where(nearer, apart, best)
        choice[nearer] = number
    return choice, (best < NEAR) & (second - best > MARGIN)


def _own_colours(colour_map: Pixels) -> Pixels:
    """The map's most frequent colours, each standing for those near it, until they are 97 % of its pixels."""
    bins = (colour_map >> 3).astype(np.int32)
    codes = (bins[:, :, 0] << 10 | bins[:, :, 1] << 5 | bins[:, :, 2]).ravel()
    counts = np.bincount(codes, minlength=1 << 15)
    used = np.flatnonzero(counts)
    centres = np.stack([(used >> 10) * 8 + 4, (used >> 5 & 31) * 8 + 4, (used & 31) * 8 + 4], axis=1).astype(np.uint8)
    values, left = lab(centres), counts[used].astype(np.int64)
    found: list[int] = []
    while len(found) < MOST_COLOURS and left.sum() > 0.03 * codes.size:
        # A cluster's weight counts, not a bin's: noise spreads a flat colour over several.
        best, weight = -1, -1
        for one in np.argsort(-left, kind="stable")[:24]:
            near = ((values - values[one]) ** 2).sum(1) < (NEAR / 2) ** 2
            total = int(left[near].sum())
            if total > weight:
                best, weight = int(one), total
        if weight <= 0:
            break
        found.append(best)
        left[((values - values[best]) ** 2).sum(1) < NEAR**2] = 0
    result: Pixels = centres[found] if len(found) > 1 else np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    return result


def components(classes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Connected parts (4 neighbours) of equal values; 0 stays 0, parts are numbered 1 .. n in reading order.

    Runs of a row are joined to those that they touch in the row above, by union of the least number.
    """
    height, width = classes.shape
    begins = np.ones((height, width), bool)
    begins[:, 1:] = classes[:, 1:] != classes[:, :-1]
    run = (np.cumsum(begins.ravel()) - 1).reshape(height, width).astype(np.int64)
    touches = (classes[1:] == classes[:-1]) & (classes[1:] != 0)
    pairs = np.stack([run[:-1][touches], run[1:][touches]], axis=1)
    new = np.ones(len(pairs), bool)  # two runs touch along neighbouring pixels, so repeats follow each other
    new[1:] = (pairs[1:] != pairs[:-1]).any(1)
    pairs = pairs[new]
    parent = np.arange(int(run[-1, -1]) + 1)
    while True:
        a, b = parent[pairs[:, 0]], parent[pairs[:, 1]]
        apart = a != b
        if not apart.any():
            break
        low, high = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        np.minimum.at(parent, high, low)
        while True:  # every run points at its part's least one
            further = parent[parent]
            if (further == parent).all():
                break
            parent = further
    known = classes.ravel()[begins.ravel()] != 0  # of each run
    number = np.zeros(len(parent), np.int32)
    number[parent[known]] = 1
    number = np.where(known, np.cumsum(number, dtype=np.int32)[parent], 0).astype(np.int32)
    return number[run]


def without_specks(parts: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    """Parts of fewer pixels become 0."""
    count = np.bincount(parts.ravel())
    small = count < least
    small[0] = True
    return np.where(small[parts], 0, parts)


def near_border(parts: NDArray[Any], radius: int) -> NDArray[np.bool_]:
    """Pixels within a radius of a border between two parts."""
    border = np.zeros(parts.shape, bool)
    for axis in (0, 1):
        differ = np.diff(parts, axis=axis) != 0
        one, other = ([slice(None), slice(None)] for _ in range(2))
        one[axis], other[axis] = slice(1, None), slice(None, -1)
        border[tuple(one)] |= differ
        border[tuple(other)] |= differ
    for _ in range(radius - 1):
        wide = border.copy()
        wide[1:] |= border[:-1]
        wide[:-1] |= border[1:]
        wide[:, 1:] |= border[:, :-1]
        wide[:, :-1] |= border[:, 1:]
        border = wide
    return border


AROUND = ((-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))


def filled(parts: NDArray[np.int32], guide: Pixels | None) -> NDArray[np.int32]:
    """Pixels of no part, ring after ring, to the part beside them that is most like them; at last to any."""
    parts = regrown(parts, guide, GROWTH)
    rest = parts == 0
    if rest.any():
        parts[rest] = int(np.bincount(parts[~rest]).argmax()) if (~rest).any() else 1
    return parts


def regrown(parts: NDArray[np.int32], guide: Pixels | None, rings: int) -> NDArray[np.int32]:
    """Parts grown into pixels of no part, up to so many rings, each to the one beside it that is most like it.

    Only pixels that a ring may reach are looked at, so small gaps in a large picture cost little.

    Args:
        parts: int32 [h, w], 0 is none.
        guide: uint8 [h, w, 3], whose colours say what is alike; None goes by distance.
        rings: how far.
    """
    width = parts.shape[1]
    wide = np.pad(parts, 1)
    flat = wide.ravel()
    colours = None if guide is None else np.pad(guide, ((1, 1), (1, 1), (0, 0))).reshape(-1, 3).astype(np.float32)
    # A part's colour is carried outward, and follows what it meets slowly.
    known = None if colours is None else colours.copy()
    inside = np.zeros(wide.shape, bool)
    inside[1:-1, 1:-1] = True
    left = np.flatnonzero((wide == 0) & inside)
    steps = [dy * (width + 2) + dx for dy, dx in AROUND]
    for _ in range(rings):
        around = flat[left[:, None] + steps]  # [gaps, 8]
        reached = around.any(1)
        if not reached.any():
            break
        at, around = left[reached], around[reached]
        cost = np.where(np.arange(8) >= 4, np.float32(2.0), np.float32(1.0))[None].repeat(len(at), 0)
        if colours is not None and known is not None:
            means = known[at[:, None] + steps]
            cost = np.abs(colours[at][:, None] - means).sum(2) + np.arange(8, dtype=np.float32) * np.float32(0.01)
        best = np.argmin(np.where(around != 0, cost, np.inf), axis=1)
        if colours is not None and known is not None:
            known[at] = 0.75 * known[at + np.take(steps, best)] + 0.25 * colours[at]
        flat[at] = around[np.arange(len(at)), best]
        left = left[~reached]
    return np.ascontiguousarray(wide[1:-1, 1:-1])


def _enlarged(parts: NDArray[np.int32], picture: Pixels) -> NDArray[np.int32]:
    """To the picture's size; the band along borders goes to the side whose colour it has."""
    height, width = picture.shape[:2]
    rows = (2 * np.arange(height) + 1) * parts.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * parts.shape[1] // (2 * width)
    large = parts[rows][:, columns]
    radius = max(1, round(max(height / parts.shape[0], width / parts.shape[1])))
    return filled(np.where(near_border(large, radius), 0, large), picture)


_CELLS = (
    (0, 0),
    (-1, 0),
    (0, -1),
    (0, 1),
    (1, 0),
    (-1, -1),
    (-1, 1),
    (1, -1),
    (1, 1),
    (-2, 0),
    (0, -2),
    (0, 2),
    (2, 0),
)


def enlarged(labels: Labels, picture: Pixels) -> Labels:
    """Small labels at a picture's size, their borders on its edges: quick enough for every frame.

    Pixels near a border go to whichever of two labels has the cells about them that are most like them in colour:
    their own cell's, or the one with the likest cell among the others.

    Args:
        labels: uint16 [h, w], 0 is none.
        picture: uint8 [H, W, 3], of which they are.
    """
    height, width = picture.shape[:2]
    high, wide = labels.shape
    rows = (2 * np.arange(height) + 1) * high // (2 * height)
    columns = (2 * np.arange(width) + 1) * wide // (2 * width)
    large = np.ascontiguousarray(labels[rows][:, columns])
    band = np.flatnonzero(near_border(labels, 1)[rows][:, columns])
    if band.size == 0:
        return large
    y, x = np.divmod(band, width)
    colours = picture.reshape(-1, picture.shape[2])[band, :3].astype(np.int16)
    cells = ops.resize(picture[:, :, :3], high, wide).reshape(-1, 3).astype(np.int16)
    likeness, theirs = [], []
    for dy, dx in _CELLS:
        cell = np.clip(rows[y] + dy, 0, high - 1) * wide + np.clip(columns[x] + dx, 0, wide - 1)
        apart = np.abs(cells[cell] - colours).sum(1, dtype=np.int16)
        likeness.append(_LIKENESS[apart] * np.float32(1.0 / (1 + abs(dy) + abs(dx))))
        theirs.append(labels.ravel()[cell])
    weights, names = np.stack(likeness), np.stack(theirs)
    own = names[0]
    other = np.where(names != own, weights, 0.0).argmax(0)
    rival = names[other, np.arange(band.size)]
    ours, rivals = (np.where(names == one, weights, 0.0).sum(0) for one in (own, rival))
    large.ravel()[band] = np.where((rivals > ours) & (rival != own), rival, own)
    return large


_LIKENESS = (1.0 / (1.0 + (np.arange(766) / 24.0) ** 2)).astype(np.float32)


def ordered(parts: NDArray[np.int32]) -> tuple[Labels, NDArray[np.int64]]:
    """(labels 1 .. n, the largest first; which part each was)."""
    count = np.bincount(parts.ravel())
    order = np.argsort(-count, kind="stable")
    order = order[count[order] > 0][:65535]
    table = np.zeros(count.size, np.uint16)
    table[order] = np.arange(1, order.size + 1)
    return table[parts], order


def _colours(colour_map: Pixels, labels: Labels, kept: NDArray[np.int64], same: NDArray[np.int32] | None) -> Pixels:
    """The median colour of each object in the map."""
    height, width = labels.shape
    rows = (2 * np.arange(colour_map.shape[0]) + 1) * height // (2 * colour_map.shape[0])
    columns = (2 * np.arange(colour_map.shape[1]) + 1) * width // (2 * colour_map.shape[1])
    small = labels if same is not None else labels[rows][:, columns]
    order = np.argsort(small, axis=None, kind="stable")
    sorted_labels, values = small.ravel()[order], colour_map.reshape(-1, 3)[order]
    result = np.zeros((kept.size, 3), np.uint8)
    edges = np.searchsorted(sorted_labels, np.arange(1, kept.size + 2))
    for number in range(kept.size):
        part = values[edges[number] : edges[number + 1]]
        if len(part):
            result[number] = np.median(part, axis=0)
    return result
