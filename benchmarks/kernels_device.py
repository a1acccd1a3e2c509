# SPDX-License-Identifier: Apache-2.0
"""The kernels on a GPU, against the time that their bytes take at its own measured copy bandwidth."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from secondeye import _native
from secondeye.benchmarks.kernels import CELLS, scene
from secondeye.runtime import ops
from secondeye.runtime.errors import BackendUnavailableError

FLUSHED = 1 << 28
"""Bytes written between two runs, so that none finds its input in the cache."""


def open_device() -> Any:
    """torch, with a GPU on which this build's kernels run.

    Raises:
        BackendUnavailableError: there is none.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendUnavailableError(
            "--device cuda needs torch, which carries the arrays; pip install torch."
        ) from error
    if not _native.cuda_compiled():
        raise BackendUnavailableError("--device cuda: this build has no CUDA kernels; rebuild with nvcc on PATH.")
    if not torch.cuda.is_available() or _native.cuda_device_count() == 0:
        raise BackendUnavailableError("--device cuda: no NVIDIA GPU, or no driver, was found.")
    return torch


def milliseconds(torch: Any, call: Callable[[], object], runs: int = 30) -> float:
    """Median time on the device of one call, its input not in the cache."""
    waste = torch.empty(FLUSHED, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        call()
    times = []
    for _ in range(runs):
        waste.zero_()
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        call()
        ended.record()
        ended.synchronize()
        times.append(float(begun.elapsed_time(ended)))
    return statistics.median(times)


def measure(sizes: dict[str, tuple[int, int]]) -> tuple[float, list[dict[str, Any]]]:
    """GB/s of a copy on the device (bytes read plus written), and a row for each op and size.

    `times_copy` is an op's time over that of a copy that moves as many bytes: 1 is the limit of the memory.
    """
    torch = open_device()
    bandwidth = _copy_bandwidth(torch)
    rows: list[dict[str, Any]] = []
    for name, (height, width) in sizes.items():
        for op, moved, call in _calls(torch, height, width):
            ms = milliseconds(torch, call)
            ideal = moved / bandwidth / 1e6
            rows.append(
                {
                    "size": name, "op": op, "ms": round(ms, 4), "gb_per_s": round(moved / ms / 1e6, 1),
                    "times_copy": round(ms / ideal, 2),
                }
            )  # fmt: skip
    return bandwidth, rows


def _copy_bandwidth(torch: Any) -> float:
    source = torch.ones(1 << 28, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return float(2 * source.numel() / milliseconds(torch, lambda: target.copy_(source)) / 1e6)


def _calls(torch: Any, height: int, width: int) -> list[tuple[str, int, Callable[[], object]]]:
    host_picture, host_cells, host_disparity = scene(height, width)
    picture, cells, disparity = (torch.from_numpy(a).cuda() for a in (host_picture, host_cells, host_disparity))
    warped = ops.warp(picture, disparity)
    filled, plane, mask = torch.empty_like(picture), torch.empty_like(disparity), torch.empty_like(warped.holes)
    pair, other = ops.pack(picture, picture), torch.empty_like(picture)
    n, p = height * width, host_picture.nbytes
    tensor = ops.prepare(picture, *CELLS)
    range_px = float(np.ptp(host_cells)) / 16.0
    return [
        ("warp + holes", 2 * p + 9 * n, lambda: ops.warp(picture, disparity, out=warped)),
        ("fill", 2 * p + 5 * n, lambda: ops.fill(warped, out=filled)),
        ("inpainting mask", 6 * n, lambda: ops.inpaint_mask(warped, out=mask)),
        ("upsample (guided)", p + 4 * n, lambda: ops.upsample(cells, picture, threshold=range_px, out=plane)),
        ("widen, radius 2", 8 * n, lambda: ops.widen_foreground(disparity, 2, out=plane)),
        ("smooth edges", 8 * n, lambda: ops.smooth_edges(disparity, out=plane)),
        ("prepare 256 x 384", p + host_cells.nbytes * 3, lambda: ops.prepare(picture, *CELLS, out=tensor)),
        ("pack side by side", 4 * p, lambda: ops.pack(picture, filled, "sbs", out=pair)),
        ("anaglyph (Dubois)", 3 * p, lambda: ops.anaglyph(picture, filled, out=other)),
    ]
