# SPDX-License-Identifier: Apache-2.0
"""The part of ``secondeye convert`` that is for pictures: which ones, where to, one after another."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from secondeye.runtime.cli._bar import progress_bar
from secondeye.runtime.errors import InvalidInputError, MediaError, SecondEyeError
from secondeye.runtime.files import check_place, explain_os_error, make_folder

if TYPE_CHECKING:
    from secondeye.runtime.converter import StereoConverter, StereoFrame
    from secondeye.runtime.pictures import Picture

STDOUT = "\0"
"""Begins a target that is standard output; its format's suffix follows. No file name holds this character."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What to write for each picture; of several, the last two are folders."""

    layout: str
    anaglyph: str
    quality: int
    save_depth: Path | None
    preview: Path | None


_MAPS = (".npy", ".png", ".tif", ".tiff")  # what a picture's map in a folder ends in, the first that is there


@dataclass(frozen=True, kw_only=True)
class Extras:
    """One picture's further files."""

    depth_map: Path | None
    save_depth: Path | None
    preview: Path | None


class Job:
    """Converts one picture after another with the same settings."""

    def __init__(
        self,
        converter: StereoConverter,
        wanted: Output,
        scale: Callable[[Picture], Picture],
        depth_map: Path | None,
        depth_map_kind: str,
        quiet: bool,
        verbose: bool,
        folders: list[str],
        many: bool,
    ) -> None:
        self.converter, self.wanted, self.scale = converter, wanted, scale
        self.depth_map, self.depth_map_kind = depth_map, depth_map_kind
        self.quiet, self.verbose = quiet, verbose
        self._folders, self._many = folders, many

    def extras(self, source: str) -> Extras:
        """A picture's further files: named alone, or of several within folders as the picture is."""
        wanted, name = self.wanted, below(source, self._folders) / Path(source).stem
        depth_map, save_depth, preview = self.depth_map, wanted.save_depth, wanted.preview
        if depth_map is not None and depth_map.is_dir():
            named = [depth_map / f"{name}{ending}" for ending in _MAPS]
            depth_map = next((one for one in named if one.is_file()), named[0])
        if self._many:
            save_depth = None if save_depth is None else save_depth / f"{name}.png"
            preview = None if preview is None else preview / f"{name}.jpg"
        return Extras(depth_map=depth_map, save_depth=save_depth, preview=preview)

    def done(self, target: str) -> bool:
        """Whether a picture's output is there."""
        return not target.startswith(STDOUT) and all(path.exists() for path in self._paths(target))

    def check(self, sources: list[str], targets: list[str]) -> None:
        """Refuse, before any work, results that cannot be written, or would take an input's or each other's place."""
        from secondeye.runtime.writers import format_of

        self._check_folders()
        read = {os.path.realpath(source): "is the source itself" for source in sources if source != "-"}
        written = [path for target in targets if not target.startswith(STDOUT) for path in self._paths(target)]
        maps: list[Path | None] = []
        for extras in map(self.extras, sources):
            maps.append(extras.depth_map)
            for extra in (extras.save_depth, extras.preview):
                if extra is not None:
                    if extra is extras.preview or extra.suffix.lower() != ".npy":
                        format_of(extra)
                    written.append(extra)
        lacking = [source for source, one in zip(sources, maps, strict=True) if one is not None and not one.exists()]
        if lacking and self.depth_map is not None and self.depth_map.is_dir():
            raise InvalidInputError(
                f"{self.depth_map}: has no map for {len(lacking)} of {len(sources)} pictures; of {lacking[0]}: "
                f"{Path(lacking[0]).stem}, ending in {', '.join(_MAPS)}."
            )
        for other in (*maps, self.converter.config.segment):
            if other is not None and os.path.isfile(other):
                read[os.path.realpath(other)] = "is read by this command"
        if self._many:
            for folder in dict.fromkeys(path.parent for path in written):
                make_folder(folder)
        taken: set[str] = set()
        for path in written:
            place = os.path.realpath(path)
            if place in read:
                raise InvalidInputError(f"{path}: {read[place]}; choose another name with -o.")
            if place in taken:
                raise InvalidInputError(f"{path}: two results would become this file; choose another name.")
            taken.add(place)
            check_place(path)

    def _check_folders(self) -> None:
        """Refuse one file's name for several pictures."""
        if not self._many:
            return
        wanted = self.wanted
        for option, path in (("--save-depth", wanted.save_depth), ("--preview", wanted.preview)):
            if path is not None and not is_folder(str(path)):
                raise InvalidInputError(f"{option} {path}: several pictures need a folder; give one's name.")
        if self.depth_map is not None and not self.depth_map.is_dir():
            raise InvalidInputError(f"--depth-map {self.depth_map}: several pictures need a folder of maps.")

    def run(self, source: str, target: str) -> None:
        """Convert one file."""
        import time

        from secondeye.runtime.comfort import comfort_note
        from secondeye.runtime.pictures import read_picture, read_values

        start = time.perf_counter()
        picture = self.scale(read_picture(source))
        high, wide = picture.pixels.shape[:2]
        if not target.startswith(STDOUT):
            self._check_target(target, wide, high)
        extras = self.extras(source)
        depth = None if extras.depth_map is None else read_values(extras.depth_map)
        read = time.perf_counter()
        frame = self.converter.convert(picture, depth=depth, depth_kind=self.depth_map_kind)  # type: ignore[arg-type]
        made = time.perf_counter()
        self._write(frame, target, extras)
        wrote = time.perf_counter()
        if self.quiet:
            return
        for note in frame.notes:
            typer.echo(f"note: {note}", err=True)
        config = self.converter.config
        if self.depth_map_kind != "pixels":
            uneasy = comfort_note(config.strength_for(wide), config.screen, config.convergence)
            if uneasy is not None:
                typer.echo(f"note: {uneasy}", err=True)
        if not target.startswith(STDOUT):
            written = ", ".join(str(path) for path in self._paths(target))
            typer.echo(f"{written}: {wide} x {high} a view, {wrote - start:.2f} s", err=True)
        if self.verbose:
            stages = {"decode": (read - start) * 1e3, **frame.timings, "layout and encode": (wrote - made) * 1e3}
            typer.echo("  " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in stages.items() if ms >= 0.5), err=True)

    def _paths(self, target: str) -> list[Path]:
        path = Path(target)
        if self.wanted.layout != "separate":
            return [path]
        return [path.with_name(f"{path.stem}{eye}{path.suffix}") for eye in ("_L", "_R")]

    def _layout(self, target: str) -> str:
        return "cross" if target.lower().endswith(".jps") else self.wanted.layout

    def _check_target(self, target: str, width: int, height: int) -> None:
        """Refuse, before any work, what the format cannot hold."""
        from secondeye.runtime.layouts import LAYOUTS
        from secondeye.runtime.writers import MPO_SUFFIX, check_fits

        if Path(target).suffix.lower() == MPO_SUFFIX:
            return
        one = LAYOUTS.get(self._layout(target), LAYOUTS["left"])
        check_fits(target, int(width * one.wide), int(height * one.tall))

    def _write(self, frame: StereoFrame, target: str, extras: Extras) -> None:
        from secondeye.runtime.layouts import compose
        from secondeye.runtime.preview import contact_sheet
        from secondeye.runtime.writers import MPO_SUFFIX, encode_bytes, save_mpo, save_picture, save_values

        wanted = self.wanted
        if target.startswith(STDOUT):
            picture = compose(frame, self._layout(target[1:]), anaglyph=wanted.anaglyph)
            data = encode_bytes(picture, target[1:], quality=wanted.quality)
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise MediaError(f"standard output: cannot be written ({explain_os_error(error)}).") from error
        elif Path(target).suffix.lower() == MPO_SUFFIX:
            save_mpo(target, frame.left, frame.right, quality=wanted.quality)
        elif wanted.layout == "separate":
            for path, eye in zip(self._paths(target), (frame.left, frame.right), strict=True):
                save_picture(path, eye, quality=wanted.quality)
        else:
            picture = compose(frame, self._layout(target), anaglyph=wanted.anaglyph)
            save_picture(target, picture, quality=wanted.quality)
        if extras.save_depth is not None:
            save_values(extras.save_depth, frame.disparity)
        if extras.preview is not None:
            save_picture(extras.preview, contact_sheet(frame, anaglyph=wanted.anaglyph))


