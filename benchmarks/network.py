# SPDX-License-Identifier: Apache-2.0
"""A depth network on our own kernels beside ONNX Runtime, in turn, in one run.

    python -m secondeye.benchmarks.network [MODEL] [--json FILE]

Milliseconds (median and least of warm runs) on one thread and on all cores, multiply-adds counted from the graph, how
many of them a second that makes, and how far the two maps lie apart. Under 1 is faster than ONNX Runtime.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from secondeye import _native
from secondeye.benchmarks.counted import network_flops
from secondeye.benchmarks.machine import console, machine, result_place
from secondeye.runtime import ops
from secondeye.runtime.backends.own import KernelSession
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.cli._words import two_numbers
from secondeye.runtime.depth import builtin_path
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sample import render_sample
from secondeye.runtime.sessions import open_session


def in_turn(
    ours: KernelSession, theirs: Any, tensor: NDArray[np.float32], seconds: float
) -> tuple[list[float], list[float]]:
    """Times of both, milliseconds, one run after the other so that both see the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times[0]) < 9:
        for session, into in ((ours, times[0]), (theirs, times[1])):
            start = time.perf_counter()
            session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: tensor})
            into.append((time.perf_counter() - start) * 1e3)
    return times[0][1:], times[1][1:]


def main(
    model: Annotated[Path | None, typer.Argument(help="An ONNX depth network; the built-in one when left out.")] = None,
    size: Annotated[list[str] | None, typer.Option(help="HEIGHTxWIDTH of the input; 256x384 when left out.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure each.")] = 6.0,
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
) -> None:
    """Measure a depth network on our kernels beside ONNX Runtime."""
    path = model or builtin_path()
    table = Table(title=f"{path.name} on our kernels beside ONNX Runtime")
    for heading in ("size", "threads", "ms", "least", "GMAC/s", "ONNX Runtime ms", "least", "ratio", "apart"):
        table.add_column(heading, justify="right")
    rows: list[dict[str, Any]] = []
    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file; give an ONNX depth network.")
    sizes: list[tuple[str, int, int]] = []
    for text in size or ["256x384"]:
        pair = two_numbers(text)
        if pair is None or 0 in pair:
            raise InvalidInputError(f"--size: expected HEIGHTxWIDTH, got {text!r}.")
        sizes.append((text, *pair))
    for text, height, width in sizes:
        picture, _ = render_sample(width, height)
        tensor = ops.prepare(picture, height, width, mean=(0, 0, 0), std=(1, 1, 1))
        flops = network_flops(path, height, width)
        for threads in sorted({1, _native.cpu_count()}):
            ours, theirs = KernelSession(path, threads=threads), open_session(path, threads=threads)
            a, b = (s.run([s.get_outputs()[0].name], {s.get_inputs()[0].name: tensor})[0] for s in (ours, theirs))
            mine, other = in_turn(ours, theirs, tensor, seconds)
            ms, peer = statistics.median(mine), statistics.median(other)
            speed = flops / 2 / ms / 1e6 if flops else None
            apart = float(np.abs(a - b).max() / max(1e-9, float(np.abs(b).max())))
            rows.append(
                {
                    "size": text, "threads": threads, "ms": round(ms, 2), "least_ms": round(min(mine), 2),
                    "gmac_per_s": round(speed, 1) if speed else None, "onnxruntime_ms": round(peer, 2),
                    "onnxruntime_least_ms": round(min(other), 2), "ratio": round(ms / peer, 3), "apart": apart,
                }
            )  # fmt: skip
            table.add_row(
                text, str(threads), f"{ms:.1f}", f"{min(mine):.1f}", f"{speed:.1f}" if speed else "", f"{peer:.1f}",
                f"{min(other):.1f}", f"{ms / peer:.2f}", f"{apart:.0e}",
            )  # fmt: skip
    console().print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps({"machine": machine(), "model": path.name, "results": rows}, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
