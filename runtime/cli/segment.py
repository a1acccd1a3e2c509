# SPDX-License-Identifier: Apache-2.0
"""``secondeye segment``: the objects of a picture, by an SGT bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from secondeye.runtime.cli._bar import progress_bar


def segment(
    picture: Annotated[Path, typer.Argument(help="The picture.")],
    bundle: Annotated[Path, typer.Option(help="An SGT bundle; see: secondeye build-engine --help.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The labels: a 16-bit PNG, 1 is the largest object.")],
    preview: Annotated[
        Path | None, typer.Option(help="A sheet to look at: the picture, what the model painted, the objects.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=50, help="Evaluations of the flow; fewer are faster.")] = 24,
    guidance: Annotated[
        float, typer.Option(min=1, max=20, help="By the instruction; 1 is none, over 1 costs twice.")
    ] = 1.0,
    image_guidance: Annotated[
        float, typer.Option(min=1, max=20, help="By the picture, beside the other; over 1 costs half as much again.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise; the same seed gives the same labels.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=0, max=256, help="0: one per core.")] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Find the objects of a picture with SGT's model.

    The labels serve secondeye convert --segment labels.png, which puts the edges of depth on the borders of objects;
    --segment sgt:FOLDER does both at once.
    """
    import os

    import numpy as np
    from PIL import Image
    from rich.console import Console

    from secondeye.runtime.errors import InvalidInputError
    from secondeye.runtime.files import atomic_write, check_place
    from secondeye.runtime.pictures import read_picture
    from secondeye.runtime.preview import label_sheet
    from secondeye.runtime.segment import Segmenter
    from secondeye.runtime.writers import format_of, save_picture

    if output.suffix.lower() != ".png":
        raise InvalidInputError(f"{output}: labels are written as a 16-bit PNG; give a name that ends in .png.")
    places = [os.path.realpath(path) for path in (picture, output, preview) if path is not None]
    if len(set(places)) < len(places):
        raise InvalidInputError("the picture, the labels and the preview are to be files of their own; choose names.")
    for path in (output, preview):
        if path is not None:
            check_place(path)
            format_of(path)
    loaded = read_picture(picture)
    console = Console(stderr=True)
    with progress_bar(console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("load", total=1)

        def tell(stage: str, done: int, total: int) -> None:
            progress.update(task, description=stage, completed=done, total=total)

        options: dict[str, Any] = {"steps": steps, "guidance": guidance, "image_guidance": image_guidance}
        options |= {"seed": seed, "threads": threads}
        plan = None if quiet else console.print
        segmenter = Segmenter(bundle, device=device, progress=tell, told=plan, **options)  # type: ignore[arg-type]
        result = segmenter.segment(loaded)
    with atomic_write(output) as file:
        Image.fromarray(result.labels.astype(np.uint16)).save(file, "PNG")
    if preview is not None:
        save_picture(preview, label_sheet(loaded.pixels[:, :, :3], result.colour_map, result.labels))
    if not quiet:
        seconds = sum(result.timings.values()) / 1e3
        typer.echo(f"{output}: {result.labels.max()} objects, confidence {result.confidence:.2f}, {seconds:.1f} s")
        if result.confidence < 0.7:
            typer.echo("The model painted no colour map here: the labels mean little.", err=True)
