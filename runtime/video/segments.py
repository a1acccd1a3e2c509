# SPDX-License-Identifier: Apache-2.0
"""Segments of a film, converted in one process: decoded and looked at, drawn, encoded, side by side."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.depth import DepthModel
from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.layouts import LAYOUTS
from secondeye.runtime.objects import open_labeller
from secondeye.runtime.video import encode, media, projection
from secondeye.runtime.video.config import FilmConfig
from secondeye.runtime.video.draw import Ring, draw_frame, read_frame, screen_of, window_of
from secondeye.runtime.video.hdr import HdrMetadata
from secondeye.runtime.video.journal import Journal
from secondeye.runtime.video.look import Look, look
from secondeye.runtime.video.maps import MapReader, MapTrack
from secondeye.runtime.video.objects import Labels, ObjectTrack, with_subject
from secondeye.runtime.video.report import ShotLog
from secondeye.runtime.video.stages import Pipe, Stopped, Tally
from secondeye.runtime.video.subtitles import Burner, Track
from secondeye.runtime.video.temporal import WARM_UP, WINDOW, Steady, TemporalState

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The frames of the film that are wanted, in segments."""

    first: int
    frames: int
    each: int

    @property
    def segments(self) -> int:
        """How many."""
        return -(-self.frames // self.each)

    def begin(self, k: int) -> int:
        """The first frame of a segment."""
        return self.first + k * self.each

    def frames_of(self, k: int) -> int:
        """How many frames a segment has."""
        return min(self.each, self.frames - k * self.each)


def part_of(info: media.FilmInfo, config: FilmConfig) -> Part:
    """The frames between a configuration's times, which count from the first frame shown.

    Raises:
        InvalidInputError: there are none.
    """
    seconds = (info.pts - info.pts[0]).astype(np.float64) * float(info.time_base)
    half = 0.25 / float(info.rate)
    first = int(np.searchsorted(seconds, (config.start or 0.0) - half)) if config.start else 0
    last = int(np.searchsorted(seconds, config.end - half)) if config.end is not None else info.frames
    if last <= first:
        raise InvalidInputError(f"start, end: nothing is left of a film of {seconds[-1]:.2f} seconds.")
    return Part(first=first, frames=last - first, each=config.segment)


def groups_of(missing: list[int], most: int | None) -> Iterator[list[int]]:
    """Runs of neighbouring segments, at most `most` long."""
    group: list[int] = []
    for k in missing:
        if group and (k != group[-1] + 1 or (most is not None and len(group) >= most)):
            yield group
            group = []
        group.append(k)
    if group:
        yield group


@dataclass(frozen=True, kw_only=True)
class Work:
    """A film's conversion, as every process of it knows it.

    Attributes:
        info: of the film.
        config: how.
        part: which frames.
        journal: what is done.
        text: subtitles that are drawn into it.
        maps: its own depth, in place of a model's.
    """

    info: media.FilmInfo
    config: FilmConfig
    part: Part
    journal: Journal
    text: Track | None = None
    maps: MapTrack | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame on its way."""

    index: int
    seconds: float
    pixels: Pixels
    look: Look
    labels: Labels | None
    values: NDArray[np.uint16] | None = None  # in full depth
    own: NDArray[np.uint16] | None = None  # its map, where the film has its own


def convert_group(work: Work, group: list[int], tally: Tally) -> None:
    """Convert neighbouring segments: one thread decodes and looks, this one renders, a third encodes."""
    converter = StereoConverter(replace(work.config.stereo, size=None))
    depth = converter.load() if work.maps is None else None
    stop = threading.Event()
    seen, drawn = Pipe(stop), Pipe(stop)
    failures: list[BaseException] = []

    def stage(task: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                task()
            except Stopped:
                pass
            except BaseException as error:  # handed to the calling thread
                failures.append(error)
                stop.set()

        return threading.Thread(target=run, daemon=True)

    threads = [
        stage(lambda: _look_on(work, depth, group, seen, tally)),
        stage(lambda: _encode(work, drawn, tally)),
    ]
    for thread in threads:
        thread.start()
    try:
        _draw(work, converter, group, seen, drawn, tally)
    except Stopped:
        pass
    except BaseException:
        stop.set()
        raise
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _look_on(work: Work, depth: DepthModel | None, group: list[int], seen: Pipe, tally: Tally) -> None:
    """Decode, run the depth model or take the film's own map, compare with the frame before."""
    info, config, part = work.info, work.config, work.part
    read = media.PixelReader(info, deep=config.keeps_depth(info))
    first = max(0, part.begin(group[0]) - WARM_UP)
    end = min(info.frames, part.begin(group[-1]) + part.frames_of(group[-1]) + WINDOW)
    before: Look | None = None
    labeller = open_labeller(config.stereo.segment, device=config.stereo.device, threads=config.stereo.threads)
    track = ObjectTrack(labeller, config.key_every, first) if labeller is not None else None
    source = media.frames(info, first)
    maps = None if work.maps is None else MapReader(work.maps, first)
    while True:
        with tally.stage("decode"):
            found = next(source, None)
            if found is None or found[0] >= end:
                break
            pixels, values = read_frame(read, found[1], info, config)
        own = None
        with tally.stage("depth"):
            if maps is None:
                assert depth is not None
                nearness = depth(pixels)
            else:
                own = maps(found[0], pixels.shape[:2])
                nearness = maps.small(own)
        with tally.stage("steady"):
            before = look(pixels, nearness, before)
            if own is not None:  # is steady, on one scale
                before = replace(before, marks=(0.0, 1.0, *before.marks[2:]), line=(1.0, 0.0))
        labels = None
        if track is not None:
            with tally.stage("objects"):
                labels = track(found[0], pixels, before)
                before = with_subject(before, labels)
        if own is not None:  # nothing is averaged along the motion
            before = replace(before, source=None, sure=None, still=None)
        at = float((info.pts[found[0]] - info.pts[0]) * info.time_base)
        seen.put(_Seen(found[0], at, pixels, before, labels, values, own))
    seen.put(None)


def _draw(work: Work, converter: StereoConverter, group: list[int], seen: Pipe, drawn: Pipe, tally: Tally) -> None:
    """Steady depth, disparity, warp, fill, layout: frames leave in order, each segment from a state of its own."""
    part = work.part
    draw = _Drawing(work, converter, tally)
    tally.goes_on(work.journal.shots_before(group[0]))
    waiting = {k: TemporalState(max(0, part.begin(k) - WARM_UP)) for k in group}
    pixels: dict[int, _Seen] = {}
    logs = {k: ShotLog() for k in group}
    indices: dict[int, int] = {}  # of pushes, where frames are missing
    over = False
    while not over:
        item = seen.get()
        over = item is None
        if not over and any(part.begin(k) <= item.index < part.begin(k) + part.frames_of(k) for k in waiting):
            pixels[item.index] = item
        for k in list(waiting):
            begin, end = part.begin(k), part.begin(k) + part.frames_of(k)
            ready: list[Steady] = []
            state = waiting[k]
            if not over and state.first <= item.index < end + WINDOW:
                with tally.stage("steady"):
                    indices[(k << 32) + state.pushed] = item.index
                    ready = state.push(item.look)
            last = over or item.index >= end + WINDOW - 1
            if last:
                with tally.stage("steady"):
                    ready = ready + state.flush()
            for one in ready:
                index = indices.pop((k << 32) + one.index - state.first)
                if begin <= index < end:
                    drawn.put((k, index, draw(pixels.pop(index), one, logs[k]), one.cut))
                    tally.frame(cut=one.cut)
            if last:
                drawn.put((k, None, logs.pop(k).shots(), False))
                del waiting[k]
    drawn.put(None)


class _Drawing:
    """Makes each frame's picture in its layout, and tells the report of it."""

    def __init__(self, work: Work, converter: StereoConverter, tally: Tally) -> None:
        config = work.config
        self._config, self._tally, self._ring = config, tally, Ring()
        self._converter = converter
        self._burner: Burner | None = None
        if work.text is not None:
            self._burner = Burner(
                work.text, config.subtitle_depth, work.info, swapped=config.stereo.swap,
                map_too=config.layout in ("disparity", "rgbd"),
            )  # fmt: skip

    def __call__(self, seen: _Seen, steady: Steady, log: ShotLog) -> NDArray[Any]:
        config, burner = self._config, self._burner
        start = time.perf_counter()
        burn = None if burner is None else lambda frame: burner(frame, seen.seconds)
        frame, picture = draw_frame(
            self._converter, config, seen.pixels, seen.values, steady, self._ring, seen.labels, own=seen.own, burn=burn
        )
        spent = (time.perf_counter() - start) * 1e3
        self._tally.add({**frame.timings, "layout": spent - sum(frame.timings.values())})
        with self._tally.stage("report"):
            width = seen.pixels.shape[1]
            bars = window_of(config, steady, width) if config.floating_window else (0, 0)
            log.add(seen.index, seen.seconds, steady.cut, frame, screen_of(config, steady), 100.0 * max(bars) / width)
        return picture


def _encode(work: Work, drawn: Pipe, tally: Tally) -> None:
    """Write frames into their segments; a segment takes its name when it is whole."""
    info, config, journal = work.info, work.config, work.journal
    writer: encode.SegmentWriter | None = None
    temporary = journal.folder / f"{os.getpid()}.part"
    pts: list[int] = []
    cuts = 0
    try:
        while (item := drawn.get()) is not None:
            k, index, picture, cut = item
            with tally.stage("encode"):
                if index is not None:
                    if writer is None:
                        deep = picture.dtype != np.uint8
                        writer = _writer(temporary, info, config, picture.shape[:2], deep=deep)
                        pts, cuts = [], 0
                    pts.append(int(info.pts[index]))
                    writer.write(writer.framed(picture), pts[-1])
                    cuts += int(cut and index > work.part.first)
                else:
                    if writer is not None:
                        writer.close()
                        writer = None
                    else:
                        temporary.write_bytes(b"")
                        pts, cuts = [], 0
                    journal.finish(k, temporary, pts, cuts, picture)
    except OSError as error:
        if isinstance(error, SecondEyeError):
            raise
        raise MediaError(f"{journal.folder}: cannot be written ({error.strerror}).") from error
    finally:
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_encoder(info: media.FilmInfo, config: FilmConfig) -> None:
    """Start the encoder for a film once, so that what it lacks is told before any model is loaded.

    Raises:
        BackendUnavailableError, MediaError: there is no such encoder here, or it refuses.
    """
    layout, (width, height) = LAYOUTS[config.layout], config.stereo.size or (info.width // 2 * 2, info.height // 2 * 2)
    shape = int(height * layout.tall), int(width * layout.wide)
    _writer(io.BytesIO(), info, config, shape, deep=config.keeps_depth(info)).check()


def tagged(info: media.FilmInfo, config: FilmConfig) -> media.FilmInfo:
    """The film with the tags of what is made of it: a map's values are no colours."""
    if not config.deep_map:
        return info
    return replace(info, tags={**dict.fromkeys(info.tags, 2), "color_range": 2}, hdr=HdrMetadata())


def _writer(
    path: Path | BinaryIO, info: media.FilmInfo, config: FilmConfig, shape: tuple[int, int], *, deep: bool
) -> encode.SegmentWriter:
    """The encoder of a segment whose pictures are of that (height, width)."""
    height, width = shape[0] // 2 * 2, shape[1] // 2 * 2
    size, drawn_on = (width, height), None
    if config.projection == "vr180":
        one = (width // 2, height) if config.layout == "sbs" else (width, height // 2)
        drawn_on = projection.Vr180(*one, float(info.aspect), config.layout, config.fov)
        size, info = drawn_on.size, replace(info, aspect=Fraction(1))
    return encode.SegmentWriter(
        path,
        tagged(info, config),
        size,
        config.codec,
        config.quality,
        config.preset,
        deep=deep,
        grey=config.deep_map,
        drawn_on=drawn_on,
    )
