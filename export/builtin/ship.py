# SPDX-License-Identifier: Apache-2.0
"""A finished training becomes the model that the package carries, with its card and its measured results.

    python -m secondeye.export.builtin.ship --run RUN --pairs PAIRS_DIR

Exports RUN/model.safetensors over runtime/assets/depth_builtin.onnx as the next version, measures it on the stereo
pairs (benchmarks/results/depth.json; rows of other models stay), and brings docs/model_card.md up to date. It refuses
weights that order no more pairs of held-out scenes right than the model they replace (--against, in training.json),
and a graph that is not the replaced one's, node for node: its cost would have to be measured anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).parents[2]
ASSET = ROOT / "runtime" / "assets" / "depth_builtin.onnx"
CARD = ROOT / "docs" / "model_card.md"
RESULTS = ROOT / "benchmarks" / "results" / "depth.json"
AFTER = """The rest follows from the new weights; look at each, then commit:
  python -m pytest tests/runtime/test_converter.py tests/runtime/test_live.py tests/export tests/video
  python -m secondeye.benchmarks.quality PAIRS_DIR --json benchmarks/results/quality.json   (README: SIoU as it is)
  python -m secondeye.benchmarks.temporal made pan FILM ... --json benchmarks/results/temporal.json  (README: films)
  secondeye convert photo.jpg --preview docs/pictures/preview.jpg
  README.md: the row "depth, ordinal error"; CHANGELOG.md; docs/model_card.md: what is bold in other rows, the sentence
  on the aim, "Where it fails" (look at photographs), "Tried for more"
Times, sizes and everything measured with --depth-map, cues or quality bundles stay: the graph is the same."""


def shape_of(model: onnx.ModelProto) -> tuple[Any, ...]:
    """What a graph costs: its operators by kind, and the sizes of its weights."""
    weights = sorted(tuple(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) > 1)
    return Counter(node.op_type for node in model.graph.node), weights


def facts_of(run: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """The log's settings and best line, and that of the model that was there before."""
    report = json.loads((run / "training.json").read_text())
    measured = [line for line in report["log"] if line["kind"] == "held out"]
    before = [line for line in report["log"] if line["kind"].startswith("held out, ")]
    best = min(measured, key=lambda line: line["both"])
    best = {**best, "last": measured[-1]}
    return report["settings"], best, before[-1] if before else None


def told(settings: dict[str, Any], best: dict[str, Any], before: dict[str, Any] | None) -> str:
    """How it was trained, for the card."""
    last = best["last"]
    where = "GPU" if settings["device"] == "cuda" else "CPU"
    seconds, batch = round(last["seconds"]), settings["batch"]
    lines = [
        f"- **{last['scenes']:,} rendered scenes** with exact depth, drawn by `export/builtin/` (OpenGL) while it was",
        "  trained: rooms, outdoor views, close-ups, passages, workshops, streets, things that fill the frame, views",
        "  from above and views up; random cameras, lights, fog, occluders.",
        f"- {seconds} seconds on one {where}: {last['step']:,} steps of {batch} pictures. Kept is",
        f"  the weights' running mean at step {best['step']:,}, the best on held-out scenes.",
        f"- On {settings['held_out']} held-out rendered scenes {best['plain']:.1%} of pairs are ordered wrongly, "
        f"{best['rough']:.1%} where light, noise and compression are poor",
        f"  (the version before: {before['plain']:.1%} and {before['rough']:.1%})."
        if before
        else "  (poor as in training).",
    ]
    return "\n".join(lines)


def merged_results(new: dict[str, Any]) -> dict[str, Any]:
    """Fresh results, with the rows of models that were not measured now."""
    have = {(row["pair"], row["model"]) for row in new["results"]}
    old = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else []
    kept = [{**row, "measured_earlier": True} for row in old if (row["pair"], row["model"]) not in have]
    return {**new, "results": sorted([*new["results"], *kept], key=lambda row: row["pair"])}


def card_with(text: str, data: bytes, version: str, run: str, results: list[dict[str, Any]]) -> str:
    """The card of new weights."""
    rows = {row["pair"]: row for row in results if row["model"] == "built-in"}
    others = [row for row in results if row["model"] != "built-in"]

    def cell(pair: str, key: str, worst: bool) -> str:
        value = rows[pair][key]
        against = [row[key] for row in others if row["pair"] == pair]
        best = value <= min(against) if worst else value >= max(against)
        return f"**{value:.3f}**" if best else f"{value:.3f}"

    cells = [
        cell(pair, key, key == "ordinal_error")
        for pair in ("motorcycle", "aloe")
        for key in ("ordinal_error", "border_f")
    ]
    size = len(data) / 2**20
    for pattern, new in (
        (r"(\| File \| `[^`]*`, version )[^,]*, [0-9.]+ MiB", rf"\g<1>{version}, {size:.2f} MiB"),
        (r"(\| SHA-256 \| `)[0-9a-f]{64}", rf"\g<1>{hashlib.sha256(data).hexdigest()}"),
        (r"(\| \*\*built-in\*\* \|).*", rf"\g<1> {' | '.join(cells)} |"),
        (r"(?s)(<!-- run -->\n).*?(\n<!-- /run -->)", rf"\g<1>{run}\g<2>"),
    ):
        text, count = re.subn(pattern, new, text)
        if count != 1:
            raise SystemExit(f"{CARD}: expected one place for {pattern!r}, found {count}.")
    return text


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training (train.py's --out)")
    parser.add_argument("--pairs", type=Path, required=True, help="stereo pairs with disparity (benchmarks/depth.py)")
    parser.add_argument("--dry", action="store_true", help="measure and say, change nothing")
    arguments = parser.parse_args()
    settings, best, before = facts_of(arguments.run)
    print(told(settings, best, before))
    if before is not None and not best["both"] < before["both"]:
        raise SystemExit("not shipped: no better on held-out scenes than the model that is there.")
    old = onnx.load(ASSET)
    version = str(int(next(p.value for p in old.metadata_props if p.key == "version")) + 1)
    with tempfile.TemporaryDirectory() as folder:
        fresh, measured = Path(folder) / "depth_builtin.onnx", Path(folder) / "depth.json"
        command = [sys.executable, "-m", "secondeye.export.builtin.export_onnx", "--out", str(fresh)]
        subprocess.run(
            [*command, "--run", str(arguments.run / "model.safetensors"), "--model-version", version], check=True
        )
        if shape_of(onnx.load(fresh)) != shape_of(old):
            raise SystemExit("not shipped: the graph is another; measure its time first.")
        held = Path(folder) / "before.onnx"
        shutil.copyfile(ASSET, held)
        shutil.copyfile(fresh, ASSET)
        benchmark = [sys.executable, "-m", "secondeye.benchmarks.depth", str(arguments.pairs), "--json", str(measured)]
        try:
            subprocess.run([*benchmark, "--extra", f"before={held}"], check=True)
        except BaseException:
            shutil.copyfile(held, ASSET)
            raise
        new = json.loads(measured.read_text())
        new["results"] = [row for row in new["results"] if row["model"] != "before"]
        if arguments.dry:
            shutil.copyfile(held, ASSET)
            return
    results = merged_results(new)
    RESULTS.write_text(json.dumps(results, indent=1))
    text = card_with(CARD.read_text(), ASSET.read_bytes(), version, told(settings, best, before), results["results"])
    CARD.write_text(text)
    print(AFTER)


if __name__ == "__main__":
    main()
