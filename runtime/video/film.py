# SPDX-License-Identifier: Apache-2.0
"""A film from end to end: segments that survive a kill, each converted on its own, joined at the end.

A segment is a fixed number of frames. Since steady depth has a finite memory (:mod:`.temporal`), a segment can be
converted from WARM_UP frames before it on, whoever converts it and whenever: after a kill only unfinished segments are
done again, several processes can share a film, and the file is the same to the bit.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.converter import StereoConverter
from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.objects import open_labeller
from secondeye.runtime.video import encode, media, mux, projection, sequence
from secondeye.runtime.video.cluster import share_over_ray
from secondeye.runtime.video.config import FilmConfig, checked_target, depth_notes, open_film
from secondeye.runtime.video.draw import Ring, draw_frame, read_frame, screen_of, window_of
from secondeye.runtime.video.journal import Journal
from secondeye.runtime.video.look import Look, look
from secondeye.runtime.video.objects import Labels, ObjectTrack, with_subject
from secondeye.runtime.video.report import Shot, ShotLog, joined_shots
from secondeye.runtime.video.signals import signal_of
from secondeye.runtime.video.stages import Pipe, Progress, Stopped, Tally
from secondeye.runtime.video.temporal import WARM_UP, WINDOW, Steady, TemporalState

Pixels = NDArray[np.uint8]
_GROUP = 6  # segments that one process takes in a row, so that few frames are looked at twice


@dataclass(frozen=True, kw_only=True)
class FilmReport:
    """What became of a film.

    Attributes:
        output: the file.
        frames: written; `reused` of them were there from a run before.
        shots: as many as cuts were found, and one.
        seconds: that this run took.
        timings: milliseconds a frame and stage, of the frames that this run made.
        notes: sentences about what its owner might not expect.
        shot_list: each shot's disparity and pictures.
        width: of a view, pixels.
    """

    output: Path
    frames: int
    reused: int
    shots: int
    seconds: float
    timings: dict[str, float]
    notes: tuple[str, ...]
    shot_list: tuple[Shot, ...] = ()
    width: int = 0


def convert_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: FilmConfig | None = None,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FilmReport:
    """Convert a film; go on where a killed run of the same settings stopped.

    Finished parts wait in the folder ``OUTPUT.parts`` beside the output, which is removed when the film is whole.

    Args:
        source: a local film, or the pattern of numbered pictures (frames/%05d.png).
        output: .mp4, .mov, .mkv, .webm, .avi or .nut; or a pattern of pictures.
        config: see :class:`FilmConfig`.
        jobs: processes that share the work. The result does not depend on it.
        cluster: share the work over a Ray cluster instead: its address, ``auto``, or ``local``.
        progress: called after every frame, in this thread or another.

    Raises:
        InvalidInputError: settings that do not fit, or another run's parts stand in the way.
        MediaError: the source cannot be read, or the output not written.
        SecondEyeError: what the depth model raises.
    """
    config = config or FilmConfig()
    begun = time.perf_counter()
    target = checked_target(Path(output), Path(source), config)
    if not 1 <= jobs <= 64:
        raise InvalidInputError(f"jobs: expected 1 to 64 processes, got {jobs}.")
    info = open_film(source, config)
    if media.is_sequence(target):
        config = replace(config, codec="pictures")
        sequence.check_pattern(target, deep=config.keeps_depth(info))
    part = _part(info, config)
    journal = Journal(target, info, config)
    with journal.lock(), _kept(journal):
        journal.begin()
        missing = [k for k in range(part.segments) if not journal.has(k)]
        tally = Tally(part.frames - sum(part.frames_of(k) for k in missing), part.frames, progress)
        reused = tally.done
        if cluster is not None:
            most = max(1, min(_GROUP, len(missing) // 8))
            work = functools.partial(_group_in_process, info, config, part, journal)
            share_over_ray(work, list(_groups(missing, most)), cluster, tally.take)
        elif jobs == 1 or len(missing) <= 1:
            for group in _groups(missing, None):
                _convert_group(info, config, part, journal, group, tally)
        else:
            _share(info, config, part, journal, missing, tally, jobs)
        records = [journal.record(k) for k in range(part.segments)]
        written = sum(record["frames"] for record in records)
        if written == 0:
            raise MediaError(f"{info.path}: none of its frames could be decoded.")
        notes = [*info.notes, *depth_notes(info, config)]
        if written < part.frames:
            notes.append(f"{part.frames - written} of its {part.frames} frames could not be decoded and are left out.")
        whole = [mux.Segment(journal.segment(k), record["pts"]) for k, record in enumerate(records) if record["frames"]]
        notes += _joined(target, whole, info, config, part)
        journal.remove()
    return FilmReport(
        output=target, frames=written, reused=reused, shots=1 + sum(record["cuts"] for record in records),
        seconds=time.perf_counter() - begun, timings=tally.means(), notes=tuple(notes),
        shot_list=joined_shots([record["shots"] for record in records]),
        width=config.stereo.size[0] if config.stereo.size is not None else info.width,
    )  # fmt: skip


@contextlib.contextmanager
def _kept(journal: Journal) -> Iterator[None]:
    """Adds to an error what is kept, and how to go on."""
    try:
        yield
    except MediaError as error:
        done = journal.finished()
        if not done:
            raise
        what = "its finished segment is" if done == 1 else f"its {done} finished segments are"
        raise MediaError(f"{error} ({what} kept in {journal.folder}; the same command goes on from there)") from error


def _joined(target: Path, whole: list[mux.Segment], info: media.FilmInfo, config: FilmConfig, part: _Part) -> list[str]:
    """Make the film of its segments; gives notes."""
    if media.is_sequence(target):
        sequence.write_pictures(target, whole)
        return []
    first, last = int(info.pts[part.first]), part.first + part.frames
    signal = signal_of(config.layout, config.anaglyph, swapped=config.stereo.swap)
    return mux.join(
        target, whole, info, start=first if config.start else 0,
        end=int(info.pts[last]) if last < info.frames else None,
        signal=signal, vr180=config.projection == "vr180", deep=config.keeps_depth(info),
        views=encode.CODECS[config.codec].views, fov=config.fov,
    )  # fmt: skip


# ---- which frames -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The frames of the film that are wanted, in segments."""

    first: int
    frames: int
    each: int

    @property
    def segments(self) -> int:
        return -(-self.frames // self.each)

    def begin(self, k: int) -> int:
        """The first frame of a segment."""
        return self.first + k * self.each

    def frames_of(self, k: int) -> int:
        """How many frames a segment has."""
        return min(self.each, self.frames - k * self.each)


def _part(info: media.FilmInfo, config: FilmConfig) -> _Part:
    # Times count from the first frame shown.
    seconds = (info.pts - info.pts[0]).astype(np.float64) * float(info.time_base)
    half = 0.25 / float(info.rate)
    first = int(np.searchsorted(seconds, (config.start or 0.0) - half)) if config.start else 0
    last = int(np.searchsorted(seconds, config.end - half)) if config.end is not None else info.frames
    if last <= first:
        raise InvalidInputError(f"start, end: nothing is left of a film of {seconds[-1]:.2f} seconds.")
    return _Part(first=first, frames=last - first, each=config.segment)


def _groups(missing: list[int], most: int | None) -> Iterator[list[int]]:
    """Runs of neighbouring segments, at most `most` long."""
    group: list[int] = []
    for k in missing:
        if group and (k != group[-1] + 1 or (most is not None and len(group) >= most)):
            yield group
            group = []
        group.append(k)
    if group:
        yield group


# ---- one process ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame on its way."""

    index: int
    seconds: float
    pixels: Pixels
    look: Look
    labels: Labels | None
    values: NDArray[np.uint16] | None = None  # in full depth


def _convert_group(
    info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, group: list[int], tally: Tally
) -> None:
    """Convert neighbouring segments: one thread decodes and looks, this one renders, a third encodes."""
    stop = threading.Event()
    seen, drawn = Pipe(stop), Pipe(stop)
    failures: list[BaseException] = []

    def stage(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Stopped:
                pass
            except BaseException as error:  # handed to the calling thread
                failures.append(error)
                stop.set()

        return threading.Thread(target=run, daemon=True)

    threads = [
        stage(lambda: _look_on(info, config, part, group, seen, tally)),
        stage(lambda: _encode(info, config, part, journal, drawn, tally)),
    ]
    for thread in threads:
        thread.start()
    try:
        _draw(info, config, part, group, seen, drawn, tally)
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


def _look_on(info: media.FilmInfo, config: FilmConfig, part: _Part, group: list[int], seen: Pipe, tally: Tally) -> None:
    """Decode, run the depth model, compare with the frame before."""
    depth = StereoConverter(config.stereo).load()
    read = media.PixelReader(info, deep=config.keeps_depth(info))
    first = max(0, part.begin(group[0]) - WARM_UP)
    end = min(info.frames, part.begin(group[-1]) + part.frames_of(group[-1]) + WINDOW)
    before: Look | None = None
    labeller = open_labeller(config.stereo.segment, device=config.stereo.device, threads=config.stereo.threads)
    track = ObjectTrack(labeller, config.key_every, first) if labeller is not None else None
    source = media.frames(info, first)
    while True:
        with tally.stage("decode"):
            found = next(source, None)
            if found is None or found[0] >= end:
                break
            pixels, values = read_frame(read, found[1], info, config)
        with tally.stage("depth"):
            nearness = depth(pixels)
        with tally.stage("steady"):
            before = look(pixels, nearness, before)
        labels = None
        if track is not None:
            with tally.stage("objects"):
                labels = track(found[0], pixels, before)
                before = with_subject(before, labels)
        at = float((info.pts[found[0]] - info.pts[0]) * info.time_base)
        seen.put(_Seen(found[0], at, pixels, before, labels, values))
    seen.put(None)


def _draw(
    info: media.FilmInfo, config: FilmConfig, part: _Part, group: list[int], seen: Pipe, drawn: Pipe, tally: Tally
) -> None:
    """Steady depth, disparity, warp, fill, layout: frames leave in order, each segment from a state of its own."""
    converter = StereoConverter(replace(config.stereo, size=None))
    waiting = {k: TemporalState(max(0, part.begin(k) - WARM_UP)) for k in group}
    pixels: dict[int, _Seen] = {}
    logs = {k: ShotLog() for k in group}
    ring = Ring()
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
                    picture = _drawn(converter, config, pixels.pop(index), one, logs[k], tally, ring)
                    drawn.put((k, index, picture, one.cut))
                    tally.frame()
            if last:
                drawn.put((k, None, logs.pop(k).shots(), False))
                del waiting[k]
    drawn.put(None)


def _drawn(
    converter: StereoConverter, config: FilmConfig, seen: _Seen, steady: Steady, log: ShotLog, tally: Tally, ring: Ring
) -> NDArray[Any]:
    """One frame's picture in its layout, and what the report says of it."""
    start = time.perf_counter()
    frame, picture = draw_frame(converter, config, seen.pixels, seen.values, steady, ring, seen.labels)
    spent = (time.perf_counter() - start) * 1e3
    tally.add({**frame.timings, "layout": spent - sum(frame.timings.values())})
    with tally.stage("report"):
        width = seen.pixels.shape[1]
        bars = window_of(config, steady, width) if config.floating_window else (0, 0)
        log.add(seen.index, seen.seconds, steady.cut, frame, screen_of(config, steady), 100.0 * max(bars) / width)
    return picture


def _encode(info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, drawn: Pipe, tally: Tally) -> None:
    """Write frames into their segments; a segment takes its name when it is whole."""
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
                        writer = _writer(temporary, info, config, picture)
                        pts, cuts = [], 0
                    pts.append(int(info.pts[index]))
                    writer.write(writer.framed(picture), pts[-1])
                    cuts += int(cut and index > part.first)
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


def _writer(path: Path, info: media.FilmInfo, config: FilmConfig, picture: NDArray[Any]) -> encode.SegmentWriter:
    """The encoder of a segment whose first frame is given."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    size, drawn_on = (width, height), None
    if config.projection == "vr180":
        one = (width // 2, height) if config.layout == "sbs" else (width, height // 2)
        drawn_on = projection.Vr180(*one, float(info.aspect), config.layout, config.fov)
        size, info = drawn_on.size, replace(info, aspect=Fraction(1))
    return encode.SegmentWriter(
        path, info, size, config.codec, config.quality, config.preset, deep=picture.dtype != np.uint8,
        drawn_on=drawn_on,
    )  # fmt: skip


# ---- several processes ------------------------------------------------------------------------------------


def _share(
    info: media.FilmInfo,
    config: FilmConfig,
    part: _Part,
    journal: Journal,
    missing: list[int],
    tally: Tally,
    jobs: int,
) -> None:
    """Groups of segments in processes of their own."""
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

    most = max(1, min(_GROUP, -(-len(missing) // jobs)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        running: set[Future[tuple[int, dict[str, float]]]] = {
            pool.submit(_group_in_process, info, config, part, journal, group) for group in _groups(missing, most)
        }
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    tally.take(one.result())
        except BaseException:
            for one in running:
                one.cancel()
            raise


def _group_in_process(
    info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, group: list[int]
) -> tuple[int, dict[str, float]]:
    tally = Tally(0, part.frames, None)
    for left in _groups([k for k in group if not journal.has(k)], None):  # some are there if a worker was lost
        _convert_group(info, config, part, journal, left, tally)
    return tally.done, tally.totals()
