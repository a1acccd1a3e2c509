# SPDX-License-Identifier: Apache-2.0
"""``secondeye build-engine``: a trained checkpoint becomes a bundle of engines."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError

MODELS = ("mono2stereo",)


def build_engine(
    model: Annotated[str, typer.Argument(help=f"What to build: {', '.join(MODELS)}.", metavar="MODEL")],
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="The UNet's weights: mono2stereo.ckpt (a torch pickle, read without running it) or .safetensors."
        ),
    ],
    base: Annotated[
        Path,
        typer.Option(help="A diffusers folder of stable-diffusion-2: vae, text_encoder, scheduler, unet/config.json."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The bundle's folder; it appears when it is whole.")],
    depth: Annotated[
        Path | None,
        typer.Option(
            help="Depth Anything V2: depth_anything_v2_vits.pth (vitb, vitl) or transformers' model.safetensors. Without it the bundle has no depth network."
        ),
    ] = None,
    shape: Annotated[
        str,
        typer.Option(
            help="HEIGHTxWIDTH in pixels, multiples of 8; or least:typical:greatest, as 512x512:768x1280:1088x1920."
        ),
    ] = "768x1280",
    precision: Annotated[
        str, typer.Option(help="fp32 or fp16; what fp16 would spoil stays in fp32, found by measuring.")
    ] = "fp32",
    backend: Annotated[str, typer.Option(help="onnx: graphs for ONNX Runtime, on any machine.")] = "onnx",
    batch: Annotated[int, typer.Option(help="The greatest number of pictures in one call.")] = 1,
    depth_side: Annotated[int, typer.Option(help="The least side of the depth network's input, pixels.")] = 518,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where finished pieces are kept. Default: the user's cache, or $SECONDEYE_CACHE."),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Build a bundle of engines from a trained checkpoint.

    secondeye build-engine mono2stereo --checkpoint mono2stereo.ckpt --base stable-diffusion-2/
    --depth depth_anything_v2_vits.pth --shape 768x1280 --precision fp16 -o stereo_bundle

    Each graph is exported, checked and compared with PyTorch; the errors stand in the bundle's manifest.json. Stop it
    at any moment and run it again: what was finished is taken up. Needs: pip install 'secondeye[export]'.
    """
    if model not in MODELS:
        raise InvalidInputError(f"expected one of {', '.join(MODELS)}, got {model!r}.")
    # Building is another room, with torch in it; the command only knocks.
    try:
        room = import_module("secondeye.export.build_engine")
    except ImportError as error:
        raise BackendUnavailableError(f"building cannot start ({error}); pip install 'secondeye[export]'.") from error
    request = room.Request(
        checkpoint=checkpoint,
        base=base,
        depth=depth,
        shape=room.parse_shape(shape),
        out=out.absolute(),
        batch=batch,
        precision=precision,
        backend=backend,
        depth_side=depth_side,
        cache=cache,
    )
    try:
        _build(room, request, quiet)
    except KeyboardInterrupt:
        typer.echo("secondeye: stopped; what was finished is kept, run it again to go on.", err=True)
        raise typer.Exit(130) from None


def _build(room: Any, request: Any, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    pieces = ["sources", "encoder", "decoder", "unet", *(["depth"] if request.depth else []), "bundle"]
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task("starting", total=len(pieces))

        def told(piece: str, step: str) -> None:
            if not quiet and not console.is_terminal:
                typer.echo(f"{piece}: {step}", err=True)
            progress.update(task, description=f"{piece}: {step}", completed=pieces.index(piece))

        folder = room.build(request, told)
        progress.update(task, description="done", completed=len(pieces))
    if not quiet:
        typer.echo(
            f"{folder}: ready; use it with: secondeye convert photo.jpg --mode quality --bundle {folder}", err=True
        )
