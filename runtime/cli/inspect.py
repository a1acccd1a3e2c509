# SPDX-License-Identifier: Apache-2.0
"""``secondeye inspect``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def inspect(
    files: Annotated[list[str], typer.Argument(help="Films.", metavar="FILM...")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")] = False,
) -> None:
    """Show what a player will understand of a film: its layout, projection, colours, and the signals that say so."""
    from secondeye.runtime.video.inspect import inspect_film

    for name in files:
        facts = inspect_film(name)
        if as_json:
            typer.echo(json.dumps(asdict(facts)))
            continue
        typer.echo(facts.path)
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
        for what, said in rows:
            if said:
                typer.echo(f"  {what + ':':<21} {said}")
