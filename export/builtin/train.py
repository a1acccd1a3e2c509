# SPDX-License-Identifier: Apache-2.0
"""Train the built-in depth network on rendered scenes, and on labelled photographs where there are some.

    python -m secondeye.export.builtin.train --data DIR --encoder efficientnet-lite0.pth --out RUN --minutes 60

Loss: scale- and shift-invariant absolute error on disparity with gradient matching (Ranftl et al., MiDaS, TPAMI
2022), and a ranking loss on random pairs (Chen et al., Single-Image Depth Perception in the Wild, NIPS 2016). The
encoder's batch norm stays as ImageNet left it, so that it goes on seeing photographs. A killed run resumes.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from .export_onnx import fold_batch_norm
from .network import DepthNet

TRAIN_SIZE = (224, 320)
PAIRS = 3000


class Shards:
    """Samples from npz shards, kept in memory; new shards are taken up as they appear."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.seen: set[str] = set()
        self.samples: list[tuple[NDArray[np.uint8], NDArray[np.float16]]] = []
        self.refresh()

    def refresh(self) -> None:
        """Load shards that were not there before."""
        for path in sorted(self.folder.glob(f"{self.kind}_*.npz")):
            if path.name not in self.seen:
                with np.load(path) as shard:
                    pictures, disparities = shard["picture"], shard["disparity"]
                self.samples.extend(zip(pictures, disparities, strict=True))
                self.seen.add(path.name)


