# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions: the device asked for is the device used, or there is an error that says why."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, ModelFormatError

Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(
    path: str | os.PathLike[str], *, device: Device = "cpu", threads: int = 0, fixed: dict[str, int] | None = None
) -> Any:
    """Open an ONNX file.

    Args:
        path: the file.
        device: ``cpu`` or ``cuda``.
        threads: 0 for one per core.
        fixed: lengths of named axes, known beforehand, for which the session is optimised and which it then demands.

    Returns:
        onnxruntime.InferenceSession.

    Raises:
        BackendUnavailableError: the device cannot be had; nothing falls back to another.
        ModelFormatError: not an ONNX model that can be loaded.
    """
    import onnxruntime as ort

    if device not in _PROVIDERS:
        raise InvalidInputError(f"device: expected one of {', '.join(get_args(Device))}, got {device!r}.")
    wanted = _PROVIDERS[device]
    if wanted not in ort.get_available_providers():
        raise BackendUnavailableError(
            f"device {device}: this onnxruntime ({ort.__version__}) has only "
            f"{', '.join(ort.get_available_providers())}; install secondeye[cuda] in place of plain onnxruntime."
        )
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4
    for axis, length in (fixed or {}).items():
        settings.add_free_dimension_override_by_name(axis, length)
    try:
        session = ort.InferenceSession(os.fspath(path), settings, providers=[wanted])
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


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
