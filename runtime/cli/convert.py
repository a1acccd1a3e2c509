# SPDX-License-Identifier: Apache-2.0
"""``secondeye convert``: pictures and films in, stereo ones out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from secondeye.runtime.cli._film import FilmOptions, convert_film, convert_films, is_film
from secondeye.runtime.cli._guard import end_as_interrupted
from secondeye.runtime.cli._pictures import Job, Output, check_folder, convert_many, convert_one, expand, targets_of
from secondeye.runtime.cli._words import convergence_of, model_of, scaled, screen_of, strength_of
from secondeye.runtime.errors import InvalidInputError

_LOOK, _DEPTH, _QUALITY = "How it looks", "Depth", "Quality mode"
_FILES, _FILMS, _MORE = "Files", "Films", "More"


def convert(
    ctx: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, films, folders of them, patterns in quotes, numbered pictures (%05d) as one film, - for standard input.",
            metavar="INPUT...",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            rich_help_panel=_FILES,
            help="A file for one picture, a folder for more, - for standard output. Default: beside the source, "
            "as NAME_SBS.png or what the layout is called. A name ending in .jps or .mpo makes a stereo photo.",
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "-l",
            "--layout",
            rich_help_panel=_LOOK,
            help="sbs, half-sbs, tb, half-tb, cross, anaglyph, separate, rgbd... All: secondeye layouts",
        ),
    ] = "sbs",
    anaglyph: Annotated[
        str,
        typer.Option(
            rich_help_panel=_LOOK, help="Which glasses and method, for the anaglyph layout. All: secondeye layouts"
        ),
    ] = "dubois-red-cyan",
    strength: Annotated[
        str,
        typer.Option(
            "-s",
            "--strength",
            rich_help_panel=_LOOK,
            help="Full range of disparity: percent of the width (1 is gentle, 3 the limit of comfort), pixels (40px), or degrees on a --screen (0.8deg).",
        ),
    ] = "2.5",
    screen: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_LOOK,
            help="Where it will be looked at, WIDTHxDISTANCE in metres: 0.6x0.7 is a monitor, 1.2x2.5 a television. Limits of comfort follow from it.",
        ),
    ] = None,
    convergence: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--convergence",
            rich_help_panel=_LOOK,
            help="Depth on the screen plane: 0 far (all stands out) to 1 near (all lies behind). Films: auto puts the "
            "screen a little before each shot's subject. Default: 0.5; auto for films.",
        ),
    ] = None,
    gamma: Annotated[
        float, typer.Option(rich_help_panel=_LOOK, help="Over 1 flattens the background, under 1 the foreground.")
    ] = 1.0,
    view: Annotated[
        str,
        typer.Option(rich_help_panel=_LOOK, help="right: the source is the left view. both: each eye moves half way."),
    ] = "right",
    swap: Annotated[bool, typer.Option("--swap", rich_help_panel=_LOOK, help="Exchange the views.")] = False,
    size: Annotated[
        str | None,
        typer.Option(rich_help_panel=_LOOK, help="Scale the source first: 1920x1080, 1920x or x1080, or 50%."),
    ] = None,
    widen: Annotated[
        int,
        typer.Option(rich_help_panel=_LOOK, help="How far the rims of near objects move with them, pixels at 1080p."),
    ] = 2,
    fill: Annotated[
        bool, typer.Option(rich_help_panel=_LOOK, help="Paint what the second eye sees behind objects.")
    ] = True,
    depth_model: Annotated[
        str,
        typer.Option(
            rich_help_panel=_DEPTH,
            help="auto (the bundle's own in quality mode, else built in), builtin, cues, an ONNX file, or a name from: secondeye models list",
        ),
    ] = "auto",
    depth_map: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_DEPTH,
            help="Your own map, near is bright. For a picture: grey (8 or 16 bits, float) or .npy; for several: a folder with one of each name. For a film: a grey film, numbered pictures (depth/%05d.png), or .npy [T, h, w].",
        ),
    ] = None,
    depth_map_kind: Annotated[
        str,
        typer.Option(
            rich_help_panel=_DEPTH, help="disparity (larger is nearer), depth (larger is farther) or pixels (as it is)."
        ),
    ] = "disparity",
    segment: Annotated[
        str,
        typer.Option(
            rich_help_panel=_DEPTH,
            help="Who tells objects apart, so that the edges of depth fall on their borders: off, sgt:FOLDER (a bundle), an ONNX segmentation network, or, of one picture, its labels (16-bit PNG, .npy; see secondeye segment).",
        ),
    ] = "off",
    depth_size: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_DEPTH, help="Shorter side of the network's input, pixels. Default: the model's own."
        ),
    ] = None,
    depth_norm: Annotated[
        str, typer.Option(rich_help_panel=_DEPTH, help="auto, imagenet, half ([-1, 1]) or none ([0, 1]).")
    ] = "auto",
    depth_output: Annotated[
        str,
        typer.Option(rich_help_panel=_DEPTH, help="auto, disparity (larger is nearer) or depth (larger is farther)."),
    ] = "auto",
    device: Annotated[
        str, typer.Option(rich_help_panel=_DEPTH, help="Where the models run: cpu, cuda, tensorrt or tensorrt-rtx.")
    ] = "cpu",
    mode: Annotated[
        str,
        typer.Option(
            rich_help_panel=_QUALITY,
            help="fast: kernels fill what the second eye reveals. quality: the model of a --bundle paints it.",
        ),
    ] = "fast",
    bundle: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_QUALITY, help="Folder of a Mono2Stereo bundle. Made by: secondeye build-engine"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(rich_help_panel=_QUALITY, help="Steps of the scheduler. Default: 50 for ddim, 4 for warped."),
    ] = None,
    scheduler: Annotated[
        str,
        typer.Option(
            rich_help_panel=_QUALITY,
            help="ddim: from noise, as the model's authors do. warped: from the warped view with noise added, for 1 to 4 steps.",
        ),
    ] = "ddim",
    noise: Annotated[
        float,
        typer.Option(rich_help_panel=_QUALITY, help="How far towards noise the warped scheduler starts, to 1."),
    ] = 0.8,
    seed: Annotated[
        int, typer.Option(rich_help_panel=_QUALITY, help="Of the noise; the same seed gives the same picture.")
    ] = 0,
    compose: Annotated[
        str,
        typer.Option(
            rich_help_panel=_QUALITY,
            help="inpaint: the model's picture in and round disocclusions only. generated: all of it.",
        ),
    ] = "inpaint",
    tiles: Annotated[
        str,
        typer.Option(
            rich_help_panel=_QUALITY,
            help="dense: the model sees the whole picture. sparse: only tiles round disocclusions, with --compose inpaint.",
        ),
    ] = "dense",
    conditioning: Annotated[
        str,
        typer.Option(
            rich_help_panel=_QUALITY,
            help="stereo: --strength and --convergence hold. authors: disparity and warp as the model's published code.",
        ),
    ] = "stereo",
    save_depth: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILES,
            help="Write the disparity too: .npy in pixels, .png or .tif as 16-bit grey. Of several pictures: a folder.",
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILES,
            help="Write a contact sheet: source, disparity in colour, holes, anaglyph. Of several pictures: a folder.",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            rich_help_panel=_FILES, help="png, jpg, webp, tif, avif, jps or mpo, where the output's name does not say."
        ),
    ] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, rich_help_panel=_FILES, help="Of lossy formats.")] = 95,
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            rich_help_panel=_FILES,
            help="Folders within folders too; they are made in the output folder.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", rich_help_panel=_FILES, help="Go on where a stopped run left off.")
    ] = False,
    codec: Annotated[
        str,
        typer.Option(
            rich_help_panel=_FILMS,
            help="h264, hevc, av1, prores, ffv1, mv-hevc (spatial video), or h264-nvenc, hevc-nvenc, av1-nvenc.",
        ),
    ] = "h264",
    crf: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=_FILMS, help="The encoder's quality number, lower is better. Default: 18 for h264."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(rich_help_panel=_FILMS, help="The encoder's speed, by its own name: fast, slow ...")
    ] = None,
    start: Annotated[
        str | None, typer.Option(rich_help_panel=_FILMS, help="Begin there: seconds, MM:SS or HH:MM:SS.")
    ] = None,
    end: Annotated[str | None, typer.Option(rich_help_panel=_FILMS, help="End there.")] = None,
    key_every: Annotated[
        int,
        typer.Option(
            rich_help_panel=_FILMS,
            help="With --segment: frames from one key frame, on which objects are told apart, to the next at most (1 to 48).",
        ),
    ] = 24,
    jobs: Annotated[
        int, typer.Option(rich_help_panel=_FILMS, help="Processes that share a film. The result does not depend on it.")
    ] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILMS,
            help="Share a film over a Ray cluster: its address, auto, or local. All machines see the same folders.",
        ),
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILMS, help="Frames a second, in place of the film's own; of numbered pictures: 24."
        ),
    ] = None,
    crop_bars: Annotated[
        bool, typer.Option("--crop-bars", rich_help_panel=_FILMS, help="Leave out black bars.")
    ] = False,
    deinterlace: Annotated[
        str,
        typer.Option(rich_help_panel=_FILMS, help="auto: interlaced frames are made whole of their fields. off: kept."),
    ] = "auto",
    floating_window: Annotated[
        bool,
        typer.Option(
            "--floating-window",
            rich_help_panel=_FILMS,
            help="A black bar on one eye's side of a border that cuts what stands out of the screen.",
        ),
    ] = False,
    subtitles: Annotated[
        str,
        typer.Option(
            rich_help_panel=_FILMS,
            help="keep: the film's, as streams. off: none. burn (burn:ger for a language) or a FILE.srt: text in both views, at --subtitle-depth.",
        ),
    ] = "keep",
    subtitle_depth: Annotated[
        float,
        typer.Option(
            rich_help_panel=_FILMS, help="How far in front of the screen that text is, percent of the width (-5 to 5)."
        ),
    ] = 0.5,
    subtitle_font: Annotated[
        Path | None, typer.Option(rich_help_panel=_FILMS, help="A font's file. Default: one that has all letters.")
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(rich_help_panel=_FILMS, help="8: films of 10 bits and more become 8. Default: they stay 10."),
    ] = None,
    projection: Annotated[
        str, typer.Option(rich_help_panel=_FILMS, help="flat, or vr180: each view on half a sphere, for headsets.")
    ] = "flat",
    fov: Annotated[
        float, typer.Option(rich_help_panel=_FILMS, help="Degrees that the width covers, for vr180 and mv-hevc.")
    ] = 90.0,
    report: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILMS, help="Write a page (HTML): each shot's disparity and pictures, times, warnings."
        ),
    ] = None,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", rich_help_panel=_FILMS, help="Let an http(s) address be a film.")
    ] = False,
    threads: Annotated[
        int, typer.Option(rich_help_panel=_MORE, help="0 is one per core. The result does not depend on it.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", rich_help_panel=_MORE, help="Print errors only.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", rich_help_panel=_MORE, help="Print milliseconds per stage.")
    ] = False,
) -> None:
    """Turn pictures and films into stereo ones.

    secondeye convert photo.jpg -o photo_3d.png

    secondeye convert photo.jpg -o photo_ana.png --layout anaglyph --strength 2

    secondeye convert holiday/ -o holiday_3d/ --layout half-sbs --format jpg

    secondeye convert photo.jpg --depth-map depth.png --preview sheet.png

    cat photo.jpg | secondeye convert - -o - --format jpg > photo_3d.jpg

    secondeye convert film.mp4 -o film_3d.mp4 --layout half-sbs

    secondeye convert "frames/%05d.png" -o film_3d.mkv --fps 25

    ffmpeg -i film.mp4 -f yuv4mpegpipe - | secondeye convert - -o - > film_3d.y4m

    A film that was stopped, by Ctrl-C, a crash or a kill, goes on with the same command.

    secondeye convert photo.jpg --mode quality --bundle stereo_bundle --scheduler warped --steps 4
    """
    from secondeye.runtime.config import StereoConfig
    from secondeye.runtime.converter import StereoConverter
    from secondeye.runtime.layouts import LAYOUTS, SEPARATE
    from secondeye.runtime.ops import ANAGLYPHS

    single = len(inputs) == 1 and is_film(inputs[0])
    sources = inputs if single else list(expand(inputs, recursive, (output, depth_map, save_depth, preview)))
    folders = [word for word in inputs if Path(word).is_dir()]
    many = not single and (len(sources) > 1 or bool(folders))
    films = [source for source in sources if is_film(source)]
    pictures = [source for source in sources if source not in films]
    _check_options(ctx, films, pictures)
    if layout not in (*LAYOUTS, SEPARATE):
        raise InvalidInputError(f"--layout: expected one of {', '.join((*LAYOUTS, SEPARATE))}, got {layout!r}.")
    if anaglyph not in ANAGLYPHS:
        raise InvalidInputError(f"--anaglyph: expected one of {', '.join(ANAGLYPHS)}, got {anaglyph!r}.")
    amount, unit = strength_of(strength)
    config = StereoConfig(
        strength=amount,
        strength_unit=unit,
        screen=screen_of(screen),
        convergence=convergence_of(convergence, not pictures),
        gamma=gamma,
        view=view,  # type: ignore[arg-type]  # checked by the configuration
        swap=swap,
        depth=model_of(depth_model),
        segment=segment,
        depth_size=depth_size,
        depth_normalisation=depth_norm,  # type: ignore[arg-type]
        depth_output=depth_output,  # type: ignore[arg-type]
        device=device,  # type: ignore[arg-type]
        widen=widen,
        fill=fill,
        threads=threads,
        mode=mode,  # type: ignore[arg-type]
        bundle=bundle,
        scheduler=scheduler,  # type: ignore[arg-type]
        steps=steps,
        noise=noise,
        seed=seed,
        compose=compose,  # type: ignore[arg-type]
        tiles=tiles,  # type: ignore[arg-type]
        conditioning=conditioning,  # type: ignore[arg-type]
    )
    if many:
        check_folder(output)
    if films:
        if save_depth or preview:
            raise InvalidInputError(
                "--save-depth and --preview go with pictures; a film's maps: --layout disparity -o maps.mkv --codec ffv1"
            )
        if depth_map and (len(films) > 1 or pictures):
            raise InvalidInputError("--depth-map goes with one film or picture; convert it alone.")
        wanted_film = FilmOptions(
            layout=layout, anaglyph=anaglyph, size=size, auto_convergence=convergence in (None, "auto"), codec=codec,
            crf=crf, preset=preset, start=start, end=end, fps=fps, crop_bars=crop_bars, bits=bits, deinterlace=deinterlace,
            projection=projection, fov=fov, jobs=jobs, cluster=cluster, report=report, allow_network=allow_network,
            floating_window=floating_window, key_every=key_every, subtitles=subtitles, subtitle_depth=subtitle_depth,
            subtitle_font=subtitle_font, depth_map=depth_map, depth_map_kind=depth_map_kind,
        )  # fmt: skip
        if single and not skip_existing:
            convert_film(films[0], output, config, wanted_film, quiet=quiet, verbose=verbose)
            return
        every = functools.partial(
            convert_films, films, folders, output, config, wanted_film, skip_existing, quiet=quiet, verbose=verbose
        )
        if not pictures:
            raise typer.Exit(1 if every(alone=True) else 0)
    targets = targets_of(pictures, folders, output, layout, "." + format.lower().lstrip("."), many)
    wanted = Output(layout=layout, anaglyph=anaglyph, quality=quality, save_depth=save_depth, preview=preview)
    job = Job(
        StereoConverter(config),
        wanted,
        lambda picture: scaled(picture, size),
        depth_map,
        depth_map_kind,
        quiet,
        verbose,
        folders,
        many,
    )
    job.check(pictures, targets)
    failed = every(alone=False) if films else 0  # what is wrong with the pictures' names has been told
    end_as_interrupted()
    try:
        if many:
            convert_many(job, pictures, targets, skip_existing)
        elif not (skip_existing and job.done(targets[0])):
            convert_one(job, pictures[0], targets[0])
    except KeyboardInterrupt:
        more = "; go on with --skip-existing" if many else ""
        typer.echo(f"secondeye: stopped; every file that was written is whole{more}.", err=True)
        raise typer.Exit(130) from None
    if failed:
        raise typer.Exit(1)


def _check_options(ctx: typer.Context, films: list[str], pictures: list[str]) -> None:
    """Refuse options that would be without effect: a film's for pictures alone, a picture's for films alone."""
    sources = ((p, ctx.get_parameter_source(p.name or "")) for p in ctx.command.params)
    typed = [p for p, where in sources if where is not None and where.name == "COMMANDLINE"]
    if not films:
        idle = [p.opts[-1] for p in typed if getattr(p, "rich_help_panel", None) == _FILMS]
        if idle:
            raise InvalidInputError(f"{', '.join(idle)}: for films; {pictures[0]} is a picture.")
    elif not pictures and any(p.name in ("format", "quality") for p in typed):
        raise InvalidInputError(
            "--format, --quality: for pictures; a film's format is its name's (-o film_3d.mkv), its quality --crf's."
        )
