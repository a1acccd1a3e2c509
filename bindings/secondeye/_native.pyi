# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def version() -> str: ...
def cpu_count() -> int: ...
def cuda_compiled() -> bool: ...
def cuda_device_count() -> int: ...
def isa_supported(isa: int) -> bool: ...
def anaglyph(matrix: Sequence[int], left: Array, right: Array, out: Array, threads: int, isa: int) -> None: ...
def fill(eye: int, view: Array, holes: Array, map: Array, out: Array, threads: int, isa: int) -> None: ...
def inpaint_mask(
    eye: int, sizes: Sequence[int], holes: Array, map: Array, out: Array, threads: int, isa: int
) -> None: ...
def mask_cells(side: int, area: bool, mask: Array, out: Array, threads: int, isa: int) -> None: ...
def motion(radius: int, now: Array, before: Array, start: Array | None, out: Array, threads: int, isa: int) -> None: ...
def pack(layout: int, left: Array, right: Array, out: Array, threads: int, isa: int) -> None: ...
def resample(
    source: Array, fx: Array, cx: Array, wx: Array, fy: Array, cy: Array, wy: Array, out: Array, threads: int, isa: int
) -> None: ...
def resample_tensor(
    source: Array,
    fx: Array,
    cx: Array,
    wx: Array,
    fy: Array,
    cy: Array,
    wy: Array,
    gain: Sequence[float],
    bias: Sequence[float],
    out: Array,
    threads: int,
    isa: int,
) -> None: ...
def restore(
    source: Array, gain: Sequence[float], bias: Sequence[float], out: Array, threads: int, isa: int
) -> None: ...
def upsample(
    threshold_q8: int, map: Array, picture: Array, labels: Array | None, out: Array, threads: int, isa: int
) -> None: ...
def warp(
    eye: int,
    law: int,
    tear_q8: int,
    wrap: bool,
    source: Array,
    disparity: Array,
    out: Array,
    holes: Array,
    map: Array | None,
    threads: int,
    isa: int,
) -> None: ...
def warp_views(
    law: int,
    tear_q8: int,
    wrap: bool,
    source: Array,
    disparity: Array,
    views: Sequence[tuple[int, Array, Array, Array]],
    threads: int,
    isa: int,
) -> None: ...
def widen(radius: int, threshold_q8: int, disparity: Array, out: Array, threads: int, isa: int) -> None: ...
