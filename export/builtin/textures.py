# SPDX-License-Identifier: Apache-2.0
"""Textures for the scenes: crops of photographs that come with scikit-image, and patterns made here."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 256
_PHOTOS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "rocket", "camera", "hubble_deep_field")


def make_textures(seed: int, count: int, folders: list[str] | None = None) -> NDArray[np.uint8]:
    """uint8 [count, 256, 256, 3]: half from photographs, half patterns.

    Args:
        seed: of everything random.
        count: how many.
        folders: more photographs (JPEG or PNG), taken in name order.
    """
    rng = np.random.default_rng(seed)
    photos = _photographs(folders or [])

    def photo() -> NDArray[np.uint8]:
        return photos[int(rng.integers(len(photos)))]

    made = [_crop(rng, photo()) if i % 2 else _pattern(rng, photo()) for i in range(count)]
    return np.stack(made)


def _photographs(folders: list[str]) -> list[NDArray[np.uint8]]:
    from pathlib import Path

    from skimage import data

    photos = []
    for name in _PHOTOS:
        try:
            photos.append(_rgb(getattr(data, name)()))
        except (OSError, ModuleNotFoundError, AttributeError, ConnectionError, ValueError):
            continue  # not in this release, or not in the package itself
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                picture = cv2.imread(str(path))
                if picture is not None and min(picture.shape[:2]) >= 128:
                    photos.append(np.ascontiguousarray(picture[:, :, ::-1]))
    return photos


def _rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(picture[:, :, None], 3, 2) if picture.ndim == 2 else picture[:, :, :3]


def _crop(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    high, wide = photo.shape[:2]
    side = int(rng.integers(min(high, wide, 96) // 2, min(high, wide) + 1))
    y, x = int(rng.integers(0, high - side + 1)), int(rng.integers(0, wide - side + 1))
    crop = cv2.resize(photo[y : y + side, x : x + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        crop = crop[:, :, rng.permutation(3)]
    if rng.random() < 0.3:  # so that what is up in a photograph is not always up
        crop = np.rot90(crop, int(rng.integers(1, 4)))
    gain = rng.uniform(0.6, 1.5)
    return np.clip((crop.astype(np.float32) - 128) * gain + rng.uniform(90, 190), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, first: int, last: int, decay: float) -> NDArray[np.float32]:
    total = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(first, last):
        layer = rng.random((2**octave + 1, int(2**octave * rng.uniform(0.3, 1)) + 2), np.float32)
        total += cv2.resize(layer, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * decay ** (octave - first)
    low, top = float(total.min()), float(total.max())
    return (total - low) / (top - low + 1e-6)


def _colour(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mostly what photographs are coloured like: a pixel of one, or a dull colour; else any."""
    kind = rng.random()
    if kind < 0.4:
        pixel = photo[int(rng.integers(photo.shape[0])), int(rng.integers(photo.shape[1]))]
        return np.asarray(pixel, np.float64) / 255
    colour = rng.uniform(0, 1, 3)
    return colour if kind > 0.75 else colour.mean() + (colour - colour.mean()) * rng.uniform(0.05, 0.5)


def _leaves(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Ellipses and bars of all sizes, each over those before it, with a photograph's colours: as natural pictures are
    made of edges (Lee, Mumford and Huang, Occlusion Models for Natural Images, IJCV 2001)."""
    made = np.empty((SIZE, SIZE, 3), np.float32)
    made[:] = _colour(rng, photo)
    low, bars = rng.uniform(1.5, 8), rng.random() < 0.4
    for _ in range(int(rng.integers(80, 500))):
        radius = min(90.0, low / max(0.02, rng.random()) ** 0.6)
        centre = [int(v) for v in rng.integers(0, SIZE, 2)]
        axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.15, 1))))
        colour, angle = [float(v) for v in _colour(rng, photo)], float(rng.uniform(0, 180))
        if bars:
            corners = cv2.boxPoints(((centre[0], centre[1]), (2 * axes[0], 2 * axes[1]), angle))
            cv2.fillConvexPoly(made, corners.astype(np.int32), colour)
        else:
            cv2.ellipse(made, centre, axes, angle, 0, 360, colour, -1)
    return made * (0.85 + 0.15 * _noise(rng, 3, 7, 0.7))[:, :, None]


def _cells(rng: np.random.Generator) -> NDArray[np.float32]:
    """Stones or leather: how near the border between the two nearest of some points is."""
    count = int(rng.integers(12, 120))
    seeds = np.full((SIZE, SIZE), 255, np.uint8)
    at = rng.integers(0, SIZE, (2, count))
    seeds[at[0], at[1]] = 0
    near, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shade = rng.uniform(0.3, 1, count + 2).astype(np.float32)[labels]
    return np.asarray(shade * (1 - np.clip(near / near.max(), 0, 1) ** rng.uniform(1, 4)), np.float32)


def _pattern(rng: np.random.Generator, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    first, second = _colour(rng, photo), _colour(rng, photo)
    kind = int(rng.integers(11))
    if kind >= 9:
        made = _leaves(rng, photo)
        return np.clip(made * 255, 0, 255).astype(np.uint8)
    if kind == 0:
        mask = _noise(rng, 1, 8, rng.uniform(0.4, 0.9))
    elif kind == 1:  # wood: stretched, warped rings
        mask = (
            np.sin((x + 0.1 * _noise(rng, 1, 5, 0.5)) * rng.uniform(20, 120) + 6 * _noise(rng, 1, 4, 0.5)) * 0.5 + 0.5
        )
    elif kind == 2:  # tiles and bricks
        rows, columns = rng.integers(2, 14, 2)
        shift = np.where(np.floor(y * rows) % 2 == 1, 0.5, 0.0) * (rng.random() < 0.5)
        u, v = (x * columns + shift) % 1, (y * rows) % 1
        line = rng.uniform(0.03, 0.12)
        mask = ((u > line) & (v > line)) * (0.6 + 0.4 * _noise(rng, 3, 7, 0.6))
    elif kind == 3:  # checks
        mask = ((np.floor(x * rng.integers(2, 12)) + np.floor(y * rng.integers(2, 12))) % 2).astype(np.float32)
    elif kind == 4:  # stripes
        mask = (np.sin((x * rng.normal() + y * rng.normal()) * rng.uniform(20, 90)) > rng.uniform(-0.5, 0.5)).astype(
            np.float32
        )
    elif kind == 5:  # spots
        mask = (_noise(rng, 3, 5, 0.5) > rng.uniform(0.4, 0.7)).astype(np.float32)
    elif kind == 6:  # windows
        rows, columns = rng.integers(3, 9, 2)
        mask = (((x * columns) % 1 > 0.35) & ((y * rows) % 1 > 0.4)).astype(np.float32)
    elif kind == 7:
        mask = _cells(rng)
    else:  # plain
        mask = 0.08 * _noise(rng, 4, 8, 0.8)
    colour = first + (second - first) * np.asarray(mask)[:, :, None]
    grain = 0.06 * rng.random() * (rng.random((SIZE, SIZE, 1)) - 0.5)
    return np.clip((colour + grain) * 255, 0, 255).astype(np.uint8)
