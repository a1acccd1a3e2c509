# SPDX-License-Identifier: Apache-2.0
"""What every op's wrapper shares: instruction sets, checks with sentences, output allocation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError
from secondeye.runtime.ops._arrays import DeviceArray, empty_like

Array = NDArray[Any]
Backend = Literal["auto", "reference"]
Isa = Literal["auto", "base", "avx2", "avx512", "neon", "blocks"]

ISA_CODES: dict[str, int] = {"auto": 0, "base": 1, "avx2": 2, "avx512": 3, "neon": 4, "blocks": 5}
MAX_SIDE = 16384
ARRAYS = (np.ndarray, DeviceArray)


def isas() -> list[Isa]:
    """The instruction sets that this build has and this CPU runs, ``base`` first.

    Beside these, ``blocks`` runs the bodies of the CUDA kernels on the CPU, thread after thread, for tests.
    """
    names: tuple[Isa, ...] = ("base", "avx2", "avx512", "neon")
    return [name for name in names if _native.isa_supported(ISA_CODES[name])]


def need_gpu(device: str) -> None:
    """Refuse ``cuda`` where our kernels have no GPU.

    Raises:
        BackendUnavailableError: so it is.
    """
    if device == "cuda" and _native.cuda_device_count() == 0:
        raise BackendUnavailableError(
            "device: no NVIDIA GPU was found (or this build carries no CUDA code); secondeye doctor says which. "
            "Use device='cpu'."
        )


def isa_code(isa: str) -> int:
    """The C code of an instruction set's name."""
    if isa not in ISA_CODES:
        raise InvalidInputError(f"isa: expected one of {', '.join(ISA_CODES)}, got {isa!r}.")
    return ISA_CODES[isa]


def check_picture(
    name: str, a: Array, *, channels: tuple[int, ...] = (1, 2, 3, 4), dtypes: tuple[Any, ...] = (np.uint8,)
) -> None:
    """Refuse what is not a [H, W, C] picture of a dtype within the size limits, with a sentence."""
    if not isinstance(a, ARRAYS):
        raise InvalidInputError(f"{name}: expected an array, got {type(a).__name__}.")
    if a.dtype not in dtypes:
        wanted = " or ".join(str(np.dtype(d)) for d in dtypes)
        raise InvalidInputError(f"{name}: expected {wanted}, got {a.dtype}.")
    if a.ndim != 3 or a.shape[2] not in channels:
        raise InvalidInputError(
            f"{name}: expected shape [height, width, channels] with channels in {channels}, got {list(a.shape)}."
        )
    check_size(name, a.shape[0], a.shape[1])


def check_pair(left: Array, right: Array, *, channels: tuple[int, ...] = (1, 2, 3, 4)) -> None:
    """Refuse two views that are no pictures or differ in shape."""
    check_picture("left", left, channels=channels)
    check_picture("right", right, channels=channels)
    if left.shape != right.shape:
        raise InvalidInputError(f"right: expected left's shape {list(left.shape)}, got {list(right.shape)}.")


def check_plane(name: str, a: Array, dtype: Any, shape: tuple[int, ...] | None = None) -> None:
    """Refuse what is not a [H, W] plane of a dtype (and of a shape, where one is given)."""
    if not isinstance(a, ARRAYS) or a.dtype != dtype or a.ndim != 2:
        got = f"{a.dtype} {list(a.shape)}" if isinstance(a, ARRAYS) else type(a).__name__
        raise InvalidInputError(f"{name}: expected {np.dtype(dtype)} [height, width], got {got}.")
    if shape is not None and a.shape != tuple(shape):
        raise InvalidInputError(f"{name}: expected the picture's size {list(shape)}, got {list(a.shape)}.")
    check_size(name, a.shape[0], a.shape[1])


def disparity_q8(disparity: Array) -> NDArray[np.int64]:
    """Disparity in 1/256 pixel: NaN and infinity are 0, the rest clamped to +-16384 pixels, rounded half to even."""
    clean = np.where(np.isfinite(disparity), disparity, np.float32(0))
    clamped = np.clip(clean, np.float32(-16384), np.float32(16384)).astype(np.float32)
    return np.rint(clamped * np.float32(256)).astype(np.int64)


def check_host(name: str, a: Any) -> None:
    """Refuse an array on a GPU where there is no kernel for it."""
    if isinstance(a, DeviceArray):
        raise InvalidInputError(f"{name}: it lies on a GPU, and this is worked out on the host; bring it there.")


def check_size(name: str, height: int, width: int) -> None:
    """Refuse a picture with no pixels or with a side over 16384."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InvalidInputError(f"{name}: expected sides of 1 to {MAX_SIDE} pixels, got {width} x {height}.")


def output(out: Any, shape: tuple[int, ...], dtype: Any, like: Any = None) -> Any:
    """A new array where `like` lies, or the caller's `out` after checking that it fits."""
    if out is None:
        return empty_like(like, shape, dtype)
    if not isinstance(out, ARRAYS) or tuple(out.shape) != shape or out.dtype != dtype:
        got = f"{out.dtype} {list(out.shape)}" if isinstance(out, ARRAYS) else type(out).__name__
        raise InvalidInputError(f"out: expected {np.dtype(dtype)} {list(shape)}, got {got}.")
    return out


def uses_reference(backend: str, *arrays: Any) -> bool:
    """Whether a call is for the NumPy law, which works on the host alone."""
    if backend not in ("auto", "reference"):
        raise InvalidInputError(f"backend: expected auto or reference, got {backend!r}.")
    if backend == "reference" and any(isinstance(a, DeviceArray) for a in arrays):
        raise InvalidInputError("backend: the reference takes arrays on the host only.")
    return backend == "reference"
