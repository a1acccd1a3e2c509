# SPDX-License-Identifier: Apache-2.0
"""Train the built-in depth network on rendered scenes, drawn while it trains or before (render.py).

    python -m secondeye.export.builtin.train --encoder efficientnet-lite0.pth --out RUN --seconds 3600 --workers 2
    python -m secondeye.export.builtin.train --encoder efficientnet-lite0.pth --out RUN --seconds 400 --workers 13 \\
      --device cuda --batch 48 --compile

Loss: scale- and shift-invariant absolute error on disparity with gradient matching (Ranftl et al., MiDaS, TPAMI
2022), and a ranking loss on random pairs (Chen et al., Single-Image Depth Perception in the Wild, NIPS 2016). The
encoder's batch norm stays as ImageNet left it, so that it goes on seeing photographs. The weights' running mean is
measured on held-out scenes now and then, and the best of them is what RUN/model.safetensors holds; RUN/training.json
says how it went.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from .augment import Augmenter
from .export_onnx import INPUT_SIZE, fold_batch_norm
from .network import DepthNet
from .stream import WORK, Stream

OTHER_SIZES = ((320, 320), (384, 256), (224, 448))
"""Pictures of other aspects come in as many cells (runtime/depth.py); a fifth of the batches are of these."""
PAIRS = 3000


class Pool:
    """Scenes at hand, on the device; the oldest give way when it is full.

    Args:
        most: how many it keeps.
        device: where.
    """

    def __init__(self, most: int, device: torch.device) -> None:
        self.pictures = torch.empty((most, *INPUT_SIZE, 3), dtype=torch.uint8, device=device)
        self.disparities = torch.empty((most, *INPUT_SIZE), dtype=torch.float16, device=device)
        self.total = 0  # ever added

    def add(self, pictures: NDArray[np.uint8], disparities: NDArray[np.float16]) -> None:
        """Take copies of scenes, [n, H, W, 3] and [n, H, W]."""
        most = len(self.pictures)
        at = (torch.arange(self.total, self.total + len(pictures)) % most).to(self.pictures.device)
        self.pictures[at] = torch.from_numpy(pictures).to(self.pictures.device)
        self.disparities[at] = torch.from_numpy(disparities).to(self.pictures.device)
        self.total += len(pictures)

    def __len__(self) -> int:
        return min(self.total, len(self.pictures))

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random scenes."""
        at = torch.randint(len(self), (count,), generator=generator, device=self.pictures.device)
        return self.pictures[at], self.disparities[at]


