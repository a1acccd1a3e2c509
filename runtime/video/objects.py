# SPDX-License-Identifier: Apache-2.0
"""Objects of a film: told apart on key frames, carried along the picture's motion to the frames between.

Key frames are every n-th frame of the film, the first of each shot, and those where too much of the picture is no
longer known. At every n-th frame what was carried is forgotten: so labels depend on fewer than n frames before
them, and with n up to WARM_UP a film can be converted from any frame on with the same result (see
:mod:`.temporal`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.alignment import carried
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.objects import OFF, SGT, SURE, Labeller, at_size
from secondeye.runtime.video.look import Look
from secondeye.runtime.video.temporal import WARM_UP

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]
KEY_EVERY = 24
LOST = 0.2  # share of the picture that may become unknown before the next key frame
_LEAST, _MOST = 0.01, 0.5  # share of the picture that a film's subject may have


def check_segmenter(spec: str | os.PathLike[str], every: int) -> None:
    """Refuse what cannot label a film.

    Raises:
        InvalidInputError: labels of one picture, or key frames too far apart.
    """
    text = os.fspath(spec)
    if text != OFF and not text.startswith(SGT) and Path(text).suffix.lower() in (".png", ".npy", ".tif", ".tiff"):
        raise InvalidInputError(
            f"segment: {text} holds the labels of one picture; for a film give sgt:FOLDER or an ONNX network."
        )
    if not 1 <= every <= WARM_UP:
        raise InvalidInputError(f"key_every: expected 1 to {WARM_UP} frames, got {every}.")


class ObjectTrack:
    """The objects of one frame after another.

    A frame is matched with its key frame, not with the frame before it, so that the rounding of motion to whole cells
    does not add up; where each block is looked for follows from the motion so far.

    Args:
        labeller: tells them apart on key frames.
        every: frames from one key frame to the next at most.
        first: index of the first frame that will come; there are no labels before the first key frame.
    """

    def __init__(self, labeller: Labeller, every: int, first: int) -> None:
        self._labeller, self._every = labeller, every
        self._at = first - 1  # the frame before
        self._begun = False
        self._key: tuple[NDArray[np.uint8], Labels] | None = None  # its luma; its labels
        self._moves = np.zeros((0, 0, 2), np.int32)  # of each block of the frame before, to the key frame
        self.keys = 0

    def __call__(self, index: int, pixels: Pixels, look: Look) -> Labels | None:
        """Labels of the next frame, uint16 [h, w] of the look's size, 0 where they are not known; None without any.

        Args:
            index: of the frame in the film.
            pixels: uint8 [H, W, 3].
            look: at the frame, beside the frame before.
        """
        fixed = index // self._every != self._at // self._every
        cut = look.cut and self._begun
        self._at, self._begun = index, True
        parts = None
        if not (fixed or cut):
            if self._key is None:
                return None
            parts = self._carried(pixels, look, *self._key)
            if np.mean(parts == 0) > LOST:
                parts = None
        if parts is None:
            parts = self._told(pixels, look)
        return None if parts is None else np.maximum(parts - 1, 0).astype(np.uint16)

    def _told(self, pixels: Pixels, look: Look) -> NDArray[np.int32] | None:
        """A key frame's labels + 1."""
        self.keys += 1
        labels, confidence = self._labeller(pixels)
        if confidence < SURE:
            self._key = None
            return None
        small = at_size(labels, *look.luma.shape)
        self._key = look.luma, small
        self._moves = np.zeros((*(-(-n // 8) for n in small.shape), 2), np.int32)
        return small.astype(np.int32) + 1

    def _carried(self, pixels: Pixels, look: Look, key: NDArray[np.uint8], labels: Labels) -> NDArray[np.int32]:
        """The key frame's labels + 1 here; 0 where nothing of it is seen."""
        assert look.source is not None
        height, width = look.luma.shape
        y, x = (
            np.minimum(np.arange(n) * 8 + 4, side - 1) for n, side in zip(self._moves.shape, key.shape, strict=False)
        )
        from_y, from_x = np.divmod(look.source[y][:, x], width)
        step = np.stack([from_y - y[:, None], from_x - x], axis=2)
        start = np.ascontiguousarray(step + self._moves[from_y // 8, from_x // 8], np.int32)
        parts, blocks = carried(look.luma, key, labels, start, ops.resize(pixels, height, width))
        self._moves = np.ascontiguousarray(blocks[:, :, :2])
        return parts


def with_subject(look: Look, labels: Labels | None) -> Look:
    """The look, whose subject is an object where one stands out: automatic convergence follows that.

    The subject is the object with most of the picture's middle among those that are nearer than the picture is on
    average, and neither specks nor half of it; its depth is its median.
    """
    if labels is None:
        return look
    height, width = labels.shape
    y, x = np.abs(np.linspace(-1, 1, height))[:, None], np.abs(np.linspace(-1, 1, width))[None]
    weight = ((1.05 - y) * (1.05 - x)).ravel()
    flat, depth = labels.ravel(), look.depth.ravel()
    count = np.bincount(flat)
    mass = np.bincount(flat, weight)
    mean = np.bincount(flat, depth) / np.maximum(count, 1)
    good = (count >= _LEAST * flat.size) & (count <= _MOST * flat.size) & (mean > float(depth.mean()))
    good[0] = False
    if not good.any():
        return look
    subject = float(np.median(depth[flat == int(np.argmax(np.where(good, mass, -1.0)))]))
    return replace(look, marks=(*look.marks[:2], subject, *look.marks[3:]))
