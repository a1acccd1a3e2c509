# SPDX-License-Identifier: Apache-2.0
"""A film's own depth: a map for every frame, as a film, as numbered pictures or as an array.

Whoever made them (a network that sees the film as a whole, a renderer, a person) made them steady: they are used as
they are, on one scale from the first frame to the last, and no model is loaded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.depth import least_depth
from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import file_hash
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits
from secondeye.runtime.video import media
from secondeye.runtime.video.journal import source_identity

Map16 = NDArray[np.uint16]
KINDS = ("disparity", "depth")

_LOOK = 256  # the shorter side, at most, of what cuts and subjects are looked for in
_PLANAR = re.compile(r"gray(\d+[lb]e)?$|yuv[aj]?4\d\dp(\d+[lb]e)?$")
_COLOURED = 0.1  # of the whole range: channels of a grey film differ by less, whatever its codec did
_APART = 0.5  # seconds that two films of one length may differ by: tools round, and drop a last frame


@dataclass(frozen=True, kw_only=True)
class MapTrack:
    """Maps, and which of them belongs to which frame.

    Attributes:
        path: of the film, of numbered pictures (depth/%05d.png), or of an array (.npy).
        film: the maps' film; None for an array.
        kind: of an array's numbers: ``disparity`` (larger is nearer) or ``depth`` (larger is farther).
        which: int64, for every frame of the film the map's index.
        ends: of an array: what is farthest and what is nearest in all of it, as disparity.
        floor: of an array of depth: less counts as this.
        crop: shares of a map that are left out at the top, bottom, left and right, as of the film.
        size: (height, width) of the film's frames before their sides are made even.
        notes: sentences about what its owner might not expect.
    """

    path: Path
    film: media.FilmInfo | None
    kind: str
    which: NDArray[np.int64]
    crop: tuple[float, float, float, float]
    size: tuple[int, int]
    ends: tuple[float, float] = (0.0, 1.0)
    floor: float = 0.0
    notes: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What tells these maps from others."""
        if self.film is None:
            found: dict[str, Any] = {"sha256": file_hash(self.path)}
        else:
            found = source_identity(self.path, self.film.frames)
        return {**found, "kind": self.kind, "which": hashlib.sha256(self.which.tobytes()).hexdigest()[:16]}


def open_maps(
    info: media.FilmInfo, path: str | os.PathLike[str] | None, kind: str, *, limits: Limits = DEFAULT_LIMITS
) -> MapTrack | None:
    """The maps of a film; None where there is no path.

    An array is read once as a whole, for its range.

    Args:
        info: the film.
        path: a film of grey maps, near bright; numbered pictures of that kind; or a NumPy array [T, h, w] (.npy).
        kind: ``disparity``, or of an array ``depth``; see :func:`check_kind`.
        limits: the largest maps.

    Raises:
        InvalidInputError: maps of another number, length or shape than the film's, or an array of something else.
        MediaError: no such file, or none that can be read.
    """
    if path is None:
        return None
    whole = info if info.picks is None else info.picks[0]
    top, bottom, left, right = info.crop
    width, height = info.uncropped
    crop = (top / height, bottom / height, left / width, right / width)
    if _is_array(path):
        array = _mapped(Path(path), limits)
        which = _matched(str(path), whole, array.shape[0], None)
        shape, film = array.shape[1:], None
        ends, floor = _ends(array, kind, str(path))
    else:
        film = media.probe(path, limits=limits)
        which = _matched(str(path), whole, film.frames, None if media.is_sequence(film.path) else film)
        shape, ends, floor = (film.height, film.width), (0.0, 1.0), 0.0
    if not 0.95 < shape[1] / shape[0] * height / width < 1.05:
        raise InvalidInputError(
            f"{path}: its maps are {shape[1]} x {shape[0]}, another shape than the film's {width} x {height}; "
            "they have to show the whole frame."
        )
    notes = []
    if (shape[0], shape[1]) != (height, width):
        notes.append(f"The depth maps are {shape[1]} x {shape[0]} and are fitted to the film's {width} x {height}.")
    return MapTrack(
        path=Path(path), film=film, kind=kind, which=which if info.picks is None else which[info.picks[1]],
        crop=crop, size=(info.height, info.width), ends=ends, floor=floor, notes=tuple(notes),
    )  # fmt: skip


