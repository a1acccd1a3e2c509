# SPDX-License-Identifier: Apache-2.0
"""The part of ``secondeye convert`` that is for films."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from secondeye.runtime.cli._bar import progress_bar
from secondeye.runtime.cli._pictures import below, clash_of, is_folder
from secondeye.runtime.errors import InvalidInputError, SecondEyeError
from secondeye.runtime.files import check_place, make_folder

if TYPE_CHECKING:
    from secondeye.runtime.config import StereoConfig
    from secondeye.runtime.video.config import FilmConfig
    from secondeye.runtime.video.film import FilmReport
    from secondeye.runtime.video.stages import Progress as Told


@dataclass(frozen=True, kw_only=True)
class FilmOptions:
    """The command's options for films, as they were typed."""

    layout: str
    anaglyph: str
    size: str | None
    auto_convergence: bool
    codec: str
    crf: int | None
    preset: str | None
    start: str | None
    end: str | None
    fps: str | None
    crop_bars: bool
    deinterlace: str
    bits: int | None
    projection: str
    fov: float
    jobs: int
    cluster: str | None
    report: Path | None
    allow_network: bool
    floating_window: bool
    key_every: int
    subtitles: str
    subtitle_depth: float
    subtitle_font: Path | None
    depth_map: Path | None
    depth_map_kind: str


def is_film(name: str) -> bool:
    """Whether a name is a film's, by its ending; or standard input's, by what comes first."""
    from secondeye.runtime.video.media import READ_SUFFIXES, is_sequence
    from secondeye.runtime.video.pipe import MAGIC

    if name == "-":
        head: bytes = getattr(sys.stdin.buffer, "peek", lambda _: b"")(len(MAGIC))
        return head.startswith(MAGIC)
    if "://" in name:
        return True
    if not Path(name).exists() and any(c in name for c in "*?["):
        return False  # a pattern
    return Path(name).suffix.lower() in READ_SUFFIXES or (is_sequence(name) and not Path(name).exists())


def target_for(source: str, output: str | None, layout: str, projection: str = "flat") -> Path:
    """Where a film goes: the output, or its own name with the layout's ending, in the output's folder."""
    from secondeye.runtime.layouts import LAYOUTS
    from secondeye.runtime.video.media import is_sequence

    path = Path(source)
    if output is not None and not is_folder(output):
        return Path(output)
    suffix = path.suffix.lower() if path.suffix.lower() in (".mp4", ".mov", ".mkv") else ".mkv"
    ending = LAYOUTS[layout].suffix
    if projection == "vr180":
        ending = "_180" + {"sbs": "_LR"}.get(layout, ending)
        suffix = suffix if suffix in (".mp4", ".mov") else ".mp4"
    stem = path.parent.name or "film" if is_sequence(path) else path.stem
    folder = path.parent if output is None else Path(output)
    make_folder(folder)
    return folder / f"{stem}{ending}{suffix}"


def seconds(name: str, text: str | None) -> float | None:
    """A time: seconds, MM:SS or HH:MM:SS."""
    if text is None:
        return None
    try:
        total = 0.0
        for part in text.split(":"):
            total = 60.0 * total + float(part)
        if not 0.0 <= total < 1e6:
            raise ValueError(text)
        return total
    except ValueError as error:
        raise InvalidInputError(f"{name}: expected seconds, MM:SS or HH:MM:SS, got {text!r}.") from error


def convert_film(
    source: str, output: str | None, stereo: StereoConfig, options: FilmOptions, *, quiet: bool, verbose: bool
) -> None:
    """Convert one film, with a bar and a summary."""
    from secondeye.runtime.layouts import LAYOUTS
    from secondeye.runtime.video.config import FilmConfig
    from secondeye.runtime.video.pipe import stream_video

    if options.layout not in LAYOUTS:
        raise InvalidInputError(f"--layout: for films expected one of {', '.join(LAYOUTS)}, got {options.layout!r}.")
    config = FilmConfig(
        stereo=stereo, layout=options.layout, anaglyph=options.anaglyph, auto_convergence=options.auto_convergence,
        codec=options.codec, quality=options.crf, preset=options.preset, start=seconds("--start", options.start),
        end=seconds("--end", options.end), bits=options.bits, projection=options.projection,  # type: ignore[arg-type]
        fov=options.fov, fps=options.fps, crop_bars=options.crop_bars, floating_window=options.floating_window,
        deinterlace=options.deinterlace,  # type: ignore[arg-type]
        key_every=options.key_every, subtitles=options.subtitles, subtitle_depth=options.subtitle_depth,
        subtitle_font=None if options.subtitle_font is None else str(options.subtitle_font),
        depth_map=None if options.depth_map is None else str(options.depth_map), depth_map_kind=options.depth_map_kind,
    )  # fmt: skip
    if source == "-" and output != "-":
        raise InvalidInputError("standard input: y4m from a pipe goes to a pipe, as y4m; add -o - and pipe it on.")
    if options.report is not None and options.report.suffix.lower() not in (".html", ".htm"):
        raise InvalidInputError(f"--report: expected a name ending in .html, got {options.report}.")
    if options.report is not None:
        check_place(options.report)
    if output != "-":
        target = target_for(source, output, options.layout, options.projection)
    fetched: Path | None = None
    if "://" in source and options.allow_network:
        from secondeye.runtime.video.network import fetch_film

        if output == "-":
            raise InvalidInputError("-o -: a film from the network goes to a file; name one.")
        fetched = fetch_film(source, target)
        source = str(fetched)
    if options.size is not None and source != "-":
        config = replace(config, stereo=replace(stereo, size=_sized(source, options.size, config)))
    if output == "-":
        count = stream_video(sys.stdin.buffer if source == "-" else source, sys.stdout.buffer, config)
        if not quiet:
            typer.echo(f"{count} frames", err=True)
        return
    told: list[str] = []
    report = _with_bar(source, target, config, options, told, quiet=quiet)
    if fetched is not None:
        fetched.unlink(missing_ok=True)
    if options.report is not None:
        _write_page(options.report, source, config, report)
    if not quiet:
        _summary(report, config, verbose, told)


