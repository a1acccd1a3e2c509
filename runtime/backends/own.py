# SPDX-License-Identifier: Apache-2.0
"""Small convolutional networks on our own kernels, on the CPU; ``secondeye/network.h`` lists their layers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import BackendUnavailableError, EngineError, ModelFormatError
from secondeye.runtime.ops._common import isa_code
from secondeye.runtime.sessions import Device, open_session

Runner = Literal["auto", "kernels", "onnxruntime"]
_MOST_BYTES = 1 << 28  # far over any network that these kernels are meant for
_KEYS = ("name", "version", "kind", "normalisation", "input_size", "input_multiple", "same")


@dataclass(frozen=True)
class _End:
    name: str
    type: str
    shape: list[int | str]


class KernelSession:
    """A network, spoken to as an onnxruntime.InferenceSession of one float32 picture and one float32 map.

    Args:
        path: the ONNX file.
        threads: 0 for one per core; what comes out does not depend on it.
        isa: the instruction set, as everywhere; avx2, avx512 and neon give the same bytes.

    Raises:
        ValueError: the kernels lack something that the network needs, which the message names.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, isa: str = "auto") -> None:
        if os.stat(path).st_size > _MOST_BYTES:
            raise ValueError(f"it is larger than {_MOST_BYTES >> 20} MiB.")
        with open(path, "rb") as file:
            self._network = _native.Network(file.read(), isa_code(isa))
        self._threads = threads
        high, wide = self._network.input()
        self._input = _End("picture", "tensor(float)", [1, 3, high or "height", wide or "width"])

    def get_inputs(self) -> list[_End]:
        """The picture, [1, 3, height, width]."""
        return [self._input]

    def get_outputs(self) -> list[_End]:
        """The map, [1, channels, height, width]."""
        return [_End("map", "tensor(float)", [1, "channels", "map_height", "map_width"])]

    def get_modelmeta(self) -> Any:
        """The file's metadata that say how to feed it."""
        found = {key: self._network.metadata(key) for key in _KEYS}
        return SimpleNamespace(custom_metadata_map={key: value for key, value in found.items() if value is not None})

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the map of a picture of a size; takes the memory that a run needs.

        Raises:
            InvalidInputError: the network does not take that size.
        """
        return self._network.shape(height, width)

    def run(self, names: list[str], feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The map of a picture, float32 [1, 3, height, width] -> [1, channels, height, width]."""
        picture = np.ascontiguousarray(feeds[self._input.name], np.float32)
        if picture.ndim != 4 or picture.shape[:2] != (1, 3):
            raise EngineError(f"expected a picture [1, 3, height, width], got {list(picture.shape)}")
        made = np.empty(self.shape(picture.shape[2], picture.shape[3]), np.float32)
        self._network.run(picture[0], made, self._threads)
        return [made[None]]


def open_small(
    path: str | os.PathLike[str], *, device: Device = "cpu", threads: int = 0, runner: Runner = "auto"
) -> Any:
    """Open a network that may be small enough for our kernels.

    Args:
        path: the ONNX file.
        device, threads: as everywhere.
        runner: ``kernels``, ``onnxruntime``, or ``auto``: the kernels on the CPU where they have its layers.

    Returns:
        A :class:`KernelSession` or an onnxruntime.InferenceSession.

    Raises:
        BackendUnavailableError, ModelFormatError: as :func:`secondeye.runtime.sessions.open_session` does; or the
            kernels were asked for, and cannot run it.
    """
    if runner == "kernels" and device != "cpu":
        raise BackendUnavailableError(f"device {device}: our kernels run networks on the CPU alone.")
    if runner != "onnxruntime" and device == "cpu":
        try:
            return KernelSession(path, threads=threads)
        except (ValueError, OSError) as error:
            if runner == "kernels":
                raise ModelFormatError(f"{path}: not a network that our kernels run: {error}") from error
    return open_session(path, device=device, threads=threads)
