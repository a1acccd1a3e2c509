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
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.video import encode, media, mux, sequence
from secondeye.runtime.video.cluster import share_over_ray
from secondeye.runtime.video.config import FilmConfig, checked_target, depth_notes, open_film
from secondeye.runtime.video.journal import Journal
from secondeye.runtime.video.maps import open_maps
from secondeye.runtime.video.report import Shot, joined_shots
from secondeye.runtime.video.segments import Part, Work, check_encoder, convert_group, groups_of, part_of, tagged
from secondeye.runtime.video.signals import signal_of
from secondeye.runtime.video.stages import Progress, Tally
from secondeye.runtime.video.subtitles import KEEP, open_track

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
    notify: Callable[[str], None] | None = None,
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
        notify: called, before the work begins, with each of the report's notes that is known by then.

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
        flat = config.layout == "disparity" and target.suffix.lower() != ".png"
        config = replace(config, codec=encode.PICTURES, bits=8 if flat else config.bits)
        sequence.check_pattern(target, deep=config.keeps_depth(info))
    part = part_of(info, config)
    check_encoder(info, config)
    text = open_track(info, config.subtitles, config.subtitle_font)
    maps = open_maps(info, config.depth_map, config.depth_map_kind)
    journal = Journal(target, info, config, text, maps)
    work = Work(info=info, config=config, part=part, journal=journal, text=text, maps=maps)
    known = [*info.notes, *depth_notes(info, config, target.suffix.lower()), *(() if maps is None else maps.notes)]
    with journal.lock(), _kept(journal):
        journal.begin()
        if notify is not None:
            pictures = media.is_sequence(target)
            late = [] if pictures else mux.foreseen(info, target.suffix.lower(), subtitles=config.subtitles == KEEP)
            for note in (*known, *late):
                notify(note)
        missing = [k for k in range(part.segments) if not journal.has(k)]
        tally = Tally(part.frames - sum(part.frames_of(k) for k in missing), part.frames, progress)
        reused = tally.done
        if cluster is not None:
            most = max(1, min(_GROUP, len(missing) // 8))
            each = functools.partial(_group_in_process, work)
            share_over_ray(each, list(groups_of(missing, most)), cluster, tally.take)
        elif jobs == 1 or len(missing) <= 1:
            for group in groups_of(missing, None):
                convert_group(work, group, tally)
        else:
            _share(work, missing, tally, jobs)
        records = [journal.record(k) for k in range(part.segments)]
        written = sum(record["frames"] for record in records)
        if written == 0:
            raise MediaError(f"{info.path}: none of its frames could be decoded.")
        notes = list(known)
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
    except SecondEyeError as error:
        done = journal.finished()
        if not done:
            journal.remove()
        if not done or not isinstance(error, MediaError):
            raise
        what = "its finished segment is" if done == 1 else f"its {done} finished segments are"
        raise MediaError(f"{error} ({what} kept in {journal.folder}; the same command goes on from there)") from error


def _joined(target: Path, whole: list[mux.Segment], info: media.FilmInfo, config: FilmConfig, part: Part) -> list[str]:
    """Make the film of its segments; gives notes."""
    if media.is_sequence(target):
        sequence.write_pictures(target, whole)
        return []
    first, last = int(info.pts[part.first]), part.first + part.frames
    signal = signal_of(config.layout, config.anaglyph, swapped=config.stereo.swap)
    return mux.join(
        target, whole, tagged(info, config), start=first if config.start else None,
        end=int(info.pts[last]) if last < info.frames else None,
        signal=signal, vr180=config.projection == "vr180", deep=config.keeps_depth(info),
        views=encode.CODECS[config.codec].views, fov=config.fov, subtitles=config.subtitles == KEEP,
    )  # fmt: skip


# ---- several processes ------------------------------------------------------------------------------------


def _share(work: Work, missing: list[int], tally: Tally, jobs: int) -> None:
    """Groups of segments in processes of their own."""
    import multiprocessing
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

    most = max(1, min(_GROUP, -(-len(missing) // jobs)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        running: set[Future[tuple[int, dict[str, float]]]] = {
            pool.submit(_group_in_process, work, group) for group in groups_of(missing, most)
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


def _end_with_parent() -> None:
    """A process whose parent is killed ends too; it would wait for work for ever."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _group_in_process(work: Work, group: list[int]) -> tuple[int, dict[str, float]]:
    tally = Tally(0, work.part.frames, None)
    for left in groups_of([k for k in group if not work.journal.has(k)], None):  # some are there if a worker was lost
        convert_group(work, left, tally)
    return tally.done, tally.totals()
