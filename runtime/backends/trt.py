# SPDX-License-Identifier: Apache-2.0
"""Plans on TensorRT and TensorRT-RTX themselves: buffers and a stream of our own, and a CUDA graph of an engine.

A caller's stream is waited for on the GPU, by an event; or several engines share one and are queued on it, and who
owns it may record them all as one CUDA graph. A plan is machine code. It is opened only when this machine
built it (:func:`secondeye.runtime.plans.check_plan`).
**No plan has been opened on a GPU yet.**
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secondeye.runtime.backends import Arrays, check_call, make_missing, taken
from secondeye.runtime.errors import EngineError, InvalidInputError, MediaError
from secondeye.runtime.ops._arrays import DeviceArray
from secondeye.runtime.plans import PACKAGES, Plan, check_plan, keep_kernels, listener, need, read_kernels

if TYPE_CHECKING:
    from secondeye.runtime.backends.cuda import Graph, Stream
    from secondeye.runtime.bundle import EngineEntry

ALIGNMENT = 256  # bytes; of every address, in NvInferRuntime.h's words at setTensorAddress


class TrtEngine:
    """A plan with the manifest's words for its inputs and outputs; see :class:`secondeye.runtime.backends.Engine`.

    Args:
        folder: of the bundle.
        entry, axes: of the manifest.
        plan: of the entry.
        cuda_graph: record the work when shapes and addresses come a second time, and start it with one call for as long
            as they stay.
        stream: to work on, in place of one of its own; :meth:`queue` puts work on it.

    Attributes:
        capturable: whether what :meth:`queue` puts on the stream may be recorded there, once it has run in that shape.
            TensorRT-RTX compiles and records by itself.

    Raises:
        EngineError: the plan was built elsewhere, for another version or GPU, or is damaged.
        BackendUnavailableError: no package, GPU or driver.
    """

    def __init__(
        self,
        folder: Path,
        entry: EngineEntry,
        axes: dict[str, tuple[int, int]],
        plan: Plan,
        *,
        cuda_graph: bool = False,
        stream: Stream | None = None,
    ) -> None:
        data = check_plan(folder, plan)
        from secondeye.runtime.backends.cuda import Stream, find_gpu

        module, gpu = need(plan.backend), find_gpu()
        if gpu.target not in plan.targets:
            raise EngineError(
                f"{plan.file}: built for {', '.join(plan.targets)} where this {gpu.name} is {gpu.target}; build it "
                f"again with --target {gpu.target}."
            )
        self._entry, self._axes, self._label = entry, axes, PACKAGES[plan.backend].label
        self._log, self._told = listener(module)
        self._runtime = module.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(f"{plan.file}: {self._why('cannot open it')}; build the bundle again.")
        self._kernels: _Kernels | None = None
        if plan.backend == "tensorrt-rtx":
            settings = self._engine.create_runtime_config()
            if cuda_graph:
                settings.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            # Its own choice is to go on with other kernels until those for a shape are there: results would change.
            eager = module.DynamicShapesKernelSpecializationStrategy.EAGER
            settings.dynamic_shapes_kernel_specialization_strategy = eager
            self._kernels = _Kernels(settings, plan, gpu.name)
            self._context = self._engine.create_execution_context(settings)
        else:
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{plan.file}: {self._why('has no room for it')}.")
        self.capturable = plan.backend == "tensorrt"
        self._recording = cuda_graph and self.capturable
        self._shapes: dict[str, tuple[int, ...]] = {}  # of the last run
        self._places: dict[str, int] = {}
        self._record: Graph | None = None
        self._stream = Stream() if stream is None else stream
        self._buffers: dict[str, Any] = {}
        self.name = f"{self._label} {plan.version}, {gpu.name}"

    def _why(self, what: str) -> str:
        """What failed, with the last thing that the vendor's library said, which is then forgotten."""
        reason = f" ({self._told[-1][:200].rstrip('.')})" if self._told else ""
        self._told.clear()
        return f"{self._label} {what}{reason}"

    def run(self, inputs: Arrays, out: Arrays | None = None) -> dict[str, Any]:
        """See :class:`secondeye.runtime.backends.Engine`."""
        given, targets = taken(inputs, self._entry.file), taken(out or {}, "out")
        wanted = check_call(given, targets, self._entry, self._axes)
        for stream in {one.stream for one in (*given.values(), *targets.values()) if isinstance(one, DeviceArray)}:
            self._stream.follow(stream)
        results = dict(out or {}) | make_missing(targets, given, wanted)
        places: dict[str, int] = {}
        for name, value in (*given.items(), *targets.items()):
            lies = isinstance(value, DeviceArray) and value.ptr % ALIGNMENT == 0
            places[name] = value.ptr if lies else self._buffer(name, value).ptr
        for name, value in given.items():
            if not isinstance(value, DeviceArray):
                self._stream.upload(places[name], np.ascontiguousarray(value))
            elif places[name] != value.ptr:
                self._stream.copy(places[name], value.ptr, value.nbytes)
        shapes = {name: value.shape for name, value in given.items()}
        self._enqueue(shapes, {name: shape for name, (_, shape) in wanted.items()}, places)
        for name, value in targets.items():
            if not isinstance(value, DeviceArray):
                self._stream.download(value, places[name])
            elif places[name] != value.ptr:
                self._stream.copy(value.ptr, places[name], value.nbytes)
        self._stream.wait()
        return {name: results[name] for name in wanted}

    def queue(self, inputs: Mapping[str, DeviceArray], out: Mapping[str, DeviceArray], *, record: bool = False) -> None:
        """Put a run on the engine's stream and return; see :meth:`OrtEngine.queue`.

        Args:
            inputs, out: all of them, on the GPU, at addresses that are multiples of 256 bytes.
            record: makes no difference: TensorRT-RTX records by itself, and TensorRT's work is recorded with all else
                by who owns the stream.
        """
        wanted = check_call(inputs, out, self._entry, self._axes)
        places = {name: one.ptr for name, one in (*inputs.items(), *out.items())}
        if any(place % ALIGNMENT for place in places.values()) or set(out) != set(wanted):
            raise InvalidInputError(f"{self._entry.file}: expected arrays for all outputs, on multiples of 256 bytes.")
        shapes = {name: one.shape for name, one in inputs.items()}
        self._enqueue(shapes, {name: shape for name, (_, shape) in wanted.items()}, places)

    def _buffer(self, name: str, like: Any) -> Any:
        """Memory of the engine's own, for an array on the host or on an address that TensorRT does not take."""
        from secondeye.runtime.backends.cuda import Buffer

        held = self._buffers.get(name)
        if held is None or held.nbytes < like.nbytes:
            held = self._buffers[name] = Buffer(like.shape, like.dtype)
        return held

    def _enqueue(
        self, shapes: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], places: dict[str, int]
    ) -> None:
        if shapes == self._shapes and places == self._places:
            self._execute_again()
            return
        # A record is of its context's state, so there is one, of the shapes and addresses that came last.
        self._record, before = None, self._places
        self._places = {}
        if shapes != self._shapes:
            self._set_shapes(shapes, wanted)
        for name, ptr in places.items():
            if ptr != before.get(name) and not self._context.set_tensor_address(name, ptr):
                raise EngineError(
                    f"{self._entry.file}: {self._why(f'does not take {name} at {ptr:#x}')}; build the bundle again."
                )
        self._execute()
        self._places = places
        if self._kernels is not None and self._kernels.are_new(shapes):
            self._stream.wait()
            self._kernels.keep(shapes)

    def _execute_again(self) -> None:
        if not self._recording:
            self._execute()
            return
        if self._record is None:  # shapes and addresses that came twice will come again
            self._record = self._stream.record(self._execute)
        self._record.launch(self._stream)

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> None:
        self._shapes = {}
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise InvalidInputError(f"{self._entry.file}: {name}: the plan does not take {list(shape)}.")
        for name, shape in wanted.items():  # more than was allocated would be written over somebody's memory
            made = tuple(self._context.get_tensor_shape(name))
            if made != shape:
                raise EngineError(
                    f"{self._entry.file}: {name}: the plan gives {list(made)} where the manifest says "
                    f"{list(shape)}; build the bundle again."
                )
        self._shapes = shapes

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._entry.file}: {self._why('could not run it')}.")


class _Kernels:
    """Those that TensorRT-RTX finishes when a plan first meets its GPU and a shape, kept for the next process.

    Args:
        settings: of the context that is to be made.
        plan, gpu: whose they are.
    """

    def __init__(self, settings: Any, plan: Plan, gpu: str) -> None:
        self._plan, self._gpu, self._seen = plan, gpu, set[Any]()
        self._cache = settings.create_runtime_cache()
        self._kept = read_kernels(plan, gpu) or b""
        if self._kept and not self._cache.deserialize(self._kept):  # of another driver, say
            self._kept = b""
        settings.set_runtime_cache(self._cache)

    def are_new(self, shapes: dict[str, tuple[int, ...]]) -> bool:
        """Whether a run of these shapes may have made some that :meth:`keep` has not written."""
        return tuple(shapes.items()) not in self._seen

    def keep(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Write what is new after a run, the first of its shapes."""
        self._seen.add(tuple(shapes.items()))
        blob = bytes(memoryview(self._cache.serialize()))
        if blob == self._kept:
            return
        try:
            keep_kernels(self._plan, self._gpu, blob)
        except MediaError as error:
            logging.getLogger(__name__).warning("Compiled kernels are not kept for the next start: %s", error)
        self._kept = blob
