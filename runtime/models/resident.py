# SPDX-License-Identifier: Apache-2.0
"""A frame of quality mode on one GPU: pictures go up, a view comes down, and all between stays there, on one stream.

Encoder, steps and decoder are queued one after another in buffers of our own; what is between them (bytes to planes,
the first latent, planes to bytes) are small graphs of ``runtime/assets`` on the same stream. The host waits once, at
the end. Engines record themselves as CUDA graphs when a picture's size comes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.backends.cuda import Buffer, Stream
from secondeye.runtime.backends.ort import OrtEngine
from secondeye.runtime.bundle import EngineEntry, TensorSpec
from secondeye.runtime.clock import Progress
from secondeye.runtime.ops._arrays import DeviceArray, take
from secondeye.runtime.schedulers import Schedule
from secondeye.runtime.sessions import Device, open_session

if TYPE_CHECKING:
    from pathlib import Path

Pixels = NDArray[np.uint8]
Tensor = NDArray[Any]
KEPT = 8  # sizes whose buffers are kept: tiles come in many
MANY = 8  # steps of a size that is new, after which recording one pays
_ANY = (1, 1 << 16)
_SHAPES: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "picture": ("uint8", ("n", "h", "w", 3)), "holes": ("uint8", ("n", "h", "w")),
    "planes": ("float32", ("n", 3, "h", "w")), "share": ("float32", (2,)),
    **dict.fromkeys(("noise", "warped", "latent"), ("float32", ("n", 4, "y", "x"))),
}  # fmt: skip
_TOOLS = {
    "to_planes": (("picture", "holes"), "planes"),
    "to_start": (("noise", "warped", "share"), "latent"),
    "to_pixels": (("planes",), "picture"),
}


def open_tools(device: Device, gpu: int, stream: Stream) -> dict[str, OrtEngine]:
    """The small graphs, on a stream."""
    tools = {}
    for name, (inputs, output) in _TOOLS.items():
        path: Path = resources.files("secondeye.runtime") / "assets" / f"{name}.onnx"  # type: ignore[assignment]
        specs = [TensorSpec(name=n, dtype=_SHAPES[n][0], shape=_SHAPES[n][1]) for n in (*inputs, output)]
        entry = EngineEntry(
            file=path.name, sha256="", data=None, backend="onnx", opset=18, precision="fp32", error={},
            inputs=tuple(specs[:-1]), outputs=tuple(specs[-1:]),
        )  # fmt: skip
        session = open_session(path, device=device, gpu=gpu, stream=stream.handle)
        axes = dict.fromkeys("nhwyx", _ANY)
        tools[name] = OrtEngine(session, entry, axes, device=device, gpu=gpu, stream=stream)
    return tools


class Resident:
    """Paints on the GPU with engines that share a stream.

    Args:
        engines: ``encoder``, ``unet`` and ``decoder``, opened on the stream.
        tools: of :func:`open_tools`.
        stream: theirs.
        parts: of the network's layout, in order.

    Attributes:
        stage_ms: of the last frame, what the GPU took for each stage.
    """

    def __init__(
        self, engines: Mapping[str, Any], tools: Mapping[str, Any], stream: Stream, parts: tuple[str, ...]
    ) -> None:
        self._engines, self._tools, self._stream, self._parts = engines, tools, stream, parts
        self._sets: dict[tuple[int, ...], dict[str, DeviceArray]] = {}
        self._numbers: tuple[Any, dict[str, DeviceArray]] = None, {}
        self.stage_ms: dict[str, float] = {}

    def paint(
        self,
        source: Pixels,
        warped: Pixels,
        holes: Pixels,
        cells: Tensor | None,
        schedule: Schedule,
        noise: Tensor,
        tell: Progress,
    ) -> tuple[Pixels, Tensor]:
        """Views and their last latents.

        Args:
            source, warped: uint8 [N, H, W, 3].
            holes: uint8 [N, H, W].
            cells: float32 [N, 1, H / 8, W / 8], the layout's mask, if it has one.
            schedule: starts and steps.
            noise: float32 [N, 4, H / 8, W / 8].
            tell: progress; what is told is what is queued, which the GPU reaches later.
        """
        stream, again = self._stream, source.shape in self._sets
        at = self._buffers(source.shape)
        given = {"source_pixels": source, "warped_pixels": warped, "holes": holes, "noise": noise}
        given["share"] = np.array([schedule.noise, schedule.signal], np.float32)
        given |= {} if cells is None else {"mask": cells}
        hosts = {name: np.ascontiguousarray(value) for name, value in given.items()}
        table = self._table(schedule, len(source))
        marks = [stream.mark()]
        tell("to latents", 0, 1)
        for name, value in hosts.items():
            stream.upload(at[name].ptr, value)
        self._start(at, again, both="warped" in self._parts or bool(schedule.signal))
        marks.append(stream.mark())
        for done in range(len(schedule.steps)):
            tell("denoise", done, len(schedule.steps))
            self._step(at, {name: values[done] for name, values in table.items()}, again or done >= MANY)
        marks.append(stream.mark())
        tell("to pixels", 0, 1)
        self._engines["decoder"].queue({"latent": at["latent"]}, {"picture": at["planes"]}, record=again)
        self._tools["to_pixels"].queue({"planes": at["planes"]}, {"picture": at["source_pixels"]})
        view, latent = np.empty(source.shape, np.uint8), np.empty(noise.shape, np.float32)
        marks.append(stream.mark())
        stream.download(view, at["source_pixels"].ptr)
        stream.download(latent, at["latent"].ptr)
        stream.wait()
        names = ("to latents", "denoise", "to pixels")
        self.stage_ms = {n: b.ms_since(a) for n, a, b in zip(names, marks[:-1], marks[1:], strict=True)}
        return view, latent

    def _start(self, at: dict[str, DeviceArray], again: bool, *, both: bool) -> None:
        encoder, tools = self._engines["encoder"], self._tools
        if "source" in self._parts:
            tools["to_planes"].queue({"picture": at["source_pixels"], "holes": at["none"]}, {"planes": at["planes"]})
            encoder.queue({"picture": at["planes"]}, {"latent": at["source"]}, record=again)
        if both:
            tools["to_planes"].queue({"picture": at["warped_pixels"], "holes": at["holes"]}, {"planes": at["planes"]})
            encoder.queue({"picture": at["planes"]}, {"latent": at["warped"]}, record=again)
        tools["to_start"].queue({n: at[n] for n in ("noise", "warped", "share")}, {"latent": at["latent"]})

    def _step(self, at: dict[str, DeviceArray], numbers: dict[str, DeviceArray], again: bool) -> None:
        """One step: its numbers to where the network reads them, and its result to where the next one does."""
        for name, value in numbers.items():
            self._stream.copy(at[name].ptr, value.ptr, value.nbytes)
        given = {name: at[name] for name in (*self._parts, *numbers)}
        self._engines["unet"].queue(given, {"next": at["next"]}, record=again)
        self._stream.copy(at["latent"].ptr, at["next"].ptr, at["next"].nbytes)

    def _buffers(self, shape: tuple[int, ...]) -> dict[str, DeviceArray]:
        """The buffers of pictures of a size, made when it first comes; those not used for longest go."""
        found = self._sets.pop(shape, None)
        if found is None:
            while len(self._sets) >= KEPT:
                del self._sets[next(iter(self._sets))]
            n, high, wide, _ = shape
            sizes: dict[str, tuple[Any, tuple[int, ...]]] = {
                **dict.fromkeys(("source_pixels", "warped_pixels"), (np.uint8, shape)),
                **dict.fromkeys(("holes", "none"), (np.uint8, shape[:3])),
                **dict.fromkeys(
                    ("noise", "source", "warped", "latent", "next"), (np.float32, (n, 4, high // 8, wide // 8))
                ),
                "mask": (np.float32, (n, 1, high // 8, wide // 8)), "planes": (np.float32, (n, 3, high, wide)),
                "share": (np.float32, (2,)), "timestep": (np.int64, (n,)), "keep": (np.float32, (n,)),
                "gain": (np.float32, (n,)),
            }  # fmt: skip
            found = {name: take(name, Buffer(size, dtype)) for name, (dtype, size) in sizes.items()}
            for name in ("none", "warped"):  # the one stays so; the other is read before it is written, times 0
                self._stream.clear(found[name].ptr, found[name].nbytes)
        self._sets[shape] = found
        return found

    def _table(self, schedule: Schedule, count: int) -> dict[str, DeviceArray]:
        """Every step's numbers on the GPU, [steps, N] each."""
        key = (schedule, count)
        if self._numbers[0] != key:
            steps, made = schedule.steps, {}
            rows: dict[str, Tensor] = {
                "timestep": np.array([step.timestep for step in steps], np.int64),
                "keep": np.array([step.keep for step in steps], np.float32),
                "gain": np.array([step.gain for step in steps], np.float32),
            }
            for name, row in rows.items():
                host = np.ascontiguousarray(np.repeat(row[:, None], count, 1))
                made[name] = take(name, Buffer(host.shape, host.dtype))
                self._stream.upload(made[name].ptr, host)
            self._stream.wait()
            self._numbers = key, made
        return self._numbers[1]
