# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries: taken without a copy, and given back in the caller's own kind.

What lies on the host comes as numpy or through DLPack (``__dlpack__``, Python array API standard); what lies on a GPU
comes through ``__cuda_array_interface__`` (version 2 or 3: torch, cupy, pycuda, numba). An op then runs where its
arrays lie, on the stream that their library has current, and does not wait for it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from secondeye.runtime.errors import InvalidInputError

F = TypeVar("F", bound=Callable[..., Any])
_SIMPLE = (np.ndarray, str, int, float, type(None))
_PLAIN = (*_SIMPLE, tuple, list)
_MAKERS = ("torch", "cupy", "pycuda")  # libraries in which arrays on a GPU can be made here


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """An array on a GPU, as the native module wants it.

    Attributes:
        owner: the caller's array; it keeps the memory.
        ptr: address of the first element.
        shape, strides: elements, bytes.
        dtype: of numpy.
        readonly: outputs must not be.
        stream: a ``cudaStream_t`` as a number; 0 is the legacy default stream.
    """

    owner: Any
    ptr: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    readonly: bool
    stream: int

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def dense(self) -> bool:
        """Whether the elements lie in C order without gaps; the stride of an axis of one element says nothing."""
        below = [self.dtype.itemsize * int(np.prod(self.shape[k + 1 :], dtype=np.int64)) for k in range(self.ndim)]
        apart = zip(self.shape, self.strides, below, strict=True)
        return self.size == 0 or all(length == 1 or stride == step for length, stride, step in apart)

    def __getitem__(self, index: int) -> DeviceArray:
        """The part at a place of the first axis."""
        return DeviceArray(
            self.owner, self.ptr + index * self.strides[0], self.shape[1:], self.strides[1:], self.dtype,
            self.readonly, self.stream,
        )  # fmt: skip


def library(a: Any) -> str:
    """The package that an array's class comes from: torch, cupy, pycuda, numpy ...; a class derived from theirs too."""
    names = [kind.__module__.partition(".")[0] for kind in type(a).__mro__]
    return next((name for name in names if name in _MAKERS), names[0])


def can_make(a: Any) -> bool:
    """Whether :func:`empty_like` can give an array of this one's kind."""
    return library(a) in _MAKERS


def take(name: str, a: Any) -> Any:
    """An array of any library as numpy or as a :class:`DeviceArray`; everything else as it is.

    Raises:
        InvalidInputError: its interface is malformed, or it lies where neither the host nor CUDA reaches.
    """
    if isinstance(a, _PLAIN):
        return a
    interface = _cuda_interface(a)
    if interface is not None:
        return _device_array(name, a, interface)
    if hasattr(a, "__dlpack__"):
        try:
            exporter = _Exporter(a)
            array = np.from_dlpack(exporter)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{name}: {library(a)} does not hand this array over: {error}") from error
        return np.asarray(_Written(array)) if exporter.unversioned else array
    return a


