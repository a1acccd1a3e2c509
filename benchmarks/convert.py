# SPDX-License-Identifier: Apache-2.0
"""One photo end to end: file in, side-by-side file out, with the model loaded.

    python -m secondeye.benchmarks.convert [--json FILE]

Medians of warm runs at 1080p and 4096 x 2160: decode, each stage of the frame path, layout and encode; and our own
code (all but decoding, the depth network and encoding).
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from secondeye.benchmarks.machine import console, machine, result_place
from secondeye.runtime import ops
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.depth import OnnxDepth
from secondeye.runtime.files import atomic_write
from secondeye.runtime.layouts import compose
from secondeye.runtime.pictures import read_picture
from secondeye.runtime.sample import render_sample
from secondeye.runtime.writers import save_picture

SIZES = {"1920 x 1080": (1080, 1920), "4096 x 2160": (2160, 4096)}
_LIBRARIES = ("decode", "network", "encode")


def run_once(converter: StereoConverter, source: Path, target: Path) -> dict[str, float]:
    """Milliseconds per stage of one conversion."""
    times: dict[str, float] = {}
    start = time.perf_counter()
    picture = read_picture(source)
    times["decode"] = (time.perf_counter() - start) * 1e3
    model = converter.load()
    if isinstance(model, OnnxDepth):  # its preparation of the picture is our code: take it out of the network's time
        size = model.input_size(*picture.pixels.shape[:2])
        start = time.perf_counter()
        ops.prepare(picture.pixels, *size)
        times["prepare"] = (time.perf_counter() - start) * 1e3
    frame = converter.convert(picture)
    times["network"] = frame.timings["depth"] - times.get("prepare", 0.0)
    times.update({name: frame.timings[name] for name in ("disparity", "warp", "fill")})
    start = time.perf_counter()
    pair = compose(frame, "sbs")
    times["layout"] = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    save_picture(target, pair)
    times["encode"] = (time.perf_counter() - start) * 1e3
    return times


def main(
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    runs: Annotated[int, typer.Option(min=3, help="Counted runs of each.")] = 9,
    depth_model: Annotated[str, typer.Option(help="builtin, cues or an ONNX file.")] = "builtin",
) -> None:
    """Measure one photo end to end."""
    converter = StereoConverter(StereoConfig(depth=depth_model))
    converter.load()
    scene, _ = render_sample(960, 540)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (height, width) in SIZES.items():
            noise = np.random.default_rng(1).integers(-2, 3, (height, width, 3))
            pixels = np.clip(ops.resize(scene, height, width, filter="bilinear") + noise, 0, 255).astype(np.uint8)
            source = Path(folder) / "photo.jpg"
            save_picture(source, pixels, quality=92)
            for suffix in (".png", ".jpg"):
                taken = [run_once(converter, source, Path(folder) / f"pair{suffix}") for _ in range(runs + 2)][2:]
                row: dict[str, Any] = {"size": name, "output": suffix[1:]}
                row.update({key: round(statistics.median(t[key] for t in taken), 1) for key in taken[0]})
                totals = [sum(t.values()) for t in taken]
                row["total"] = round(statistics.median(totals), 1)
                own = [sum(v for k, v in t.items() if k not in _LIBRARIES) for t in taken]
                row["own"] = round(statistics.median(own), 1)
                rows.append(row)
    table = Table(title="One photo, file to file (milliseconds, medians)")
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading in ("size", "output") else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console().print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(
                json.dumps({"machine": machine(), "depth_model": depth_model, "results": rows}, indent=1).encode()
            )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
