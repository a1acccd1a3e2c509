# SPDX-License-Identifier: Apache-2.0
"""``secondeye sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture to write.")] = Path("sample.png"),
    depth: Annotated[
        Path | None, typer.Option(help="Write its exact inverse depth too (.npy, .png or .tif), for --depth-map.")
    ] = None,
    width: Annotated[int, typer.Option(min=64, max=4096, help="Pixels; the height follows (16 to 9).")] = 1280,
) -> None:
    """Render a sample picture, to try SecondEye before you have a photo at hand."""
    from secondeye.runtime.sample import render_sample
    from secondeye.runtime.writers import save_picture, save_values

    picture, inverse_depth = render_sample(width, width * 9 // 16)
    save_picture(output, picture)
    if depth is not None:
        save_values(depth, inverse_depth)
    typer.echo(f"{output}: {picture.shape[1]} x {picture.shape[0]}")
