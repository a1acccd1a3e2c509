# SPDX-License-Identifier: Apache-2.0
"""resize, prepare and restore: a picture at another size, as a network's input, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array, library, on_device
from secondeye.runtime.ops._common import (
    ARRAYS,
    Array,
    Backend,
    Isa,
    check_picture,
    check_size,
    isa_code,
    output,
    uses_reference,
)

Filter = Literal["bilinear", "area"]
Axis = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
UNIT = 16384


@lru_cache(maxsize=64)
def axis_weights(inputs: int, outputs: int, kind: str) -> Axis:
    """The weights of one axis: first input, count, and weights in 1/16384, per output.

    ``bilinear`` is a triangle that widens when it shrinks the picture (Pillow's BILINEAR, antialiased); ``area`` is
    the exact share of each input pixel (OpenCV's INTER_AREA), and bilinear where it enlarges. The rounded
    weights of an output sum to 16384.
    """
    scale = inputs / outputs
    centre = (np.arange(outputs) + 0.5) * scale
    area = kind == "area" and scale > 1
    reach = 0.5 * scale if area else max(1.0, scale)
    low, high = centre - reach, centre + reach
    first = np.clip(np.floor(low if area else low + 0.5), 0, inputs - 1).astype(np.int64)
    last = np.clip(np.ceil(high - 1e-9) if area else np.floor(high + 0.5), first + 1, inputs).astype(np.int64)
    taps = np.arange(int((last - first).max()))
    x = first[:, None] + taps
    if area:
        weights = np.minimum(x + 1, high[:, None]) - np.maximum(x, low[:, None])
    else:
        weights = 1.0 - np.abs((x + 0.5 - centre[:, None]) / max(1.0, scale))
    weights = np.where(x < last[:, None], np.maximum(weights, 0.0), 0.0)
    exact = weights / weights.sum(1, keepdims=True) * UNIT
    whole = np.floor(exact).astype(np.int64)
    # What rounding down left over goes to the greatest fractions, one each.
    order = np.argsort(whole - exact, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(taps, order.shape), axis=1)
    whole += rank < (UNIT - whole.sum(1, keepdims=True))
    count = last - first
    arrays = (first.astype(np.int32), count.astype(np.int32), np.ascontiguousarray(whole, np.int32))
    for array in arrays:
        array.setflags(write=False)
    return arrays


def _reference_q6(picture: Array, x: Axis, y: Axis) -> NDArray[np.int64]:
    """The law of resample in NumPy up to 1/64 of a grey level; see kernels/ops/resample.op.h."""
    rows = np.minimum(y[0][:, None] + np.arange(y[2].shape[1]), picture.shape[0] - 1)
    columns = np.minimum(x[0][:, None] + np.arange(x[2].shape[1]), picture.shape[1] - 1)
    vertical = np.zeros((y[2].shape[0], *picture.shape[1:]), np.int64)
    for k in range(y[2].shape[1]):
        vertical += y[2][:, k, None, None] * picture[rows[:, k]].astype(np.int64)
    vertical = (vertical + 128) >> 8
    horizontal = np.zeros((vertical.shape[0], x[2].shape[0], picture.shape[2]), np.int64)
    for k in range(x[2].shape[1]):
        horizontal += x[2][:, k, None] * vertical[:, columns[:, k]]
    return (horizontal + 8192) >> 14


def _axes(picture: Array, height: int, width: int, kind: str) -> tuple[Axis, Axis]:
    check_size("size", height, width)
    if kind not in ("bilinear", "area"):
        raise InvalidInputError(f"filter: expected bilinear or area, got {kind!r}.")
    x, y = axis_weights(picture.shape[1], width, kind), axis_weights(picture.shape[0], height, kind)
    if isinstance(picture, np.ndarray):
        return x, y
    return (
        _uploaded(picture, x, (picture.shape[1], width, kind)),
        _uploaded(picture, y, (picture.shape[0], height, kind)),
    )


_UPLOADED: dict[tuple[object, ...], Axis] = {}
"""Weights that lie on a device already, by what and where they are: an upload at every frame would wait for it."""


def _uploaded(picture: Any, axis: Axis, what: tuple[object, ...]) -> Axis:
    where = getattr(picture.owner, "device", None)
    if where is None:  # pycuda: memory belongs to a context that may go
        return tuple(on_device(picture, table) for table in axis)
    key = (library(picture.owner), str(where), *what)
    kept = _UPLOADED.get(key)
    if kept is None:
        while len(_UPLOADED) >= 64:
            del _UPLOADED[next(iter(_UPLOADED))]
        kept = _UPLOADED[key] = tuple(on_device(picture, table) for table in axis)
    return kept


@any_array
def resize(
    picture: Array,
    height: int,
    width: int,
    *,
    filter: Filter = "area",
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """Scale a picture.

    Args:
        picture: uint8 [H, W, C], C 1 to 4, any strides.
        height, width: of the result, 1 to 16384.
        filter: ``area`` (as OpenCV's INTER_AREA when shrinking) or ``bilinear`` (as Pillow's, antialiased).
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [height, width, C], within 1 of those libraries' results.

    Raises:
        InvalidInputError: shapes, dtypes or filter do not fit.

    Numerics: EXACT.
    """
    check_picture("picture", picture)
    x, y = _axes(picture, height, width, filter)
    target = output(out, (height, width, picture.shape[2]), np.uint8, picture)
    if uses_reference(backend, picture):
        target[...] = (_reference_q6(picture, x, y) + 32) >> 6
    else:
        _native.resample(picture, *x, *y, target, threads, isa_code(isa))
    return target


@any_array
def prepare(
    picture: Array,
    height: int,
    width: int,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    filter: Filter = "bilinear",
    dtype: Any = np.float32,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """A network's input in one pass: scaled, (v / 255 - mean) / std, channel planes apart.

    Args:
        picture: uint8 [H, W, 1|3|4], any strides; one channel is repeated, a fourth is ignored.
        height, width: of the input.
        mean, std: per channel, for values in 0..1.
        filter: as in :func:`resize`.
        dtype: float32, or float16 (rounded half to even from it).
        out: of that dtype [1, 3, height, width], to write into.
        backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        [1, 3, height, width].

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    check_picture("picture", picture, channels=(1, 3, 4))
    x, y = _axes(picture, height, width, filter)
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise InvalidInputError(f"mean, std: expected three numbers each, std over 0, got {mean} and {std}.")
    gain = (1.0 / (64.0 * 255.0 * np.asarray(std, np.float64))).astype(np.float32)
    bias = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    if np.dtype(dtype) not in (np.float32, np.float16):
        raise InvalidInputError(f"dtype: expected float32 or float16, got {np.dtype(dtype)}.")
    target = output(out, (1, 3, height, width), np.dtype(dtype), picture)
    if uses_reference(backend, picture):
        q6 = _reference_q6(picture, x, y)
        planes = np.broadcast_to(q6, (*q6.shape[:2], 3)) if q6.shape[2] == 1 else q6[:, :, :3]
        target[0] = (planes.astype(np.float32) * gain + bias).transpose(2, 0, 1)
    else:
        _native.resample_tensor(picture, *x, *y, gain.tolist(), bias.tolist(), target[0], threads, isa_code(isa))
    return target


def restore_reference(tensor: Array, gain: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The law of restore in NumPy; see kernels/ops/restore.op.h."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = tensor.astype(np.float32) * gain[:, None, None] + bias[:, None, None]
    values = np.clip(np.where(np.isnan(values), np.float32(0), values), 0, 255)
    return np.rint(values).astype(np.uint8).transpose(1, 2, 0)


@any_array
def restore(
    tensor: Array,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """A network's output as a picture: the inverse of :func:`prepare`, at the tensor's own size.

    Args:
        tensor: float32 or float16 [3, H, W] or [1, 3, H, W], any strides; NaN becomes 0.
        mean, std: per channel; a value is (v * std + mean) * 255. (0.5, 0.5, 0.5) twice undoes [-1, 1].
        out: uint8 [H, W, 3|4] to write into; a fourth channel becomes 255.
        backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W, 3], sRGB as the network saw it.

    Raises:
        InvalidInputError: shapes, dtypes or parameters do not fit.

    Numerics: EXACT.
    """
    if not isinstance(tensor, ARRAYS) or tensor.dtype not in (np.float32, np.float16):
        got = str(tensor.dtype) if isinstance(tensor, ARRAYS) else type(tensor).__name__
        raise InvalidInputError(f"tensor: expected float32 or float16, got {got}.")
    planes = tensor[0] if tensor.ndim == 4 and tensor.shape[0] == 1 else tensor
    if planes.ndim != 3 or planes.shape[0] != 3:
        raise InvalidInputError(f"tensor: expected shape [3, height, width], got {list(tensor.shape)}.")
    check_size("tensor", planes.shape[1], planes.shape[2])
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all():
        raise InvalidInputError(f"mean, std: expected three numbers each, got {mean} and {std}.")
    gain = (255.0 * np.asarray(std, np.float64)).astype(np.float32)
    bias = (255.0 * np.asarray(mean, np.float64)).astype(np.float32)
    channels = 4 if isinstance(out, ARRAYS) and out.ndim == 3 and out.shape[2] == 4 else 3
    target = output(out, (planes.shape[1], planes.shape[2], channels), np.uint8, planes)
    if uses_reference(backend, planes):
        target[:, :, :3] = restore_reference(planes, gain, bias)
        target[:, :, 3:] = 255
    else:
        _native.restore(planes, gain.tolist(), bias.tolist(), target, threads, isa_code(isa))
    return target
