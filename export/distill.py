# SPDX-License-Identifier: Apache-2.0
"""Train a small network that tells objects apart in every frame, on exact labels or on what a teacher says.

    python -m secondeye.export.distill --data DIR --out RUN --minutes 40
    python -m secondeye.export.distill --teacher sgt:FOLDER --pictures PHOTOS --data DIR --out RUN

Data are shards with ``picture`` uint8 [N, H, W, 3] and ``objects`` uint16 [N, H, W], as
:mod:`secondeye.export.builtin.render` writes them with exact labels; a teacher's are written beside them first.

The network says, for each pixel, how likely it lies on a border between two objects, and gives it eight numbers that
are alike within an object and apart across borders (De Brabandere et al., Semantic Instance Segmentation with a
Discriminative Loss, 2017). It begins as the built-in depth network, whose encoder stays as it is. A killed run resumes.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from secondeye.export.builtin.augment import Augmenter
from secondeye.export.builtin.export_onnx import INPUT_SIZE, fold_batch_norm, halve_weights, to_onnx, worst_error
from secondeye.export.builtin.network import DepthNet
from secondeye.export.builtin.train import first_model, save

NUMBERS = 8  # of a pixel's embedding
START = Path(__file__).parents[1] / "runtime" / "assets" / "depth_builtin.onnx"
SAME, APART = 0.3, 1.5  # embeddings of an object lie nearer than the one, those of two objects farther than the other
TRAIN_SIZE = (224, 320)
_PAIRS, _NEAR = 1500, 24  # compared in a picture, up to so many cells apart


class Student(nn.Module):
    """Picture [N, 3, H, W] in [0, 1], sides multiples of 32 -> [N, 1 + 8, H, W]: a border's logit, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.base = DepthNet()
        del self.base.coarse, self.base.thin, self.base.full
        width = 24
        self.coarse = nn.Conv2d(width, 1 + NUMBERS, 3, padding=1)
        self.thin = nn.Conv2d(width, 8, 1)
        self.full = nn.Sequential(nn.Conv2d(11, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        base = self.base
        x = image * (255.0 / 128.0) - (127.0 / 128.0)
        features = base.encoder(x)
        y = base.top(features[4]) + base.context(features[4].mean((2, 3)))[:, :, None, None]
        for i in (3, 2, 1, 0):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = base.fuse[i](torch.cat([y, base.skips[i](features[i])], 1))
        coarse = F.interpolate(self.coarse(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        fine = F.interpolate(self.thin(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        border = coarse[:, :1] + self.full(torch.cat([fine, x], 1))
        return torch.cat([border, coarse[:, 1:]], 1)


def begin(start: Path) -> Student:
    """A student whose encoder and decoder are those of an exported depth network."""
    depth = first_model(start)
    student = Student()
    fold_batch_norm(student.base)
    kept = {n: v for n, v in depth.state_dict().items() if not n.startswith(("coarse", "thin", "full"))}
    student.base.load_state_dict(kept)
    return student


# ---- data -------------------------------------------------------------------------------------------------


def teach(spec: str, pictures: Path, data: Path, height: int = 256, width: int = 384) -> None:
    """Label photographs with a teacher, and write them as a shard; unsure ones are left out."""
    import cv2

    from secondeye.runtime.objects import SURE, open_labeller
    from secondeye.runtime.pictures import READ_SUFFIXES, read_picture

    labeller = open_labeller(spec)
    if labeller is None:
        raise SystemExit("--teacher: off teaches nothing.")
    kept, objects = [], []
    for path in sorted(p for p in pictures.rglob("*") if p.suffix.lower() in READ_SUFFIXES):
        pixels = np.ascontiguousarray(read_picture(path).pixels[:, :, :3])
        labels, confidence = labeller(pixels)
        print(f"{path.name}: {labels.max()} objects, confidence {confidence:.2f}", flush=True)
        if confidence >= SURE:
            kept.append(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
            objects.append(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST))
    if not kept:
        raise SystemExit("the teacher was sure of no picture.")
    data.mkdir(parents=True, exist_ok=True)
    temporary = data / "train_teacher.part"
    with temporary.open("wb") as file:
        np.savez(file, picture=np.stack(kept), objects=np.stack(objects))
    os.replace(temporary, data / "train_teacher.npz")


class Batches(threading.Thread):
    """Makes batches ahead, in a thread; takes up shards as they appear."""

    def __init__(self, folder: Path, batch: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.batch = folder, batch
        self.rng = np.random.default_rng(seed)
        self.augment = Augmenter(seed)
        self.seen: set[str] = set()
        self.samples: list[tuple[NDArray[np.uint8], NDArray[np.uint16]]] = []
        self.queue: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(3)
        self.refresh()

    def refresh(self) -> None:
        """Load shards that were not there before."""
        for path in sorted(self.folder.glob("train_*.npz")):
            if path.name not in self.seen:
                self.samples.extend(read_shard(path))
                self.seen.add(path.name)

    def run(self) -> None:
        """Fill the queue for ever."""
        for count in range(1 << 62):
            if count % 50 == 49:
                self.refresh()
            drawn = [self.samples[int(i)] for i in self.rng.integers(0, len(self.samples), self.batch)]
            pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
            objects = torch.from_numpy(np.stack([objects.astype(np.float32) for _, objects in drawn]))
            pictures, objects = self.augment(pictures, objects, TRAIN_SIZE, defocus=False)
            self.queue.put((pictures.contiguous(), objects[:, 0].long()))


def read_shard(path: Path) -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """(picture, objects) of a shard, one by one."""
    with np.load(path) as shard:
        return list(zip(shard["picture"], shard["objects"], strict=True))


# ---- training ---------------------------------------------------------------------------------------------


def borders(objects: Tensor) -> Tensor:
    """int64 [N, H, W] -> float32 [N, H, W], 1 on both sides of a border."""
    border = torch.zeros(objects.shape)
    across, down = (objects[:, :, 1:] != objects[:, :, :-1]).float(), (objects[:, 1:] != objects[:, :-1]).float()
    border[:, :, 1:] = across
    border[:, :, :-1] = torch.maximum(border[:, :, :-1], across)
    border[:, 1:] = torch.maximum(border[:, 1:], down)
    border[:, :-1] = torch.maximum(border[:, :-1], down)
    return border


def loss_of(output: Tensor, objects: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """Borders by weighted cross-entropy and overlap; embeddings by pairs of near pixels, pulled together or pushed."""
    target = borders(objects)
    logit = output[:, 0]
    share = float(target.mean())
    weight = torch.where(target > 0, min(8.0, 0.5 * (1 - share) / max(share, 1e-3)), 1.0)
    entropy = F.binary_cross_entropy_with_logits(logit, target, weight)
    said = torch.sigmoid(logit)
    overlap = 1 - (2 * (said * target).sum() + 1) / (said.sum() + target.sum() + 1)
    embedding, cells = output[:, 1:, ::2, ::2], objects[:, ::2, ::2]
    count, _, high, wide = embedding.shape
    y = torch.randint(high, (count, _PAIRS), generator=generator)
    x = torch.randint(wide, (count, _PAIRS), generator=generator)
    steps = torch.randint(-_NEAR, _NEAR + 1, (2, count, _PAIRS), generator=generator)
    other = (y + steps[0]).clamp(0, high - 1) * wide + (x + steps[1]).clamp(0, wide - 1)
    one = y * wide + x
    flat = embedding.flatten(2)

    def at(index: Tensor) -> Tensor:
        return flat.gather(2, index[:, None].expand(-1, NUMBERS, -1))

    apart = ((at(one) - at(other)).square().sum(1) + 1e-6).sqrt()
    same = cells.flatten(1).gather(1, one) == cells.flatten(1).gather(1, other)
    pull = F.relu(apart - SAME).square()[same].mean() if bool(same.any()) else torch.zeros(())
    push = F.relu(APART - apart).square()[~same].mean() if bool((~same).any()) else torch.zeros(())
    found = (logit > 0) & (target > 0)
    facts = {
        "precision": float(found.sum() / (logit > 0).sum().clamp(min=1)),
        "recall": float(found.sum() / target.sum().clamp(min=1)),
        "pull": float(pull.detach()),
        "push": float(push.detach()),
    }
    return entropy + overlap + pull + 0.5 * push, facts


@torch.no_grad()
def validate(student: Student, folder: Path, most: int = 48) -> str:
    """What the losses are made of, on held-out scenes."""
    student.eval()
    samples = [one for path in sorted(folder.glob("validation_*.npz")) for one in read_shard(path)][:most]
    if not samples:
        return "no held-out scenes"
    generator, found = torch.Generator().manual_seed(5), []
    for picture, objects in samples:
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        found.append(loss_of(student(image), torch.from_numpy(objects.astype(np.int64))[None], generator)[1])
    return ", ".join(f"{name} {np.mean([one[name] for one in found]):.3f}" for name in found[0])


def train(arguments: argparse.Namespace) -> None:
    """The training loop, for a time."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    student = begin(arguments.start).to(memory_format=torch.channels_last)
    student.base.encoder.requires_grad_(False)
    trained = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=arguments.rate, weight_decay=0.01)
    step, spent = 0, 0.0
    checkpoint = arguments.out / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = int(state["step"]), float(state["spent"])
    batches = Batches(arguments.data, arguments.batch, arguments.seed + step)
    if not batches.samples:
        raise SystemExit(f"{arguments.data}: no shards train_*.npz.")
    batches.start()
    generator = torch.Generator().manual_seed(arguments.seed + step)
    total, begun = arguments.minutes * 60, time.monotonic() - spent
    saved, losses = time.monotonic(), []
    while (spent := time.monotonic() - begun) < total:
        rate = arguments.rate * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * spent / total))
        for group in optimiser.param_groups:
            group["lr"] = rate
        pictures, objects = batches.queue.get()
        with torch.autocast("cpu", torch.bfloat16):
            output = student(pictures.to(memory_format=torch.channels_last))
        loss, facts = loss_of(output.float(), objects, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        losses.append(float(loss.detach()))
        if step % 25 == 0:
            told = ", ".join(f"{name} {value:.3f}" for name, value in facts.items())
            print(f"step {step}  {spent / 60:.1f} min  loss {np.mean(losses[-25:]):.4f}  {told}", flush=True)
        if time.monotonic() - saved > 300:
            state = {"student": student.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}
            save(checkpoint, state)
            saved = time.monotonic()
    save(arguments.out / "student.pt", student.state_dict())
    print(f"done: {step} steps, held out: {validate(student, arguments.data)}", flush=True)


def export(weights: Path, target: Path) -> float:
    """The trained student as ONNX, with float16 weights; gives its greatest error, a share of the output's range."""
    student = Student()
    fold_batch_norm(student.base)
    student.load_state_dict(torch.load(weights, weights_only=True))
    student.eval()
    graph = to_onnx(student)  # type: ignore[arg-type]  # of the same input
    halve_weights(graph)
    del graph.metadata_props[:]
    helper.set_model_props(graph, {
        "name": "SecondEye objects", "kind": "borders", "licence": "Apache-2.0", "normalisation": "none",
        "input_size": f"{INPUT_SIZE[0]}x{INPUT_SIZE[1]}", "input_multiple": "32", "same": str(SAME),
    })  # fmt: skip
    graph.producer_name, graph.doc_string = "secondeye.export.distill", ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.graph.value_info[:]
    onnx.checker.check_model(graph, full_check=True)
    data = graph.SerializeToString()
    error = worst_error(student, data)  # type: ignore[arg-type]
    if error > 0.02:
        raise SystemExit(f"the graph is off by {error:.2g} of its range, over 0.02.")
    temporary = target.with_suffix(".part")
    temporary.write_bytes(data)
    os.replace(temporary, target)
    return error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; student.onnx appears in it")
    parser.add_argument("--teacher", help="sgt:FOLDER or an ONNX segmentation network, to label --pictures with first")
    parser.add_argument("--pictures", type=Path, help="folder of photographs for the teacher")
    parser.add_argument("--start", type=Path, default=START, help="the depth network that it begins as (ONNX)")
    parser.add_argument("--minutes", type=float, default=40.0, help="training time (default: 40)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if (arguments.teacher is None) != (arguments.pictures is None):
        parser.error("--teacher and --pictures go together")
    if arguments.teacher is not None:
        teach(arguments.teacher, arguments.pictures, arguments.data)
    train(arguments)
    target = arguments.out / "student.onnx"
    error = export(arguments.out / "student.pt", target)
    print(f"{target}: {target.stat().st_size / 2**20:.2f} MiB, greatest error against PyTorch {error:.1e}")


if __name__ == "__main__":
    main()
