# SPDX-License-Identifier: Apache-2.0
"""``secondeye inspect``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from secondeye.runtime.video.inspect import FilmFacts, PictureFacts


def inspect(
    files: Annotated[list[str], typer.Argument(help="Films and pictures.", metavar="FILE...")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")] = False,
) -> None:
    """Show what a player will understand of a film or picture: layout, projection, colours, the signals that say so."""
    from secondeye.runtime.pictures import READ_SUFFIXES
    from secondeye.runtime.video.inspect import inspect_film, inspect_picture
    from secondeye.runtime.video.media import is_sequence

    for name in files:
        if Path(name).suffix.lower() in READ_SUFFIXES and (Path(name).exists() or not is_sequence(name)):
            picture = inspect_picture(name)
            many = f", {picture.pictures} of them" if picture.pictures > 1 else ""
            rows = [
                ("viewers see", picture.verdict),
                *picture.signals.items(),
                ("picture", f"{picture.format}, {picture.width} x {picture.height}, {picture.mode}{many}"),
                *(("warning", one) for one in picture.warnings),
            ]
            _tell(picture, rows, as_json)
            continue
        facts = inspect_film(name)
        rows = [
            ("players see", facts.verdict),
            *((where, said) for where, said in facts.signals.items()),
            ("projection", facts.projection),
            ("picture", f"{facts.codec}, {facts.width} x {facts.height}, {facts.rate:g} frames/s, {facts.bits} bits"),
            ("colour", facts.colour),
            *(("sound", one) for one in facts.sound),
            *(("subtitles", one) for one in facts.subtitles),
            ("container", f"{facts.container}, {facts.seconds:.2f} s"),
            *(("warning", one) for one in facts.warnings),
        ]
        _tell(facts, rows, as_json)


def _tell(facts: FilmFacts | PictureFacts, rows: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(facts)))
        return
    typer.echo(facts.path)
    for what, said in rows:
        if said:
            typer.echo(f"  {what + ':':<21} {said}")
