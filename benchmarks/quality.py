# SPDX-License-Identifier: Apache-2.0
"""Stereo conversion against true right views.

    python -m secondeye.benchmarks.quality PAIRS [--bundle FOLDER] [--json FILE] [--sheet FILE]

PAIRS is a folder (Mono2Stereo's layout or one folder for each pair) or a side-by-side film. Converts each left view and
compares with the true right view: SIoU, RMSE, PSNR, SSIM, MAE; PSNR in what the left view does not show; and by a
stereo matcher the error of the disparity that the made pair holds, and how consistent its two views are.

Rows: identity (right = left, which beats converters on everything but SIoU and so stands in every table), the same
moved as a whole by the best number of pixels, SecondEye as it is, and with strength and convergence fitted per picture
(two numbers, since no picture tells its camera's baseline); with --bundle, quality mode as it is, fitted, and as its
authors condition it. Where the pair has measured disparity, a row shows what the warp and fill reach with it.

With --json what is done is kept beside FILE after every pair: the same command goes on from there when it was stopped
(but with --sheet, whose views are not kept, it begins anew).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Table

from secondeye import _native
from secondeye.benchmarks.machine import bench_extra, console, machine
from secondeye.benchmarks.metrics import siou
from secondeye.benchmarks.pairs import Pair, read_pairs
from secondeye.benchmarks.stereo_metrics import all_metrics, filled_in, true_holes
from secondeye.runtime import ops
from secondeye.runtime.bundle import MANIFEST, read_bundle
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.files import atomic_write, check_place, file_hash
from secondeye.runtime.schedulers import DEFAULT_STEPS
from secondeye.runtime.writers import format_of, save_picture

cv2 = bench_extra("cv2")
Map = NDArray[np.float32]
_TILE, _BAR = 480, 30  # of the contact sheet, pixels


def fitted_disparity(pair: Pair, depth: Map) -> Map:
    """Model depth [h, w] as disparity of the pair, pixels, by the two numbers that suit best.

    By iterated least squares against measured disparity where there is one; else by a search over both numbers for the
    least mean absolute difference of the warped left view, at a quarter of the size.
    """
    low, high = ops.depth_range(depth)
    unit = np.clip((depth - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)
    if pair.disparity is None:
        gain, offset = _searched(pair, unit)
    else:
        cells = cv2.resize(pair.disparity, unit.shape[::-1], interpolation=cv2.INTER_NEAREST).ravel()
        known = np.isfinite(cells)
        x, y = unit.ravel()[known].astype(np.float64), cells[known].astype(np.float64)
        weight = np.ones_like(x)
        for _ in range(20):  # towards least absolute error
            a = np.stack([x, np.ones_like(x)], 1) * weight[:, None]
            gain, offset = np.linalg.lstsq(a, y * weight, rcond=None)[0]
            weight = 1 / np.sqrt(np.maximum(np.abs(gain * x + offset - y), 0.5))
    return (unit * np.float32(gain) + np.float32(offset)).astype(np.float32)


def _searched(pair: Pair, unit: Map) -> tuple[float, float]:
    height, width = (max(16, n // 4) for n in pair.left.shape[:2])
    left, right = (ops.resize(v, height, width).astype(np.int16) for v in (pair.left, pair.right))
    small = np.asarray(cv2.resize(unit, (width, height)), np.float32)
    best = (np.inf, 0.0, 0.0)
    for gain in np.linspace(0, 0.12, 13) * width:
        for offset in np.linspace(-0.08, 0.12, 41) * width:
            warped = ops.warp(left.astype(np.uint8), small * np.float32(gain) + np.float32(offset))
            seen = warped.holes == 0
            error = float(np.abs(warped.view.astype(np.int16) - right)[seen].mean()) if seen.any() else np.inf
            best = min(best, (error, float(gain), float(offset)))
    scale = pair.left.shape[1] / width
    return best[1] * scale, best[2] * scale


def shifted(pair: Pair) -> NDArray[np.uint8]:
    """The left view moved as a whole by the number of pixels that gives the best SIoU: what one number can do."""
    width = pair.left.shape[1]

    def moved(by: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.pad(pair.left, ((0, 0), (0, by), (0, 0)), mode="edge")[:, by:])

    steps = range(0, width // 5, max(1, width // 400))
    return max((moved(by) for by in steps), key=lambda view: siou(view, pair.right, pair.left))


def views(
    pair: Pair, converter: StereoConverter, quality: dict[str, StereoConverter] | None = None
) -> dict[str, NDArray[np.uint8]]:
    """The right views to compare, by name.

    Args:
        pair: left view, true right view, perhaps disparity.
        converter: in fast mode.
        quality: converters in quality mode, by name; one named ``fitted`` gets the same disparity as the fast one.
    """
    config = converter.config
    depth = converter.load()(pair.left)
    result = {"identity": pair.left, "identity, best shift": shifted(pair)}
    result.update({"secondeye, as it is": converter.convert(pair.left).right})
    full = ops.upsample(fitted_disparity(pair, depth), pair.left)
    radius = max(min(config.widen, 1), round(config.widen * pair.left.shape[0] / 1080))
    fitted = ops.smooth_edges(ops.widen_foreground(full, radius))
    result["secondeye, fitted"] = converter.render(pair.left, fitted).right
    for name, one in (quality or {}).items():
        made = one.render(pair.left, fitted) if name == "fitted" else one.convert(pair.left)
        result[f"quality mode, {name}"] = made.right
    if pair.disparity is not None:
        result["with measured disparity"] = converter.render(pair.left, filled_in(pair.disparity)).right
    return result


COLUMNS = {
    "siou": "SIoU", "psnr": "PSNR", "ssim": "SSIM", "rmse": "RMSE", "mae": "MAE", "hole_psnr": "holes",
    "disparity_error_px": "disp. px", "disparity_found": "found", "consistency": "L=R",
}  # fmt: skip


def quality_converters(bundle: Path, depth: str, scheduler: Any, steps: int | None) -> dict[str, StereoConverter]:
    """Quality mode in the ways that a table shows."""
    common: dict[str, Any] = {"mode": "quality", "bundle": bundle, "scheduler": scheduler, "steps": steps}
    result = {name: StereoConverter(StereoConfig(**common, depth=depth)) for name in ("as it is", "fitted")}
    if "depth" in read_bundle(bundle, verify=False).manifest.engines:
        authors = StereoConfig(**common, conditioning="authors", compose="generated")
        result["as its authors"] = StereoConverter(authors)
    return result


def _facts(depth: str, bundle: Path | None, scheduler: Any, steps: int | None) -> dict[str, Any]:
    """What a table was made with."""
    facts: dict[str, Any] = {"machine": machine(), "depth_model": depth}
    if bundle is not None:
        told = read_bundle(bundle, verify=False).manifest
        facts["bundle"] = {
            "name": bundle.resolve().name, "manifest": file_hash(bundle / MANIFEST),
            "precision": told.engines["unet"].precision, "scheduler": scheduler,
            "steps": steps or DEFAULT_STEPS[scheduler],
        }  # fmt: skip
    return facts


class _Kept:
    """A table in the making, kept beside the file that it will be.

    Args:
        place: of that file; None keeps nothing.
        facts: what the table is made with; rows made with anything else, or by other code, are not taken up.
    """

    def __init__(self, place: Path | None, facts: dict[str, Any], pairs: Path) -> None:
        self.path = None if place is None else place.with_name(f".{place.name}.part")
        if place is None:
            return
        home, code = Path(__file__).parent.parent, hashlib.sha256()
        for path in [*sorted((home / "runtime").rglob("*.py")), *sorted((home / "benchmarks").glob("*.py"))]:
            code.update(path.read_bytes())
        code.update(Path(_native.__file__).read_bytes())
        self._facts = facts | {"pairs": str(pairs.resolve()), "code": code.hexdigest()}

    def rows(self) -> list[dict[str, Any]]:
        """Those of a run that was stopped."""
        try:
            kept = json.loads(b"" if self.path is None else self.path.read_bytes())
            rows: list[dict[str, Any]] = kept.pop("results")
        except (OSError, ValueError, KeyError, AttributeError):
            return []
        return rows if kept == self._facts else []

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Keep all of them."""
        if self.path is not None:
            with atomic_write(self.path) as file:
                file.write(json.dumps(self._facts | {"results": rows}).encode())

    def drop(self) -> None:
        """The table is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def main(
    pairs: Annotated[Path, typer.Argument(help="Folder of stereo pairs, or a side-by-side film.")],
    depth_model: Annotated[str, typer.Option(help="builtin, cues or an ONNX file.")] = "builtin",
    bundle: Annotated[Path | None, typer.Option(help="A Mono2Stereo bundle: adds quality mode.")] = None,
    scheduler: Annotated[str, typer.Option(help="Of quality mode: ddim or warped.")] = "ddim",
    steps: Annotated[int | None, typer.Option(help="Of quality mode.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a picture of every view.")] = None,
) -> None:
    """Measure stereo conversion on pairs with a true right view."""
    for place in (json_file, sheet):
        if place is not None:
            check_place(place)
    if sheet is not None:
        format_of(sheet)
    converter = StereoConverter(StereoConfig(depth=depth_model))
    quality = None if bundle is None else quality_converters(bundle, depth_model, scheduler, steps)
    facts = _facts(depth_model, bundle, scheduler, steps)
    kept = _Kept(json_file, facts, pairs)
    rows = kept.rows() if sheet is None else []
    done = {row["pair"] for row in rows}
    if done:
        Console(stderr=True).print(f"{len(done)} pairs were measured before; going on.", highlight=False)
    strips: dict[str, dict[str, tuple[NDArray[np.uint8], str]]] = {}
    for pair in read_pairs(pairs):
        if pair.name in done:
            continue
        if sheet is not None:
            strips[pair.name] = {"truth": (_small(pair.right), "")}
        holes = true_holes(pair.left, pair.right, pair.disparity)
        for name, view in views(pair, converter, quality).items():
            row = {"pair": pair.name, "view": name, **all_metrics(view, pair.right, pair.left, holes)}
            rows.append(row)
            if sheet is not None:  # of a film's thousands of pairs they would fill the memory
                psnr = "" if row["psnr"] is None else f", PSNR {row['psnr']:.1f} dB"
                strips[pair.name][name] = _small(view), f"SIoU {row['siou']:.3f}{psnr}"
        kept.keep(rows)
    _print(rows, f"Right views against the true ones ({depth_model} depth)")
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps(facts | {"results": rows}, indent=1).encode())
    if sheet is not None and strips:
        save_picture(sheet, contact_sheet(strips))
    kept.drop()


def _small(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (_TILE, round(_TILE * view.shape[0] / view.shape[1]))
    return np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)


def contact_sheet(strips: dict[str, dict[str, tuple[NDArray[np.uint8], str]]]) -> NDArray[np.uint8]:
    """Every view of every pair, uint8 [H, W, 3].

    Args:
        strips: by the pair's name, then by the view's: uint8 [h, 480, 3] and a line to stand over it. A pair is a row
            with its name on the left; a view is a column with its name on top, empty where a pair has none.
    """
    columns = list(dict.fromkeys(name for strip in strips.values() for name in strip))
    heights = [max(view.shape[0] for view, _ in strip.values()) + _BAR for strip in strips.values()]
    font = ImageFont.load_default(size=18)
    margin = 16 + max(round(font.getlength(name)) for name in strips)
    image = Image.new("RGB", (margin + _TILE * len(columns), _BAR + sum(heights)), (24, 24, 24))
    draw = ImageDraw.Draw(image)
    for column, name in enumerate(columns):
        draw.text((margin + _TILE * column + 8, 4), name, fill=(255, 255, 255), font=font)
    top = _BAR
    for (pair, strip), height in zip(strips.items(), heights, strict=True):
        draw.text((8, top + height // 2), pair, fill=(255, 255, 255), font=font)
        for column, name in enumerate(columns):
            if name in strip:
                view, line = strip[name]
                draw.text((margin + _TILE * column + 8, top + 4), line, fill=(190, 190, 190), font=font)
                image.paste(Image.fromarray(view), (margin + _TILE * column, top + _BAR))
        top += height
    return np.asarray(image)


def _print(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("pair", "right view", *COLUMNS.values()):
        table.add_column(heading, justify="left" if heading in ("pair", "right view") else "right")

    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"

    for row in rows:
        table.add_row(row["pair"], row["view"], *(text(row[name]) for name in COLUMNS))
    count = len({row["pair"] for row in rows})
    if count > 1:
        table.add_section()
        for view in dict.fromkeys(row["view"] for row in rows):
            of = [row for row in rows if row["view"] == view]
            means = [[row[name] for row in of if row[name] is not None] for name in COLUMNS]
            table.add_row(f"mean of {len(of)}", view, *(text(float(np.mean(m)) if m else None) for m in means))
    console().print(table)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
