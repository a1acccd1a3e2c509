# SPDX-License-Identifier: Apache-2.0
"""Objects by a small network that draws their borders: parts between borders, joined where they are alike.

The network (``python -m secondeye.export.distill`` trains one) gives each pixel of a small picture the logit of lying
on a border, and an embedding that is alike within an object. Deterministic, and quick enough for every frame.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.errors import ModelFormatError
from secondeye.runtime.labels import components, enlarged, filled, ordered, without_specks
from secondeye.runtime.sessions import run_network

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]
Floats = NDArray[np.float32]
KIND = "borders"
_AREA = 256 * 384  # pixels that the network sees
_LEAST = 4e-4  # the smallest part, share of them
_GAP = 4  # cells that a border is wide at most


class BorderLabels:
    """The labeller of such a network.

    Args:
        session: the network's, with metadata ``kind`` = ``borders`` and ``same``, the greatest distance of embeddings
            within an object.
        label: what to call it in errors.

    Raises:
        ModelFormatError: its metadata or shapes are not those of such a network.
    """

    def __init__(self, session: Any, label: str) -> None:
        facts = session.get_modelmeta().custom_metadata_map
        self._session, self._label = session, label
        try:
            self._same = float(facts["same"])
            self._multiple = int(facts["input_multiple"])
        except (KeyError, ValueError) as error:
            raise ModelFormatError(f"{label}: says that it draws borders, but not how ({error}).") from error

    def __call__(self, picture: Pixels) -> tuple[Labels, float]:
        """uint8 [H, W, 3] -> (uint16 [H, W], 1 is the largest; mean certainty of its borders)."""
        scale, step = math.sqrt(_AREA / (picture.shape[0] * picture.shape[1])), self._multiple
        height, width = (max(2 * step, round(n * scale / step) * step) for n in picture.shape[:2])
        tensor = ops.prepare(picture, height, width)
        raw = run_network(self._session, self._label, tensor)
        if raw.ndim != 4 or raw.shape[0] != 1 or raw.shape[1] < 2 or raw.shape[2:] != (height, width):
            raise ModelFormatError(f"{self._label}: draws no borders: its output is {list(raw.shape)}.")
        parts = find_parts(raw[0, 0], raw[0, 1:], ops.resize(picture, height, width), self._same)
        certain = 1.0 / (1.0 + np.exp(-np.abs(raw[0, 0].astype(np.float64))))
        return enlarged(ordered(parts)[0], picture), float(certain.mean())


def find_parts(border: Floats, embedding: Floats, picture: Pixels, same: float) -> NDArray[np.int32]:
    """Objects of a small picture, int32 [h, w], all over 0.

    Args:
        border: float32 [h, w], logits.
        embedding: float32 [n, h, w].
        picture: uint8 [h, w, 3].
        same: the greatest distance of mean embeddings up to which two parts beside each other are one.
    """
    parts = components((border < 0).astype(np.int32))
    parts = without_specks(parts, max(16, round(_LEAST * parts.size)))
    if not parts.any():
        return np.ones(parts.shape, np.int32)
    parts = joined(parts, embedding, same)
    return filled(parts, picture)


def joined(parts: NDArray[np.int32], embedding: Floats, same: float) -> NDArray[np.int32]:
    """Parts across a border from each other, whose mean embeddings are alike, made one; 0 stays 0."""
    flat = parts.ravel()
    count = np.maximum(np.bincount(flat), 1)
    means = np.stack([np.bincount(flat, plane.ravel()) / count for plane in embedding], axis=1)
    pairs = []
    for axis in (0, 1):
        for gap in range(1, _GAP + 2):
            one, other = ([slice(None), slice(None)] for _ in range(2))
            one[axis], other[axis] = slice(gap, None), slice(None, -gap)
            a, b = parts[tuple(one)].ravel(), parts[tuple(other)].ravel()
            beside = (a != b) & (a != 0) & (b != 0)
            pairs.append(np.stack([np.minimum(a[beside], b[beside]), np.maximum(a[beside], b[beside])], axis=1))
    links, seen = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    links = links[seen >= 8]
    alike = np.linalg.norm(means[links[:, 0]] - means[links[:, 1]], axis=1) < same
    table = np.arange(count.size)
    for a, b in links[alike]:  # as many as parts touch: tens
        table[table == max(table[a], table[b])] = min(table[a], table[b])
    return table[parts].astype(np.int32)
