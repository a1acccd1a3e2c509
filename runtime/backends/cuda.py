# SPDX-License-Identifier: Apache-2.0
"""The little of CUDA that engines need, through NVIDIA's own ``cuda-bindings``: memory, a stream, a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from secondeye.runtime.errors import BackendUnavailableError, EngineError


def _module() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendUnavailableError(
            "running an engine on a GPU needs cuda-bindings; install with: pip install 'secondeye[cuda]'."
        ) from error
    return runtime


def _call(name: str, *arguments: Any) -> Any:
    """One function of the CUDA runtime; its result, without the status."""
    module = _module()
    status, *values = getattr(module, name)(*arguments)
    if int(status):
        text = module.cudaGetErrorString(status)[1].decode()
        raise EngineError(f"CUDA: {name} failed ({text}).")
    return values[0] if len(values) == 1 else tuple(values)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU: its name, its architecture, as ``sm_89``, and its number in this process."""

    name: str
    target: str
    number: int = 0


def find_gpu() -> Gpu:
    """The current GPU.

    Raises:
        BackendUnavailableError: there is none, or no driver.
    """
    module = _module()
    status, count = module.cudaGetDeviceCount()
    if int(status) or not count:
        reason = module.cudaGetErrorString(status)[1].decode() if int(status) else "none found"
        raise BackendUnavailableError(f"no NVIDIA GPU that can be used here ({reason}); see 'secondeye doctor'.")
    device = _call("cudaGetDevice")
    facts = _call("cudaGetDeviceProperties", device)
    name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
    return Gpu(name=name, target=f"sm_{facts.major}{facts.minor}", number=int(device))


def gpu_number() -> int:
    """The current GPU's number; 0 where nothing here can tell."""
    try:
        return int(_call("cudaGetDevice"))
    except (BackendUnavailableError, EngineError):
        return 0


def memory_used() -> int:
    """Bytes of the current GPU's memory that are taken, by anyone."""
    free, total = _call("cudaMemGetInfo")
    return int(total) - int(free)


class Buffer:
    """An array on the GPU, freed with its last reference."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype, self.ptr = shape, np.dtype(dtype), 0
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        self.ptr = int(_call("cudaMalloc", max(1, self.nbytes)))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.ptr, False), "strides": None,
                "version": 3, "stream": None}  # fmt: skip

    def numpy(self) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        host = np.empty(self.shape, self.dtype)
        _call("cudaMemcpy", host.ctypes.data, self.ptr, self.nbytes, _module().cudaMemcpyKind.cudaMemcpyDeviceToHost)
        return host

    def __del__(self) -> None:
        if self.ptr:
            _module().cudaFree(self.ptr)


class Stream:
    """A stream of our own."""

    def __init__(self) -> None:
        self.handle = 0
        self.handle = int(_call("cudaStreamCreateWithFlags", _module().cudaStreamNonBlocking))

    def upload(self, ptr: int, host: np.ndarray[Any, Any]) -> None:
        """Copy a host array in C order to an address on the GPU."""
        kind = _module().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", ptr, host.ctypes.data, host.nbytes, kind, self.handle)

    def download(self, host: np.ndarray[Any, Any], ptr: int) -> None:
        """Copy from an address on the GPU into a host array in C order."""
        kind = _module().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", host.ctypes.data, ptr, host.nbytes, kind, self.handle)

    def copy(self, target: int, source: int, count: int) -> None:
        """Copy bytes between addresses on the GPU."""
        kind = _module().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        _call("cudaMemcpyAsync", target, source, count, kind, self.handle)

    def clear(self, ptr: int, count: int) -> None:
        """Make bytes on the GPU 0."""
        _call("cudaMemsetAsync", ptr, 0, count, self.handle)

    def mark(self) -> Mark:
        """A moment that is there when all before it is done."""
        return Mark(self.handle)

    def follow(self, other: int) -> None:
        """What is put on it from now on starts after all that is on another stream now; the host does not wait."""
        event = _call("cudaEventCreateWithFlags", _module().cudaEventDisableTiming)
        try:
            _call("cudaEventRecord", event, other)
            _call("cudaStreamWaitEvent", self.handle, event, 0)
        finally:
            _call("cudaEventDestroy", event)  # which lasts until it is reached

    def wait(self) -> None:
        """Return when everything on it is done."""
        _call("cudaStreamSynchronize", self.handle)

    def record(self, work: Callable[[], None]) -> Graph:
        """What some work puts on it, recorded and not done."""
        _call("cudaStreamBeginCapture", self.handle, _module().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

        try:
            work()
        finally:
            graph = _call("cudaStreamEndCapture", self.handle)
        try:
            return Graph(_call("cudaGraphInstantiate", graph, 0))
        finally:
            _call("cudaGraphDestroy", graph)

    def __del__(self) -> None:
        if self.handle:
            _module().cudaStreamDestroy(self.handle)


class Mark:
    """A moment on a stream."""

    def __init__(self, stream: int) -> None:
        self.handle = 0
        self.handle = _call("cudaEventCreate")
        _call("cudaEventRecord", self.handle, stream)

    def ms_since(self, other: Mark) -> float:
        """Milliseconds between two that are there."""
        return float(_call("cudaEventElapsedTime", other.handle, self.handle))

    def __del__(self) -> None:
        if self.handle:
            _module().cudaEventDestroy(self.handle)


class Graph:
    """Recorded work, started with one call."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def launch(self, stream: Stream) -> None:
        """Start it on a stream."""
        _call("cudaGraphLaunch", self._handle, stream.handle)

    def __del__(self) -> None:
        _module().cudaGraphExecDestroy(self._handle)


def wait_for(stream: int) -> None:
    """Return when a caller's stream is done (a ``cudaStream_t`` as a number)."""
    _call("cudaStreamSynchronize", stream)
