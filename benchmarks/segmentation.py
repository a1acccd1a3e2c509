# SPDX-License-Identifier: Apache-2.0
"""Segmenters: how well they tell objects apart, how long they take, and what that does to the stereo result.

    python -m secondeye.export.builtin.render --out DIR --scenes 0 --validation 24 --size 540 960
    python -m secondeye.benchmarks.segmentation --scenes DIR --pairs PAIRS_DIR --segment student=student.onnx

Rows: ``off``; ``exact`` labels of rendered scenes; ``colours``, these painted as SGT paints them (palette colours, some
twice, soft borders, noise, at most 1024 pixels) and read back; every segmenter that is given. Each with two depth maps:
``network``, the built-in network's, scaled to the scene by two numbers, and ``soft truth``, the true disparity at the
network's resolution, blurred by a cell: a network that is right but for its soft edges.

Columns: covering of the true objects and F score of borders (rendered scenes); ``edge``, mean error of the disparity
beside true steps, pixels; ``hole border``, mean error of the right view round true disocclusions, grey levels; on what
share of the pictures these are better than off; milliseconds a picture of each stage: telling apart, aligning the
depth map's edges, bringing it to the picture's size, warping.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from secondeye.benchmarks.machine import bench_extra, console, machine
from secondeye.benchmarks.metrics import covering, label_border_f_score
from secondeye.benchmarks.pairs import Pair, read_pairs
from secondeye.benchmarks.quality import fitted_disparity
from secondeye.benchmarks.stereo_metrics import filled_in
from secondeye.runtime import ops
from secondeye.runtime.alignment import aligned
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.config import StereoConfig
from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.depth import DepthModel
from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import atomic_write, check_place
from secondeye.runtime.labels import PALETTE, find_objects
from secondeye.runtime.objects import Labeller, at_size, open_labeller

cv2 = bench_extra("cv2")
Labels = NDArray[np.uint16]
Map = NDArray[np.float32]
RANGE = 0.05  # of a rendered scene's width, from its farthest to its nearest disparity
BAND = 6  # pixels beside true steps and disocclusions that count
CELLS = 256 * 384  # of the built-in network's map
OFF, EXACT, COLOURS = "off", "exact", "colours"
STAGES = ("labels", "align", "upsample", "warp")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture with true disparity (pixels, NaN unknown), its right view, and perhaps its true objects."""

    kind: str
    name: str
    pair: Pair
    objects: Labels | None


def rendered(folder: Path) -> Iterator[Case]:
    """Scenes of `export.builtin.render`; their right views are warped by the exact disparity."""
    paths = sorted(folder.glob("validation_*.npz"))
    if not paths:
        raise MediaError(
            f"{folder}: no shards validation_*.npz; see python -m secondeye.benchmarks.segmentation --help."
        )
    converter = StereoConverter()
    for path in paths:
        with np.load(path) as shard:
            for k, (left, near, objects) in enumerate(
                zip(shard["picture"], shard["disparity"].astype(np.float32), shard["objects"], strict=True)
            ):
                low, high = np.percentile(near, (1, 99))
                if high - low < 1e-6:
                    continue
                scaled = np.clip((near - low) / (high - low), 0, 1.5).astype(np.float32)
                disparity = scaled * np.float32(RANGE * left.shape[1])
                right = converter.render(left, disparity).right
                pair = Pair(name=f"{path.stem} {k}", left=left, right=right, disparity=disparity)
                yield Case(kind="rendered", name=pair.name, pair=pair, objects=objects + np.uint16(1))


def real(folder: Path) -> Iterator[Case]:
    """Pairs with measured disparity."""
    for pair in read_pairs(folder):
        if pair.disparity is not None:
            yield Case(kind="real", name=pair.name, pair=pair, objects=None)


