# SPDX-License-Identifier: Apache-2.0
"""SGT on BAGEL (arXiv 2605.18714): a picture in, a map of colours out, one colour for each object.

The bundle's engines, in the order in which they run: ``vit`` (a thumbnail's patches to tokens), ``prefill_K`` (keys and
values of picture and instruction), ``flow_K`` (one evaluation of the flow over the map's latents), ``decoder``. The
sampler is the authors' (rectified flow, time shifted), with guidance against the picture alone when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.bundle import Bundle, check_run, read_bundle
from secondeye.runtime.errors import InvalidInputError, ModelFormatError, ResourceLimitError
from secondeye.runtime.sessions import Device

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
PADDING = np.float32(-30000.0)
MAX_STEPS = 50
_CONSTANTS = (
    "words",
    "layers",
    "kv_heads",
    "head",
    "size",
    "thumbnail",
    "patch",
    "vit_side",
    "latent_side",
    "shift",
    "cuts",
)


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


class SgtBagel:
    """An SGT bundle, opened.

    Args:
        bundle: its folder.
        device, threads: as everywhere.

    Raises:
        MediaError, ModelFormatError, BackendUnavailableError: the bundle cannot be used.
        ResourceLimitError: its weights do not fit into memory; nothing is loaded then.
    """

    def __init__(self, bundle: str | Path, *, device: Device = "cpu", threads: int = 0) -> None:
        self.bundle: Bundle = read_bundle(bundle, kind="sgt-bagel")
        constants = self.bundle.manifest.constants
        lacking = [name for name in _CONSTANTS if name not in constants]
        stages = len(constants.get("cuts", []))
        engines = ["vit", "decoder", *(f"{kind}_{i}" for kind in ("prefill", "flow") for i in range(stages))]
        absent = [name for name in engines if name not in self.bundle.manifest.engines]
        if lacking or absent or not stages:
            raise ModelFormatError(f"{bundle}: lacks {', '.join([*lacking, *absent]) or 'layers'}; build it again.")
        self.constants: dict[str, Any] = constants
        self.stages = stages
        self._check_memory()
        self._sessions = {name: self.bundle.session(name, device=device, threads=threads) for name in engines}

    def _check_memory(self) -> None:
        needed = sum(
            (self.bundle.folder / one.file).stat().st_size
            for engine in self.bundle.manifest.engines.values()
            for one in engine.files()
        )
        free = available_bytes()
        # ONNX Runtime copies weights as it packs them, one engine's at a time.
        if needed * 1.15 > free:
            raise ResourceLimitError(
                f"{self.bundle.folder}: needs about {needed * 1.15 / 2**30:.1f} GiB of memory where {free / 2**30:.1f} "
                "are free; build it with --precision int4, or use a machine with more."
            )

    def run(self, engine: str, **inputs: NDArray[Any]) -> list[Floats]:
        """Run one engine on inputs that fit the manifest."""
        entry = self.bundle.manifest.engines[engine]
        check_run(inputs, entry, self.bundle.manifest.axes)
        return [np.asarray(one) for one in self._sessions[engine].run([o.name for o in entry.outputs], inputs)]

    # ---- sizes, as the authors' data code has them ----

    def thumbnail_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the ViT sees: the longer side is the thumbnail's, both whole patches."""
        side, patch = self.constants["thumbnail"], self.constants["patch"]
        scale = side / max(height, width)
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
        from PIL import Image

        patch = self.constants["patch"]
        height, width = self.thumbnail_size(*picture.shape[:2])
        small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        rows, columns = height // patch, width // patch
        planes = small / np.float32(127.5) - np.float32(1)
        patches = planes.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 1, 3, 4).reshape(1, rows * columns, -1)
        place = (np.arange(rows)[:, None] * self.constants["vit_side"] + np.arange(columns)).ravel()
        return self.run("vit", patches=np.ascontiguousarray(patches), place=place)[0]

    def context(self, tokens: Floats) -> list[tuple[Floats, Floats]]:
        """The keys and values [layers, 1, kv heads, S, head] of picture and instruction, for each flow engine."""
        kept, states = [], tokens
        for k in range(self.stages):
            out = self.run(f"prefill_{k}", **{"tokens" if k == 0 else "states": states})
            kept.append((out[-2], out[-1]))
            states = out[0]
        return kept

    def velocity(
        self, latents: Floats, time: float, spots: NDArray[np.int64], context: list[tuple[Floats, Floats]], guided: bool
    ) -> Floats:
        """The flow at latents [T, 64], for the whole context and (guided) for the picture alone: [1 or 2, T, 64]."""
        count = 2 if guided else 1
        words, length = self.constants["words"], context[0][0].shape[3]
        mask = np.zeros((count, length), np.float32)
        mask[1:, length - words :] = PADDING  # the picture's block is the front: its keys know nothing of the words
        position = np.array([words + 1, 1][:count])
        state: dict[str, NDArray[Any]] = {
            "latents": np.repeat(latents[None], count, 0), "time": np.full(count, time, np.float32), "spots": spots,
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
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Pixels:
        """The map that the model paints.

        Args:
            picture: uint8 [H, W, 3].
            steps: evaluations of the flow, 1 to 50.
            guidance: of the instruction against the picture alone; 1 is none, and costs half.
            seed: of the noise.
            progress: called with (stage, done, total).

        Returns:
            uint8 [h, w, 3], of :meth:`map_size`.

        Raises:
            InvalidInputError: steps or guidance out of range.
        """
        if not 1 <= steps <= MAX_STEPS or not 1.0 <= guidance <= 20.0:
            raise InvalidInputError(
                f"expected steps 1 to {MAX_STEPS} and guidance 1 to 20, got {steps} and {guidance}."
            )
        tell = progress or (lambda stage, done, total: None)
        height, width = self.map_size(*picture.shape[:2])
        rows, columns = height // 16, width // 16
        spots = (np.arange(rows)[:, None] * self.constants["latent_side"] + np.arange(columns)).ravel()
        tell("look", 0, 1)
        tokens = self.tokens(picture)
        tell("read", 0, 1)
        context = self.context(tokens)
        x = np.random.default_rng(seed).standard_normal((rows * columns, 64)).astype(np.float32)
        times = time_steps(steps, self.constants["shift"])
        for k in range(steps):
            tell("paint", k, steps)
            both = self.velocity(x, float(times[k]), spots, context, guidance > 1)
            v = guided_velocity(both[0], both[1], guidance) if guidance > 1 else both[0]
            x = (x - v * (times[k] - times[k + 1])).astype(np.float32)
        tell("decode", 0, 1)
        latent = x.reshape(rows, columns, 2, 2, 16).transpose(4, 0, 2, 1, 3).reshape(1, 16, 2 * rows, 2 * columns)
        planes = self.run("decoder", latent=np.ascontiguousarray(latent))[0][0]
        return np.ascontiguousarray(np.rint((planes.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8))


def time_steps(steps: int, shift: float) -> Floats:
    """The times 1 .. 0 between the evaluations, [steps + 1]: t = s u / (1 + (s - 1) u) of even u."""
    even = np.linspace(1.0, 0.0, steps + 1, dtype=np.float32)
    return (np.float32(shift) * even / (1 + np.float32(shift - 1) * even)).astype(np.float32)


def guided_velocity(whole: Floats, alone: Floats, scale: float) -> Floats:
    """Classifier-free guidance whose every token keeps at most the length that it had (BAGEL's ``text_channel``)."""
    pushed = alone + np.float32(scale) * (whole - alone)
    lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in (whole, pushed)]
    return (pushed * np.clip(lengths[0] / (lengths[1] + 1e-8), 0.0, 1.0)).astype(np.float32)
