# SPDX-License-Identifier: Apache-2.0
"""A made scene that moves, whose objects and nearness are known exactly."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH, CELL = 144, 256, 2  # of frames, and the side of a depth map's cell


class MovingScene:
    """A disc that goes to the right before a wall that goes to the left, both painted.

    Called with a picture it gives the soft nearness of the frame that was made last, [HEIGHT / CELL, WIDTH / CELL].
    """

    def __init__(self, seed: int = 4) -> None:
        random = np.random.default_rng(seed)
        self._wall, self._disc = (_painted(random, HEIGHT, 3 * WIDTH), 255 - _painted(random, 96, 96))
        self.labels = np.ones((HEIGHT, WIDTH), np.uint16)

    def frame(self, k: int) -> np.ndarray:
        """uint8 [HEIGHT, WIDTH, 3]; its objects are then `labels`: 1 the wall, 2 the disc."""
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        top, left = 24, 30 + 3 * k
        inside = (x - left - 48) ** 2 + (y - top - 48) ** 2 < 44**2
        self.labels = np.where(inside, np.uint16(2), np.uint16(1))
        picture = self._wall[:, 2 * k : 2 * k + WIDTH].copy()
        picture[inside] = self._disc[(y - top)[inside], (x - left)[inside]]
        return picture

    @property
    def nearness(self) -> np.ndarray:
        """float32 [HEIGHT, WIDTH], exact."""
        return np.where(self.labels == 2, np.float32(0.8), np.float32(0.2))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        soft = self.nearness[CELL // 2 :: CELL, CELL // 2 :: CELL]
        for _ in range(2):
            padded = np.pad(soft, 1, mode="edge")
            soft = sum(padded[i : i + soft.shape[0], j : j + soft.shape[1]] for i in range(3) for j in range(3)) / 9
        return np.ascontiguousarray(soft, np.float32)


def _painted(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Soft blotches of colour, uint8 [height, width, 3]."""
    coarse = random.integers(40, 150, (height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    y, x = np.arange(height) / 8, np.arange(width) / 8
    rows, columns = y.astype(int), x.astype(int)
    fy, fx = (y - rows)[:, None, None], (x - columns)[None, :, None]
    upper = coarse[rows][:, columns] * (1 - fx) + coarse[rows][:, columns + 1] * fx
    lower = coarse[rows + 1][:, columns] * (1 - fx) + coarse[rows + 1][:, columns + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.uint8)
