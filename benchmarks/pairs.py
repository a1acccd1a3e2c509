# SPDX-License-Identifier: Apache-2.0
"""Stereo pairs on disk, in either of two layouts, or out of a side-by-side film.

``DIR/NAME/left.*``, ``DIR/NAME/right.*`` and perhaps ``DIR/NAME/disparity.npz`` (float32 [H, W] pixels, NaN unknown);
or Mono2Stereo's ``DIR/left/NAME.*`` and ``DIR/right/NAME.*``. Of a film the left half of each eighth frame is the left
view, the right half the right one, as Mono2Stereo's authors cut theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.pictures import READ_SUFFIXES, read_picture

FILM_EVERY = 8


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A rectified pair: views uint8 [H, W, 3]; disparity float32 [H, W] of the left view, or None."""

    name: str
    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    disparity: NDArray[np.float32] | None


def _one(folder: Path, stem: str) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{stem}.*")) if p.suffix.lower() in READ_SUFFIXES), None)


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
        MediaError: no such folder or film, or no pairs in it.
        InvalidInputError: views of different sizes.
    """
    if folder.is_file():
        yield from read_film(folder)
        return
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder of stereo pairs.")
    found: list[tuple[str, Path, Path]] = []
    if (folder / "left").is_dir():
        for left in sorted((folder / "left").iterdir()):
            right = _one(folder / "right", left.stem)
            if left.suffix.lower() in READ_SUFFIXES and right is not None:
                found.append((left.stem, left, right))
    else:
        for home in sorted(p for p in folder.iterdir() if p.is_dir()):
            left_view, right = _one(home, "left"), _one(home, "right")
            if left_view is not None and right is not None:
                found.append((home.name, left_view, right))
    if not found:
        raise MediaError(f"{folder}: no pairs; expected NAME/left.* and NAME/right.*, or left/NAME.* and right/NAME.*.")
    for name, left, right in found:
        views = [read_picture(path).pixels[:, :, :3] for path in (left, right)]
        if views[0].shape != views[1].shape:
            raise InvalidInputError(f"{name}: the views differ in size, {views[0].shape} and {views[1].shape}.")
        truth = left.parent / "disparity.npz"
        disparity = None
        if truth.is_file() and left.parent.name == name:
            with np.load(truth, allow_pickle=False) as file:
                disparity = file["disparity"].astype(np.float32)
        yield Pair(name=name, left=views[0], right=views[1], disparity=disparity)
