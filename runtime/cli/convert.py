# SPDX-License-Identifier: Apache-2.0
"""``secondeye convert``: pictures and films in, stereo ones out."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secondeye.runtime.cli._film import convert_film, is_film, seconds, target_for
from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError

if TYPE_CHECKING:
    from secondeye.runtime.converter import StereoConfig, StereoConverter, StereoFrame
    from secondeye.runtime.pictures import Picture

_LOOK, _DEPTH, _QUALITY = "How it looks", "Depth", "Quality mode"
_FILES, _FILMS, _MORE = "Files", "Films", "More"
_STDOUT = "\0"
"""Begins a target that is standard output; its format's suffix follows. No file name holds this character."""


@dataclass(frozen=True, kw_only=True)
class _Output:
    """What to write for one picture."""

    layout: str
    anaglyph: str
    quality: int
    save_depth: Path | None
    preview: Path | None


def convert(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, folders, patterns in quotes, - for standard input; or one film.", metavar="INPUT..."
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
        float,
        typer.Option(
            "-s",
            "--strength",
            rich_help_panel=_LOOK,
            help="Full range of disparity, percent of the width. 1 is gentle, 3 the limit of comfort.",
        ),
    ] = 2.5,
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
            help="Your own map for one picture: grey (8 or 16 bits, float) or .npy; near is bright.",
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
            help="Who tells objects apart, so that the edges of depth fall on their borders: off, sgt:FOLDER (a bundle), an ONNX segmentation network, or labels of the picture (16-bit PNG, .npy; see secondeye segment).",
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
            rich_help_panel=_FILES, help="Write the disparity too: .npy in pixels, .png or .tif as 16-bit grey."
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILES, help="Write a contact sheet: source, disparity in colour, holes, anaglyph."
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
        bool, typer.Option("-r", "--recursive", rich_help_panel=_FILES, help="Folders within folders too.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", rich_help_panel=_FILES, help="Go on where a stopped run left off.")
    ] = False,
    codec: Annotated[
        str,
        typer.Option(
            rich_help_panel=_FILMS, help="h264, hevc, av1, prores, ffv1, or h264-nvenc, hevc-nvenc, av1-nvenc."
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
    jobs: Annotated[
        int, typer.Option(rich_help_panel=_FILMS, help="Processes that share a film. The result does not depend on it.")
    ] = 1,
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

    A film that was stopped, by Ctrl-C, a crash or a kill, goes on with the same command.

    secondeye convert photo.jpg --mode quality --bundle stereo_bundle --scheduler warped --steps 4
    """
    from secondeye.runtime.converter import StereoConfig, StereoConverter
    from secondeye.runtime.layouts import LAYOUTS, SEPARATE
    from secondeye.runtime.ops import ANAGLYPHS

    film = len(inputs) == 1 and is_film(inputs[0])
    if layout not in (*LAYOUTS, SEPARATE):
        raise InvalidInputError(f"--layout: expected one of {', '.join((*LAYOUTS, SEPARATE))}, got {layout!r}.")
    if anaglyph not in ANAGLYPHS:
        raise InvalidInputError(f"--anaglyph: expected one of {', '.join(ANAGLYPHS)}, got {anaglyph!r}.")
    config = StereoConfig(
        strength=strength,
        convergence=_convergence(convergence, film),
        gamma=gamma,
        view=view,  # type: ignore[arg-type]  # checked by the configuration
        swap=swap,
        depth=_model(depth_model),
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
    if film:
        if depth_map or save_depth or preview or segment != "off":
            raise InvalidInputError(
                "--depth-map, --save-depth, --preview and --segment go with pictures, not with a film."
            )
        _film(inputs[0], output, config, layout, anaglyph, size, convergence in (None, "auto"), codec, crf, preset,
              seconds("--start", start), seconds("--end", end), jobs, quiet, verbose)  # fmt: skip
        return
    sources = list(_expand(inputs, recursive))
    many = len(sources) > 1 or any(Path(word).is_dir() for word in inputs)
    if many and (depth_map or save_depth or preview):
        raise InvalidInputError("--depth-map, --save-depth and --preview go with one picture; convert it alone.")
    targets = _targets(sources, output, layout, "." + format.lower().lstrip("."), many)
    wanted = _Output(layout=layout, anaglyph=anaglyph, quality=quality, save_depth=save_depth, preview=preview)
    job = _Job(StereoConverter(config), wanted, size, depth_map, depth_map_kind, quiet, verbose)
    try:
        if many:
            _convert_many(job, sources, targets, skip_existing)
        elif not (skip_existing and not targets[0].startswith(_STDOUT) and job.done(targets[0])):
            _convert_one(job, sources[0], targets[0])
    except KeyboardInterrupt:
        more = "; go on with --skip-existing" if many else ""
        typer.echo(f"secondeye: stopped; every file that was written is whole{more}.", err=True)
        raise typer.Exit(130) from None


def _film(
    source: str, output: str | None, stereo: StereoConfig, layout: str, anaglyph: str, size: str | None, auto: bool,
    codec: str, crf: int | None, preset: str | None, start: float | None, end: float | None, jobs: int,
    quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    from secondeye.runtime.video.film import FilmConfig
    from secondeye.runtime.video.media import probe

    if size is not None:
        info = probe(source)
        width, height = _parse_size(size, info.width, info.height)
        stereo = replace(stereo, size=(width // 2 * 2, height // 2 * 2))
    target = target_for(source, output, layout)
    config = FilmConfig(
        stereo=stereo, layout=layout, anaglyph=anaglyph, auto_convergence=auto, codec=codec, quality=crf, preset=preset,
        start=start, end=end,
    )  # fmt: skip
    convert_film(source, target, config, jobs=jobs, quiet=quiet, verbose=verbose)


def _convergence(text: str | None, film: bool) -> float:
    """A number of the option's; what stands for auto is not used."""
    if text is None or (text == "auto" and film):
        return 0.5
    try:
        return float(text)
    except ValueError as error:
        kinds = "0 to 1, or auto" if film else "0 to 1 (auto goes with films)"
        raise InvalidInputError(f"--convergence: expected {kinds}, got {text!r}.") from error


class _Job:
    """Converts one picture after another with the same settings."""

    def __init__(
        self,
        converter: StereoConverter,
        wanted: _Output,
        size: str | None,
        depth_map: Path | None,
        depth_map_kind: str,
        quiet: bool,
        verbose: bool,
    ) -> None:
        self.converter, self.wanted, self.size = converter, wanted, size
        self.depth_map, self.depth_map_kind = depth_map, depth_map_kind
        self.quiet, self.verbose = quiet, verbose

    def done(self, target: str) -> bool:
        """Whether a picture's output is there."""
        return all(path.exists() for path in self._paths(target))

    def run(self, source: str, target: str) -> None:
        """Convert one file."""
        import time

        from secondeye.runtime.pictures import read_picture, read_values

        start = time.perf_counter()
        picture = read_picture(source)
        picture = _scaled(picture, self.size)
        high, wide = picture.pixels.shape[:2]
        if not target.startswith(_STDOUT):
            self._check_target(target, wide, high)
        depth = None if self.depth_map is None else read_values(self.depth_map)
        read = time.perf_counter()
        frame = self.converter.convert(picture, depth=depth, depth_kind=self.depth_map_kind)  # type: ignore[arg-type]
        made = time.perf_counter()
        self._write(frame, target)
        wrote = time.perf_counter()
        if self.quiet:
            return
        for note in frame.notes:
            typer.echo(f"note: {note}", err=True)
        if self.converter.config.strength > 3.0 and self.depth_map_kind != "pixels":
            typer.echo(f"note: strength {self.converter.config.strength:g} is over the comfort limit of 3.", err=True)
        if not target.startswith(_STDOUT):
            typer.echo(f"{target}: {wide} x {high} a view, {wrote - start:.2f} s", err=True)
        if self.verbose:
            stages = {"decode": (read - start) * 1e3, **frame.timings, "layout and encode": (wrote - made) * 1e3}
            typer.echo("  " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in stages.items() if ms >= 0.5), err=True)

    def _paths(self, target: str) -> list[Path]:
        path = Path(target)
        if self.wanted.layout != "separate":
            return [path]
        return [path.with_name(f"{path.stem}{eye}{path.suffix}") for eye in ("_L", "_R")]

    def _check_target(self, target: str, width: int, height: int) -> None:
        """Refuse, before any work, what the format cannot hold."""
        from secondeye.runtime.layouts import LAYOUTS
        from secondeye.runtime.writers import MPO_SUFFIX, check_fits

        if Path(target).suffix.lower() == MPO_SUFFIX:
            return
        one = LAYOUTS.get("cross" if Path(target).suffix.lower() == ".jps" else self.wanted.layout, LAYOUTS["left"])
        check_fits(target, int(width * one.wide), int(height * one.tall))

    def _write(self, frame: StereoFrame, target: str) -> None:
        from secondeye.runtime.layouts import compose
        from secondeye.runtime.preview import contact_sheet
        from secondeye.runtime.writers import MPO_SUFFIX, encode_bytes, save_mpo, save_picture, save_values

        wanted = self.wanted
        if target.startswith(_STDOUT):
            data = encode_bytes(
                compose(frame, wanted.layout, anaglyph=wanted.anaglyph), target[1:], quality=wanted.quality
            )
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif Path(target).suffix.lower() == MPO_SUFFIX:
            save_mpo(target, frame.left, frame.right, quality=wanted.quality)
        elif wanted.layout == "separate":
            for path, eye in zip(self._paths(target), (frame.left, frame.right), strict=True):
                save_picture(path, eye, quality=wanted.quality)
        else:
            layout = "cross" if Path(target).suffix.lower() == ".jps" else wanted.layout
            save_picture(target, compose(frame, layout, anaglyph=wanted.anaglyph), quality=wanted.quality)
        if wanted.save_depth is not None:
            save_values(wanted.save_depth, frame.disparity)
        if wanted.preview is not None:
            save_picture(wanted.preview, contact_sheet(frame, anaglyph=wanted.anaglyph))


def _convert_one(job: _Job, source: str, target: str) -> None:
    """One picture; in quality mode, where it may take minutes, with a bar of the model's steps."""
    if job.quiet or job.converter.config.mode == "fast":
        job.run(source, target)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("load", total=None)
        job.converter.progress = lambda stage, done, total: progress.update(
            task, description=stage, completed=done, total=total
        )
        job.run(source, target)


def _convert_many(job: _Job, sources: list[str], targets: list[str], skip_existing: bool) -> None:
    """Every picture, with a bar; one that fails is told and does not stop the rest."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    job.converter.load()
    failures: list[str] = []
    skipped = 0
    console = Console(stderr=True)
    quiet, job.quiet = job.quiet, True
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task("converting", total=len(sources))
        for source, target in zip(sources, targets, strict=True):
            progress.update(task, description=Path(source).name[:40])
            if skip_existing and job.done(target):
                skipped += 1
            else:
                try:
                    job.run(source, target)
                except SecondEyeError as error:
                    failures.append(str(error))
                    console.print(f"failed: {error}", markup=False, highlight=False, soft_wrap=True)
            progress.advance(task)
    if not quiet:
        made = len(sources) - len(failures) - skipped
        tail = f", {skipped} were there already" if skipped else ""
        typer.echo(f"{made} converted, {len(failures)} failed{tail}", err=True)
    if failures:
        raise typer.Exit(1)


def _model(spec: str) -> str:
    """A public model's name becomes its file; anything else stays."""
    from secondeye.runtime.zoo import MODELS, local_path

    if spec not in MODELS:
        return spec
    path = local_path(spec)
    if path is None:
        raise InvalidInputError(f"{spec}: not here yet; fetch it with: secondeye models get {spec}")
    return str(path)


def _expand(inputs: list[str], recursive: bool) -> Iterator[str]:
    """Files, the pictures of folders, and what patterns match; in name order."""
    from secondeye.runtime.limits import DEFAULT_LIMITS
    from secondeye.runtime.pictures import READ_SUFFIXES

    count = 0
    for word in inputs:
        path = Path(word)
        if word == "-" or path.is_file():
            found = [word]
        elif path.is_dir():
            walk = path.rglob("*") if recursive else path.iterdir()
            found = sorted(str(p) for p in walk if p.suffix.lower() in READ_SUFFIXES and p.is_file())
            if not found:
                raise MediaError(f"{word}: no pictures in this folder" + ("." if recursive else "; try --recursive."))
        elif not path.exists() and any(c in word for c in "*?["):
            found = sorted(p for p in glob.glob(word, recursive=True) if os.path.isfile(p))
            if not found:
                raise MediaError(f"{word}: nothing matches this pattern.")
        else:
            raise MediaError(f"{word}: no such file; check the name.")
        count += len(found)
        if count > DEFAULT_LIMITS.max_files:
            raise InvalidInputError(f"over {DEFAULT_LIMITS.max_files} files; convert them in parts.")
        yield from found


def _targets(sources: list[str], output: str | None, layout: str, suffix: str, many: bool) -> list[str]:
    """Where each picture's result goes."""
    from secondeye.runtime.layouts import LAYOUTS
    from secondeye.runtime.writers import MPO_SUFFIX, format_of

    if suffix != MPO_SUFFIX:
        format_of("x" + suffix)
    if output == "-":
        if many or layout == "separate" or suffix == MPO_SUFFIX:
            raise InvalidInputError("-o -: standard output takes one picture in one file; name a file or folder.")
        return [_STDOUT + suffix]
    ending = "" if suffix == MPO_SUFFIX or suffix == ".jps" or layout == "separate" else LAYOUTS[layout].suffix
    folder = Path(output) if output is not None else None
    single = not many and folder is not None and not folder.is_dir() and folder.suffix != ""
    if single and folder is not None:
        if folder.suffix.lower() != MPO_SUFFIX:
            format_of(folder)
        elif layout not in ("sbs", "separate"):
            raise InvalidInputError(f"{folder}: an MPO holds the two views themselves; leave --layout out.")
        targets = [str(folder)]
    else:
        if "-" in sources and folder is None:
            raise InvalidInputError("standard input has no name to go by; give -o FILE or -o -.")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        names = [("stdin" if s == "-" else Path(s).stem) + ending + suffix for s in sources]
        homes = [folder if folder is not None else Path(s).parent for s in sources]
        targets = [str(home / name) for home, name in zip(homes, names, strict=True)]
        if len(set(targets)) != len(targets):
            twice = next(t for t in targets if targets.count(t) > 1)
            raise InvalidInputError(
                f"{twice}: two sources would become this file; convert them into different folders."
            )
    for source, target in zip(sources, targets, strict=True):
        if source != "-" and Path(target).exists() and os.path.samefile(source, target):
            raise InvalidInputError(f"{target}: is the source itself; choose another name with -o.")
    return targets


def _scaled(picture: Picture, size: str | None) -> Picture:
    """The picture at --size."""
    if size is None:
        return picture
    from secondeye.runtime import ops
    from secondeye.runtime.limits import DEFAULT_LIMITS
    from secondeye.runtime.pictures import Picture as Loaded

    high, wide = picture.pixels.shape[:2]
    width, height = _parse_size(size, wide, high)
    DEFAULT_LIMITS.check_size("--size", width, height)
    return Loaded(
        pixels=ops.resize(picture.pixels, height, width, filter="bilinear"), name=picture.name, notes=picture.notes
    )


def _parse_size(text: str, wide: int, high: int) -> tuple[int, int]:
    """(width, height) from 1920x1080, 1920x, x1080 or 50%."""
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            return round(wide * share), round(high * share)
        left, cross, right = text.lower().partition("x")
        if not cross or not (left or right):
            raise ValueError(text)
        width = int(left) if left else round(wide * int(right) / high)
        height = int(right) if right else round(high * int(left) / wide)
        return width, height
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"--size: expected 1920x1080, 1920x, x1080 or 50%, got {text!r}.") from error
