# SPDX-License-Identifier: Apache-2.0
"""A film from end to end: segments that survive a kill, each converted on its own, joined at the end.

A segment is a fixed number of frames. Since steady depth has a finite memory (:mod:`.temporal`), a segment can be
converted from WARM_UP frames before it on, whoever converts it and whenever: after a kill only unfinished segments are
done again, several processes can share a film, and the file is the same to the bit.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime import ops
from secondeye.runtime.converter import StereoConfig, StereoConverter
from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.layouts import LAYOUTS, WIDE_LAYOUTS, compose
from secondeye.runtime.objects import open_labeller
from secondeye.runtime.video import media, mux, projection
from secondeye.runtime.video.journal import Journal
from secondeye.runtime.video.objects import KEY_EVERY, Labels, ObjectTrack, check_segmenter, with_subject
from secondeye.runtime.video.signals import signal_of
from secondeye.runtime.video.temporal import WARM_UP, WINDOW, Look, Steady, TemporalState, look

Pixels = NDArray[np.uint8]
_QUEUE = 3  # frames that wait between two stages
_GROUP = 6  # segments that one process takes in a row, so that few frames are looked at twice


@dataclass(frozen=True, kw_only=True)
class FilmConfig:
    """How a film is converted and written.

    Attributes:
        stereo: as for a picture; `size` scales each frame.
        layout: a name in :data:`secondeye.runtime.layouts.LAYOUTS`.
        anaglyph: for that layout.
        auto_convergence: the screen lies a little before the subject, shot by shot, in place of stereo.convergence.
        codec: a name in :data:`secondeye.runtime.video.media.CODECS`.
        quality: the encoder's own number (crf or cq; lower is better); None for its default.
        preset: the encoder's own name; None for its default.
        start, end: seconds; None for the film's.
        segment: frames that a kill may cost, 24 to 10000.
        bits: of a sample; None keeps 10 of a film that has more than 8 where the layout and the codec can, 8 does not.
        projection: ``flat``, or ``vr180``: half a sphere for each eye.
        fov: how many degrees of the half sphere the picture's width covers.
        key_every: frames from one key frame, on which stereo.segment tells objects apart, to the next at most, 1 to 48.
    """

    stereo: StereoConfig = field(default_factory=StereoConfig)
    layout: str = "sbs"
    anaglyph: str = "dubois-red-cyan"
    auto_convergence: bool = True
    codec: str = "h264"
    quality: int | None = None
    preset: str | None = None
    start: float | None = None
    end: float | None = None
    segment: int = 240
    bits: int | None = None
    projection: Literal["flat", "vr180"] = "flat"
    fov: float = 90.0
    key_every: int = KEY_EVERY

    def keeps_depth(self, info: media.FilmInfo) -> bool:
        """Whether a film's samples of more than 8 bits stay that deep."""
        deep = media.CODECS[self.codec].deep_format is not None and self.layout in WIDE_LAYOUTS
        return info.depth_bits > 8 and self.bits is None and deep

    def __post_init__(self) -> None:
        if self.stereo.mode != "fast":
            raise InvalidInputError("mode: films are converted in fast mode so far.")
        if self.layout not in LAYOUTS:
            raise InvalidInputError(f"layout: expected one of {', '.join(LAYOUTS)}, got {self.layout!r}.")
        if self.anaglyph not in ops.ANAGLYPHS:
            raise InvalidInputError(f"anaglyph: expected one of {', '.join(ops.ANAGLYPHS)}, got {self.anaglyph!r}.")
        if self.codec not in media.CODECS:
            raise InvalidInputError(f"codec: expected one of {', '.join(media.CODECS)}, got {self.codec!r}.")
        if self.quality is not None and not 0 <= self.quality <= 63:
            raise InvalidInputError(f"quality: expected 0 to 63 (lower is better), got {self.quality}.")
        if not 24 <= self.segment <= 10_000:
            raise InvalidInputError(f"segment: expected 24 to 10000 frames, got {self.segment}.")
        if self.bits not in (None, 8):
            raise InvalidInputError(f"bits: expected 8, or None for the film's own, got {self.bits!r}.")
        if self.projection not in ("flat", "vr180"):
            raise InvalidInputError(f"projection: expected flat or vr180, got {self.projection!r}.")
        if self.projection == "vr180":
            projection.check(self.layout, self.fov)
        check_segmenter(self.stereo.segment, self.key_every)
        begin, stop = self.start or 0.0, self.end
        if not begin >= 0.0 or (stop is not None and not stop > begin):
            raise InvalidInputError(f"start, end: expected 0 <= start < end in seconds, got {self.start}, {self.end}.")


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
    """

    output: Path
    frames: int
    reused: int
    shots: int
    seconds: float
    timings: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Told after every frame: frames done of all, and milliseconds a frame and stage so far."""

    done: int
    total: int
    timings: dict[str, float]


