# SPDX-License-Identifier: Apache-2.0
"""Stereo pairs on disk, in either of two layouts, or out of a side-by-side film.

``DIR/NAME/left.*``, ``DIR/NAME/right.*`` and perhaps ``DIR/NAME/disparity.npz`` (float32 [H, W] pixels, NaN unknown);
or Mono2Stereo's ``DIR/left/NAME.*`` and ``DIR/right/NAME.*``. Of a film the left half of each eighth frame is the left
view, the right half the right one, as Mono2Stereo's authors cut theirs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.pictures import READ_SUFFIXES, read_picture
from secondeye.runtime.sessions import first_line

FILM_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A rectified pair: views uint8 [H, W, 3]; disparity float32 [H, W] of the left view, or None."""

    name: str
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    disparity: NDArray[np.float32] | None


def _pictures(folder: Path) -> dict[str, Path]:
    """A folder's pictures by their names without the ending, in name order; the first where several have one."""
    files = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    return {path.stem: path for path in files if path.suffix.lower() in READ_SUFFIXES}


def _measured(path: Path) -> NDArray[np.float32]:
    try:
        with np.load(path, allow_pickle=False) as file:
            disparity: NDArray[np.float32] = file["disparity"].astype(np.float32)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise MediaError(f"{path}: has no array of numbers named disparity ({first_line(error)}).") from error
    if disparity.ndim != 2 or not np.isfinite(disparity).any():
        raise MediaError(f"{path}: expected a map [height, width] with some known pixels, got {list(disparity.shape)}.")
    return disparity


def read_film(path: Path, every: int = FILM_EVERY) -> Iterator[Pair]:
    """The halves of each `every`-th frame of a side-by-side film.

    Raises:
        MediaError: it cannot be read as a film.
        InvalidInputError: frames of odd width.
    """
    import av

    try:
        with av.open(str(path)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                if number % every:
                    continue
                if frame.width % 2:
                    raise InvalidInputError(f"{path}: expected an even width of two halves, got {frame.width}.")
                pixels, half = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), frame.width // 2
                left, right = (np.ascontiguousarray(pixels[:, s]) for s in (np.s_[:half], np.s_[half:]))
                yield Pair(name=f"{path.stem}:{number}", left=left, right=right, disparity=None)
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError(f"{path}: not a film that can be read ({error}).") from error


def read_pairs(folder: Path) -> Iterator[Pair]:
    """Every pair of a folder, in name order, or of a side-by-side film.

    Raises:
        MediaError: no such folder or film, no pairs in it, or a disparity.npz that cannot be read.
        InvalidInputError: views of different sizes.
    """
    if folder.is_file():
        yield from read_film(folder)
        return
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder of stereo pairs.")
    found: list[tuple[str, Path, Path]] = []
    if (folder / "left").is_dir():
        lefts, rights = _pictures(folder / "left"), _pictures(folder / "right")
        found += [(name, lefts[name], rights[name]) for name in sorted(lefts.keys() & rights.keys())]
    else:
        for home in sorted(p for p in folder.iterdir() if p.is_dir()):
            named = _pictures(home)
            if "left" in named and "right" in named:
                found.append((home.name, named["left"], named["right"]))
    if not found:
        raise MediaError(f"{folder}: no pairs; expected NAME/left.* and NAME/right.*, or left/NAME.* and right/NAME.*.")
    for name, left, right in found:
        views = [read_picture(path).pixels[:, :, :3] for path in (left, right)]
        if views[0].shape != views[1].shape:
            raise InvalidInputError(f"{name}: the views differ in size, {views[0].shape} and {views[1].shape}.")
        truth = left.parent / "disparity.npz"
        disparity = _measured(truth) if truth.is_file() and left.parent.name == name else None
        yield Pair(name=name, left=views[0], right=views[1], disparity=disparity)
