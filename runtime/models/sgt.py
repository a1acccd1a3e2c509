# SPDX-License-Identifier: Apache-2.0
"""SGT on BAGEL (arXiv 2605.18714): a picture in, a map of colours out, one colour for each object.

The bundle's engines, in the order in which they run: ``vit`` (a thumbnail's patches to tokens), in the edit layout
``encoder`` and ``look_K`` (keys and values of the picture's own latents), ``prefill_K`` (keys and values of picture and
instruction), ``flow_K`` (one evaluation of the flow over the map's latents), ``decoder``. The
sampler is the authors' (rectified flow, time shifted), with guidance by the instruction and by the picture when it is
asked for: the contexts without the one and without the other are rows of one batch over the same keys, which a mask
tells apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.backends import Engine
from secondeye.runtime.bundle import Bundle, read_bundle
from secondeye.runtime.errors import InvalidInputError, ModelFormatError, ResourceLimitError
from secondeye.runtime.sessions import Device

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
PADDING = np.float32(-30000.0)
MAX_STEPS = 50
_MOST = {
    "words": 1 << 10, "layers": 1 << 10, "kv_heads": 1 << 16, "head": 1 << 16, "size": 1 << 14, "thumbnail": 1 << 14,
    "patch": 1 << 10, "vit_side": 1 << 16, "latent_side": 1 << 16, "most_steps": MAX_STEPS,
}  # fmt: skip
"""The manifest's whole numbers, over 0, and the greatest that each may be."""


def _lacking(constants: dict[str, Any]) -> list[str]:
    """The constants that are not there, or hold what they cannot be."""
    found = [n for n, most in _MOST.items() if type(constants.get(n)) is not int or not 0 < constants[n] <= most]
    found += [] if type(constants.get("shift")) is float and 0 < constants["shift"] <= 1000 else ["shift"]
    found += [] if isinstance(constants.get("cuts"), list) else ["cuts"]
    shared = constants.get("shared", {})
    sound = isinstance(shared, dict) and all(type(size) is int and size >= 0 for size in shared.values())
    return found if sound else [*found, "shared"]


def available_bytes() -> int:
    """Memory that this process may still take: what the system says is available, or its control group's rest."""
    free = 1 << 62
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) << 10
    except OSError:
        return free
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a bundle's weights need, before any is loaded.

    Attributes:
        whole: bytes with every engine loaded.
        in_turn: bytes with those of one stage at a time (look, read, paint, decode): what is least.
        free: bytes that this process may still take.
    """

    whole: int
    in_turn: int
    free: int

    @property
    def keeps_all(self) -> bool:
        """Whether all fit together; else stages are loaded in turn, which costs time for each picture."""
        return self.whole <= self.free

    @property
    def fits(self) -> bool:
        """Whether it can be run at all."""
        return self.in_turn <= self.free

    def __str__(self) -> str:
        whole, in_turn, free = (n / 2**30 for n in (self.whole, self.in_turn, self.free))
        if self.keeps_all:
            return f"needs about {whole:.1f} GiB of memory, {free:.1f} are free: all engines stay loaded"
        return (
            f"needs about {whole:.1f} GiB of memory, {free:.1f} are free: stages are loaded in turn ({in_turn:.1f} GiB)"
        )


def plan_memory(bundle: Bundle) -> MemoryPlan:
    """The plan for a bundle on this machine; engines share no memory, since ONNX Runtime packs each one's weights."""
    stages: dict[str, float] = {}
    shared = bundle.manifest.constants.get("shared", {})
    for name, engine in bundle.manifest.engines.items():
        size = (bundle.folder / engine.file).stat().st_size
        if name in shared:  # it uses a part of another engine's file
            size += int(shared[name])
        elif engine.data is not None:
            size += (bundle.folder / engine.data.file).stat().st_size
        # Half-precision weights are computed with in float32, and weights are copied as they are packed.
        stage = name.partition("_")[0]
        stages[stage] = stages.get(stage, 0.0) + size * (2.15 if engine.precision in ("fp16", "bf16") else 1.15)
    return MemoryPlan(whole=int(sum(stages.values())), in_turn=int(max(stages.values())), free=available_bytes())


