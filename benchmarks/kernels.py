# SPDX-License-Identifier: Apache-2.0
"""Every kernel beside a known primitive, in one run.

    python -m secondeye.benchmarks.kernels [--device cuda] [--json FILE]

Medians of warm runs at 720p, 1080p and 4K on all cores (and on one): milliseconds, GB/s of the bytes that the op must
move (inputs read once, outputs written once), the share of this machine's measured copy bandwidth, and the ratio to
its peer: cv2.remap with float maps for warp, cv2.resize for resize and prepare, cv2.dilate for widen and the mask,
cv2.medianBlur for smooth, cv2.blur for feather, cv2.cvtColorTwoPlane for NV12, a copy of the output for the packers.
Motion, at the size of a session's map, has OpenCV's fastest dense optical flow. Under 1 is faster than the peer. On a
GPU: see kernels_device.py.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from secondeye.benchmarks.machine import bench_extra, console, machine, result_place
from secondeye.runtime import ops
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sample import render_sample

cv2 = bench_extra("cv2")
SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "4K": (2160, 3840)}
CELLS = (256, 384)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One op at one size: `run(threads)`, the bytes it must move, and its peer."""

    op: str
    moved: int
    run: Callable[[int], object]
    peer: str
    run_peer: Callable[[], object]


def median_ms(call: Callable[[], object], *, seconds: float = 0.6, least: int = 7) -> float:
    """Median of warm runs, milliseconds."""
    call()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < least or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def scene(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """A rendered picture [H, W, 3], its disparity at a model's resolution, and at the picture's."""
    small, depth = render_sample(CELLS[1], CELLS[0])
    picture = ops.resize(small, height, width)
    noise = np.random.default_rng(1).integers(-3, 4, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    cells = ops.disparity(depth, frame_width=width)
    return picture, cells, ops.smooth_edges(ops.widen_foreground(ops.upsample(cells, picture), 2))


def cases(height: int, width: int) -> list[Case]:
    """Every op on a rendered scene of a size."""
    picture, cells, disparity = scene(height, width)
    warped = ops.warp(picture, disparity)
    plane, filled, full = np.empty_like(disparity), np.empty_like(picture), ops.pack(picture, picture)
    out = ops.Warped(np.empty_like(picture), np.empty_like(warped.holes), np.empty_like(warped.map))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    moved_x = x - disparity
    n, p = height * width, picture.nbytes
    half = np.empty((height, width // 2, 3), np.uint8)
    square = np.ones((5, 5), np.uint8)

    def remap() -> object:
        return cv2.remap(picture, moved_x, y, cv2.INTER_LINEAR, dst=filled)

    def warp_and_fill(threads: int) -> object:
        return ops.fill(ops.warp(picture, disparity, out=out, threads=threads), out=filled, threads=threads)

    twin, other, mask = np.empty_like(full), np.empty_like(picture), np.empty_like(warped.holes)
    luma, chroma = np.ascontiguousarray(picture[:, :, 1]), np.ascontiguousarray(picture[::2, ::2, :2])
    small = ops.resize(picture, *CELLS)[:, :, 1].copy()
    moved_small = np.roll(small, (2, 3), (0, 1))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    tensor = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)
    return [
        Case(
            op="warp + holes", moved=2 * p + 9 * n, peer="cv2.remap", run_peer=remap,
            run=lambda t: ops.warp(picture, disparity, out=out, threads=t),
        ),
        Case(op="warp + holes + fill", moved=4 * p + 14 * n, peer="cv2.remap", run_peer=remap, run=warp_and_fill),
        Case(
            op="upsample (guided)", moved=p + 4 * n, peer="cv2.resize (bilinear)",
            run=lambda t: ops.upsample(cells, picture, out=plane, threads=t),
            run_peer=lambda: cv2.resize(cells, (width, height), dst=plane),
        ),
        Case(
            op="widen, radius 2", moved=8 * n, peer="cv2.dilate 5 x 5",
            run=lambda t: ops.widen_foreground(disparity, 2, out=plane, threads=t),
            run_peer=lambda: cv2.dilate(disparity, square, dst=plane),
        ),
        Case(
            op="smooth edges", moved=8 * n, peer="cv2.medianBlur 5",
            run=lambda t: ops.smooth_edges(disparity, out=plane, threads=t),
            run_peer=lambda: cv2.medianBlur(disparity, 5, dst=plane),
        ),
        Case(
            op="prepare 256 x 384", moved=p + 12 * CELLS[0] * CELLS[1], peer="cv2.resize (area)",
            run=lambda t: ops.prepare(picture, *CELLS, threads=t),
            run_peer=lambda: cv2.resize(picture, CELLS[::-1], interpolation=cv2.INTER_AREA),
        ),
        Case(
            op="resize to half width", moved=p + half.nbytes, peer="cv2.resize (area)",
            run=lambda t: ops.resize(picture, height, width // 2, out=half, threads=t),
            run_peer=lambda: cv2.resize(picture, (width // 2, height), dst=half, interpolation=cv2.INTER_AREA),
        ),
        Case(
            op="half side by side", moved=3 * p, peer="copy of the output",
            run=lambda t: ops.pack(picture, filled, "half-sbs", out=other, threads=t),
            run_peer=lambda: np.copyto(other, picture),
        ),
        Case(
            op="restore", moved=5 * p, peer="NumPy", run=lambda t: ops.restore(tensor, out=other, threads=t),
            run_peer=lambda: np.clip(np.rint(tensor * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy(),
        ),
        Case(
            op="inpainting mask", moved=6 * n, peer="cv2.dilate 17 x 17, bytes",
            run=lambda t: ops.inpaint_mask(warped, out=mask, threads=t),
            run_peer=lambda: cv2.dilate(warped.holes, np.ones((17, 17), np.uint8), dst=mask),
        ),
        Case(
            op="feather, radius 8", moved=2 * n, peer="cv2.blur 17 x 17",
            run=lambda t: ops.feather(warped.holes, 8, out=mask, threads=t),
            run_peer=lambda: cv2.blur(warped.holes, (17, 17), dst=mask),
        ),
        Case(
            op="blend", moved=3 * p + n, peer="NumPy",
            run=lambda t: ops.blend(picture, filled, mask, out=other, threads=t),
            run_peer=lambda: picture + ((filled - picture) * (mask[:, :, None] / np.float32(255))).astype(np.uint8),
        ),
        Case(
            op="NV12 to RGB", moved=n * 3 // 2 + p, peer="cv2.cvtColorTwoPlane",
            run=lambda t: ops.nv12(luma, chroma, out=other, threads=t),
            run_peer=lambda: cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12, dst=other),
        ),
        Case(
            op="motion 256 x 384, radius 8", moved=2 * small.nbytes, peer="cv2 DIS flow, ultrafast",
            run=lambda t: ops.motion(small, moved_small, threads=t),
            run_peer=lambda: flow.calc(moved_small, small, np.zeros((*CELLS, 2), np.float32)),
        ),
        Case(
            op="pack side by side", moved=2 * full.nbytes, peer="copy of the output",
            run=lambda t: ops.pack(picture, filled, "sbs", out=twin, threads=t), run_peer=lambda: np.copyto(twin, full),
        ),
        Case(
            op="pack rows", moved=2 * p, peer="copy of the output",
            run=lambda t: ops.pack(picture, filled, "rows", out=other, threads=t),
            run_peer=lambda: np.copyto(other, picture),
        ),
        Case(
            op="pack checkerboard", moved=2 * p, peer="copy of the output",
            run=lambda t: ops.pack(picture, filled, "checkerboard", out=other, threads=t),
            run_peer=lambda: np.copyto(other, picture),
        ),
        Case(
            op="anaglyph (Dubois)", moved=3 * p, peer="copy of the output",
            run=lambda t: ops.anaglyph(picture, filled, out=other, threads=t),
            run_peer=lambda: np.copyto(other, picture),
        ),
    ]  # fmt: skip


def copy_bandwidth() -> float:
    """GB/s of a large copy, bytes read plus bytes written, best of one thread."""
    source = np.ones(1 << 26, np.uint8)
    target = np.empty_like(source)
    return 2 * source.nbytes / median_ms(lambda: np.copyto(target, source)) / 1e6


def on_gpu(json_file: Path | None, size: list[str] | None) -> None:
    """Measure on a GPU, and print and write the result."""
    from secondeye.benchmarks.kernels_device import measure

    bandwidth, rows = measure({name: SIZES[name] for name in size or SIZES})
    table = Table(title=f"Kernels on the GPU (copy: {bandwidth:.0f} GB/s; 1 x is the time of a copy of as many bytes)")
    for heading in ("size", "op", "ms", "GB/s", "x copy"):
        table.add_column(heading, justify="left" if heading in ("size", "op") else "right")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("size", "op", "ms", "gb_per_s", "times_copy")))
    console().print(table)
    save(json_file, bandwidth, rows)


def save(json_file: Path | None, bandwidth: float, rows: list[dict[str, Any]]) -> None:
    """Write the results, if a file was named."""
    if json_file is not None:
        with atomic_write(json_file) as file:
            result = {"machine": machine(), "copy_gb_per_s": round(bandwidth, 2), "results": rows}
            file.write(json.dumps(result, indent=1).encode())


def main(
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="720p, 1080p or 4K; all when left out.")] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="cuda: beside a copy on the GPU.")] = "cpu",
) -> None:
    """Measure every kernel beside a known primitive."""
    unknown = [name for name in size or [] if name not in SIZES]
    if unknown:
        raise InvalidInputError(f"--size: expected {', '.join(SIZES)}, got {', '.join(unknown)}.")
    if device == "cuda":
        on_gpu(json_file, size)
        return
    cv2.setNumThreads(cv2.getNumberOfCPUs())
    bandwidth = copy_bandwidth()
    table = Table(title=f"Kernels (copy bandwidth of one thread: {bandwidth:.1f} GB/s)")
    for heading in ("size", "op", "ms", "one thread", "GB/s", "of copy", "peer", "peer ms", "ratio"):
        table.add_column(heading, justify="left" if heading in ("size", "op", "peer") else "right")
    rows: list[dict[str, Any]] = []
    for name in size or SIZES:
        for case in cases(*SIZES[name]):
            ms, single = median_ms(lambda c=case: c.run(0)), median_ms(lambda c=case: c.run(1))  # type: ignore[misc]
            peer = median_ms(case.run_peer)
            speed = case.moved / ms / 1e6
            rows.append(
                {
                    "size": name, "op": case.op, "ms": round(ms, 3), "one_thread_ms": round(single, 3),
                    "gb_per_s": round(speed, 2), "share_of_copy": round(speed / bandwidth, 3),
                    "peer": case.peer, "peer_ms": round(peer, 3), "ratio": round(ms / peer, 3),
                }
            )  # fmt: skip
            table.add_row(
                name, case.op, f"{ms:.2f}", f"{single:.2f}", f"{speed:.1f}", f"{speed / bandwidth:.0%}", case.peer,
                f"{peer:.2f}", f"{ms / peer:.2f}",
            )  # fmt: skip
        table.add_section()
    console().print(table)
    save(json_file, bandwidth, rows)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