def loss_of(prediction: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The training loss, and each picture's share of pairs in the wrong order, [N]. Both maps [N, 1, H, W]."""
    p, t = prediction.flatten(1), target.flatten(1)
    # Nearness beyond the 98th percentile says nothing more about order and would own the scale.
    t = torch.minimum(t, torch.quantile(t[:, ::7], 0.98, dim=1, keepdim=True))

    def normal(v: Tensor) -> Tensor:
        v = v - v[:, ::7].median(1, keepdim=True).values
        return v / (v.abs().mean(1, keepdim=True) + 1e-4)

    pn, tn = normal(p), normal(t)
    difference = pn - tn
    error = difference.abs().clamp(max=4.0).mean()
    maps = difference.reshape(prediction.shape)
    gradient = torch.zeros((), device=p.device)
    for step in (1, 2, 4, 8):
        piece = maps[:, :, ::step, ::step]
        gradient = gradient + (piece[..., 1:] - piece[..., :-1]).abs().clamp(max=2.0).mean()
        gradient = gradient + (piece[..., 1:, :] - piece[..., :-1, :]).abs().clamp(max=2.0).mean()
    i, j = torch.randint(p.shape[1], (2, PAIRS), generator=generator, device=p.device)
    ti, tj = t[:, i], t[:, j]
    apart = ((ti - tj).abs() > 0.05 * torch.maximum(ti, tj) + 1e-6).float()
    margin = (pn[:, i] - pn[:, j]) * torch.sign(ti - tj)
    ranking = (F.softplus(-4.0 * margin) * apart).sum() / apart.sum().clamp(min=1)
    wrong = ((margin < 0) * apart).sum(1) / apart.sum(1).clamp(min=1)
    return error + 0.5 * gradient + 1.0 * ranking, wrong.detach()


def prepare(model: DepthNet) -> None:
    """Training mode, but for the encoder's batch norm; the stem and first stages stay as ImageNet left them."""
    model.train()
    model.encoder.eval()


@torch.no_grad()
def validate(model: DepthNet, pool: Pool, batch: int = 32) -> dict[str, float]:
    """Shares of pairs in the wrong order on held-out scenes: as they were drawn, and made to look like photographs."""
    model.eval()
    device = pool.pictures.device
    generator, augment = torch.Generator(device).manual_seed(5), Augmenter(5, device)
    plain, rough = [], []
    for start in range(0, len(pool), batch):
        part = slice(start, min(start + batch, len(pool)))
        pictures = pool.pictures[part].permute(0, 3, 1, 2).float() / 255
        target = pool.disparities[part][:, None].float()
        plain.append(loss_of(model(pictures), target, generator)[1])
        rough.append(loss_of(model(augment.develop(pictures.clone())), target, generator)[1])
    shares = [float(torch.cat(parts).mean()) if parts else math.nan for parts in (plain, rough)]
    return {"plain": shares[0], "rough": shares[1], "both": sum(shares) / 2}


def save(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def first_model(start: Path | None, encoder: Path | None = None) -> DepthNet:
    """An exported network, whose batch norms stay folded, or a new one on a trained encoder."""
    model = DepthNet()
    if start is None:
        if encoder is not None:
            model.encoder.load_imagenet(encoder)
        return model
    fold_batch_norm(model)
    stored = {t.name.removesuffix("_half"): numpy_helper.to_array(t) for t in onnx.load(start).graph.initializer}
    model.load_state_dict({name: torch.from_numpy(stored[name].astype(np.float32)) for name in model.state_dict()})
    return model


class Training:
    """A run of training; see the module."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.began = arguments, time.monotonic()
        arguments.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(arguments.seed)
        self.device = torch.device(arguments.device)
        torch.backends.cudnn.benchmark = True
        # On a CPU without bfloat16 instructions it is slower than float32.
        self.half = self.device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
        self.model = first_model(arguments.start, arguments.encoder).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        encoder = self.model.encoder
        for still in (encoder._conv_stem, encoder._bn0, *encoder._blocks[: arguments.frozen]):
            still.requires_grad_(False)
        prepare(self.model)
        self.run_main: Any = torch.compile(self.model) if arguments.compile else self.model
        learned = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        encoders = [p for name, p in learned.items() if name.startswith("encoder.")]
        others = [p for name, p in learned.items() if not name.startswith("encoder.")]
        groups = [{"params": encoders, "share": arguments.encoder_rate}, {"params": others, "share": 1.0}]
        self.learned = list(learned.values())
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.02, fused=self.device.type == "cuda")
        self.step, self.drawn, self.before = 0, 0, 0.0
        self.log: list[dict[str, Any]] = []
        self.best = math.inf
        if (arguments.out / "last.pt").exists():
            self._resume()
        seed = arguments.seed + self.step
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.augment = Augmenter(seed, self.device)
        self.sizes = np.random.default_rng(seed)
        self.pool = Pool(arguments.keep, self.device)
        self.held_out = Pool(max(arguments.held_out, 1), self.device)
        self.stream: Stream | None = None
        self.alive = arguments.workers

    def spent(self) -> float:
        """Seconds of this run, those before it was stopped included."""
        return time.monotonic() - self.began + self.before

    def tell(self, kind: str, **facts: Any) -> None:
        """Into the log, and on the screen."""
        self.log.append({"kind": kind, "seconds": round(self.spent(), 1), "step": self.step, **facts})
        told = "  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        print(f"{self.spent():7.1f} s  step {self.step:6d}  {kind}: {told}", flush=True)

    def gather(self, wait_s: float = 0.0) -> None:
        """Take the scenes that are ready."""
        if self.stream is not None:
            for held_out, pictures, disparities in self.stream.take(wait_s):
                (self.held_out if held_out else self.pool).add(pictures, disparities)
            if (alive := self.stream.alive()) < self.alive:
                self.alive = alive
                self.tell("a process that draws scenes ended", left=alive)

    def begin(self) -> None:
        """Scenes enough to start on: shards, or the first ones drawn."""
        arguments = self.arguments
        if arguments.data is not None:
            for pool, kind in ((self.held_out, "validation"), (self.pool, "train")):
                for path in sorted(arguments.data.glob(f"{kind}_*.npz")):
                    with np.load(path) as shard:
                        pool.add(shard["picture"], shard["disparity"])
        if arguments.workers:
            from .scenes import SHARES  # OpenGL is not needed without

            first = self.drawn + WORK if self.drawn else 0  # others than before it was stopped
            self.stream = Stream(arguments.workers, arguments.held_out, first, arguments.photos, INPUT_SIZE, SHARES)
            if arguments.compile:
                self.warm_up()
            waited = time.monotonic()
            while self.alive and (self.held_out.total < arguments.held_out or len(self.pool) < arguments.first_scenes):
                self.gather(1.0)
                late = time.monotonic() - waited > 0.1 * arguments.seconds
                if late and len(self.pool) and self.held_out.total >= arguments.held_out:
                    break
        if not len(self.pool):
            raise SystemExit("no scenes: give --data with shards, or --workers to draw them.")
        self.tell("scenes", held_out=len(self.held_out), training=len(self.pool))

    def learn(self) -> Tensor:
        """One step; gives its loss, on the device."""
        arguments = self.arguments
        progress = min(1.0, self.spent() / arguments.seconds)
        rate = arguments.rate * min(1.0, (self.step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        other = self.sizes.random() < 0.2
        size = OTHER_SIZES[int(self.sizes.integers(len(OTHER_SIZES)))] if other else INPUT_SIZE
        pictures, targets = self.augment(*self.pool.drawn(arguments.batch, self.generator), size)
        loss = self._gradients(self.model if other else self.run_main, pictures, targets)
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        self.step += 1
        self._average(min(arguments.memory, (self.step + 1) / (self.step + 20)))
        return loss.detach()

    def _gradients(self, model: Any, pictures: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            prediction = model(pictures.contiguous(memory_format=torch.channels_last))
        loss, _ = loss_of(prediction.float(), targets, self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def warm_up(self) -> None:
        """Compile while the first scenes are drawn, and go without where that fails or is slower; the log says so."""
        pictures = torch.rand(self.arguments.batch, 3, *INPUT_SIZE, device=self.device)

        def step_ms(model: Any) -> float:
            self._gradients(model, pictures, pictures[:, :1])
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            start = time.monotonic()
            for _ in range(4):
                last = self._gradients(model, pictures, pictures[:, :1])
            last.item()
            return 250 * (time.monotonic() - start)

        eager = step_ms(self.model)
        try:
            compiled = step_ms(self.run_main)
        except Exception as error:  # of many kinds: the compiler's, the driver's, a missing C compiler
            self.run_main = self.model
            self.tell("not compiled", eager_ms=eager, reason=f"{type(error).__name__}: {error}"[:2000])
            return
        if compiled > eager:
            self.run_main = self.model
        self.tell("compiled", eager_ms=eager, compiled_ms=compiled, taken=compiled <= eager)

    @torch.no_grad()
    def _average(self, keep: float) -> None:
        pairs = zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
        floats = [(a, b) for a, b in pairs if a.dtype.is_floating_point]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - keep)

    def measure(self, **facts: Any) -> None:
        """Validate the running mean, and keep it where it is the best so far."""
        shares = validate(self.average, self.held_out)
        better = not shares["both"] >= self.best
        if better:
            self.best = shares["both"]
            state = {name: value.detach().cpu().contiguous() for name, value in self.average.state_dict().items()}
            temporary = self.arguments.out / "model.part"
            save_file(state, temporary, {"step": str(self.step), "held_out": json.dumps(shares)})
            temporary.replace(self.arguments.out / "model.safetensors")
        self.tell("held out", **shares, best=better, **facts)
        self._write()

    def _write(self) -> None:
        settings = {name: str(value) for name, value in vars(self.arguments).items()}
        text = json.dumps({"settings": settings, "torch": torch.__version__, "log": self.log}, indent=1)
        (self.arguments.out / "training.json").write_text(text)

    def keep(self) -> None:
        """All that a run needs to go on."""
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "log": self.log, "best": self.best,
            "optimiser": self.optimiser.state_dict(), "step": self.step, "spent": self.spent(),
            "drawn": self.drawn + self.pool.total,
        }  # fmt: skip
        save(self.arguments.out / "last.pt", state)

    def _resume(self) -> None:
        state = torch.load(self.arguments.out / "last.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.drawn, self.before = int(state["step"]), int(state["drawn"]), float(state["spent"])
        self.log, self.best = state["log"], float(state["best"])

    def compare(self) -> None:
        """The kept weights beside others, on the held-out scenes."""
        if self.arguments.against is not None:
            other = first_model(self.arguments.against).to(self.device)
            self.tell("held out, " + self.arguments.against.name, **validate(other, self.held_out))
            self._write()

    def run(self) -> None:
        """Train until the time is over."""
        arguments = self.arguments
        try:
            self.begin()
            self.compare()
            measured = kept = self.spent()
            losses: list[Tensor] = []
            while self.spent() < arguments.seconds:
                self.gather()
                losses.append(self.learn())
                if self.spent() - measured > arguments.every:
                    mean = float(torch.stack(losses).mean())
                    self.measure(loss=mean, scenes=self.pool.total)
                    measured, losses = self.spent(), []
                if arguments.resume_every and self.spent() - kept > arguments.resume_every:
                    self.keep()
                    kept = self.spent()
            self.measure(scenes=self.pool.total)
            print(
                f"done: {self.step} steps of {arguments.batch}, best held out {self.best:.4f} of pairs wrong",
                flush=True,
            )
        finally:
            if self.stream is not None:
                self.stream.close()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of shards (render.py)")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw scenes meanwhile (default: 0)")
    parser.add_argument("--photos", nargs="*", default=[], help="folders of more photographs for textures")
    parser.add_argument("--encoder", type=Path, help="ImageNet checkpoint of EfficientNet-Lite0, to begin from")
    parser.add_argument("--start", type=Path, help="go on from an exported model (its ONNX file) instead")
    parser.add_argument("--against", type=Path, help="measure an exported model on the same held-out scenes")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--seconds", type=float, default=3600.0, help="time in all (default: 3600)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, for the most usual size")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate of the decoder")
    parser.add_argument("--encoder-rate", type=float, default=0.15, help="the encoder's share of it")
    parser.add_argument("--frozen", type=int, default=3, help="first encoder blocks that stay as they are")
    parser.add_argument("--memory", type=float, default=0.998, help="how much the weights' mean keeps a step")
    parser.add_argument("--keep", type=int, default=8000, help="scenes in memory, half a MiB each (default: 8000)")
    parser.add_argument(
        "--first-scenes",
        type=int,
        default=500,
        help="drawn before the first step, but for no longer than a tenth of the time (default: 500)",
    )
    parser.add_argument("--held-out", type=int, default=256, help="held-out scenes that are drawn (default: 256)")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between validations (default: 300)")
    parser.add_argument("--resume-every", type=float, default=0.0, help="seconds between what resumes; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(words)
    if (arguments.encoder is None) == (arguments.start is None):
        parser.error("give --encoder to begin, or --start to go on from an exported model")
    return arguments


if __name__ == "__main__":
    Training(parse()).run()
