# SPDX-License-Identifier: Apache-2.0
"""Engines of a bundle, opened on the device that was asked for, behind one call: arrays in, arrays out.

| device | a graph (ONNX) | a plan in the bundle |
| --- | --- | --- |
| ``cpu``, ``cuda`` | ONNX Runtime with that provider | |
| ``tensorrt`` | ONNX Runtime's TensorRT provider, which compiles when it opens | TensorRT itself |
| ``tensorrt-rtx`` | ONNX Runtime's plug-in provider of that name | TensorRT-RTX itself |

Small networks outside bundles (depth, objects) run on our own kernels on the CPU: ``own.py``.

Nothing falls back to another device: what was asked for runs, or an error says why not; inside ONNX Runtime, operators
that a GPU's provider does not take (of shapes, mostly) run on the CPU, as is its way. ``cuda`` has run on an H200;
plans are written against the vendors' interfaces and **have not been opened on a GPU yet**.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import DeviceArray, can_make, empty_like, take

if TYPE_CHECKING:
    from secondeye.runtime.bundle import EngineEntry

Arrays = Mapping[str, Any]


class Engine(Protocol):
    """A graph or plan, ready to run.

    Attributes:
        name: what runs it, with its version.
    """

    name: str

    def run(self, inputs: Arrays, out: Arrays | None = None) -> dict[str, Any]:
        """Run once; returns when the outputs are there.

        Args:
            inputs: an array for each input of the manifest: numpy, DLPack on the host, or on the engine's GPU whatever
                has ``__cuda_array_interface__`` (torch, cupy, pycuda, numba), which is read where it lies.
            out: arrays for some or all outputs, which are written where they lie. None may be an input too.

        Returns:
            All outputs by name: those of `out`; else, where every input lies on the GPU, arrays there of the first
            one's kind (torch, cupy, pycuda; :class:`secondeye.runtime.backends.cuda.Buffer` for others); else numpy.

        Raises:
            InvalidInputError: arrays that do not fit the manifest, or lie where the engine does not reach.
            EngineError: it failed.
        """
        ...


def taken(arrays: Arrays, what: str) -> dict[str, Any]:
    """Arrays of any library as numpy or DeviceArray, in C order.

    Raises:
        InvalidInputError: no array, or one with gaps on a GPU.
    """
    result = {}
    for name, value in arrays.items():
        one = take(name, value)
        if isinstance(one, DeviceArray):
            if not one.dense:
                raise InvalidInputError(f"{what}: {name}: expected an array without gaps in C order on the GPU.")
        elif not isinstance(one, np.ndarray):
            raise InvalidInputError(f"{what}: {name}: expected an array, got {type(value).__name__}.")
        result[name] = one
    return result


def make_missing(
    targets: dict[str, Any], inputs: dict[str, Any], wanted: Mapping[str, tuple[Any, tuple[int, ...]]]
) -> dict[str, Any]:
    """Arrays for the outputs that the caller brought none for.

    Args:
        targets: what :func:`taken` gave of the caller's outputs; the new ones are added.
        inputs: what it gave of the inputs.
        wanted: dtype and shape of every output.

    Returns:
        The new arrays by name, in the caller's kind; see :meth:`Engine.run`.
    """
    made: dict[str, Any] = {}
    first = next(iter(inputs.values()), None)
    for name, (dtype, shape) in wanted.items():
        if name in targets:
            continue
        if not isinstance(first, DeviceArray) or not all(isinstance(one, DeviceArray) for one in inputs.values()):
            targets[name] = made[name] = np.empty(shape, dtype)
        elif can_make(first.owner):
            targets[name] = empty_like(first, shape, dtype)
            made[name] = targets[name].owner
        else:
            from secondeye.runtime.backends.cuda import Buffer

            made[name] = Buffer(shape, dtype)
            targets[name] = take(name, made[name])
    return made


def check_call(
    inputs: Mapping[str, Any], out: Mapping[str, Any], entry: EngineEntry, axes: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Refuse arrays that an engine's entry in the manifest does not take.

    Args:
        inputs, out: what :func:`taken` gave, or arrays like those.
        entry, axes: of the manifest.

    Returns:
        Dtype and shape of every output.

    Raises:
        InvalidInputError: what was expected and what came.
    """
    from secondeye.runtime.bundle import check_run, shape_of

    lengths = check_run(inputs, entry, axes)
    wanted = {one.name: (np.dtype(one.dtype), shape_of(one, lengths)) for one in entry.outputs}
    check_out(out, inputs, wanted)
    return wanted


def check_out(
    out: Mapping[str, Any], inputs: Mapping[str, Any], wanted: Mapping[str, tuple[Any, tuple[int, ...]]]
) -> None:
    """Refuse output arrays that do not fit.

    Args:
        out: what :func:`taken` gave.
        inputs: likewise.
        wanted: dtype and shape of every output.

    Raises:
        InvalidInputError: what was expected and what came.
    """
    for name, value in out.items():
        if name not in wanted:
            raise InvalidInputError(f"out: expected some of {', '.join(wanted)}, got {name}.")
        dtype, shape = wanted[name]
        if value.dtype != dtype or value.shape != shape:
            raise InvalidInputError(
                f"out: {name}: expected {np.dtype(dtype)} {list(shape)}, got {value.dtype} {list(value.shape)}."
            )
        if isinstance(value, DeviceArray):
            written, shared = not value.readonly, any(_same_place(value, one) for one in inputs.values())
        else:
            written = value.flags.writeable and value.flags.c_contiguous
            shared = any(isinstance(one, np.ndarray) and np.may_share_memory(value, one) for one in inputs.values())
        if not written or shared:
            raise InvalidInputError(f"out: {name}: expected a writable array in C order that is no input.")


def _same_place(a: DeviceArray, b: Any) -> bool:
    if not isinstance(b, DeviceArray):
        return False
    return a.ptr < b.ptr + b.nbytes and b.ptr < a.ptr + a.nbytes
