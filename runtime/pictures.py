# SPDX-License-Identifier: Apache-2.0
"""Picture files in: decoded by Pillow behind a gate of our own, upright, in sRGB, 8 bits."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from secondeye.runtime.errors import InvalidInputError, MediaError, ResourceLimitError, SecondEyeError
from secondeye.runtime.files import explain_os_error
from secondeye.runtime.limits import DEFAULT_LIMITS, Limits

# An MPO opens as a JPEG.
READ_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM")
READ_SUFFIXES = (
    *(".jpg", ".jpeg", ".jps", ".mpo", ".png", ".webp", ".tif", ".tiff"),
    *(".avif", ".bmp", ".gif", ".ppm", ".pgm"),
)
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_BITS, _EXTRA = 258, 338  # TIFF's tags BitsPerSample and ExtraSamples; of the latter 1 is alpha that is multiplied in


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 [H, W, 3], or [H, W, 4] where the file has transparency; sRGB, full range, upright.
        name: what to call it in messages.
        notes: what was done to it that its owner might not expect, a sentence each.
    """

    pixels: NDArray[np.uint8]
    name: str
    notes: tuple[str, ...] = field(default=())


def read_picture(source: str | os.PathLike[str] | bytes | BinaryIO, *, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Read a picture file.

    Orientation from EXIF is applied, an embedded ICC profile is converted to sRGB, 16-bit samples are rounded to
    8, greyscale and palettes become RGB, transparency is kept as a fourth channel, and of an animation the first
    frame is taken. Sizes are checked from the header, before any pixel is decoded.

    Args:
        source: a path, ``-`` for standard input, the file's bytes, or a binary file object.
        limits: what is refused.

    Raises:
        MediaError: the file is missing, unreadable, truncated, or not a picture.
        InvalidInputError: a picture that is too small.
        ResourceLimitError: too many bytes or pixels.
    """
    notes: list[str] = []
    with opened_picture(source, limits=limits) as (file, name):
        image: Image.Image = file
        frames = int(getattr(image, "n_frames", 1))
        if frames > 1:
            kind = "a stereo photo of" if image.format == "MPO" else "an animation or stack of"
            notes.append(f"{name}: {kind} {frames} frames; the first is used.")
        image.seek(0)
        deep = _is_deep(file)
        values = _values16(file, cast(io.BytesIO, file.fp).getvalue()) if deep else None
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)  # Pillow turns a TIFF upright as it loads it
        image.load()
        if on_a_sphere(image):
            notes.append(f"{name}: a panorama on a sphere (equirectangular); it is treated as if it were flat.")
        if deep:
            image = _rounded(image, values, turned, name, notes)
        pixels = _to_srgb8(image, name, notes)
    return Picture(pixels=pixels, name=name, notes=tuple(notes))


@contextlib.contextmanager
def opened_picture(
    source: str | os.PathLike[str] | bytes | BinaryIO, *, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[ImageFile.ImageFile, str]]:
    """A picture file as Pillow's image, and what to call it; errors, within too, are those of :func:`read_picture`."""
    data, name = _bytes_of(source, limits)
    with warnings.catch_warnings():
        # Pillow warns of what the gate below refuses or reports itself (huge sizes, odd metadata).
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=READ_FORMATS) as image:
                limits.check_size(name, *image.size)
                yield image, name
        except Image.DecompressionBombError as error:
            raise ResourceLimitError(
                f"{name}: the header claims a picture over {limits.max_pixels / 1e6:.0f} megapixels; "
                "scale the file down first."
            ) from error
        except UnidentifiedImageError as error:
            raise MediaError(
                f"{name}: not a picture that can be read here ({_guess(data)}); "
                "give a JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF or PPM file."
            ) from error
        except SecondEyeError:
            raise
        except MemoryError as error:
            raise ResourceLimitError(f"{name}: not enough memory to decode it; scale the file down first.") from error
        except Exception as error:  # decoders of damaged bytes raise anything
            raise MediaError(f"{name}: damaged or cut short ({_reason(error)}); get a whole copy of it.") from error


