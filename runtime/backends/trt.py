# SPDX-License-Identifier: Apache-2.0
"""Plans on TensorRT and TensorRT-RTX themselves: buffers and a stream of our own, and a CUDA graph.

A plan is machine code. It is opened only when this machine built it (:func:`secondeye.runtime.plans.check_plan`).
**Not yet run on a GPU.**
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secondeye.runtime.backends import Arrays, check_out, taken
from secondeye.runtime.errors import EngineError, InvalidInputError
from secondeye.runtime.ops._arrays import DeviceArray
from secondeye.runtime.plans import PACKAGES, Plan, check_plan, need

if TYPE_CHECKING:
    from secondeye.runtime.bundle import EngineEntry


class TrtEngine:
    """A plan with the manifest's words for its inputs and outputs; see :class:`secondeye.runtime.backends.Engine`.

    Args:
        folder: of the bundle.
        entry, axes: of the manifest.
        plan: of the entry.
        cuda_graph: record the work once for each set of shapes and addresses, and start it with one call from then on.

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
    ) -> None:
        data = check_plan(folder, plan)
        from secondeye.runtime.backends.cuda import Graph, Stream, find_gpu

        module, gpu = need(plan.backend), find_gpu()
        if gpu.target not in plan.targets:
            raise EngineError(
                f"{plan.file}: built for {', '.join(plan.targets)} where this {gpu.name} is {gpu.target}; build it "
                f"again with --target {gpu.target}."
            )
        self._entry, self._axes = entry, axes
        self._runtime = module.Runtime(module.Logger(module.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(f"{plan.file}: {PACKAGES[plan.backend].label} cannot open it; build the bundle again.")
        if plan.backend == "tensorrt-rtx" and cuda_graph:
            settings = self._engine.create_runtime_config()
            settings.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._context = self._engine.create_execution_context(settings)
        else:
            self._context = self._engine.create_execution_context()
        self._records: dict[Any, Graph | None] | None = {} if cuda_graph and plan.backend == "tensorrt" else None
        self._stream = Stream()
        self._buffers: dict[str, Any] = {}
        self.name = f"{PACKAGES[plan.backend].label} {plan.version}, {gpu.name}"

    def run(self, inputs: Arrays, out: Arrays | None = None) -> dict[str, Any]:
        """See :class:`secondeye.runtime.backends.Engine`."""
        from secondeye.runtime.backends.cuda import Buffer, wait_for
        from secondeye.runtime.bundle import check_run, shape_of

        given = taken(inputs, self._entry.file)
        lengths = check_run(given, self._entry, self._axes)
        wanted = {one.name: (np.dtype(one.dtype), shape_of(one, lengths)) for one in self._entry.outputs}
        targets = taken(out or {}, "out")
        check_out(targets, given, wanted)
        stay = all(isinstance(one, DeviceArray) for one in given.values())
        results: dict[str, Any] = dict(out or {})
        for name, (dtype, shape) in wanted.items():
            if name not in results:
                results[name] = Buffer(shape, dtype) if stay else np.empty(shape, dtype)
                targets |= taken({name: results[name]}, "out")
        for stream in {one.stream for one in (*given.values(), *targets.values()) if isinstance(one, DeviceArray)}:
            wait_for(stream)
        places: dict[str, int] = {}
        for name, value in (*given.items(), *targets.items()):
            places[name] = value.ptr if isinstance(value, DeviceArray) else self._buffer(name, value).ptr
        for name, value in given.items():
            if not isinstance(value, DeviceArray):
                self._stream.upload(places[name], np.ascontiguousarray(value))
        self._enqueue({name: value.shape for name, value in given.items()}, places)
        for name, value in targets.items():
            if not isinstance(value, DeviceArray):
                self._stream.download(value, places[name])
        self._stream.wait()
        return {name: results[name] for name in wanted}

    def _buffer(self, name: str, like: np.ndarray[Any, Any]) -> Any:
        from secondeye.runtime.backends.cuda import Buffer

        held = self._buffers.get(name)
        if held is None or held.nbytes < like.nbytes:
            held = self._buffers[name] = Buffer(like.shape, like.dtype)
        return held

    def _enqueue(self, shapes: dict[str, tuple[int, ...]], places: dict[str, int]) -> None:
        key = (tuple(shapes.items()), tuple(places.items()))
        record = self._records.get(key) if self._records is not None else None
        if record is not None:
            record.launch(self._stream)
            return
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise InvalidInputError(f"{self._entry.file}: {name}: the plan does not take {list(shape)}.")
        for name, ptr in places.items():
            if not self._context.set_tensor_address(name, ptr):
                raise EngineError(f"{self._entry.file}: the plan has no {name}; build the bundle again.")
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"{self._entry.file}: TensorRT could not run it.")
        if self._records is not None:
            if len(self._records) >= 16:  # callers whose addresses keep changing gain nothing from records
                self._records.clear()
            self._stream.wait()
            self._stream.begin_capture()
            self._context.execute_async_v3(self._stream.handle)
            self._records[key] = self._stream.end_capture()
