# SPDX-License-Identifier: Apache-2.0
"""nv12: a decoder's or camera's NV12 picture as RGB or RGBA."""

from __future__ import annotations

from typing import Literal

import numpy as np

from secondeye import _native
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.ops._arrays import any_array
from secondeye.runtime.ops._common import (
    Array,
    Backend,
    Isa,
    check_picture,
    check_plane,
    isa_code,
    output,
    uses_reference,
)

Standard = Literal["bt601", "bt709", "bt2020"]
# Shares of red and of blue in luma.
STANDARDS: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)
}  # fmt: skip


def matrix_q16(standard: str, full: bool) -> tuple[int, int, int, int, int]:
    """The conversion's numbers in 1/65536: luma, v in red, u and v in green, u in blue."""
    kr, kb = STANDARDS[standard]
    kg = 1 - kr - kb
    chroma = 1.0 if full else 255 / 224
    numbers = (
        1.0 if full else 255 / 219, 2 * (1 - kr) * chroma, -2 * (1 - kb) * kb / kg * chroma,
        -2 * (1 - kr) * kr / kg * chroma, 2 * (1 - kb) * chroma,
    )  # fmt: skip
    m0, m1, m2, m3, m4 = (round(v * 65536) for v in numbers)
    return m0, m1, m2, m3, m4


def reference(luma: Array, chroma: Array, standard: str, full: bool, channels: int) -> Array:
    """The law of nv12 in NumPy; see kernels/ops/nv12.op.h."""
    m0, m1, m2, m3, m4 = matrix_q16(standard, full)
    height, width = luma.shape
    spread = chroma.astype(np.int64).repeat(2, 0).repeat(2, 1)[:height, :width] - 128
    u, v = spread[:, :, 0], spread[:, :, 1]
    base = m0 * (luma.astype(np.int64) - (0 if full else 16)) + 32768
    planes = [(base + m1 * v) >> 16, (base + m2 * u + m3 * v) >> 16, (base + m4 * u) >> 16]
    out = np.full((height, width, channels), 255, np.uint8)
    out[:, :, :3] = np.clip(np.stack(planes, 2), 0, 255)
    return out


@any_array
def nv12(
    luma: Array,
    chroma: Array,
    *,
    standard: Standard = "bt709",
    full: bool = False,
    channels: int = 3,
    out: Array | None = None,
    backend: Backend = "auto",
    threads: int = 0,
    isa: Isa = "auto",
) -> Array:
    """An NV12 picture, as hardware decoders and cameras give it, as RGB or RGBA.

    Args:
        luma: uint8 [H, W], any strides.
        chroma: uint8 [ceil(H / 2), ceil(W / 2), 2]: u and v of 2 x 2 pixels, which all take it as it is.
        standard: ``bt601``, ``bt709`` or ``bt2020`` (non-constant luminance).
        full: values span 0 to 255; else 16 to 235, as in most films.
        channels: 3, or 4 with a fourth of 255.
        out, backend, threads, isa: as in :func:`secondeye.runtime.ops.pack`.

    Returns:
        uint8 [H, W, channels].

    Raises:
        InvalidInputError: shapes, dtypes or names do not fit.

    Numerics: EXACT; the matrices are rounded to 1/65536.
    """
    check_plane("luma", luma, np.uint8)
    check_picture("chroma", chroma, channels=(2,))
    height, width = luma.shape
    half = [(height + 1) // 2, (width + 1) // 2, 2]
    if list(chroma.shape) != half:
        raise InvalidInputError(f"chroma: expected {half}, half of luma's size, got {list(chroma.shape)}.")
    if standard not in STANDARDS or channels not in (3, 4):
        raise InvalidInputError(
            f"nv12: expected one of {', '.join(STANDARDS)} and 3 or 4 channels, got {standard!r} and {channels!r}."
        )
    target = output(out, (height, width, channels), np.uint8, luma)
    if uses_reference(backend, luma, chroma):
        target[...] = reference(luma, chroma, standard, full, channels)
    else:
        _native.nv12(list(STANDARDS).index(standard), full, luma, chroma, target, threads, isa_code(isa))
    return target
