# SPDX-License-Identifier: Apache-2.0
"""Depth models against measured disparity.

    python -m secondeye.benchmarks.depth PAIRS_DIR [--extra NAME=FILE.onnx ...]

Ordinal error (share of 50,000 random pairs of points in the wrong order; 0.5 is guessing) and border F score (1 is
best), for the built-in model, the classical cues, the height in the picture, and any ONNX models given.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from secondeye.benchmarks.machine import bench_extra, console, machine, result_place
from secondeye.benchmarks.metrics import border_f_score, height_prior, ordinal_error
from secondeye.benchmarks.pairs import read_pairs
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.depth import BUILTIN, CUES, DepthModel, DepthOptions, open_depth
from secondeye.runtime.errors import InvalidInputError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.preview import colour_map
from secondeye.runtime.writers import save_picture

cv2 = bench_extra("cv2")


class _Height:
    name = "height in the picture"

    def __call__(self, picture: Any) -> Any:
        return height_prior(*picture.shape[:2])


def _models(extra: list[str], normalisation: str, output: str) -> dict[str, DepthModel]:
    models: dict[str, DepthModel] = {"height": _Height(), "cues": open_depth(CUES), "built-in": open_depth(BUILTIN)}
    for word in extra:
        name, _, path = word.partition("=")
        if not path:
            raise InvalidInputError(f"--extra: expected NAME=FILE.onnx, got {word!r}.")
        options = DepthOptions(normalisation=normalisation, output=output)  # type: ignore[arg-type]
        models[name] = open_depth(path, options)
    return models


def main(
    pairs: Annotated[Path, typer.Argument(help="Folder of pairs with disparity.npz.")],
    extra: Annotated[list[str] | None, typer.Option(help="NAME=FILE.onnx, another model to measure.")] = None,
    extra_norm: Annotated[str, typer.Option(help="Normalisation of the extra models.")] = "auto",
    extra_output: Annotated[str, typer.Option(help="disparity or depth, of the extra models.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", callback=result_place, help="Write the results.")] = None,
    sheet: Annotated[Path | None, typer.Option(callback=result_place, help="Write a picture of every map.")] = None,
) -> None:
    """Measure depth models on stereo pairs with measured disparity."""
    models = _models(extra or [], extra_norm, extra_output)
    rows: list[dict[str, Any]] = []
    strips = []
    for pair in read_pairs(pairs):
        if pair.disparity is None:
            continue
        high, wide = pair.disparity.shape
        strip = [pair.left, colour_map(pair.disparity)]
        for name, model in models.items():
            times = []
            for _ in range(7):
                start = time.perf_counter()
                values = model(pair.left)
                times.append((time.perf_counter() - start) * 1e3)
            full = np.asarray(cv2.resize(values, (wide, high), interpolation=cv2.INTER_LINEAR), np.float32)
            rows.append(
                {
                    "pair": pair.name,
                    "model": name,
                    "ordinal_error": round(ordinal_error(full, pair.disparity), 4),
                    "border_f": round(border_f_score(full, pair.disparity), 3),
                    "ms": round(statistics.median(times), 1),
                }
            )
            strip.append(colour_map(full))
        size = (360, round(360 * high / wide))
        strips.append(np.hstack([np.asarray(cv2.resize(s, size, interpolation=cv2.INTER_AREA)) for s in strip]))
    table = Table(title="Depth against measured disparity")
    for heading in ("pair", "model", "ordinal error", "border F", "ms"):
        table.add_column(heading, justify="left" if heading in ("pair", "model") else "right")
    for row in rows:
        table.add_row(
            row["pair"], row["model"], f"{row['ordinal_error']:.3f}", f"{row['border_f']:.3f}", f"{row['ms']:.1f}"
        )
    console().print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps({"machine": machine(), "results": rows}, indent=1).encode())
    if sheet is not None and strips:
        save_picture(sheet, np.vstack(strips))


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
