# SPDX-License-Identifier: Apache-2.0
"""The part of ``secondeye convert`` that is for films."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from secondeye.runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from secondeye.runtime.video.film import FilmConfig


def is_film(name: str) -> bool:
    """Whether a name is a film's, by its ending."""
    from secondeye.runtime.video.media import READ_SUFFIXES

    return Path(name).suffix.lower() in READ_SUFFIXES


def target_for(source: str, output: str | None, layout: str) -> Path:
    """Where a film goes: the output, or its own name with the layout's ending, in the output's folder."""
    from secondeye.runtime.layouts import LAYOUTS

    path = Path(source)
    if output == "-":
        raise InvalidInputError("-o -: films go to a file; name one.")
    if layout not in LAYOUTS:
        raise InvalidInputError(f"--layout: for films expected one of {', '.join(LAYOUTS)}, got {layout!r}.")
    if output is not None and not Path(output).is_dir() and Path(output).suffix:
        return Path(output)
    suffix = path.suffix.lower() if path.suffix.lower() in (".mp4", ".mov", ".mkv") else ".mkv"
    folder = path.parent if output is None else Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{path.stem}{LAYOUTS[layout].suffix}{suffix}"


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


def convert_film(source: str, target: Path, config: FilmConfig, *, jobs: int, quiet: bool, verbose: bool) -> None:
    """Convert one film, with a bar."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from secondeye.runtime.comfort import comfort_note
    from secondeye.runtime.video.film import Progress as Told, convert_video
    from secondeye.runtime.video.media import probe

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task(target.name[:40], total=None, speed="")

        def told(now: Told) -> None:
            slowest = max(now.timings.items(), key=lambda item: item[1], default=("", 0.0))
            speed = bar.tasks[0].speed
            text = f"{speed:.1f} frames/s, slowest: {slowest[0]}" if speed and slowest[0] else ""
            bar.update(task, total=now.total, completed=now.done, speed=text)

        try:
            report = convert_video(source, target, config, jobs=jobs, progress=told)
        except KeyboardInterrupt:
            bar.stop()
            typer.echo(f"secondeye: stopped; the same command goes on from {target}.parts.", err=True)
            raise typer.Exit(130) from None
    if quiet:
        return
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    stereo = config.stereo
    width = stereo.size[0] if stereo.size is not None else probe(source).width
    note_of_comfort = comfort_note(stereo.strength_for(width), stereo.screen)
    if note_of_comfort is not None:
        typer.echo(f"note: {note_of_comfort}", err=True)
    reused = f" ({report.reused} were there already)" if report.reused else ""
    shots = "1 shot" if report.shots == 1 else f"{report.shots} shots"
    typer.echo(f"{target}: {report.frames} frames{reused}, {shots}, {report.seconds:.1f} s", err=True)
    if verbose and report.timings:
        typer.echo(
            "  " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in report.timings.items()) + " a frame", err=True
        )
