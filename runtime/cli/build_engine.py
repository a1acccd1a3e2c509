# SPDX-License-Identifier: Apache-2.0
"""``secondeye build-engine``: a trained checkpoint becomes a bundle of engines."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from secondeye.runtime.cli._bar import progress_bar
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError

MODELS = ("mono2stereo", "sgt-bagel")


def build_engine(
    model: Annotated[str, typer.Argument(help=f"What to build: {', '.join(MODELS)}.", metavar="MODEL")],
    checkpoint: Annotated[
        Path,
        typer.Option(
            help="mono2stereo: the UNet's weights, mono2stereo.ckpt (a torch pickle, read without running it) or .safetensors. sgt-bagel: a folder of BAGEL's files with SGT's ema.safetensors."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The bundle's folder; it appears when it is whole.")],
    base: Annotated[
        Path | None,
        typer.Option(
            help="mono2stereo: a diffusers folder of stable-diffusion-2: vae, text_encoder, scheduler, unet/config.json."
        ),
    ] = None,
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
        str,
        typer.Option(
            help="fp32; bf16 (weights alone, arithmetic in fp32); fp16 (what it would spoil stays in fp32, found by measuring); int8, int4 or, for plans, fp8 (weights of matrix products alone)."
        ),
    ] = "fp32",
    backend: Annotated[
        str,
        typer.Option(
            help="onnx: graphs for ONNX Runtime, on any machine. tensorrt-rtx: plans for desktop GPUs beside them, built without a GPU. tensorrt: plans for the GPU of this machine."
        ),
    ] = "onnx",
    target: Annotated[
        str,
        typer.Option(
            help="GPU architectures of the plans, as sm_86,sm_89; auto: this machine's GPU, or without one all that tensorrt-rtx builds for."
        ),
    ] = "auto",
    batch: Annotated[int, typer.Option(help="The greatest number of pictures in one call.")] = 1,
    depth_side: Annotated[int, typer.Option(help="The least side of the depth network's input, pixels.")] = 518,
    size: Annotated[int, typer.Option(help="sgt-bagel: the greatest side of the colour map, pixels.")] = 1024,
    layout: Annotated[
        str,
        typer.Option(
            help="sgt-bagel: what the model sees of the picture: trained (a 224-pixel thumbnail, as SGT was trained) or edit (its latents and 980 pixels, as the authors' editing script does)."
        ),
    ] = "trained",
    instruction: Annotated[str | None, typer.Option(help="sgt-bagel: what the model is told.")] = None,
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
    common: dict[str, Any] = {
        "out": out.absolute(),
        "precision": precision,
        "backend": backend,
        "target": target,
        "cache": cache,
    }
    if model == "sgt-bagel":
        request = room.SgtRequest(checkpoint=checkpoint, size=size, layout=layout, instruction=instruction, **common)
        work, use = room.build_sgt, "secondeye segment photo.jpg --bundle"
    elif base is None:
        raise InvalidInputError("--base: mono2stereo needs a diffusers folder of stable-diffusion-2.")
    else:
        shapes = room.parse_shape(shape)
        request = room.Request(
            checkpoint=checkpoint, base=base, depth=depth, shape=shapes, batch=batch, depth_side=depth_side, **common
        )
        work, use = room.build, "secondeye convert photo.jpg --mode quality --bundle"
    try:
        folder = _build(work, request, quiet)
    except KeyboardInterrupt:
        typer.echo("secondeye: stopped; what was finished is kept, run it again to go on.", err=True)
        raise typer.Exit(130) from None
    if not quiet:
        typer.echo(f"{folder}: ready; use it with: {use} {shlex.quote(str(folder))}", err=True)


def _build(work: Any, request: Any, quiet: bool) -> Path:
    from rich.console import Console

    console = Console(stderr=True)
    with progress_bar(counted=False, console=console, disable=quiet) as progress:
        task = progress.add_task("starting", total=None)

        def told(piece: str, step: str) -> None:
            if not quiet and not console.is_terminal:
                typer.echo(f"{piece}: {step}", err=True)
            progress.update(task, description=f"{piece}: {step}")

        folder: Path = work(request, told)
    return folder