def convert_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: FilmConfig | None = None,
    *,
    jobs: int = 1,
    progress: Callable[[Progress], None] | None = None,
) -> FilmReport:
    """Convert a film; go on where a killed run of the same settings stopped.

    Finished parts wait in the folder ``OUTPUT.parts`` beside the output, which is removed when the film is whole.

    Args:
        source: a local film.
        output: .mp4, .mov, .mkv, .webm, .avi or .nut.
        config: see :class:`FilmConfig`.
        jobs: processes that share the work. The result does not depend on it.
        progress: called after every frame, in this thread or another.

    Raises:
        InvalidInputError: settings that do not fit, or another run's parts stand in the way.
        MediaError: the source cannot be read, or the output not written.
        SecondEyeError: what the depth model raises.
    """
    config = config or FilmConfig()
    begun = time.perf_counter()
    target = _target(Path(output), Path(source), config)
    if not 1 <= jobs <= 64:
        raise InvalidInputError(f"jobs: expected 1 to 64 processes, got {jobs}.")
    info = media.probe(source)
    part = _part(info, config)
    journal = Journal(target, info, config)
    with journal.lock():
        journal.begin()
        missing = [k for k in range(part.segments) if not journal.has(k)]
        tally = _Tally(part.frames - sum(part.frames_of(k) for k in missing), part.frames, progress)
        reused = tally.done
        if jobs == 1 or len(missing) <= 1:
            for group in _groups(missing, None):
                _convert_group(info, config, part, journal, group, tally)
        else:
            _share(info, config, part, journal, missing, tally, jobs)
        records = [journal.record(k) for k in range(part.segments)]
        written = sum(record["frames"] for record in records)
        if written == 0:
            raise MediaError(f"{info.path}: none of its frames could be decoded.")
        notes = [*info.notes, *_depth_notes(info, config)]
        if written < part.frames:
            notes.append(f"{part.frames - written} of its {part.frames} frames could not be decoded and are left out.")
        whole = [mux.Segment(journal.segment(k), record["pts"]) for k, record in enumerate(records) if record["frames"]]
        first, last = int(info.pts[part.first]), part.first + part.frames
        end = int(info.pts[last]) if last < info.frames else None
        signal = signal_of(config.layout, config.anaglyph, swapped=config.stereo.swap)
        start = first if config.start else 0
        notes += mux.join(
            target,
            whole,
            info,
            start=start,
            end=end,
            signal=signal,
            vr180=config.projection == "vr180",
            deep=config.keeps_depth(info),
        )
        journal.remove()
    return FilmReport(
        output=target, frames=written, reused=reused, shots=1 + sum(record["cuts"] for record in records),
        seconds=time.perf_counter() - begun, timings=tally.means(), notes=tuple(notes),
    )  # fmt: skip


def _depth_notes(info: media.FilmInfo, config: FilmConfig) -> Iterator[str]:
    if info.depth_bits <= 8:
        return
    if config.keeps_depth(info):
        yield f"Its {info.depth_bits} bits a sample stay {min(info.depth_bits, 10) if config.codec != 'ffv1' else 16}."
    else:
        hdr = " It is HDR: its tags are kept, and bands may show." if info.tags["color_trc"] in (16, 18) else ""
        yield f"Its {info.depth_bits} bits a sample become 8.{hdr}"