class SgtBagel:
    """An SGT bundle, opened.

    Args:
        bundle: its folder.
        device, threads: as everywhere.
        told: called with the memory plan in words, before anything is loaded.

    Raises:
        MediaError, ModelFormatError, BackendUnavailableError: the bundle cannot be used.
        ResourceLimitError: its weights do not fit into memory, not even a stage's at a time; nothing is loaded then.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        device: Device = "cpu",
        threads: int = 0,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self.bundle: Bundle = read_bundle(bundle, kind="sgt-bagel")
        constants = self.bundle.manifest.constants
        lacking = _lacking(constants)
        stages = 0 if lacking else len(constants["cuts"])
        self.edit: bool = constants.get("layout") == "edit"
        kinds = ("look", "prefill", "flow") if self.edit else ("prefill", "flow")
        engines = ["vit", "decoder", *(f"{kind}_{i}" for kind in kinds for i in range(stages))]
        engines += ["encoder"] if self.edit else []
        absent = [name for name in engines if name not in self.bundle.manifest.engines]
        if lacking or absent or not stages:
            raise ModelFormatError(f"{bundle}: lacks {', '.join([*lacking, *absent]) or 'layers'}; build it again.")
        self.constants: dict[str, Any] = constants
        self._moments = {one: i for i, one in enumerate(moments(int(constants["most_steps"])))}
        self.stages = stages
        self.plan = plan_memory(self.bundle)
        if told is not None:
            told(f"{self.bundle.folder}: {self.plan}")
        if not self.plan.fits:
            raise ResourceLimitError(
                f"{self.bundle.folder}: needs about {self.plan.in_turn / 2**30:.1f} GiB of memory where "
                f"{self.plan.free / 2**30:.1f} are free; build it with --precision int4, or use a machine with more."
            )
        self._device: Device = device
        self._threads = threads
        self._engines: dict[str, Engine] = {}
        if self.plan.keeps_all:
            for name in engines:
                self._engine(name)

    def _engine(self, engine: str) -> Engine:
        """An engine, opened; where not all fit, those of other stages are given back first."""
        if engine not in self._engines:
            if not self.plan.keeps_all:
                stage = engine.partition("_")[0]
                self._engines = {n: s for n, s in self._engines.items() if n.partition("_")[0] == stage}
            self._engines[engine] = self.bundle.engine(engine, device=self._device, threads=self._threads)
        return self._engines[engine]

    def run(self, engine: str, **inputs: NDArray[Any]) -> list[Floats]:
        """Run one engine on inputs that fit the manifest."""
        return [np.asarray(one) for one in self._engine(engine).run(inputs).values()]

    # ---- sizes, as the authors' data code has them ----

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the ViT sees, whole patches: the longer side is the thumbnail's.

        In the edit layout it is the map's size, where that is not longer.
        """
        side, patch = self.constants["thumbnail"], self.constants["patch"]
        if self.edit:
            height, width = self.map_size(height, width)
        scale = min(side / max(height, width), 1.0 if self.edit else math.inf)
        return tuple(max(patch, min(side, round(n * scale / patch) * patch)) for n in (height, width))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the colour map: multiples of 16, at most the bundle's size, at least half if that fits."""
        most = self.constants["size"]
        scale = max(min(most / max(height, width), 1.0), most / 2 / min(height, width))
        scale = min(scale, most / max(height, width))
        return tuple(max(16, min(most, round(n * scale / 16) * 16)) for n in (height, width))

    # ---- stages ----

    def tokens(self, picture: Pixels) -> Floats:
        """uint8 [H, W, 3] -> the ViT's tokens [1, N, hidden]."""
        patch = self.constants["patch"]
        height, width = self.thumbnail_size(*picture.shape[:2])
        if self.edit:
            picture = _bicubic(picture, *self.map_size(*picture.shape[:2]))
        planes = _values(picture, height, width)
        rows, columns = height // patch, width // patch
        patches = planes.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 1, 3, 4).reshape(1, rows * columns, -1)
        place = (np.arange(rows)[:, None] * self.constants["vit_side"] + np.arange(columns)).ravel()
        return self.run("vit", patches=np.ascontiguousarray(patches), place=place)[0]

    def spots(self, height: int, width: int) -> NDArray[np.int64]:
        """Where the latents of a map of that size stand in the table of positions, [T]."""
        return (np.arange(height // 16)[:, None] * self.constants["latent_side"] + np.arange(width // 16)).ravel()

    def seen(self, picture: Pixels) -> list[tuple[Floats, Floats]]:
        """The keys and values of the picture's own latents, for each prefill engine; none in the trained layout."""
        if not self.edit:
            return []
        height, width = self.map_size(*picture.shape[:2])
        planes = _values(picture, height, width)
        latent = self.run("encoder", picture=np.ascontiguousarray(planes.transpose(2, 0, 1)[None]))[0]
        rows, columns = height // 16, width // 16
        tokens = latent.reshape(16, rows, 2, columns, 2).transpose(1, 3, 2, 4, 0).reshape(1, rows * columns, 64)
        state: dict[str, NDArray[Any]] = {
            "latents": np.ascontiguousarray(tokens), "spots": self.spots(height, width)
        }  # fmt: skip
        kept = []
        for k in range(self.stages):
            out = self.run(f"look_{k}", **state)
            kept.append((out[-2], out[-1]))
            state = {"marks": out[0], "states": out[1]}
        return kept

    def context(self, tokens: Floats, seen: list[tuple[Floats, Floats]] | None = None) -> list[tuple[Floats, Floats]]:
        """The keys and values [layers, 1, kv heads, S, head] of picture, instruction, and the instruction by itself.

        For each flow engine.

        Args:
            tokens: of :meth:`tokens`.
            seen: of :meth:`seen`.
        """
        kept, states = [], tokens
        for k in range(self.stages):
            inputs = {"tokens" if k == 0 else "states": states}
            wanted = {one.name for one in self.bundle.manifest.engines[f"prefill_{k}"].inputs}
            if seen and "seen_keys" in wanted:
                inputs |= {"seen_keys": seen[k][0], "seen_values": seen[k][1]}
            out = self.run(f"prefill_{k}", **inputs)
            keys, values = out[-2], out[-1]
            if seen:
                keys, values = np.concatenate([seen[k][0], keys], 3), np.concatenate([seen[k][1], values], 3)
            kept.append((keys, values))
            states = out[0]
        return kept

    def velocity(
        self,
        latents: Floats,
        step: tuple[int, int],
        spots: NDArray[np.int64],
        context: list[tuple[Floats, Floats]],
        contexts: tuple[str, ...] = ("whole",),
    ) -> Floats:
        """The flow at latents [T, 64] in each of some contexts, [contexts, T, 64].

        Args:
            latents: where the flow is asked for.
            step: (this one from 0, of how many).
            spots: of :meth:`spots`.
            context: of :meth:`context`.
            contexts: ``whole``, ``untold`` (without the instruction), ``unseen`` (without the picture).
        """
        count, words = len(contexts), self.constants["words"]
        if "unseen" not in contexts:  # the instruction by itself, the last that was read, is for that alone
            context = [(keys[:, :, :, :-words], values[:, :, :, :-words]) for keys, values in context]
        length = context[0][0].shape[3]
        seen = length - (2 if "unseen" in contexts else 1) * words
        hidden = {"whole": slice(seen + words, length), "untold": slice(seen, length), "unseen": slice(seen + words)}
        mask = np.zeros((count, length), np.float32)
        start = 2 if self.edit else 1  # after the picture's blocks, which have a position each
        position = np.full(count, start + words)
        for row, name in enumerate(contexts):
            mask[row, hidden[name]] = PADDING
            position[row] -= words if name == "untold" else 0
        moment = self._moments[1 - Fraction(*step)]
        state: dict[str, NDArray[Any]] = {
            "latents": np.repeat(latents[None], count, 0), "moment": np.full(count, moment), "spots": spots,
        }  # fmt: skip
        out: list[Floats] = []
        for k, (keys, values) in enumerate(context):
            past = {"keys": np.repeat(keys, count, 1), "values": np.repeat(values, count, 1)}
            out = self.run(f"flow_{k}", **state, **past, mask=mask, position=position)
            if k + 1 < self.stages:
                state = {"marks": out[0], "states": out[1]}
        return out[0]

    def colour_map(
        self,
        picture: Pixels,
        *,
        steps: int = 24,
        guidance: float = 1.0,
        image_guidance: float = 1.0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Pixels:
        """The map that the model paints.

        Args:
            picture: uint8 [H, W, 3].
            steps: evaluations of the flow, 1 to 50.
            guidance: by the instruction, against the picture alone; 1 is none, and costs half.
            image_guidance: by the picture, against the instruction alone; 1 is none. It needs the other, as in the
                authors' recipe, which leaves it out otherwise.
            seed: of the noise.
            progress: called with (stage, done, total).

        Returns:
            uint8 [h, w, 3], of :meth:`map_size`.

        Raises:
            InvalidInputError: steps or guidance out of range.
        """
        most = int(self.constants["most_steps"])
        if not 1 <= steps <= most or not 1.0 <= guidance <= 20.0 or not 1.0 <= image_guidance <= 20.0:
            raise InvalidInputError(
                f"expected steps 1 to {most} and guidance 1 to 20, got {steps}, {guidance} and {image_guidance}."
            )
        if image_guidance > 1 and guidance <= 1:
            raise InvalidInputError(
                f"guidance by the picture ({image_guidance}) needs guidance by the instruction: give that one over 1."
            )
        contexts = ("whole", *(["untold"] if guidance > 1 else []), *(["unseen"] if image_guidance > 1 else []))
        tell = progress or (lambda stage, done, total: None)
        height, width = self.map_size(*picture.shape[:2])
        rows, columns, spots = height // 16, width // 16, self.spots(height, width)
        tell("look", 0, 1)
        tokens, seen = self.tokens(picture), self.seen(picture)
        tell("read", 0, 1)
        context = self.context(tokens, seen)
        x = np.random.default_rng(seed).standard_normal((rows * columns, 64)).astype(np.float32)
        times = time_steps(steps, self.constants["shift"])
        for k in range(steps):
            tell("paint", k, steps)
            v = guided_velocity(self.velocity(x, (k, steps), spots, context, contexts), guidance, image_guidance)
            x = (x - v * (times[k] - times[k + 1])).astype(np.float32)
        tell("decode", 0, 1)
        latent = x.reshape(rows, columns, 2, 2, 16).transpose(4, 0, 2, 1, 3).reshape(1, 16, 2 * rows, 2 * columns)
        planes = self.run("decoder", latent=np.ascontiguousarray(latent))[0][0]
        return np.ascontiguousarray(np.rint((planes.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8))


def _bicubic(picture: Pixels, height: int, width: int) -> Pixels:
    """As the authors' data code resizes."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _values(picture: Pixels, height: int, width: int) -> Floats:
    """The picture at a size, in [-1, 1]."""
    return _bicubic(picture, height, width).astype(np.float32) / np.float32(127.5) - np.float32(1)


def shifted(even: float, shift: float) -> float:
    """The time at an even one from 0 to 1: t = s u / (1 + (s - 1) u)."""
    return shift * even / (1 + (shift - 1) * even)


def time_steps(steps: int, shift: float) -> Floats:
    """The times 1 .. 0 between the evaluations, [steps + 1]."""
    return np.array([shifted(float(u), shift) for u in np.linspace(1.0, 0.0, steps + 1)], np.float32)


def moments(most: int) -> list[Fraction]:
    """All even times over 0 that runs of 1 to `most` steps evaluate the flow at, from the least: 774 for 50."""
    return sorted({Fraction(k, n) for n in range(1, most + 1) for k in range(1, n + 1)})


def guided_velocity(flows: Floats, guidance: float, image_guidance: float) -> Floats:
    """Classifier-free guidance by the instruction, and then by the picture (BAGEL's ``text_channel``).

    u = w + s (v - w), every token of which keeps at most v's length, and then a + r (u - a).

    Args:
        flows: [1 to 3, T, 64]: v with both, w without the instruction, a without the picture; those that are needed.
        guidance, image_guidance: s and r; 1 is none.
    """
    pushed = flows[0]
    if guidance > 1:
        pushed = flows[1] + np.float32(guidance) * (flows[0] - flows[1])
        lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in (flows[0], pushed)]
        pushed = pushed * np.clip(lengths[0] / (lengths[1] + 1e-8), 0.0, 1.0)
    if image_guidance > 1:
        pushed = flows[2] + np.float32(image_guidance) * (pushed - flows[2])
    return pushed.astype(np.float32)