def convert_films(
    sources: list[str], folders: list[str], output: str | None, stereo: StereoConfig, options: FilmOptions,
    skip_existing: bool, *, quiet: bool, verbose: bool, alone: bool,
) -> int:  # fmt: skip
    """Films one after another, with what a single one has; gives how many failed, each of which was told.

    A single one's error is the command's where it is `alone`, without pictures.
    """
    if options.report is not None and len(sources) > 1:
        raise InvalidInputError("--report goes with one film; convert it alone.")
    homes = {source: below(source, folders) for source in sources}
    places = [
        output if output is None or homes[source] == Path() else os.path.join(output, homes[source], "")
        for source in sources
    ]
    targets = [
        target_for(source, place, options.layout, options.projection)
        for source, place in zip(sources, places, strict=True)
    ]
    clash = clash_of(sources, targets)
    if clash is not None:
        raise InvalidInputError(f"{clash}; rename one.")
    failed = 0
    for source, target in zip(sources, targets, strict=True):
        if skip_existing and target.exists():
            if not quiet:
                typer.echo(f"{target}: was there already", err=True)
            continue
        try:
            convert_film(source, str(target), stereo, options, quiet=quiet, verbose=verbose)
        except SecondEyeError as error:
            if len(sources) == 1 and alone:
                raise
            failed += 1
            typer.echo(f"failed: {error}", err=True)
    return failed


def _sized(source: str, size: str, config: FilmConfig) -> tuple[int, int]:
    from secondeye.runtime.cli._words import parse_size
    from secondeye.runtime.video.config import open_film

    info = open_film(source, replace(config, fps=None, deinterlace="off"))
    width, height = parse_size(size, info.width, info.height)
    return width // 2 * 2, height // 2 * 2


def _with_bar(
    source: str, target: Path, config: FilmConfig, options: FilmOptions, notes: list[str], *, quiet: bool
) -> FilmReport:
    """Convert; the notes that were told before the work are put into `notes`."""
    from secondeye.runtime.video.film import convert_video

    bar = progress_bar(told=True, remaining=True, disable=quiet)
    task = bar.add_task(target.name[:40], total=None, told="")

    def told(now: Told) -> None:
        bar.start()  # with the first frame: what is refused before that has no bar
        bar.update(task, total=now.total, completed=now.done, told=status(now, bar.tasks[0].speed))

    def note(text: str) -> None:
        notes.append(text)
        if not quiet:
            typer.echo(f"note: {text}", err=True)

    try:
        try:
            return convert_video(
                source, target, config, jobs=options.jobs, cluster=options.cluster, progress=told, notify=note
            )
        finally:
            if bar.live.is_started:
                bar.stop()
    except KeyboardInterrupt:
        kept = target.with_name(f"{target.name}.parts")
        told_so = f"stopped; the same command goes on from {kept}." if kept.exists() else "stopped."
        typer.echo(f"secondeye: {told_so}", err=True)
        raise typer.Exit(130) from None


def status(now: Told, speed: float | None) -> str:
    """Frames a second, the shot that is being made, and the slowest stage."""
    words = [f"{speed:.1f} frames/s"] if speed else []
    if now.shot:
        words.append(f"shot {now.shot}: {now.shot_frames} frames")
    if now.timings:
        words.append(f"slowest: {max(now.timings, key=now.timings.__getitem__)}")
    return ", ".join(words)


def _write_page(path: Path, source: str, config: FilmConfig, report: FilmReport) -> None:
    from secondeye.runtime.video.report import write_report

    stereo = config.stereo
    about = {
        "source": source,
        "layout": config.layout
        + (f" on half a sphere, {config.fov:g} degrees wide" if config.projection != "flat" else ""),
        "strength": f"{stereo.strength_for(report.width):g} % of the width",
        "convergence": "auto, shot by shot" if config.auto_convergence else f"{stereo.convergence:g}",
        "depth model": str(stereo.depth) if config.depth_map is None else f"none: maps of {config.depth_map}",
        "codec": config.codec,
    }
    write_report(path, report, about)


def _summary(report: FilmReport, config: FilmConfig, verbose: bool, told: list[str]) -> None:
    from secondeye.runtime.comfort import comfort_note
    from secondeye.runtime.video.report import warnings_of

    notes = [*(note for note in report.notes if note not in told), *warnings_of(report)]
    note_of_comfort = comfort_note(config.stereo.strength_for(report.width), config.stereo.screen)
    if note_of_comfort is not None:
        notes.append(note_of_comfort)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    reused = f" ({report.reused} were there already)" if report.reused else ""
    shots = "1 shot" if report.shots == 1 else f"{report.shots} shots"
    made = report.frames - report.reused
    speed = f" ({made / report.seconds:.1f} frames/s)" if made and report.seconds else ""
    typer.echo(f"{report.output}: {report.frames} frames{reused}, {shots}, {report.seconds:.1f} s{speed}", err=True)
    if verbose and report.timings:
        stages = ", ".join(f"{name} {ms:.1f} ms" for name, ms in report.timings.items())
        typer.echo(f"  {stages} a frame", err=True)
