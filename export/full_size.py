# SPDX-License-Identifier: Apache-2.0
"""The proof that a full-size SGT-BAGEL checkpoint can be exported on a small machine: peak memory and time, measured.

    python -m secondeye.export.full_size --work DIR --precision int4 [--layers 28] [--graphs vit,flow_0] [--json FILE]

Writes a checkpoint of random tensors with the real names and shapes (29 GB in bfloat16 for all 28 layers, in shards),
reads and checks it as a real one, and exports graphs one after another, as a build does, each deleted once measured.
With --graphs only their tensors are written; the rest of the files are holes, which read as zeros. A run that was
killed goes on when it is given again: shards that were written and graphs that were measured are kept in DIR, which is
deleted at the end (--keep leaves it, with the graphs).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import torch

from secondeye.export.graphs import make_graph
from secondeye.export.models import sgt_bagel
from secondeye.runtime.files import atomic_write

LAYERS = 28
SHARD_BYTES = 5 << 30
_POOL = 1 << 24  # random numbers; tensors take runs of them, each from another place
WIDE, NARROW, HEAD, INNER, WORDS = 3584, 512, 128, 18944, 152064
VIT, VIT_INNER, VIT_LAYERS = 1152, 4304, 26
Shapes = dict[str, tuple[int, ...]]


def bagel_shapes(layers: int = LAYERS) -> Shapes:
    """Every tensor of ema.safetensors."""
    shapes: Shapes = {}

    def linear(name: str, out: int, into: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (out, into)
        if bias:
            shapes[f"{name}.bias"] = (out,)

    model = "language_model.model"
    shapes[f"{model}.embed_tokens.weight"] = shapes["language_model.lm_head.weight"] = (WORDS, WIDE)
    for i in range(layers):
        for e in ("", "_moe_gen"):
            at = f"{model}.layers.{i}"
            for part, out in (("q", WIDE), ("k", NARROW), ("v", NARROW)):
                linear(f"{at}.self_attn.{part}_proj{e}", out, WIDE)
            linear(f"{at}.self_attn.o_proj{e}", WIDE, WIDE, bias=False)
            for part, out, into in (("gate", INNER, WIDE), ("up", INNER, WIDE), ("down", WIDE, INNER)):
                linear(f"{at}.mlp{e}.{part}_proj", out, into, bias=False)
            for part in ("self_attn.q_norm", "self_attn.k_norm"):
                shapes[f"{at}.{part}{e}.weight"] = (HEAD,)
            for part in ("input_layernorm", "post_attention_layernorm"):
                shapes[f"{at}.{part}{e}.weight"] = (WIDE,)
    shapes |= {f"{model}.norm{e}.weight": (WIDE,) for e in ("", "_moe_gen")}
    for name, out, into in (("time_embedder.mlp.0", WIDE, 256), ("time_embedder.mlp.2", WIDE, WIDE),
                            ("vae2llm", WIDE, 64), ("llm2vae", 64, WIDE), ("connector.fc1", WIDE, VIT),
                            ("connector.fc2", WIDE, WIDE)):  # fmt: skip
        linear(name, out, into)
    shapes["latent_pos_embed.pos_embed"], shapes["vit_pos_embed.pos_embed"] = (4096, WIDE), (4900, WIDE)
    vision = "vit_model.vision_model"
    linear(f"{vision}.embeddings.patch_embedding", VIT, 588)
    shapes[f"{vision}.embeddings.position_embedding.weight"] = (4900, VIT)
    for i in range(VIT_LAYERS):
        at = f"{vision}.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{at}.self_attn.{part}", VIT, VIT)
        linear(f"{at}.mlp.fc1", VIT_INNER, VIT)
        linear(f"{at}.mlp.fc2", VIT, VIT_INNER)
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{at}.{part}.{kind}": (VIT,) for kind in ("weight", "bias")}
    return shapes | {f"{vision}.post_layernorm.{kind}": (VIT,) for kind in ("weight", "bias")}


def autoencoder_shapes() -> Shapes:
    """Every tensor of ae.safetensors, FLUX's autoencoder."""
    shapes: Shapes = {}

    def conv(name: str, out: int, into: int, side: int = 3) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into, side, side), (out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def block(name: str, into: int, out: int) -> None:
        norm(f"{name}.norm1", into)
        conv(f"{name}.conv1", out, into)
        norm(f"{name}.norm2", out)
        conv(f"{name}.conv2", out, out)
        if into != out:
            conv(f"{name}.nin_shortcut", out, into, 1)

    for side, first, last in (("encoder", (128, 3), (32, 512)), ("decoder", (512, 16), (3, 128))):
        conv(f"{side}.conv_in", *first)
        for name in ("mid.block_1", "mid.block_2"):
            block(f"{side}.{name}", 512, 512)
        norm(f"{side}.mid.attn_1.norm", 512)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{side}.mid.attn_1.{part}", 512, 512, 1)
        norm(f"{side}.norm_out", last[1])
        conv(f"{side}.conv_out", *last)
    widths = (128, 256, 512, 512)
    for level, width in enumerate(widths):
        into = widths[max(0, level - 1)]
        for k in range(2):
            block(f"encoder.down.{level}.block.{k}", into if k == 0 else width, width)
        if level < 3:
            conv(f"encoder.down.{level}.downsample.conv", width, width)
        above = widths[min(3, level + 1)]
        for k in range(3):
            block(f"decoder.up.{level}.block.{k}", above if k == 0 else width, width)
        if level:
            conv(f"decoder.up.{level}.upsample.conv", width, width)
    return shapes


class Random:
    """Seeded normal numbers in bfloat16, as bytes: tensors take runs of a pool, each from another place."""

    def __init__(self) -> None:
        self._pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0))
        self._made: dict[tuple[float, float], memoryview] = {}

    def runs(self, scale: float, middle: float, start: int, count: int) -> Iterator[memoryview]:
        """`count` values about `middle`, from the pool's number `start` on."""
        pool = self._made.get((scale, middle))
        if pool is None:
            values = (self._pool * scale + middle).to(torch.bfloat16)
            pool = self._made[scale, middle] = memoryview(values.view(torch.int16).numpy()).cast("B")
        at = start % _POOL
        while count:
            taken = min(count, _POOL - at)
            yield pool[2 * at : 2 * (at + taken)]
            count, at = count - taken, 0


