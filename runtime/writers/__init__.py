# SPDX-License-Identifier: Apache-2.0
"""Picture files out: one format, one entry, by the file's suffix; whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from secondeye.runtime.errors import InvalidInputError, MediaError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.writers import png
from secondeye.runtime.writers.stereo_jpeg import jps_extra, write_mpo

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """One output format.

    Attributes:
        name: the format's name.
        suffixes: the file suffixes that choose it, the usual one first.
        alpha: whether it keeps transparency.
        max_side_px: the format's own limit on a side.
        write: writes uint8 [H, W, 1|3|4] pixels at a quality of 1 to 100 to a file.
    """

    name: str
    suffixes: tuple[str, ...]
    alpha: bool
    max_side_px: int
    write: Callable[[BinaryIO, Pixels, int], None]


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _pillow(name: str, **options: Any) -> Callable[[BinaryIO, Pixels, int], None]:
    def write(file: BinaryIO, pixels: Pixels, quality: int) -> None:
        extra = {"quality": quality} if name != "TIFF" else {}
        _image(pixels).save(file, name, **options, **extra)

    return write


def _jps(file: BinaryIO, pixels: Pixels, quality: int) -> None:
    _image(pixels).save(file, "JPEG", quality=quality, subsampling=0, extra=jps_extra())


FORMATS = (
    PictureFormat(
        name="PNG", suffixes=(".png",), alpha=True, max_side_px=2**31 - 1, write=lambda f, p, q: png.write(f, p)
    ),
    PictureFormat(
        name="JPEG",
        suffixes=(".jpg", ".jpeg"),
        alpha=False,
        max_side_px=65500,
        # 4:4:4, since half colour resolution smears the very edges that carry the parallax
        write=_pillow("JPEG", subsampling=0),
    ),
    PictureFormat(name="WebP", suffixes=(".webp",), alpha=True, max_side_px=16383, write=_pillow("WEBP", method=2)),
    PictureFormat(
        name="TIFF",
        suffixes=(".tif", ".tiff"),
        alpha=True,
        max_side_px=2**31 - 1,
        write=_pillow("TIFF", compression="tiff_adobe_deflate"),
    ),
    PictureFormat(name="AVIF", suffixes=(".avif",), alpha=True, max_side_px=65535, write=_pillow("AVIF", speed=8)),
    PictureFormat(name="JPS", suffixes=(".jps",), alpha=False, max_side_px=65500, write=_jps),
)
MPO_SUFFIX = ".mpo"


def format_of(path: str | os.PathLike[str]) -> PictureFormat:
    """The format that a file name's suffix chooses.

    Raises:
        InvalidInputError: no such format, listing those there are.
    """
    suffix = Path(path).suffix.lower()
    for one in FORMATS:
        if suffix in one.suffixes:
            return one
    known = ", ".join([*(s for one in FORMATS for s in one.suffixes), MPO_SUFFIX])
    raise InvalidInputError(
        f"{path}: cannot tell the format from {suffix or 'a name without a suffix'}; end the name in one of {known}."
    )


def check_fits(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Refuse, before any work, a picture that the chosen format cannot hold."""
    chosen = format_of(path)
    if max(width, height) > chosen.max_side_px:
        raise InvalidInputError(
            f"{path}: {chosen.name} holds at most {chosen.max_side_px} pixels a side and this picture would be "
            f"{width} x {height}; use .png or a smaller --size."
        )


def encode(file: BinaryIO, pixels: Pixels, chosen: PictureFormat, *, quality: int = 95) -> None:
    """Write uint8 [H, W, 1|3|4] pixels in a format; transparency that it cannot keep is laid on black."""
    if pixels.shape[2] == 4 and not chosen.alpha:
        pixels = flatten_alpha(pixels)
    chosen.write(file, np.ascontiguousarray(pixels), quality)


def save_picture(path: str | os.PathLike[str], pixels: Pixels, *, quality: int = 95) -> None:
    """Write a picture file whole, or not at all.

    Args:
        path: its suffix chooses the format.
        pixels: uint8 [H, W, 1|3|4], sRGB.
        quality: 1 to 100, for the lossy formats.

    Raises:
        InvalidInputError: unknown suffix, or a picture that the format cannot hold.
        MediaError: the file cannot be written; what stood there before is untouched.
    """
    chosen = format_of(path)
    check_fits(path, pixels.shape[1], pixels.shape[0])
    with atomic_write(path) as file:
        try:
            encode(file, pixels, chosen, quality=quality)
        except (ValueError, RuntimeError) as error:
            raise MediaError(f"{path}: the {chosen.name} encoder failed ({error}).") from error


def save_mpo(path: str | os.PathLike[str], left: Pixels, right: Pixels, *, quality: int = 95) -> None:
    """Write a stereo pair as one MPO file (CIPA DC-007), left view first."""
    views = [flatten_alpha(view) if view.shape[2] == 4 else view for view in (left, right)]
    check_fits(Path(path).with_suffix(".jpg"), left.shape[1], left.shape[0])
    with atomic_write(path) as file:
        write_mpo(file, _image(views[0]), _image(views[1]), quality)


def save_values(path: str | os.PathLike[str], values: NDArray[np.float32]) -> None:
    """Write a map of numbers: ``.npy`` as it is (float32), any picture suffix as grey, 0 at the smallest value.

    PNG and TIFF take 16 bits, the rest 8. A constant map is all zero.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        with atomic_write(path) as file:
            np.save(file, np.ascontiguousarray(values))
        return
    low, high = float(values.min()), float(values.max())
    unit = (values - low) * np.float32(1.0 / (high - low) if high > low else 0.0)
    if suffix in (".png", ".tif", ".tiff"):
        grey = np.rint(unit * np.float32(65535)).astype(np.uint16)
        with atomic_write(path) as file:
            Image.fromarray(grey).save(file, "PNG" if suffix == ".png" else "TIFF", compress_level=1)
        return
    save_picture(path, np.rint(unit * np.float32(255)).astype(np.uint8)[:, :, None])


def flatten_alpha(pixels: Pixels) -> Pixels:
    """uint8 [H, W, 4] laid on black: [H, W, 3]."""
    colour = pixels[:, :, :3].astype(np.uint16)
    return ((colour * pixels[:, :, 3:] + 127) // 255).astype(np.uint8)


def encode_bytes(pixels: Pixels, suffix: str, *, quality: int = 95) -> bytes:
    """A picture file's bytes, for pipes."""
    buffer = io.BytesIO()
    encode(buffer, pixels, format_of(f"x{suffix}"), quality=quality)
    return buffer.getvalue()
