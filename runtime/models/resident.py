# SPDX-License-Identifier: Apache-2.0
"""A frame of quality mode on one GPU: pictures go up, a view comes down, and all between stays there, on one stream.

Encoder, steps and decoder are queued one after another in buffers of our own; what is between them (bytes to planes,
the first latent, planes to bytes) are small engines of the bundle on the same stream. The host waits once, at the end.
When a picture's size comes again, ONNX Runtime's and TensorRT-RTX's engines record themselves as CUDA graphs; of
TensorRT's the whole frame is recorded as one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.backends.cuda import Buffer, Graph, Stream
from secondeye.runtime.clock import Progress
from secondeye.runtime.errors import EngineError
from secondeye.runtime.ops._arrays import DeviceArray, take
from secondeye.runtime.schedulers import Schedule

Pixels = NDArray[np.uint8]
Tensor = NDArray[Any]
KEPT = 8  # sizes whose buffers are kept: tiles come in many
MANY = 8  # steps of a size that is new, after which recording one pays


class Resident:
    """Paints on the GPU with engines that share a stream.

    Args:
        engines: ``encoder``, ``unet`` and ``decoder``, ``to_planes``, ``to_start`` and ``to_pixels``, opened on the
            stream.
        stream: theirs.
        parts: of the network's layout, in order.

    Attributes:
        stage_ms: of the last frame, what the GPU took for each stage; ``frame`` alone, where it was one CUDA graph.
        one_graph: record a frame as one, where its engines may be.
    """

    def __init__(self, engines: Mapping[str, Any], stream: Stream, parts: tuple[str, ...]) -> None:
        self._engines, self._stream, self._parts = engines, stream, parts
        self._sets: dict[tuple[int, ...], dict[str, DeviceArray]] = {}
        self._numbers: tuple[Any, dict[str, DeviceArray]] = None, {}
        self._key: Any = None  # size and schedule of the last frame
        self._record: Graph | None = None
        self.stage_ms: dict[str, float] = {}
        used = ("encoder", "unet", "decoder", "to_planes", "to_start", "to_pixels")
        self.one_graph = all(engines[name].capturable for name in used)

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
        for name, value in hosts.items():
            stream.upload(at[name].ptr, value)
        both = "warped" in self._parts or bool(schedule.signal)
        rows = [{name: values[done] for name, values in table.items()} for done in range(len(schedule.steps))]
        stages: dict[str, list[Callable[[], None]]] = {
            "to latents": [lambda: self._start(at, again, both=both)],
            "denoise": [partial(self._step, at, row, again or done >= MANY) for done, row in enumerate(rows)],
            "to pixels": [lambda: self._finish(at, again)],
        }
        key, before = (source.shape, schedule), self._key
        self._key = None  # until it is done
        if key != before:
            self._record = None
        elif self.one_graph and self._record is None:  # what came twice will come again
            self._record = self._recorded([work for works in stages.values() for work in works])
        for name, works in stages.items():
            for done, work in enumerate(works):
                tell(name, done, len(works))
                if self._record is None:
                    work()
            if self._record is None:
                marks.append(stream.mark())
        if self._record is not None:
            self._record.launch(stream)
            marks.append(stream.mark())
        view, latent = np.empty(source.shape, np.uint8), np.empty(noise.shape, np.float32)
        stream.download(view, at["source_pixels"].ptr)
        stream.download(latent, at["latent"].ptr)
        stream.wait()
        self._key = key
        names = stages if self._record is None else ("frame",)
        self.stage_ms = {n: b.ms_since(a) for n, a, b in zip(names, marks[:-1], marks[1:], strict=True)}
        return view, latent

    def _recorded(self, works: Sequence[Callable[[], None]]) -> Graph | None:
        """The work of a frame as one CUDA graph; None where an engine cannot be recorded after all."""

        def frame() -> None:
            for work in works:
                work()

        try:
            return self._stream.record(frame)
        except EngineError as error:
            logging.getLogger(__name__).info("A frame runs without one CUDA graph: %s", error)
            self.one_graph = False
            return None

    def _start(self, at: dict[str, DeviceArray], again: bool, *, both: bool) -> None:
        engines = self._engines
        if "source" in self._parts:
            engines["to_planes"].queue({"picture": at["source_pixels"], "holes": at["none"]}, {"planes": at["planes"]})
            engines["encoder"].queue({"picture": at["planes"]}, {"latent": at["source"]}, record=again)
        if both:
            engines["to_planes"].queue({"picture": at["warped_pixels"], "holes": at["holes"]}, {"planes": at["planes"]})
            engines["encoder"].queue({"picture": at["planes"]}, {"latent": at["warped"]}, record=again)
        engines["to_start"].queue({n: at[n] for n in ("noise", "warped", "share")}, {"latent": at["latent"]})

    def _step(self, at: dict[str, DeviceArray], numbers: dict[str, DeviceArray], again: bool) -> None:
        """One step: its numbers to where the network reads them, and its result to where the next one does."""
        for name, value in numbers.items():
            self._stream.copy(at[name].ptr, value.ptr, value.nbytes)
        given = {name: at[name] for name in (*self._parts, *numbers)}
        self._engines["unet"].queue(given, {"next": at["next"]}, record=again)
        self._stream.copy(at["latent"].ptr, at["next"].ptr, at["next"].nbytes)

    def _finish(self, at: dict[str, DeviceArray], again: bool) -> None:
        self._engines["decoder"].queue({"latent": at["latent"]}, {"picture": at["planes"]}, record=again)
        self._engines["to_pixels"].queue({"planes": at["planes"]}, {"picture": at["source_pixels"]})

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