def read_values(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.float32]:
    """Read a map of numbers (a depth map): float32 [H, W], values as stored.

    Takes ``.npy``, ``.npz`` (its only array), and any picture; greyscale keeps its full depth (16-bit and float
    TIFF too), colour pictures must be grey in fact.

    Raises:
        MediaError: unreadable.
        InvalidInputError: not one map of numbers.
        ResourceLimitError: over the limits.
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".npy", ".npz"):
        return _read_numpy(Path(path), limits)
    data, name = _bytes_of(path, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=READ_FORMATS) as image:
                limits.check_size(name, *image.size)
                image.load()
                if image.mode in (*_GREY_16, "F", "L"):
                    return np.asarray(image).astype(np.float32)
    except (InvalidInputError, ResourceLimitError):
        raise
    except Exception:
        # read_picture meets the same fault again and says what it is
        pass
    rgb = read_picture(data, limits=limits).pixels[:, :, :3].astype(np.int16)
    if int(np.ptp(rgb, axis=2).max()) > 8:
        raise InvalidInputError(
            f"{name}: a map of depth or labels must be grey, and this is in colour; export it as greyscale or .npy."
        )
    return rgb[:, :, 1].astype(np.float32)


def _read_numpy(path: Path, limits: Limits) -> NDArray[np.float32]:
    try:
        loaded: Any = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                if len(loaded.files) != 1:
                    raise InvalidInputError(f"{path}: expected one array, found {', '.join(loaded.files) or 'none'}.")
                loaded = loaded[loaded.files[0]]
    except InvalidInputError:
        raise
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file.") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({_reason(error)}).") from error
    except Exception as error:
        raise MediaError(f"{path}: not a whole NumPy file ({_reason(error)}).") from error
    array = np.squeeze(loaded)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"{path}: expected one [height, width] map of numbers, got {array.dtype} {array.shape}."
        )
    limits.check_size(str(path), array.shape[1], array.shape[0])
    return np.asarray(array, np.float32)


def _bytes_of(source: str | os.PathLike[str] | bytes | BinaryIO, limits: Limits) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        name, data = "picture", source
    elif isinstance(source, str | os.PathLike) and str(source) == "-":
        name, data = "standard input", _read_limited(sys.stdin.buffer, limits, "standard input")
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = str(path)
        try:
            if path.is_dir():
                raise MediaError(f"{path}: is a folder where a picture file is meant.")
            with path.open("rb") as file:
                data = _read_limited(file, limits, name)
        except FileNotFoundError as error:
            raise MediaError(f"{path}: no such file; check the name.") from error
        except MediaError:
            raise
        except OSError as error:
            raise MediaError(f"{path}: cannot be read ({explain_os_error(error)}).") from error
    elif hasattr(source, "read"):
        name, data = str(getattr(source, "name", "picture")), _read_limited(source, limits, "picture")
    else:
        raise InvalidInputError(
            "picture: expected a path, a file's bytes, a binary file or a uint8 array (np.asarray makes one of an "
            f"image), got {type(source).__name__}."
        )
    if not data:
        raise MediaError(f"{name}: is empty; expected a picture.")
    return data, name


def _read_limited(file: BinaryIO, limits: Limits, name: str) -> bytes:
    data = file.read(limits.max_picture_bytes + 1)
    if len(data) > limits.max_picture_bytes:
        raise ResourceLimitError(f"{name}: over {limits.max_picture_bytes >> 20} MiB; scale the file down first.")
    return data


def on_a_sphere(image: Image.Image) -> bool:
    """Whether XMP says so (Google's GPano)."""
    told = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    text = told.encode() if isinstance(told, str) else bytes(told)
    return re.search(rb"ProjectionType\s*(=\s*[\"']|>)\s*equirectangular", text) is not None


def _to_srgb8(image: Image.Image, name: str, notes: list[str]) -> NDArray[np.uint8]:
    """An upright sRGB 8-bit copy of a loaded image."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in _GREY_16 or image.mode == "F":
        image = Image.fromarray(_grey8(image, name, notes))
    alpha = _alpha_of(image)
    colour = _apply_profile(image, profile, name, notes)
    if colour is None:
        if image.mode == "CMYK":
            notes.append(f"{name}: CMYK without a usable profile; colours are approximate.")
        colour = image.convert("RGB")
    rgb = np.asarray(colour)
    if alpha is None:
        return np.ascontiguousarray(rgb)
    return np.concatenate([rgb, alpha[:, :, None]], axis=2)


def _is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an opened PNG or TIFF has colours or alpha of 16 bits, of which Pillow keeps the upper 8."""
    if image.mode in (*_GREY_16, "F"):
        return False
    if image.format == "PNG":
        return any(";16" in str(tile) for tile in image.tile)
    return image.format == "TIFF" and 16 in tuple(image.tag_v2.get(_BITS, ()))  # type: ignore[attr-defined]


def _rounded(
    image: Image.Image, values: NDArray[np.uint16] | None, turned: int, name: str, notes: list[str]
) -> Image.Image:
    """A loaded image of 16 bits as FFmpeg decoded it, rounded to 8; its profile and EXIF orientation stay."""
    if values is None:
        notes.append(f"{name}: of its 16-bit samples the upper 8 bits are used.")
        return image
    notes.append(f"{name}: 16-bit samples are rounded to 8 bits.")
    rounded = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    rounded.info = {"icc_profile": image.info.get("icc_profile")}
    rounded.getexif()[ExifTags.Base.Orientation] = turned
    return rounded


def _values16(image: ImageFile.ImageFile, data: bytes) -> NDArray[np.uint16] | None:
    """uint16 [H, W, 3 or 4] of a PNG or TIFF as stored, alpha not multiplied in; None where FFmpeg has no such."""
    if image.mode not in ("RGB", "RGBA", "LA"):
        return None
    import av

    try:
        decoder = av.CodecContext.create("png" if image.format == "PNG" else "tiff", "r")
        frame: Any = [*decoder.decode(av.Packet(data)), *decoder.decode(None)][0]
    except (av.FFmpegError, IndexError):
        return None
    kind = re.fullmatch(r"(rgb48|rgba64|ya16|gbrp16|gbrap16)(le|be)", frame.format.name)
    if kind is None or {frame.width, frame.height} != set(image.size):  # Pillow's is already a turned TIFF's
        return None
    channels = {"rgb48": 3, "rgba64": 4, "ya16": 2}.get(kind[1], 1)
    dtype = np.dtype("<u2" if kind[2] == "le" else ">u2")
    planes = [
        np.ndarray((frame.height, frame.width, channels), dtype, plane, strides=(plane.line_size, 2 * channels, 2))
        for plane in frame.planes
    ]
    order = {"ya16": (0, 0, 0, 1), "gbrp16": (2, 0, 1), "gbrap16": (2, 0, 1, 3)}.get(kind[1], range(channels))
    values = np.concatenate(planes, axis=2)[:, :, list(order)].astype(np.uint16)
    if image.format == "TIFF" and values.shape[2] == 4 and image.tag_v2.get(_EXTRA) == (1,):  # type: ignore[attr-defined]
        alpha = np.maximum(values[:, :, 3:], 1).astype(np.float64)
        values[:, :, :3] = np.minimum(np.rint(values[:, :, :3] * (65535.0 / alpha)), 65535)
    return values


def _alpha_of(image: Image.Image) -> NDArray[np.uint8] | None:
    if not image.has_transparency_data:
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return None if bool((alpha == 255).all()) else alpha


def _grey8(image: Image.Image, name: str, notes: list[str]) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise MediaError(f"{name}: has values that are not numbers; export it as an 8- or 16-bit picture.")
    top = float(values.max())
    full = 1.0 if image.mode == "F" and top <= 1.0 else (255.0 if image.mode == "F" and top <= 255.0 else 65535.0)
    notes.append(f"{name}: {'float' if image.mode == 'F' else '16-bit'} samples are rounded to 8 bits.")
    return np.clip(np.rint(values * (255.0 / full)), 0, 255).astype(np.uint8)


def _apply_profile(image: Image.Image, profile: bytes | None, name: str, notes: list[str]) -> Image.Image | None:
    """The image in sRGB by its own profile; None where it has none, or one that cannot be used (noted)."""
    kept = {"RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "CMYK": "CMYK", "L": "L", "LA": "L"}.get(image.mode)
    if not profile or kept is None:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        told = ImageCms.getProfileDescription(source).lower()
        if "srgb" in told and "linear" not in told:  # GIMP has a "Linear sRGB"
            return image.convert("RGB") if image.mode != "CMYK" else None
        base = image.convert(kept)
        # No output profile is embedded: what leaves here is plain sRGB.
        return ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append(f"{name}: its colour profile cannot be used and is ignored.")
        return None


def _guess(data: bytes) -> str:
    head = data[:64]
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
        return "it looks like HEIC, as phones make it"
    if head[4:8] == b"ftyp" or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF", b"OggS"):
        return "it looks like a film or sound"
    if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head):
        return "it looks like text"
    return "unknown or damaged header"


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".") or type(error).__name__
