# SPDX-License-Identifier: Apache-2.0
"""Scenes drawn by several processes: works of scenes that share textures, and a stream of them in shared memory."""

from __future__ import annotations

import multiprocessing as mp
import os
import queue
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .scenes import Renderer

WORK = 1000
"""Scenes that share textures in training; fresh ones follow: a network should not learn to know them."""
VALIDATION_WORK = 32
VALIDATION_SEED = 10_000_000
"""Numbers of held-out scenes begin here; no training scene has so great a number."""
TEXTURES = 200
BLOCK = 8  # scenes that are handed over together


@dataclass(frozen=True)
class Work:
    """Scenes numbered base + first ... base + first + count - 1, with the textures of the first's number."""

    base: int
    first: int
    count: int


def training_works(first: int = 0) -> Iterator[Work]:
    """Every work of training, from that of a scene on."""
    for start in range(first // WORK * WORK, VALIDATION_SEED, WORK):
        yield Work(0, start, WORK)


def validation_works(count: int) -> list[Work]:
    """The first `count` held-out scenes."""
    firsts = range(0, count, VALIDATION_WORK)
    return [Work(VALIDATION_SEED, first, min(VALIDATION_WORK, count - first)) for first in firsts]


def draw_work(
    renderer: Renderer | None, work: Work, photos: list[str], size: tuple[int, int], shares: tuple[float, ...]
) -> tuple[Renderer, Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint16]]]]:
    """A renderer with a work's textures (the one given, if any), and the work's scenes."""
    from .scenes import Renderer
    from .textures import make_textures

    textures = make_textures(work.base + work.first + 1, TEXTURES, photos)
    if renderer is None:
        renderer = Renderer(textures, *size, shares)
    else:
        renderer.load(textures)
    drawn = renderer.draw_objects
    return renderer, (drawn(work.base + work.first + index) for index in range(work.count))


def _views(file: Path, slots: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Pictures uint8 [slots, BLOCK, H, W, 3] and disparities float16 [slots, BLOCK, H, W] in a file, mapped."""
    shape = (slots, BLOCK, *size)
    pictures = np.memmap(file, np.uint8, "r+", 0, (*shape, 3))
    return pictures, np.memmap(file, np.float16, "r+", pictures.nbytes, shape)


def _worker(file: Path, slots: int, works: Any, free: Any, full: Any, setup: dict[str, Any]) -> None:
    import cv2

    cv2.setNumThreads(1)
    pictures, disparities = _views(file, slots, setup["size"])
    renderer: Renderer | None = None
    while (work := works.get()) is not None:
        renderer, scenes = draw_work(renderer, work, **setup)
        slot = filled = 0
        for picture, disparity, _ in scenes:
            if not filled:
                slot = free.get()
            pictures[slot, filled], disparities[slot, filled] = picture, disparity
            filled += 1
            if filled == BLOCK:
                full.put((work.base, work.first, slot, filled))
                filled = 0
        if filled:
            full.put((work.base, work.first, slot, filled))


class Stream:
    """Processes that draw held-out scenes first, then training scenes without end.

    Args:
        workers: processes, each with an OpenGL context of its own.
        held_out: how many held-out scenes come first.
        first: number of the first training scene.
        photos: folders of more photographs for textures.
        size: height and width of the pictures.
        shares: of each family of scenes.
    """

    def __init__(
        self, workers: int, held_out: int, first: int, photos: list[str], size: tuple[int, int],
        shares: tuple[float, ...],
    ) -> None:  # fmt: skip
        context = mp.get_context("spawn")
        self._slots = 32 * workers + 4  # a minute's scenes, while a training is not yet ready for them
        total = self._slots * BLOCK * size[0] * size[1] * 5
        memory = Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > 1.5 * total
        handle, name = tempfile.mkstemp(prefix="scenes", dir=memory if roomy else None)
        os.truncate(handle, total)
        os.close(handle)
        self._file = Path(name)
        self._pictures, self._disparities = _views(self._file, self._slots, size)
        self._works: Any = context.Queue(2 * workers)
        self._free: Any = context.Queue()
        self._full: Any = context.Queue()
        for slot in range(self._slots):
            self._free.put(slot)
        self._coming = iter([*validation_works(held_out)])
        self._training = training_works(first)
        setup = {"photos": photos, "size": size, "shares": shares}
        arguments = (self._file, self._slots, self._works, self._free, self._full, setup)
        self._processes = [context.Process(target=_worker, args=arguments, daemon=True) for _ in range(workers)]
        for process in self._processes:
            process.start()
        self._next: Work | None = None
        self._feed()

    def _feed(self) -> None:
        while True:
            work = self._next or next(self._coming, None) or next(self._training, None)
            self._next = work
            if work is None:
                return
            try:
                self._works.put_nowait(work)
            except queue.Full:
                return
            self._next = None

    def take(self, wait_s: float = 0.0) -> Iterator[tuple[bool, NDArray[np.uint8], NDArray[np.float16]]]:
        """What is ready: (held out?, pictures [n, H, W, 3], disparities [n, H, W]); views that live until the next."""
        self._feed()
        while True:
            try:
                base, _, slot, count = self._full.get(wait_s > 0, wait_s)
            except queue.Empty:
                return
            wait_s = 0.0
            yield base == VALIDATION_SEED, self._pictures[slot, :count], self._disparities[slot, :count]
            self._free.put(slot)

    def alive(self) -> int:
        """How many processes still draw; the error of one that ended stands on its standard error stream."""
        return sum(process.is_alive() for process in self._processes)

    def close(self) -> None:
        """End the processes and give the memory back."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._file.unlink()