def _target(target: Path, source: Path, config: FilmConfig) -> Path:
    suffix = target.suffix.lower()
    if suffix not in mux.CONTAINERS:
        raise InvalidInputError(f"{target}: expected a name ending in {', '.join(mux.CONTAINERS)}.")
    if target.is_dir() or not target.parent.is_dir():
        raise MediaError(f"{target}: the folder {target.parent} does not exist, or this is one; name a file in one.")
    if target.exists() and source.exists() and os.path.samefile(target, source):
        raise InvalidInputError(f"{target}: is the source itself; choose another name.")
    if suffix == ".webm" and not config.codec.startswith("av1"):
        raise InvalidInputError(f"{target}: WebM takes the codec av1; choose it, or .mkv.")
    if config.projection == "vr180" and suffix not in mux.BOXED:
        raise InvalidInputError(
            f"{target}: VR180 is told to players in MP4 and MOV; choose one of {', '.join(mux.BOXED)}."
        )
    if suffix == ".mov" and config.codec.startswith("av1"):
        raise InvalidInputError(f"{target}: MOV does not take av1; choose .mp4 or .mkv.")
    if suffix in (".mp4", ".m4v") and config.codec in ("ffv1", "prores"):
        raise InvalidInputError(f"{target}: MP4 does not take {config.codec}; choose .mov or .mkv.")
    return target


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


class _Tally:
    """Counts frames and adds up the time of stages, from several threads."""

    def __init__(self, done: int, total: int, told: Callable[[Progress], None] | None) -> None:
        self.done, self._total, self._told = done, total, told
        self._spent: dict[str, float] = {}
        self._made = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.add({name: (time.perf_counter() - start) * 1e3})

    def add(self, spent: dict[str, float]) -> None:
        with self._lock:
            for name, ms in spent.items():
                self._spent[name] = self._spent.get(name, 0.0) + ms

    def frame(self, count: int = 1) -> None:
        with self._lock:
            self.done += count
            self._made += count
        if self._told is not None:
            self._told(Progress(done=self.done, total=self._total, timings=self.means()))

    def means(self) -> dict[str, float]:
        with self._lock:
            return {name: ms / max(1, self._made) for name, ms in self._spent.items()}

    def totals(self) -> dict[str, float]:
        with self._lock:
            return dict(self._spent)


class _Stopped(Exception):
    """Another stage has failed."""


class _Pipe:
    """A bounded queue between two stages that ends when either of them does."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(_QUEUE)
        self._stop = stop

    def put(self, item: Any) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                return self._queue.put(item, timeout=0.2)
        raise _Stopped

    def get(self) -> Any:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=0.2)
        raise _Stopped


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame on its way."""

    index: int
    pixels: Pixels
    look: Look
    labels: Labels | None
    values: NDArray[np.uint16] | None = None  # in full depth


def _convert_group(
    info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, group: list[int], tally: _Tally
) -> None:
    """Convert neighbouring segments: one thread decodes and looks, this one renders, a third encodes."""
    stop = threading.Event()
    seen, drawn = _Pipe(stop), _Pipe(stop)
    failures: list[BaseException] = []

    def stage(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except _Stopped:
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
    except _Stopped:
        pass
    except BaseException:
        stop.set()
        raise
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _look_on(
    info: media.FilmInfo, config: FilmConfig, part: _Part, group: list[int], seen: _Pipe, tally: _Tally
) -> None:
    """Decode, run the depth model, compare with the frame before."""
    depth = StereoConverter(config.stereo).load()
    deep, size = config.keeps_depth(info), config.stereo.size
    read = media.PixelReader(info, deep=deep, size=size)
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
            values = _even(read.values(found[1])) if deep else None
            pixels = _even(read(found[1])) if values is None else read.look_of(values)
            if size is not None and values is None:
                pixels = ops.resize(pixels, size[1], size[0], filter="bilinear")
        with tally.stage("depth"):
            nearness = depth(pixels)
        with tally.stage("steady"):
            before = look(pixels, nearness, before)
        labels = None
        if track is not None:
            with tally.stage("objects"):
                labels = track(found[0], pixels, before)
                before = with_subject(before, labels)
        seen.put(_Seen(found[0], pixels, before, labels, values))
    seen.put(None)


def _even(pixels: NDArray[Any]) -> NDArray[Any]:
    """Without the last line and column where their number is odd: encoders want even sides."""
    return pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]


