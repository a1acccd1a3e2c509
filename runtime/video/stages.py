# SPDX-License-Identifier: Apache-2.0
"""What a film's stages share: bounded queues between them, and a tally of frames and times."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secondeye.runtime.video.report import Shot

QUEUE = 3  # frames that wait between two stages


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Told after every frame.

    Attributes:
        done, total: frames.
        timings: milliseconds a frame and stage so far.
        shot: the number of the shot that is being made, from 1; 0 where several processes share the film.
        shot_frames: how many of its frames are made.
    """

    done: int
    total: int
    timings: dict[str, float]
    shot: int = 0
    shot_frames: int = 0


class Tally:
    """Counts frames and adds up the time of stages, from several threads."""

    def __init__(self, done: int, total: int, told: Callable[[Progress], None] | None) -> None:
        self.done, self._total, self._told = done, total, told
        self._spent: dict[str, float] = {}
        self._made = 0
        self._shot, self._shot_frames = 0, 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what is done inside, as a stage's."""
        start = time.perf_counter()
        yield
        self.add({name: (time.perf_counter() - start) * 1e3})

    def add(self, spent: dict[str, float]) -> None:
        """Milliseconds that stages took."""
        with self._lock:
            for name, ms in spent.items():
                self._spent[name] = self._spent.get(name, 0.0) + ms

    def goes_on(self, shots: Sequence[Shot]) -> None:
        """What comes next follows these shots, and may go on with the last."""
        self._shot, self._shot_frames = len(shots), shots[-1].frames if shots else 0

    def frame(self, count: int = 1, *, cut: bool | None = None) -> None:
        """Frames are done; `cut`, where it is known, says whether a shot begins with this one."""
        with self._lock:
            self.done += count
            self._made += count
            if cut or (cut is not None and self._shot == 0):
                self._shot, self._shot_frames = self._shot + 1, 0
            self._shot_frames += count
        if self._told is not None:
            shot = (self._shot, self._shot_frames) if cut is not None else (0, 0)
            told = self.means()
            self._told(Progress(done=self.done, total=self._total, timings=told, shot=shot[0], shot_frames=shot[1]))

    def take(self, made: tuple[int, dict[str, float]]) -> None:
        """Frames that another process made, and the time of its stages."""
        frames, spent = made
        self.add(spent)
        self.frame(frames)

    def means(self) -> dict[str, float]:
        """Milliseconds a frame and stage."""
        with self._lock:
            return {name: ms / max(1, self._made) for name, ms in self._spent.items()}

    def totals(self) -> dict[str, float]:
        """Milliseconds a stage."""
        with self._lock:
            return dict(self._spent)


class Stopped(Exception):
    """Another stage has failed."""


class Pipe:
    """A bounded queue between two stages that ends when either of them does."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(QUEUE)
        self._stop = stop

    def put(self, item: Any) -> None:
        """Hand an item on; waits while the queue is full.

        Raises:
            Stopped: the other side has failed.
        """
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=0.2)
        raise Stopped

    def get(self) -> Any:
        """Take the next item; waits for it.

        Raises:
            Stopped: the other side has failed.
        """
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=0.2)
        raise Stopped