def write_random(path: Path, shapes: Shapes, random: Random, wanted: Callable[[str], bool]) -> None:
    """A safetensors file of bfloat16, tensor by tensor: weights normal with their fan-in's deviation, norms about 1."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    told = json.dumps(header).encode()
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(told)))
        file.write(told)
        for number, (name, shape) in enumerate(shapes.items()):
            if not wanted(name):
                file.seek(2 * math.prod(shape), os.SEEK_CUR)
                continue
            scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
            middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            for run in random.runs(scale, middle, number * 7919, math.prod(shape)):
                file.write(run)
        file.truncate()  # what ends with a hole has its length too


def needed_by(names: list[str] | None, layers: int) -> Callable[[str], bool]:
    """Whether a tensor is one of the graphs', given that each has one layer."""
    if names is None:
        return lambda tensor: True
    numbers = {name.partition("_")[2] for name in names}
    ends = {"0": ("vae2llm.", "time_embedder.", "latent_pos_embed."), str(layers - 1): ("norm_moe_gen", "llm2vae.")}
    parts = [".embed_tokens.", *(f".layers.{n}." for n in numbers), *(p for n in numbers for p in ends.get(n, ()))]
    parts += ["vit_model.", "connector.", "vit_pos_embed."] if "vit" in names else []
    return lambda tensor: any(part in f".{tensor}" for part in parts)