def check_kind(path: str | os.PathLike[str], kind: str) -> None:
    """Refuse what a film's maps cannot be, by their name.

    Raises:
        InvalidInputError: they cannot be that.
    """
    if Path(path).suffix.lower() == ".npz":  # whose arrays cannot be read in parts
        raise InvalidInputError(
            f'{path}: is an archive of arrays; save its maps as an array: python -c "import numpy as np; '
            "np.save('maps.npy', np.load('FILE.npz')['depths'])\""
        )
    if kind not in KINDS:
        raise InvalidInputError(f"depth map kind: of a film expected one of {', '.join(KINDS)}, got {kind!r}.")
    if kind == "depth" and not _is_array(path):
        raise InvalidInputError(
            f"{path}: grey maps of a film are disparity, near is bright; invert them (ffmpeg -vf negate), or give "
            "depth as an array (.npy)."
        )


def _is_array(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".npy"


def _mapped(path: Path, limits: Limits) -> NDArray[Any]:
    """An array's file, in the file."""
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"is no array that can be read ({error})"
        raise MediaError(f"{path}: {what}.") from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or array.dtype.kind not in "fiu" or min(array.shape) < 1:
        raise InvalidInputError(
            f"{path}: expected an array of maps [frames, height, width], got {array.dtype} {list(array.shape)}."
        )
    limits.check_size(str(path), array.shape[2], array.shape[1])
    return np.asarray(array)


def _matched(name: str, film: media.FilmInfo, count: int, maps: media.FilmInfo | None) -> NDArray[np.int64]:
    """The map of each frame: one to one, or of a film of maps with another rate the one that is shown then."""
    if count == film.frames:
        return np.arange(count, dtype=np.int64)
    if maps is None:
        raise InvalidInputError(f"{name}: has {count} maps, and the film has {film.frames} frames; each needs its own.")
    lasts = [float((i.pts[-1] - i.pts[0] + i.last) * i.time_base) for i in (film, maps)]
    if abs(lasts[0] - lasts[1]) > max(_APART, 2.0 / float(maps.rate)):
        raise InvalidInputError(
            f"{name}: lasts {lasts[1]:.2f} s and the film {lasts[0]:.2f} s; the maps have to be of the whole film."
        )
    times, shown = ((i.pts - i.pts[0]).astype(np.float64) * float(i.time_base) for i in (film, maps))
    return np.maximum(np.searchsorted(shown, times + 1e-3, side="right") - 1, 0).astype(np.int64)


def _ends(array: NDArray[Any], kind: str, name: str) -> tuple[tuple[float, float], float]:
    """An array's farthest and nearest, as disparity, and the least depth that counts."""
    least, greatest = np.inf, -np.inf
    for one in array:
        low, high = float(one.min()), float(one.max())
        if not np.isfinite([low, high]).all():
            raise InvalidInputError(f"{name}: some of its values are NaN or infinite; fill them first.")
        least, greatest = min(least, low), max(greatest, high)
    if kind == "disparity":
        return (least, greatest), 0.0
    few = array[:: max(1, array.shape[0] // 32), ::8, ::8]
    floor = least_depth(np.asarray(few, np.float64))
    return (1.0 / max(greatest, floor), 1.0 / max(least, floor)), floor


@functools.cache
def _whole_range(bits: int, limited: bool) -> Map16:
    """Every value of so many bits, in the whole range of 16."""
    low, span = (16 << bits >> 8, 219 << bits >> 8) if limited else (0, (1 << bits) - 1)
    return np.rint(np.clip((np.arange(1 << bits) - low) / span, 0.0, 1.0) * 65535.0).astype(np.uint16)


def _plane(frame: Any, k: int) -> NDArray[Any]:
    """A plane of a decoded frame, uint8 or uint16 [h, w]; a view where that can be."""
    plane, component = frame.planes[k], frame.format.components[k]
    kind = np.dtype(np.uint8 if component.bits == 8 else ">u2" if frame.format.name.endswith("be") else "<u2")
    shape, strides = (plane.height, plane.width), (plane.line_size, kind.itemsize)
    return np.ndarray(shape, kind, plane, strides=strides)


class MapReader:
    """Gives the maps of a film's frames, asked for in order of showing.

    Args:
        track: the maps.
        first: the first frame that will be asked for.
    """

    def __init__(self, track: MapTrack, first: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._track = track
        self._scale: Any = VideoReformatter()
        self._held: Map16 | None = None
        self._at = -1
        self._array: NDArray[Any] | None = None
        self._maps: Iterator[tuple[int, Any]] = iter(())
        if track.film is None:
            self._array = _mapped(track.path, DEFAULT_LIMITS)
        else:
            self._read = media.PixelReader(track.film)
            self._maps = media.frames(track.film, int(track.which[first]))

    def __call__(self, index: int, size: tuple[int, int]) -> Map16:
        """A frame's map, uint16 [h, w], 0 far to 65535 near; no larger than `size`, the frame's (height, width).

        Raises:
            MediaError: the maps' file has vanished or changed.
            InvalidInputError: the maps are in colour, or of floats.
        """
        wanted = int(self._track.which[index])
        if self._array is not None:
            if wanted != self._at:
                self._held, self._at = self._cut(self._unit(self._array[wanted]), size), wanted
        else:
            while self._at < wanted:
                found = next(self._maps, None)
                if found is None:
                    break
                self._at = found[0]
                if self._at >= wanted or self._held is None:  # one that cannot be decoded: its neighbour's
                    self._held = self._cut(self._grey(found[1]), size)
        if self._held is None:
            raise MediaError(f"{self._track.path}: none of its maps can be decoded from the {wanted + 1}th on.")
        return self._held

    def small(self, values: Map16) -> NDArray[np.float32]:
        """A map at a size at which it is looked at, float32 [h, w], 0 far to 1 near."""
        step = -(-min(values.shape) // _LOOK)
        return values[step // 2 :: step, step // 2 :: step].astype(np.float32) / np.float32(65535.0)

    def _unit(self, one: NDArray[Any]) -> Map16:
        """A map of an array in the whole range of 16 bits."""
        low, high = self._track.ends
        values = one.astype(np.float64)
        if self._track.kind == "depth":
            values = 1.0 / np.maximum(values, self._track.floor)
        unit = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
        return np.rint(np.clip(unit, 0.0, 1.0) * 65535.0).astype(np.uint16)

    def _grey(self, frame: Any) -> Map16:
        """A decoded map in the whole range of 16 bits."""
        film = self._track.film
        assert film is not None
        parts = frame.format.components
        bits = max(part.bits for part in parts)
        if bits > 16 or "f16" in frame.format.name:  # which have no white
            raise InvalidInputError(f"{self._track.path}: its maps are of floats; give them as one array (.npy).")
        if _PLANAR.match(frame.format.name):  # exactly, where swscale is some levels off
            tints = [_plane(frame, k)[::4, ::4] / float(1 << bits) for k in ((1, 2) if len(parts) >= 3 else ())]
            apart = max((2.0 * float(np.abs(one - 0.5).mean()) for one in tints), default=0.0)
            told = int(frame.color_range)
            limited = told == 1 or (told != 2 and frame.format.name.startswith(("yuv4", "yuva")))
            values = _whole_range(bits, limited)[_plane(frame, 0)]
            values = media.upright(values, film.rotation, mirrored=film.mirrored)
        else:
            pixels: NDArray[Any] = self._read(frame) if bits == 8 else self._read.values(frame)
            few = pixels[::8, ::8].astype(np.int32)
            apart = float((few.max(2) - few.min(2)).mean()) / float(np.iinfo(pixels.dtype).max)
            values = pixels[:, :, 1]
            values = _whole_range(8, False)[values] if bits == 8 else np.ascontiguousarray(values)
        if apart > _COLOURED:
            raise InvalidInputError(f"{self._track.path}: its maps are in colour; they have to be grey, near bright.")
        return values

    def _cut(self, values: Map16, size: tuple[int, int]) -> Map16:
        """Without what the film leaves out, and no larger than its frames."""
        high, wide = values.shape
        top, bottom, left, right = (
            round(s * n) for s, n in zip(self._track.crop, (high, high, wide, wide), strict=True)
        )
        values = values[top : high - bottom, left : wide - right]
        if values.shape == self._track.size:
            values = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2]
        high, wide = (min(a, b) for a, b in zip(values.shape, size, strict=True))
        if (high, wide) == values.shape:
            return np.ascontiguousarray(values)
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), "gray16le")
        scaled: Map16 = self._scale.reformat(frame, wide, high, interpolation="AREA").to_ndarray()
        return scaled