def convert_one(job: Job, source: str, target: str) -> None:
    """One picture; in quality mode, where it may take minutes, with a bar of the model's steps."""
    if job.quiet or job.converter.config.mode == "fast":
        job.run(source, target)
        return
    with progress_bar(transient=True) as progress:
        task = progress.add_task("load", total=None)
        job.converter.progress = lambda stage, done, total: progress.update(
            task, description=stage, completed=done, total=total
        )
        job.run(source, target)


def convert_many(job: Job, sources: list[str], targets: list[str], skip_existing: bool) -> None:
    """Every picture, with a bar; one that fails is told and does not stop the rest."""
    from rich.console import Console

    if job.depth_map is None:
        job.converter.load()
    failures: list[str] = []
    skipped = 0
    console = Console(stderr=True)
    quiet, job.quiet = job.quiet, True
    with progress_bar(remaining=True, console=console, disable=quiet) as progress:
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


def below(source: str, folders: list[str]) -> Path:
    """The folders between one of a command's folders and a file that was found in it."""
    return next((Path(source).parent.relative_to(f) for f in folders if Path(source).is_relative_to(f)), Path())


def expand(inputs: list[str], recursive: bool, others: Sequence[str | Path | None]) -> Iterator[str]:
    """Files, the pictures of folders, and what patterns match; in name order. What lies in other folders within one of
    the folders, those of results and of maps, is no source."""
    from secondeye.runtime.limits import DEFAULT_LIMITS
    from secondeye.runtime.pictures import READ_SUFFIXES
    from secondeye.runtime.video.media import READ_SUFFIXES as FILM_SUFFIXES

    suffixes = {*READ_SUFFIXES, *FILM_SUFFIXES}
    count = 0
    for word in inputs:
        path = Path(word)
        if word == "-" or path.is_file() or path.is_fifo():
            found = [word]
        elif path.is_dir():
            walk = _files_in(path, recursive)
            pictures = sorted(p for p in walk if p.suffix.lower() in suffixes and p.is_file())
            for other in (Path(one).resolve() for one in others if one is not None):
                if path.resolve() in other.parents:
                    pictures = [p for p in pictures if other not in p.resolve().parents]
            found = _without_results(pictures)
            if not found:
                deeper = "." if recursive else "; try --recursive."
                raise MediaError(f"{word}: no pictures or films in this folder{deeper}")
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