def augment(
    picture: NDArray[np.uint8], disparity: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop, flip, colour, blur, noise and compression: what separates a rendering from a photograph."""
    high, wide = picture.shape[:2]
    scale = rng.uniform(0.45, 1.0) ** 0.5
    h, w = int(high * scale), int(wide * scale * rng.uniform(0.8, 1.0))
    y, x = int(rng.integers(0, high - h + 1)), int(rng.integers(0, wide - w + 1))
    size = (TRAIN_SIZE[1], TRAIN_SIZE[0])
    a = cv2.resize(picture[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)
    d = cv2.resize(disparity[y : y + h, x : x + w].astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        a, d = a[:, ::-1], d[:, ::-1]
    f = a.astype(np.float32) / 255
    f = np.clip(f, 0, 1) ** float(np.exp(rng.normal() * 0.25))
    f = f * np.exp(rng.normal() * 0.15 + rng.normal(size=3) * 0.07).astype(np.float32)
    grey = f.mean(2, keepdims=True)
    f = grey + (f - grey) * (0.0 if rng.random() < 0.08 else rng.uniform(0.3, 1.4))
    f = (f - 0.5) * rng.uniform(0.6, 1.3) + 0.5
    if rng.random() < 0.35:
        f = cv2.GaussianBlur(f, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.5:
        f = f + rng.normal(size=f.shape).astype(np.float32) * rng.uniform(0.0, 0.05)
    a = np.clip(f * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", a, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])
        a = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return a, np.ascontiguousarray(d)


def loss_of(prediction: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The training loss and, of it, the share of pairs in the wrong order. Both maps [N, 1, H, W]."""
    p, t = prediction.flatten(1), target.flatten(1)
    # Nearness beyond the 98th percentile says nothing more about order and would own the scale.
    t = torch.minimum(t, torch.quantile(t[:, ::7], 0.98, dim=1, keepdim=True))

    def normal(v: Tensor) -> Tensor:
        v = v - v.median(1, keepdim=True).values
        return v / (v.abs().mean(1, keepdim=True) + 1e-4)

    pn, tn = normal(p), normal(t)
    error = (pn - tn).abs().clamp(max=4.0).mean()
    shape = prediction.shape
    difference = (pn - tn).reshape(shape)
    gradient = torch.zeros(())
    for step in (1, 2, 4, 8):
        piece = difference[:, :, ::step, ::step]
        gradient = gradient + (piece[..., 1:] - piece[..., :-1]).abs().clamp(max=2.0).mean()
        gradient = gradient + (piece[..., 1:, :] - piece[..., :-1, :]).abs().clamp(max=2.0).mean()
    count = p.shape[1]
    i = torch.randint(count, (PAIRS,), generator=generator)
    j = torch.randint(count, (PAIRS,), generator=generator)
    ti, tj = t[:, i], t[:, j]
    apart = (ti - tj).abs() > 0.05 * torch.maximum(ti, tj) + 1e-6
    margin = (pn[:, i] - pn[:, j]) * torch.sign(ti - tj)
    ranking = F.softplus(-4.0 * margin)[apart].mean() if bool(apart.any()) else torch.zeros(())
    wrong = (margin[apart] < 0).float().mean() if bool(apart.any()) else torch.zeros(())
    return error + 0.5 * gradient + 1.0 * ranking, wrong.detach()


class Batches(threading.Thread):
    """Makes batches ahead, in a thread (OpenCV and NumPy release the lock)."""

    def __init__(self, scenes: Shards, photos: Shards, share: float, batch: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.scenes, self.photos, self.share, self.batch = scenes, photos, share, batch
        self.rng = np.random.default_rng(seed)
        self.queue: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(4)

    def run(self) -> None:
        """Fill the queue for ever."""
        for count in range(1 << 62):
            if count % 200 == 199:
                self.scenes.refresh()
                self.photos.refresh()
            pairs = []
            for _ in range(self.batch):
                real = self.photos.samples and self.rng.random() < self.share
                source = self.photos.samples if real else self.scenes.samples
                pairs.append(augment(*source[int(self.rng.integers(len(source)))], self.rng))
            pictures = torch.from_numpy(np.stack([a for a, _ in pairs])).permute(0, 3, 1, 2).float() / 255
            disparities = torch.from_numpy(np.stack([d for _, d in pairs]))[:, None]
            self.queue.put((pictures.contiguous(memory_format=torch.channels_last), disparities))


def prepare(model: DepthNet) -> None:
    """Training mode, but for the encoder's batch norm; the stem and first stages stay as ImageNet left them."""
    model.train()
    model.encoder.eval()


@torch.no_grad()
def validate(model: DepthNet, shards: Shards) -> float:
    """Share of pairs ordered wrongly on held-out scenes."""
    model.eval()
    generator = torch.Generator().manual_seed(5)
    wrongs = []
    for start in range(0, min(len(shards.samples), 200), 8):
        part = shards.samples[start : start + 8]
        pictures = torch.from_numpy(np.stack([a for a, _ in part])).permute(0, 3, 1, 2).float() / 255
        disparities = torch.from_numpy(np.stack([d for _, d in part]).astype(np.float32))[:, None]
        wrongs.append(float(loss_of(model(pictures), disparities, generator)[1]))
    prepare(model)
    return float(np.mean(wrongs))


def save(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shards (render.py, label.py)")
    parser.add_argument("--encoder", type=Path, help="ImageNet checkpoint of EfficientNet-Lite0")
    parser.add_argument("--start", type=Path, help="go on from an exported model (its ONNX file) instead")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time (default: 60)")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate of the decoder")
    parser.add_argument("--encoder-rate", type=float, default=0.15, help="the encoder's share of it")
    parser.add_argument("--photo-share", type=float, default=0.4, help="share of labelled photographs in a batch")
    parser.add_argument("--frozen", type=int, default=3, help="first encoder blocks that stay as they are")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if (arguments.encoder is None) == (arguments.start is None):
        parser.error("give --encoder to begin, or --start to go on from an exported model")
    run(arguments)


def first_model(arguments: argparse.Namespace) -> DepthNet:
    """A network on a trained encoder, or an exported one, whose batch norms stay folded."""
    model = DepthNet()
    if arguments.start is None:
        model.encoder.load_imagenet(arguments.encoder)
        return model
    fold_batch_norm(model)
    stored = {
        t.name.removesuffix("_half"): numpy_helper.to_array(t) for t in onnx.load(arguments.start).graph.initializer
    }
    model.load_state_dict({name: torch.from_numpy(stored[name].astype(np.float32)) for name in model.state_dict()})
    return model


def run(arguments: argparse.Namespace) -> None:
    """The training loop."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    model = first_model(arguments).to(memory_format=torch.channels_last)
    still = [model.encoder._conv_stem, model.encoder._bn0, *model.encoder._blocks[: arguments.frozen]]
    for module in still:
        module.requires_grad_(False)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    decoder = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": decoder, "share": 1.0}, {"params": encoder, "share": arguments.encoder_rate}]
    optimiser = torch.optim.AdamW(groups, lr=arguments.rate, weight_decay=0.02)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step, spent = 0, 0.0
    checkpoint = arguments.out / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, step, spent = state["average"], int(state["step"]), float(state["spent"])
    batches = Batches(
        Shards(arguments.data, "train"), Shards(arguments.data, "photo"), arguments.photo_share, arguments.batch,
        arguments.seed + step,
    )  # fmt: skip
    batches.start()
    held_out = Shards(arguments.data, "validation")
    generator = torch.Generator().manual_seed(arguments.seed + step)
    prepare(model)
    total, begun, saved = arguments.minutes * 60, time.monotonic() - spent, time.monotonic()
    losses: list[float] = []
    while (spent := time.monotonic() - begun) < total:
        progress = spent / total
        rate = arguments.rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        pictures, disparities = batches.queue.get()
        with torch.autocast("cpu", torch.bfloat16):
            prediction = model(pictures)
        loss, _ = loss_of(prediction.float(), disparities, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decoder, *encoder], 1.0)
        optimiser.step()
        step += 1
        keep = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.dtype.is_floating_point:
                    average[name].mul_(keep).add_(value, alpha=1 - keep)
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            print(
                f"step {step}  {spent / 60:.1f} min  loss {np.mean(losses[-50:]):.4f}",
                flush=True,
            )
        if time.monotonic() - saved > 300:
            print(f"held out: {validate(model, held_out):.4f} of pairs wrong", flush=True)
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "step": step,
                "spent": spent,
            }
            save(checkpoint, state)
            save(arguments.out / "model.pt", average)
            saved = time.monotonic()
    save(arguments.out / "model.pt", average)
    model.load_state_dict(average)
    print(f"done: {step} steps, held out {validate(model, held_out):.4f} of pairs wrong", flush=True)


if __name__ == "__main__":
    main()
