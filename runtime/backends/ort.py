# SPDX-License-Identifier: Apache-2.0
"""Graphs on ONNX Runtime, their inputs and outputs bound to the caller's memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from secondeye.runtime.backends import Arrays, check_call, make_missing, taken
from secondeye.runtime.errors import EngineError, InvalidInputError
from secondeye.runtime.ops._arrays import DeviceArray
from secondeye.runtime.sessions import Device, first_line, provider_name

if TYPE_CHECKING:
    from secondeye.runtime.backends.cuda import Stream
    from secondeye.runtime.bundle import EngineEntry

_GRAPH = "gpu_graph_id"
_MOST_BOUND = 32  # sets of arrays that are remembered
_MOST_RECORDED = 32  # CUDA graphs of a session, which keeps them


class OrtEngine:
    """A session with the manifest's words for its inputs and outputs; see :class:`secondeye.runtime.backends.Engine`.

    Host arrays are bound where they lie, and so are arrays on the GPU with any device but ``cpu``.

    Args:
        session: of :func:`secondeye.runtime.sessions.open_session`.
        entry, axes: of the manifest.
        device: that the session was opened for.
        fixed: run in buffers of the engine's own, one set for each set of shapes, into which inputs are copied: what a
            CUDA graph needs. The session must have been opened for it.
        gpu: the GPU's number that the session was opened for.
        stream: that the session was opened for, if it was; :meth:`queue` needs it.
        recording: the session may record what comes again in the same arrays, as a CUDA graph.

    Attributes:
        capturable: the stream's owner may not record what :meth:`queue` puts there; a session does so by itself.
    """

    capturable = False

    def __init__(
        self,
        session: Any,
        entry: EngineEntry,
        axes: dict[str, tuple[int, int]],
        *,
        device: Device,
        fixed: bool = False,
        gpu: int = 0,
        stream: Stream | None = None,
        recording: bool = False,
    ) -> None:
        import onnxruntime as ort

        self._session, self._entry, self._axes = session, entry, axes
        self._place, self._gpu = "cpu" if device == "cpu" else "cuda", gpu
        self._stream, self._recording = stream, recording
        self._queued: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._recorded = 0
        self._fixed: dict[tuple[Any, ...], tuple[Any, dict[str, Any], dict[str, Any]]] | None = {} if fixed else None
        self.name = f"onnxruntime {ort.__version__}, {provider_name(device)}"

    def run(self, inputs: Arrays, out: Arrays | None = None) -> dict[str, Any]:
        """See :class:`secondeye.runtime.backends.Engine`."""
        given, targets = taken(inputs, self._entry.file), taken(out or {}, "out")
        wanted = check_call(given, targets, self._entry, self._axes)
        on_gpu = [isinstance(one, DeviceArray) for one in (*given.values(), *targets.values())]
        if any(on_gpu) and self._place == "cpu":
            raise InvalidInputError(f"{self._entry.file}: it runs on the CPU and cannot read arrays on a GPU.")
        results = dict(out or {}) | make_missing(targets, given, wanted)
        for stream in {one.stream for one in (*given.values(), *targets.values()) if isinstance(one, DeviceArray)}:
            from secondeye.runtime.backends.cuda import wait_for

            wait_for(stream)  # before it is known on which stream the provider works
        if self._fixed is not None and any(on_gpu):
            raise InvalidInputError(f"{self._entry.file}: with a CUDA graph it takes host arrays.")
        try:
            if self._fixed is None:
                self._run_bound(given, targets)
            else:
                self._run_fixed(self._fixed, given, targets)
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise EngineError(f"{self._entry.file}: failed ({first_line(error)}).") from error
        return {name: results[name] for name in wanted}

    def queue(self, inputs: Mapping[str, DeviceArray], out: Mapping[str, DeviceArray], *, record: bool = False) -> None:
        """Put a run on the engine's stream and return.

        Args:
            inputs, out: all of them, on the GPU; what is put on the stream later finds them written.
            record: if these arrays came before, from now on as a CUDA graph, where the session can.

        Raises:
            InvalidInputError: inputs that do not fit.
            EngineError: it could not be queued.
        """
        key = tuple((name, one.ptr, one.shape) for name, one in (*inputs.items(), *out.items()))
        binding, settings = self._queued.pop(key, (None, None))
        try:
            if binding is None:
                binding, settings = self._bind(inputs, out), _settings("-1")
                while len(self._queued) >= _MOST_BOUND:
                    del self._queued[next(iter(self._queued))]
            elif record and self._can_record and settings.get_run_config_entry(_GRAPH) == "-1":
                self._recorded += 1
                settings = _settings(str(self._recorded))
            self._session.run_with_iobinding(binding, settings)
        except InvalidInputError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise EngineError(f"{self._entry.file}: failed ({first_line(error)}).") from error
        self._queued[key] = binding, settings

    @property
    def _can_record(self) -> bool:
        return self._recording and self._recorded < _MOST_RECORDED

    def _bind(self, inputs: Mapping[str, DeviceArray], out: Mapping[str, DeviceArray]) -> Any:
        check_call(inputs, out, self._entry, self._axes)
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_input(name, *self._where(value))
        for name, value in out.items():
            binding.bind_output(name, *self._where(value))
        return binding

    def _run_bound(self, given: dict[str, Any], targets: dict[str, Any]) -> None:
        binding = self._session.io_binding()
        for name, value in given.items():
            value = value if isinstance(value, DeviceArray) else np.ascontiguousarray(value)
            given[name] = value  # keeps a copy alive while it is bound
            binding.bind_input(name, *self._where(value))
        for name, value in targets.items():
            binding.bind_output(name, *self._where(value))
        binding.synchronize_inputs()
        if self._recording:
            self._session.run_with_iobinding(binding, _settings("-1", wait=True))
        else:
            self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    def _run_fixed(self, sets: dict[Any, Any], given: dict[str, Any], targets: dict[str, Any]) -> None:
        import onnxruntime as ort

        shapes = tuple(value.shape for value in given.values())
        if shapes not in sets:

            def values(arrays: dict[str, Any]) -> dict[str, Any]:
                make = ort.OrtValue.ortvalue_from_shape_and_type
                return {n: make(list(a.shape), a.dtype, self._place, self._gpu) for n, a in arrays.items()}

            binding, held, made = self._session.io_binding(), values(given), values(targets)
            for name, value in held.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in made.items():
                binding.bind_ortvalue_output(name, value)
            sets[shapes] = (binding, held, made)
        binding, held, made = sets[shapes]
        for name, value in given.items():
            held[name].update_inplace(np.ascontiguousarray(value))
        self._session.run_with_iobinding(binding, _settings(str(list(sets).index(shapes) + 1), wait=True))
        for name, value in targets.items():
            value[...] = made[name].numpy()

    def _where(self, value: Any) -> tuple[str, int, Any, tuple[int, ...], int]:
        """Device, its number, dtype, shape and address, as bindings want them."""
        if isinstance(value, DeviceArray):
            return self._place, self._gpu, value.dtype, value.shape, value.ptr
        return "cpu", 0, value.dtype, value.shape, value.ctypes.data


def _settings(graph: str, *, wait: bool = False) -> Any:
    """Of a run: the number of its CUDA graph (-1 for none), and whether the host waits for it."""
    import onnxruntime as ort

    settings = ort.RunOptions()
    settings.add_run_config_entry(_GRAPH, graph)
    if not wait:
        settings.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return settings
