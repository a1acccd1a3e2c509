# SPDX-License-Identifier: Apache-2.0
"""Who tells objects apart: an SGT bundle, a segmentation network of your own, or a picture of labels."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import borders, ops
from secondeye.runtime.backends.own import open_small
from secondeye.runtime.bundle import MANIFEST
from secondeye.runtime.errors import InvalidInputError, MediaError, ModelFormatError
from secondeye.runtime.files import file_hash
from secondeye.runtime.labels import components
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.pictures import read_values
from secondeye.runtime.sessions import Device, run_network

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint16]
OFF = "off"
SGT = "sgt:"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SURE = 0.7  # the confidence from which labels are used


class Labeller(Protocol):
    """What the converter needs of a segmenter."""

    def __call__(self, picture: Pixels) -> tuple[Labels, float]:
        """uint8 [H, W, 3] -> (uint16 [H, W], 0 is no object; confidence 0 to 1)."""


def open_labeller(
    spec: str | os.PathLike[str], *, device: Device = "cpu", threads: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Labeller | None:
    """Open a segmenter.

    Args:
        spec: ``off``; ``sgt:FOLDER``, an SGT bundle; an ONNX segmentation network (one picture in, scores [1, C, h, w]
            or class numbers [1, h, w] out) or one that draws borders (:mod:`secondeye.runtime.borders`); or labels of
            the picture itself, as a 16-bit PNG or .npy.
        device, threads: as everywhere.

    Raises:
        MediaError, ModelFormatError, BackendUnavailableError, ResourceLimitError: it cannot be used.
    """
    text = os.fspath(spec)
    if text == OFF:
        return None
    if text.startswith(SGT):
        return _Sgt(text.removeprefix(SGT), device, threads)
    path = Path(text)
    if not path.is_file():
        raise MediaError(f"{path}: no such file; give sgt:FOLDER, an ONNX network, a picture of labels, or off.")
    if path.suffix.lower() != ".onnx":
        return FixedLabels(path, limits)
    session = open_small(path, device=device, threads=threads)
    draws = session.get_modelmeta().custom_metadata_map.get("kind") == borders.KIND
    return borders.BorderLabels(session, str(path)) if draws else OnnxLabels(path, session)


def segmenter_identity(spec: str | os.PathLike[str]) -> str:
    """What a segmenter is, by its content where it is there: a bundle's manifest names every file's hash."""
    text = os.fspath(spec)
    path = Path(text.removeprefix(SGT)) / MANIFEST if text.startswith(SGT) else Path(text)
    return file_hash(path) if path.is_file() else text


class _Sgt:
    def __init__(self, folder: str, device: Device, threads: int) -> None:
        from secondeye.runtime.segment import Segmenter

        self._segmenter = Segmenter(folder, device=device, threads=threads)

    def __call__(self, picture: Pixels) -> tuple[Labels, float]:
        result = self._segmenter.segment(picture)
        return result.labels, result.confidence


class FixedLabels:
    """Labels that somebody made of this very picture, of any size.

    Raises:
        MediaError, InvalidInputError: no file of whole numbers from 0 to 65535.
    """

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        values = read_values(path, limits=limits)
        whole = np.rint(values)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535 or (whole != values).any():
            raise InvalidInputError(f"{path}: expected labels, whole numbers from 0 (no object) to 65535.")
        self._labels = whole.astype(np.uint16)

    def __call__(self, picture: Pixels) -> tuple[Labels, float]:
        """The labels at the picture's size, each pixel its nearest."""
        return at_size(self._labels, *picture.shape[:2]), 1.0


class OnnxLabels:
    """A semantic segmentation network in ONNX; connected pixels of a class are an object.

    Raises:
        ModelFormatError: no such network.
    """

    def __init__(self, path: Path, session: Any) -> None:
        self._label = str(path)
        self._session = session
        inputs = session.get_inputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(float16)") or shape[1] not in (3, "3"):
            got = "; ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelFormatError(
                f"{path}: not a segmentation network: expected one float picture [1, 3, H, W], got {got}."
            )
        self._shape = shape
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32

    def __call__(self, picture: Pixels) -> tuple[Labels, float]:
        """uint8 [H, W, 3] -> (uint16 [H, W], mean certainty of its pixels)."""
        height, width = self._size(*picture.shape[:2])
        tensor = ops.prepare(picture, height, width, mean=_MEAN, std=_STD, dtype=self._dtype)
        raw = run_network(self._session, self._label, tensor)
        classes, confidence = self._classes(raw)
        parts = components(classes.astype(np.int32) + 1)
        return at_size(np.minimum(parts, 65535).astype(np.uint16), *picture.shape[:2]), confidence

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self._shape[2], int) and isinstance(self._shape[3], int):
            return self._shape[2], self._shape[3]
        scale = 512 / math.sqrt(height * width)
        return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)

    def _classes(self, raw: NDArray[Any]) -> tuple[NDArray[np.int64], float]:
        if raw.ndim == 4 and raw.shape[1] > 1 and raw.dtype.kind == "f":
            scores = raw[0].astype(np.float32)
            scores -= scores.max(0)
            return scores.argmax(0), float((1.0 / np.exp(scores).sum(0)).mean())
        plane = raw.reshape(raw.shape[-2:]) if raw.ndim >= 2 and raw.size == raw.shape[-1] * raw.shape[-2] else None
        if plane is None:
            raise ModelFormatError(
                f"{self._label}: not a segmentation network: its output is {raw.dtype} {list(raw.shape)}."
            )
        return np.rint(plane).astype(np.int64), 1.0


def at_size(labels: Labels, height: int, width: int) -> Labels:
    """Labels at another size, each pixel its nearest."""
    if labels.shape == (height, width):
        return labels
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return np.ascontiguousarray(labels[rows][:, columns])


def seen_objects(labels: Labels, warped: ops.Warped, eye: ops.Eye) -> Labels:
    """Whose each pixel of a warped view is, uint16 [H, W]; 0 in holes, and where the source has no label."""
    width = labels.shape[1]
    column = warped.map >> 8
    if eye == "left":  # its map counts from the right border
        column = width - 1 - column
    seen = np.take_along_axis(labels, np.clip(column, 0, width - 1), axis=1)
    return np.where(warped.holes != 0, np.uint16(0), seen)


def keep_near_objects(mask: Pixels, holes: Pixels, objects: Labels) -> Pixels:
    """A mask for painting that keeps off the object whose background a hole shows.

    Holes of a right view lie to the right of what uncovers them. The mask, which is wider than they are, leaves out
    the pixels left of a hole that are of the object that ends there, if what lies right of it is another.

    Args:
        mask: uint8 [H, W], how much is painted.
        holes: uint8 [H, W], not 0 where nothing landed.
        objects: uint16 [H, W], of :func:`seen_objects`; 0 is unknown, and kept from nothing.
    """
    hole = holes != 0
    width = hole.shape[1]
    columns = np.arange(width)
    rows = np.arange(hole.shape[0])[:, None]
    # Of each pixel that is no hole: where the next hole on its right begins, and what comes after that.
    begins = np.minimum.accumulate(np.where(hole, columns, width)[:, ::-1], axis=1)[:, ::-1]
    after = np.minimum.accumulate(np.where(hole, width, columns)[:, ::-1], axis=1)[:, ::-1]
    end = after[rows, np.minimum(begins, width - 1)]
    near = objects[rows, np.clip(begins - 1, 0, width - 1)]
    far = objects[rows, np.minimum(end, width - 1)]
    own = ~hole & (begins < width) & (end < width) & (objects == near) & (near != 0) & (near != far)
    return np.where(own, np.uint8(0), mask)
