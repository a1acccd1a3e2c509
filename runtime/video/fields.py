# SPDX-License-Identifier: Apache-2.0
"""Interlaced films: frames made whole of their fields.

FFmpeg's bwdif makes a whole one of each frame that is flagged as interlaced: its first field stays, the other's lines
are made from both fields and from those of the frames before and after. It looks no further, so that a run which begins
WARM_UP frames early has the same pixels as one from the film's beginning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

WARM_UP = 4  # frames; one would do where none is missing


def deinterlaced(frames: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """(index, frame) for each (index, frame), in order; frames that are not flagged pass as they are."""
    weaver: _Weaver | None = None
    for index, frame in frames:
        kind = (frame.width, frame.height, frame.format.name)
        if weaver is not None and weaver.kind != kind:  # a film may change in its middle
            yield from weaver.close()
            weaver = None
        if weaver is None:
            weaver = _Weaver(kind)
        yield from weaver.push(index, frame)
    if weaver is not None:
        yield from weaver.close()


class _Weaver:
    """The filter for frames of one kind: (width, height, pixel format)."""

    def __init__(self, kind: tuple[int, int, str]) -> None:
        from av import VideoFormat
        from av.filter import Graph

        self.kind = kind
        self._graph: Any = Graph()
        self._waiting: deque[int] = deque()
        width, height, pixels = kind
        clock = Fraction(1, 25)  # any: timestamps are not looked at
        source = self._graph.add_buffer(width=width, height=height, format=VideoFormat(pixels), time_base=clock)
        work = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(work)
        work.link_to(sink)
        self._graph.configure()

    def push(self, index: int, frame: Any) -> Iterator[tuple[int, Any]]:
        """Takes a frame in; gives those that are ready."""
        self._waiting.append(index)
        self._graph.push(frame)
        return self._ready()

    def close(self) -> Iterator[tuple[int, Any]]:
        """The last ones."""
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> Iterator[tuple[int, Any]]:
        import av

        while self._waiting:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield self._waiting.popleft(), frame
