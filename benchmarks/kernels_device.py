# SPDX-License-Identifier: Apache-2.0
"""The kernels on a GPU, against the time that their bytes take at its own measured copy bandwidth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye import _native
from secondeye.benchmarks.kernels import CELLS, scene
from secondeye.runtime import ops
from secondeye.runtime.errors import BackendUnavailableError

SPREAD = 3 << 26
"""Bytes of all the inputs and outputs that calls take turns on, at least: several times a GPU's cache."""


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


def milliseconds(torch: Any, calls: list[Callable[[], object]], runs: int = 30) -> float:
    """Median time on the device of a call, of calls that take turns on memory of their own, as one CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            call()
    times = []
    for _ in range(runs + 3):
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        times.append(float(begun.elapsed_time(ended)) / len(calls))
    return statistics.median(times[3:])


def measure(sizes: dict[str, tuple[int, int]]) -> tuple[float, list[dict[str, Any]]]:
    """GB/s of a copy on the device (bytes read plus written), and a row for each op and size.

    `times_copy` is an op's time over that of a copy that moves as many bytes: 1 is the limit of the memory. `host_us`
    is what a call from Python keeps the caller for.
    """
    torch = open_device()
    bandwidth = _copy_bandwidth(torch)
    rows: list[dict[str, Any]] = []
    for name, (height, width) in sizes.items():
        host = scene(height, width)
        turns = max(4, -(-SPREAD // (6 * height * width)))
        for op in zip(*(_calls(torch, *host) for _ in range(turns)), strict=True):
            (title, moved, call), calls = op[0], [one[2] for one in op]
            ms = milliseconds(torch, calls)
            ideal = moved / bandwidth / 1e6
            rows.append(
                {
                    "size": name, "op": title, "ms": round(ms, 4), "gb_per_s": round(moved / ms / 1e6, 1),
                    "times_copy": round(ms / ideal, 2), "host_us": round(_host_us(torch, call), 1),
                }
            )  # fmt: skip
    return bandwidth, rows


def _host_us(torch: Any, call: Callable[[], object]) -> float:
    times = []
    for _ in range(50):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def _copy_bandwidth(torch: Any) -> float:
    # By a kernel: as a node of a graph a copy goes through the copy engine, which is slower.
    source = torch.randint(0, 256, (1 << 28,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = []
    for _ in range(1000):  # the clocks rise first
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        target.copy_(source)
        ended.record()
        ended.synchronize()
        times.append(float(begun.elapsed_time(ended)))
    return float(2 * source.numel() / statistics.median(times[500:]) / 1e6)


def _calls(
    torch: Any, host_picture: NDArray[np.uint8], host_cells: NDArray[np.float32], host_disparity: NDArray[np.float32]
) -> list[tuple[str, int, Callable[[], object]]]:
    height, width = host_disparity.shape
    picture, cells, disparity = (torch.from_numpy(a).cuda() for a in (host_picture, host_cells, host_disparity))
    warped = ops.warp(picture, disparity)
    filled, plane, mask = torch.empty_like(picture), torch.empty_like(disparity), torch.empty_like(warped.holes)
    pair, other = ops.pack(picture, picture), torch.empty_like(picture)
    half = ops.pack(picture, picture, "half-sbs")
    n, p = height * width, host_picture.nbytes
    tensor = ops.prepare(picture, *CELLS)
    range_px = float(np.ptp(host_cells)) / 16.0
    return [
        ("warp + holes", 2 * p + 9 * n, lambda: ops.warp(picture, disparity, out=warped)),
        ("fill", 2 * p + 5 * n, lambda: ops.fill(warped, out=filled)),
        ("fill in place", n, lambda: ops.fill(warped, out=warped.view)),
        ("inpainting mask", 6 * n, lambda: ops.inpaint_mask(warped, out=mask)),
        ("upsample (guided)", p + 4 * n, lambda: ops.upsample(cells, picture, threshold=range_px, out=plane)),
        ("widen, radius 2", 8 * n, lambda: ops.widen_foreground(disparity, 2, out=plane)),
        ("smooth edges", 8 * n, lambda: ops.smooth_edges(disparity, out=plane)),
        ("prepare 256 x 384", p + host_cells.nbytes * 3, lambda: ops.prepare(picture, *CELLS, out=tensor)),
        ("pack side by side", 4 * p, lambda: ops.pack(picture, filled, "sbs", out=pair)),
        ("pack half side by side", 3 * p, lambda: ops.pack(picture, filled, "half-sbs", out=half)),
        ("anaglyph (Dubois)", 3 * p, lambda: ops.anaglyph(picture, filled, out=other)),
    ]