class _Exporter:
    """An array's DLPack interface, which remembers whether the capsule could say that it is read-only (since 1.0)."""

    def __init__(self, a: Any) -> None:
        self._array = a
        self.unversioned = False

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self._array.__dlpack__(**options)
        self.unversioned = '"dltensor"' in repr(capsule)
        return capsule

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class _Written:
    """An array that NumPy takes for read-only because its capsule, an unversioned one, did not say that it is not.

    Exporters refuse to hand read-only arrays over in such capsules. NumPy before 2.1 asks for no others.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.owner = array
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _cuda_interface(a: Any) -> dict[str, Any] | None:
    # torch raises on CPU tensors (AttributeError, or TypeError in old releases), so asking is all that can be done.
    try:
        interface = getattr(a, "__cuda_array_interface__", None)
    except (AttributeError, TypeError):
        return None
    return interface if isinstance(interface, dict) else None


def _device_array(name: str, a: Any, interface: dict[str, Any]) -> DeviceArray:
    try:
        shape = tuple(int(n) for n in interface["shape"])
        dtype = np.dtype(interface["typestr"])
        ptr, readonly = interface["data"]
        strides = interface.get("strides")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{name}: its __cuda_array_interface__ is malformed ({error!r}).") from error
    if interface.get("mask") is not None:
        raise InvalidInputError(f"{name}: masked device arrays are not taken.")
    if strides is None:
        strides = tuple(int(dtype.itemsize * np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape)))
    return DeviceArray(a, int(ptr or 0), shape, tuple(strides), dtype, bool(readonly), _stream(a, interface))


def _stream(a: Any, interface: dict[str, Any]) -> int:
    stream = interface.get("stream")
    if stream is not None:
        return 0 if stream == 1 else int(stream)  # 1 is the legacy default stream, whose handle is null
    if library(a) == "torch":
        return int(sys.modules["torch"].cuda.current_stream(a.device).cuda_stream)
    return 0


def empty_like(like: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A new array where `like` lies: numpy, or a :class:`DeviceArray` of its owner's library."""
    if not isinstance(like, DeviceArray):
        return np.empty(shape, dtype)
    owner, name = like.owner, library(like.owner)
    if name == "torch":
        torch = sys.modules["torch"]
        made = torch.empty(shape, dtype=getattr(torch, np.dtype(dtype).name), device=owner.device)
    elif name == "cupy":
        made = sys.modules["cupy"].empty(shape, dtype)
    elif name == "pycuda":
        made = sys.modules["pycuda.gpuarray"].empty(shape, np.dtype(dtype), owner.allocator)
    else:
        raise InvalidInputError(f"out: arrays of {name} cannot be allocated here; pass out=.")
    return take("out", made)


def on_device(like: Any, table: np.ndarray[Any, Any]) -> Any:
    """A small constant table where `like` lies."""
    if not isinstance(like, DeviceArray):
        return table
    name = library(like.owner)
    if name == "torch":
        return take("table", sys.modules["torch"].from_numpy(table.copy()).to(like.owner.device))
    if name == "cupy":
        return take("table", sys.modules["cupy"].asarray(table))
    if name == "pycuda":
        return take("table", sys.modules["pycuda.gpuarray"].to_gpu(table))
    raise InvalidInputError(f"arrays of {name} cannot be resized here: it has no known way to upload the weights.")


def _give(result: Any, kind: str) -> Any:
    if isinstance(result, DeviceArray):
        return result.owner
    if isinstance(result, np.ndarray):
        return sys.modules["torch"].from_numpy(result) if kind == "torch" else result
    if isinstance(result, tuple):
        parts = [_give(part, kind) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


def any_array(op: F) -> F:
    """Lets an op over numpy arrays take those of other libraries, and give back the kind it got."""

    @functools.wraps(op)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # Nothing to convert, which is the usual case, costs as little as a small picture leaves.
        if all(isinstance(a, _SIMPLE) for a in args) and all(isinstance(a, _SIMPLE) for a in kwargs.values()):
            return op(*args, **kwargs)
        foreign: list[str] = []

        def convert(name: str, a: Any) -> Any:
            if isinstance(a, tuple) and hasattr(a, "_fields"):
                return type(a)(*(convert(f"{name}.{field}", v) for field, v in zip(a._fields, a, strict=True)))
            if isinstance(a, tuple):
                return type(a)(convert(f"{name}[{k}]", v) for k, v in enumerate(a))
            taken = take(name, a)
            if taken is not a:
                foreign.append(library(a))
            return taken

        names = op.__code__.co_varnames
        args = tuple(convert(names[k] if k < len(names) else "argument", a) for k, a in enumerate(args))
        kwargs = {name: convert(name, a) for name, a in kwargs.items()}
        result = op(*args, **kwargs)
        return _give(result, foreign[0]) if foreign else result

    return wrapper  # type: ignore[return-value]