def _draw(
    info: media.FilmInfo, config: FilmConfig, part: _Part, group: list[int], seen: _Pipe, drawn: _Pipe, tally: _Tally
) -> None:
    """Steady depth, disparity, warp, fill, layout: frames leave in order, each segment from a state of its own."""
    converter = StereoConverter(replace(config.stereo, size=None))
    waiting = {k: TemporalState(max(0, part.begin(k) - WARM_UP)) for k in group}
    pixels: dict[int, _Seen] = {}
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
                    frame = _drawn(converter, config, pixels.pop(index), one, tally)
                    drawn.put((k, index, frame, one.cut))
                    tally.frame()
            if last:
                drawn.put((k, None, None, False))
                del waiting[k]
    drawn.put(None)


def _drawn(converter: StereoConverter, config: FilmConfig, seen: _Seen, steady: Steady, tally: _Tally) -> Pixels:
    """One frame's picture in its layout."""
    convergence = steady.convergence if config.auto_convergence else config.stereo.convergence
    frame = converter.convert_with(seen.pixels, steady.depth, convergence, seen.labels, values=seen.values)
    tally.add(frame.timings)
    with tally.stage("layout"):
        made = compose(frame, config.layout, anaglyph=config.anaglyph)
        return np.repeat(made, 3, axis=2) if made.shape[2] == 1 else made


def _encode(
    info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, drawn: _Pipe, tally: _Tally
) -> None:
    """Write frames into their segments; a segment takes its name when it is whole."""
    writer: media.SegmentWriter | None = None
    temporary = journal.folder / f"{os.getpid()}.part"
    pts: list[int] = []
    cuts = 0
    try:
        while (item := drawn.get()) is not None:
            k, index, picture, cut = item
            with tally.stage("encode"):
                if picture is not None:
                    if writer is None:
                        writer = _writer(temporary, info, config, picture)
                        pts, cuts = [], 0
                    frame, memory = writer.frame_memory(picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2)
                    memory[...] = picture[: memory.shape[0], : memory.shape[1]]
                    pts.append(int(info.pts[index]))
                    writer.write(frame, pts[-1])
                    cuts += int(cut and index > part.first)
                else:
                    if writer is not None:
                        writer.close()
                        writer = None
                    else:
                        temporary.write_bytes(b"")
                        pts, cuts = [], 0
                    journal.finish(k, temporary, pts, cuts)
    except OSError as error:
        if isinstance(error, SecondEyeError):
            raise
        raise MediaError(f"{journal.folder}: cannot be written ({error.strerror}); finished parts stay.") from error
    finally:
        if writer is not None:
            with contextlib.suppress(Exception):
                writer.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _writer(path: Path, info: media.FilmInfo, config: FilmConfig, picture: NDArray[Any]) -> media.SegmentWriter:
    """The encoder of a segment whose first frame is given."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    size, drawn_on = (width, height), None
    if config.projection == "vr180":
        one = (width // 2, height) if config.layout == "sbs" else (width, height // 2)
        drawn_on = projection.Vr180(*one, float(info.aspect), config.layout, config.fov)
        size, info = drawn_on.size, replace(info, aspect=Fraction(1))
    return media.SegmentWriter(
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
    tally: _Tally,
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
                    frames, spent = one.result()
                    tally.add(spent)
                    tally.frame(frames)
        except BaseException:
            for one in running:
                one.cancel()
            raise


def _group_in_process(
    info: media.FilmInfo, config: FilmConfig, part: _Part, journal: Journal, group: list[int]
) -> tuple[int, dict[str, float]]:
    tally = _Tally(0, part.frames, None)
    _convert_group(info, config, part, journal, group, tally)
    return tally.done, tally.totals()