def write_checkpoint(
    folder: Path, layers: int, names: list[str] | None = None, shard_bytes: int = SHARD_BYTES
) -> tuple[int, int]:
    """A whole checkpoint folder; gives its bytes, and those that take room on the disk. Weights that are there stay."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    random = Random()
    shards: list[Shapes] = [{}]
    taken = 0
    for name, shape in bagel_shapes(layers).items():
        if taken > shard_bytes:
            shards.append({})
            taken = 0
        shards[-1][name] = shape
        taken += 2 * math.prod(shape)
    places = {}
    for i, shapes in enumerate(shards):
        file = f"ema-{i + 1:05}-of-{len(shards):05}.safetensors"
        if not (folder / file).exists():
            write_random(folder / file, shapes, random, needed_by(names, layers))
        places |= dict.fromkeys(shapes, file)
    with atomic_write(folder / "ema.safetensors.index.json") as out:
        out.write(json.dumps({"weight_map": places}).encode())
    write_random(folder / "ae.safetensors", autoencoder_shapes(), random, lambda name: True)
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    words = [*marks, *sgt_bagel.INSTRUCTION.replace(".", " .").split(), "[UNK]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    configs = {
        "tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "llm_config": {
            "hidden_size": WIDE, "num_hidden_layers": layers, "num_attention_heads": WIDE // HEAD,
            "num_key_value_heads": NARROW // HEAD, "intermediate_size": INNER, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "vocab_size": WORDS,
        },
        "vit_config": {
            "hidden_size": VIT, "num_hidden_layers": VIT_LAYERS + 1, "num_attention_heads": 16,
            "intermediate_size": VIT_INNER, "patch_size": 14, "image_size": 980,
        },
    }  # fmt: skip
    for name, content in configs.items():
        with atomic_write(folder / f"{name}.json") as out:
            out.write(json.dumps(content).encode())
    stats = [f.stat() for f in folder.iterdir()]
    return sum(s.st_size for s in stats), sum(s.st_blocks * 512 for s in stats)


def peak_gib(*, reset: bool = False) -> float:
    """The greatest memory that this process has held since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def measure(
    work: Path, precision: str, layers: int, names: list[str] | None, *, done: Container[str] = (), keep: bool = False
) -> Iterator[dict[str, Any]]:
    """One record after another: the checkpoint written, read, and each graph; steps in `done` are left out."""
    begun = time.perf_counter()
    if "write" not in done:
        size, written = write_checkpoint(work / "checkpoint", layers, names)
        yield {
            "step": "write", "seconds": time.perf_counter() - begun, "gb": size / 1e9, "gb_written": written / 1e9,
            "parameters": sum(math.prod(s) for s in bagel_shapes(layers).values()),
        }  # fmt: skip
    peak_gib(reset=True)
    begun = time.perf_counter()
    model = sgt_bagel.load(work / "checkpoint")
    if "check" not in done:
        seconds = time.perf_counter() - begun
        yield {"step": "check", "seconds": seconds, "peak_gib": peak_gib(), "graphs": len(model.graphs)}
    for graph in model.graphs:
        if graph.name in done or (names is not None and graph.name not in names):
            continue
        peak_gib(reset=True)
        begun = time.perf_counter()
        folder = work / graph.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        error = make_graph(graph, precision, folder / f"{graph.name}.onnx", lambda step: None)  # type: ignore[arg-type]
        yield {
            "step": graph.name, "seconds": time.perf_counter() - begun, "peak_gib": peak_gib(),
            "mb": sum(f.stat().st_size for f in folder.iterdir()) / 1e6, "relative_rms": error["relative_rms"],
        }  # fmt: skip
        if not keep:
            shutil.rmtree(folder)


def whole(records: list[dict[str, Any]], layers: int = LAYERS) -> dict[str, float]:
    """What all graphs take: the first and the last layer's as they are, the others by the mean of those measured."""
    total = {"minutes": 0.0, "gb": 0.0, "peak_gib": max(one.get("peak_gib", 0.0) for one in records)}
    graphs = {one["step"]: one for one in records if "mb" in one}
    for kind in {name.partition("_")[0] for name in graphs}:
        ends = [kind, f"{kind}_0", f"{kind}_{layers - 1}"]
        inner = [one for name, one in graphs.items() if name.partition("_")[0] == kind and name not in ends]
        each = (layers - 2) / max(1, len(inner))
        for one, times in [*((graphs[n], 1.0) for n in ends if n in graphs), *((one, each) for one in inner)]:
            total["minutes"] += times * one["seconds"] / 60
            total["gb"] += times * one["mb"] / 1e3
    return total


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder on a disk with room: new, or of a run begun")
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--graphs", help="names, comma between; all when left out")
    parser.add_argument("--keep", action="store_true", help="leave DIR with all graphs (13 GB more for all layers)")
    parser.add_argument("--json", type=Path, help="write the results")
    arguments = parser.parse_args()
    names = arguments.graphs.split(",") if arguments.graphs else None
    request = {"precision": arguments.precision, "layers": arguments.layers, "graphs": arguments.graphs}
    arguments.work.mkdir(exist_ok=True)
    notes = arguments.work / "measured.json"
    result: dict[str, Any] = {"request": request, "results": []}
    if notes.exists():
        result = json.loads(notes.read_text())
    elif any(arguments.work.iterdir()):
        parser.error(f"--work: {arguments.work} holds something else")
    if result["request"] != request:
        parser.error(f"--work: {arguments.work} is of another run, {result['request']}")
    records: list[dict[str, Any]] = result["results"]
    for record in records:
        print(record)
    done = {record["step"] for record in records}
    _write_json(notes, result)
    for record in measure(arguments.work, arguments.precision, arguments.layers, names, done=done, keep=arguments.keep):
        records.append({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()})
        _write_json(notes, result)
        print(records[-1], flush=True)
    totals = {k: round(v, 2) for k, v in whole(records, arguments.layers).items()}
    print("all graphs, from those measured:", totals)
    if arguments.json is not None:
        from secondeye.benchmarks.machine import machine

        told = {k: v for k, v in request.items() if v is not None}
        _write_json(arguments.json, {"machine": machine(), **told, "results": records, "all_layers": totals})
    if not arguments.keep:
        shutil.rmtree(arguments.work)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
