# SPDX-License-Identifier: Apache-2.0
"""How long each stage of a picture's way takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Hears of (stage, steps done, steps in all)."""


class StageClock:
    """Times named stages, in order, and tells a listener of those that come in steps."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.timings: dict[str, float] = {}
        self._progress = progress
        self._open: tuple[str, float] | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage, as a block."""
        start = time.perf_counter()
        yield
        self._add(name, start)

    def step(self, name: str, done: int, total: int) -> None:
        """The last step ends and one of stage `name` begins."""
        self.finish()
        self._open = (name, time.perf_counter())
        if self._progress is not None:
            self._progress(name, done, total)

    def finish(self) -> None:
        """The last step ends."""
        if self._open is not None:
            self._add(*self._open)
            self._open = None

    def _add(self, name: str, start: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + (time.perf_counter() - start) * 1e3