def _bands(case: Case) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(beside true steps of the left view's disparity, round true disocclusions of the right view)."""
    true = case.pair.disparity
    assert true is not None
    whole = filled_in(true)
    step = np.zeros(true.shape, np.uint8)
    for axis in (0, 1):
        one, other = ([slice(None), slice(None)] for _ in range(2))
        one[axis], other[axis] = slice(1, None), slice(None, -1)
        differs = np.abs(np.diff(whole, axis=axis)) > max(1.0, 0.003 * true.shape[1])
        step[tuple(one)] |= differs
        step[tuple(other)] |= differs
    kernel = np.ones((2 * BAND + 1, 2 * BAND + 1), np.uint8)
    holes = ops.warp(case.pair.left, whole).holes
    round_holes = (cv2.dilate(holes, kernel) > 0) & (holes == 0)
    return (cv2.dilate(step, kernel) > 0) & np.isfinite(true), round_holes


def _soft_truth(true: Map) -> Map:
    """True disparity as a network of the built-in one's resolution would have it, were it right."""
    height, width = true.shape
    scale = (CELLS / (height * width)) ** 0.5
    size = round(width * scale / 32) * 32, round(height * scale / 32) * 32
    small = cv2.resize(filled_in(true), size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.float32)


def painted(objects: Labels, seed: int = 0) -> NDArray[np.uint8]:
    """A colour map of exact objects, with what a picture from a decoder has against it."""
    height, width = objects.shape
    scale = min(1.0, 1024 / max(height, width))
    size = tuple(max(16, round(n * scale / 16) * 16) for n in (width, height))
    soft = cv2.resize(PALETTE[objects % len(PALETTE)], size, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(seed).normal(0, 4, soft.shape)
    return np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8)


class _Clock:
    """Milliseconds of stages that follow each other."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def __call__(self) -> float:
        """Since the last call."""
        now = time.perf_counter()
        self._at, since = now, (now - self._at) * 1e3
        return since


def measure(case: Case, depth: DepthModel, labellers: dict[str, Labeller]) -> Iterator[dict[str, Any]]:
    """One row for each way of telling objects apart, and each depth map."""
    pair = case.pair
    assert pair.disparity is not None
    edges, holes = _bands(case)
    if not edges.any() or not holes.any():
        return  # one smooth surface
    maps = {"network": fitted_disparity(pair, depth(pair.left)), "soft truth": _soft_truth(pair.disparity)}
    converter = StereoConverter(StereoConfig())
    radius = max(1, round(converter.config.widen * pair.left.shape[0] / 1080))
    for name in [OFF, *([EXACT, COLOURS] if case.objects is not None else []), *labellers]:
        told: dict[str, Any] = {"kind": case.kind, "picture": case.name, "segment": name}
        labels = case.objects if name == EXACT else None
        if name == COLOURS or name in labellers:
            map_ = painted(case.objects) if name == COLOURS and case.objects is not None else None
            clock = _Clock()
            if map_ is not None:
                found = find_objects(map_, pair.left)
                labels, told["confidence"] = found.labels, found.confidence
            else:
                labels, told["confidence"] = labellers[name](pair.left)
            told["labels_ms"] = clock()
            if case.objects is not None:
                told["covering"] = covering(labels, case.objects)
                told["border_f"] = label_border_f_score(labels, case.objects)
        for source, small in maps.items():
            row = told | {"depth": source}
            clock = _Clock()
            if labels is not None:  # as the converter does it
                small = aligned(small, at_size(labels, *small.shape))
                row["align_ms"] = clock()
            disparity = ops.upsample(small, pair.left, labels=labels)
            row["upsample_ms"] = clock()
            view = converter.render(pair.left, ops.smooth_edges(ops.widen_foreground(disparity, radius))).right
            row["warp_ms"] = clock()
            row["edge"] = float(np.abs(disparity - pair.disparity)[edges].mean())
            row["hole_border"] = float(np.abs(view.astype(np.int16) - pair.right)[holes].mean())
            yield row


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the pictures of a kind, and on what share of them a row is better than off."""
    result = []

    def of(*wanted: str) -> list[dict[str, Any]]:
        return [row for row in rows if (row["kind"], row["depth"], row["segment"]) == wanted]

    for kind, depth, name in dict.fromkeys((row["kind"], row["depth"], row["segment"]) for row in rows):
        mine, plain = of(kind, depth, name), of(kind, depth, OFF)
        one: dict[str, Any] = {"kind": kind, "depth": depth, "segment": name, "pictures": len(mine)}
        for key in ("covering", "border_f", "edge", "hole_border"):
            if key in mine[0]:
                one[key] = round(statistics.fmean(row[key] for row in mine), 4)
        for key in (f"{stage}_ms" for stage in STAGES):
            if key in mine[0]:
                one[key] = round(statistics.median(row[key] for row in mine), 1)
        for key in ("edge", "hole_border"):
            one[f"{key}_better"] = round(statistics.fmean(a[key] < b[key] for a, b in zip(mine, plain, strict=True)), 3)
        result.append(one)
    return result


def main(
    scenes: Annotated[Path | None, typer.Option(help="Folder of rendered scenes, shards validation_*.npz.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Folder of pairs with disparity.npz.")] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="NAME=SPEC, a segmenter as secondeye convert --segment takes it.")
    ] = None,
    most: Annotated[int, typer.Option(help="Scenes at most.")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results.")] = None,
) -> None:
    """Measure segmenters on rendered scenes and on real pairs."""
    if json_file is not None:
        check_place(json_file)
    labellers: dict[str, Labeller] = {}
    for word in segment or []:
        name, _, spec = word.partition("=")
        labeller = open_labeller(spec)
        if not spec or labeller is None or name in (OFF, EXACT, COLOURS):
            raise InvalidInputError(f"--segment: expected NAME=SPEC, got {word!r}.")
        labellers[name] = labeller
    if scenes is None and pairs is None:
        raise InvalidInputError("give --scenes, --pairs or both.")
    depth = StereoConverter().load()
    cases = [*([] if scenes is None else list(rendered(scenes))[:most]), *([] if pairs is None else real(pairs))]
    rows = [row for case in cases for row in measure(case, depth, labellers)]
    table = Table(title="Objects, and what they do to the stereo result")
    headings = ("kind", "depth", "segment", "pictures", "covering", "border_f", "edge", "hole_border", "edge_better",
                "hole_border_better", *(f"{stage}_ms" for stage in STAGES))  # fmt: skip
    for heading in headings:
        table.add_column(
            heading.replace("_", " "), justify="left" if heading in ("kind", "depth", "segment") else "right"
        )
    means = summary(rows)
    for one in means:
        table.add_row(*(str(one.get(heading, "")) for heading in headings))
    console().print(table)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write(json.dumps({"machine": machine(), "means": means, "results": rows}, indent=1).encode())


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    guarded(app)
