# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions: the device asked for is the device used, or there is an error that says why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import BackendUnavailableError, EngineError, InvalidInputError, ModelFormatError

Device = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx"]
# Provider, the option that records a CUDA graph, the extra that brings it.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "", ""),
    "cuda": ("CUDAExecutionProvider", "enable_cuda_graph", "cuda"),
    "tensorrt": ("TensorrtExecutionProvider", "trt_cuda_graph_enable", "cuda"),
    "tensorrt-rtx": ("NvTensorRTRTXExecutionProvider", "enable_cuda_graph", "tensorrt-rtx"),
}
_PLUG_IN = "onnxruntime_ep_nv_tensorrt_rtx"
_registered: list[str] = []


def provider_name(device: Device) -> str:
    """ONNX Runtime's name of a device."""
    return _PROVIDERS[device][0]


def need_provider(device: Device) -> None:
    """Refuse a device, but ``tensorrt-rtx``, that this ONNX Runtime was not built for.

    Raises:
        BackendUnavailableError: so it is.
    """
    import onnxruntime as ort

    wanted, _, extra = _PROVIDERS[device]
    there = ort.get_available_providers()
    if wanted not in there:
        raise BackendUnavailableError(
            f"device {device}: this onnxruntime ({ort.__version__}) has only {', '.join(there)}; install "
            f"secondeye[{extra}] in place of plain onnxruntime."
        )


def open_session(
    path: str | os.PathLike[str],
    *,
    device: Device = "cpu",
    threads: int = 0,
    fixed: dict[str, int] | None = None,
    cuda_graph: bool = False,
    gpu: int = 0,
    stream: int = 0,
    options: Mapping[str, str] | None = None,
) -> Any:
    """Open an ONNX file.

    Args:
        path: the file.
        device: ``cpu``, ``cuda``, ``tensorrt`` (ONNX Runtime's TensorRT provider, which compiles the graph as it opens)
            or ``tensorrt-rtx`` (its plug-in provider).
        threads: 0 for one per core.
        fixed: lengths of named axes, known beforehand, for which the session is optimised and which it then demands.
        cuda_graph: let the provider record its work, for runs in fixed buffers.
        gpu: the GPU's number, of any device but ``cpu``.
        stream: the caller's ``cudaStream_t`` that it works on, as a number; 0 has it make one of its own.
        options: of the provider, beside those that follow from the other arguments.

    Returns:
        onnxruntime.InferenceSession.

    Raises:
        BackendUnavailableError: the device cannot be had; nothing falls back to another.
        ModelFormatError: not an ONNX model that can be loaded.
    """
    import onnxruntime as ort

    if device not in _PROVIDERS:
        raise InvalidInputError(f"device: expected one of {', '.join(get_args(Device))}, got {device!r}.")
    wanted, graph_option, _ = _PROVIDERS[device]
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    # A product after DequantizeLinear is computed in float32; left alone, activations would be rounded to 8 bits.
    settings.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # Its threads would go on spinning when a run is over, on the cores that our kernels then want.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    for axis, length in (fixed or {}).items():
        settings.add_free_dimension_override_by_name(axis, length)
    told = dict(options or {}) | ({graph_option: "1"} if cuda_graph and graph_option else {})
    where = (
        {} if device == "cpu" else {"device_id": str(gpu)} | ({"user_compute_stream": str(stream)} if stream else {})
    )
    if device == "tensorrt-rtx":
        settings.add_provider_for_devices(_plug_in_devices(ort, wanted), told)
        providers: list[Any] | None = None
    else:
        need_provider(device)
        providers = [(wanted, told | where)]
        if device == "tensorrt":
            providers.append(("CUDAExecutionProvider", where))  # the same GPU, for what TensorRT does not have
    try:
        session = ort.InferenceSession(os.fspath(path), settings, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ModelFormatError(
            f"{path}: not an ONNX model that can be loaded ({first_line(error)}); export it to ONNX again."
        ) from error
    if session.get_providers()[0] != wanted:
        raise BackendUnavailableError(
            f"device {device}: onnxruntime could not start {wanted} and fell back to "
            f"{session.get_providers()[0]}; check the driver and CUDA with 'secondeye doctor'."
        )
    return session


def _plug_in_devices(ort: Any, provider: str) -> list[Any]:
    """The GPUs that the TensorRT-RTX provider can use; it is a library of its own, registered once."""
    try:
        package = import_module(_PLUG_IN)
        if not _registered:
            ort.register_execution_provider_library(provider, package.get_library_path())
            _registered.append(provider)
    except Exception as error:  # absent, or its library does not load: no driver, mostly
        raise BackendUnavailableError(
            f"device tensorrt-rtx: ONNX Runtime's provider cannot start ({first_line(error)}); it needs an NVIDIA "
            "driver and: pip install 'secondeye[tensorrt-rtx]'."
        ) from error
    devices = [one for one in ort.get_ep_devices() if one.ep_name == provider]
    if not devices:
        raise BackendUnavailableError("device tensorrt-rtx: the provider finds no GPU; see 'secondeye doctor'.")
    return devices


def run_network(session: Any, label: str, tensor: NDArray[Any], output: str | None = None) -> NDArray[Any]:
    """One output of a network that takes one array.

    Args:
        session: of :func:`open_session`.
        label: what to call the network in an error.
        tensor: its input.
        output: the output's name; None for the first.

    Raises:
        EngineError: it failed.
    """
    try:
        wanted = output if output is not None else session.get_outputs()[0].name
        return np.asarray(session.run([wanted], {session.get_inputs()[0].name: tensor})[0])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise EngineError(f"{label}: failed on an input of {list(tensor.shape)}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