def _files_in(folder: Path, recursive: bool) -> Iterator[Path]:
    """What lies in a folder, and in those within it; one of these that cannot be read is told and left out."""

    def unread(error: OSError) -> None:
        told = f"{error.filename}: cannot be read ({explain_os_error(error)})"
        if Path(error.filename) == folder:
            raise MediaError(f"{told}.") from error
        typer.echo(f"note: {told}; it is left out.", err=True)

    for home, within, names in os.walk(folder, onerror=unread):
        yield from (Path(home, name) for name in names)
        if not recursive:
            within.clear()


def is_folder(output: str) -> bool:
    """Whether an output is meant as a folder: it is one, ends in a slash, or has no suffix."""
    return Path(output).is_dir() or output.endswith(("/", os.sep)) or not Path(output).suffix


def check_folder(output: str | None) -> None:
    """Refuse one file's name for several results."""
    if output is not None and output != "-" and not is_folder(output):
        raise InvalidInputError(f"{output}: several files need a folder; give a name without {Path(output).suffix}.")


def _without_results(pictures: list[Path]) -> list[str]:
    """The files but those that stand beside their own source, named as a run without -o names them."""
    from secondeye.runtime.layouts import LAYOUTS

    endings = (*(one.suffix for one in LAYOUTS.values()), "_180_LR", "_180_TB")
    names = {(p.parent, p.stem) for p in pictures}
    return [
        str(p)
        for p in pictures
        if not any(p.stem.endswith(end) and (p.parent, p.stem.removesuffix(end)) in names for end in endings)
    ]


def clash_of(sources: list[str], targets: Sequence[str | Path]) -> str | None:
    """Which sources would become one file, in words; None where each has its own."""
    twice = next((target for target, often in Counter(targets).items() if often > 1), None)
    if twice is None:
        return None
    both = " and ".join(s for s, t in zip(sources, targets, strict=True) if t == twice)
    return f"{twice}: {both} would become this file"


def _check_photo(suffix: str, layout: str) -> None:
    """Refuse a layout that a stereo photo's format does not have."""
    kinds = {".mpo": ("an MPO holds the two views themselves", "sbs", "separate"),
             ".jps": ("a JPS holds the views side by side, the right one first", "sbs", "cross")}  # fmt: skip
    if suffix in kinds and layout not in kinds[suffix][1:]:
        raise InvalidInputError(f"--layout {layout}: {kinds[suffix][0]}; leave --layout out.")


def targets_of(
    sources: list[str], folders: list[str], output: str | None, layout: str, suffix: str, many: bool
) -> list[str]:
    """Where each picture's result goes: folders within one of the command's become folders within the output's."""
    from secondeye.runtime.layouts import LAYOUTS
    from secondeye.runtime.writers import FORMATS, MPO_SUFFIX, format_of

    if suffix != MPO_SUFFIX:
        endings = [ending for one in FORMATS for ending in one.suffixes]
        if suffix not in endings:
            known = ", ".join(ending.removeprefix(".") for ending in (*endings, MPO_SUFFIX))
            raise InvalidInputError(f"--format: expected one of {known}, got {suffix.removeprefix('.')!r}.")
    if output == "-":
        _check_photo(suffix, layout)
        if many or layout == "separate" or suffix == MPO_SUFFIX:
            raise InvalidInputError("-o -: standard output takes one picture in one file; name a file or folder.")
        return [STDOUT + suffix]
    ending = "" if suffix == MPO_SUFFIX or suffix == ".jps" or layout == "separate" else LAYOUTS[layout].suffix
    folder = Path(output) if output is not None else None
    single = not many and output is not None and not is_folder(output)
    if single and folder is not None:
        suffix = folder.suffix.lower()
        if suffix != MPO_SUFFIX:
            format_of(folder)
        targets = [str(folder)]
    else:
        if "-" in sources and folder is None:
            raise InvalidInputError("standard input has no name to go by; give -o FILE or -o -.")
        names = [("stdin" if s == "-" else Path(s).stem) + ending + suffix for s in sources]
        homes = [folder / below(s, folders) if folder is not None else Path(s).parent for s in sources]
        targets = [str(home / name) for home, name in zip(homes, names, strict=True)]
        clash = clash_of(sources, targets)
        if clash is not None:
            raise InvalidInputError(f"{clash}; rename one, or convert them into different folders.")
    _check_photo(suffix, layout)
    if folder is not None and not single:
        for home in dict.fromkeys(homes):
            make_folder(home)
    return targets
