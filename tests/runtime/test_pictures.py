# SPDX-License-Identifier: Apache-2.0
"""Picture files in and out."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from secondeye import MediaError
from secondeye.runtime import writers
from secondeye.runtime.files import atomic_write
from secondeye.runtime.pictures import read_picture, read_values

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(encoded(Image.fromarray(PIXELS), "PNG", exif=exif))
    np.testing.assert_array_equal(picture.pixels, np.rot90(PIXELS, -1))


def test_an_icc_profile_is_converted():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_picture(encoded(Image.fromarray(PIXELS), icc_profile=lab))
    np.testing.assert_array_equal(same.pixels, PIXELS)
    broken = read_picture(encoded(Image.fromarray(PIXELS), icc_profile=b"nonsense"))
    np.testing.assert_array_equal(broken.pixels, PIXELS)
    assert "profile cannot be used" in broken.notes[0]


def linear_profile(space, name):
    """An ICC profile (version 2) of linear light: sRGB's primaries, or grey."""
    white, fixed = (0.9642, 1.0, 0.82491), lambda values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)
    primaries = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
    told = name.encode() + b"\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(told)) + told + bytes(78)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(white)
    for letter, primary in zip("rgb", primaries, strict=True) if space == "RGB " else [("k", None)]:
        tags[f"{letter}TRC".encode()] = b"curv" + bytes(8)
        if primary is not None:
            tags[f"{letter}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(primary)
    table, body = struct.pack(">I", len(tags)), b""
    for kind, content in tags.items():
        table += struct.pack(">4sII", kind, 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x", 128 + len(table + body), 0x02100000, b"mntr", space.encode(), b"XYZ ", b"acsp"
    )
    return (head + fixed(white)).ljust(128, b"\0") + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "I;16"])
def test_every_kind_of_picture_heeds_its_profile(mode):
    light = np.kron(RNG.integers(8, 256, (4, 6), np.uint8), np.ones((8, 8), np.uint8))
    image = Image.fromarray(light)
    if mode == "I;16":
        image = Image.fromarray(light.astype(np.uint16) * 257)
    profile = linear_profile("GRAY" if mode in ("L", "LA", "I;16") else "RGB ", "GIMP built-in Linear sRGB")
    image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(100)
    unit = light / 255.0
    wanted = 255.0 * np.where(unit <= 0.0031308, 12.92 * unit, 1.055 * unit ** (1 / 2.4) - 0.055)
    got = read_picture(encoded(image, icc_profile=profile)).pixels
    assert got.shape[2] == (4 if mode in ("LA", "RGBA") else 3)
    assert np.abs(got[:, :, :3] - wanted[:, :, None]).max() < 4.0  # 8 bits of linear light are coarse in the dark


def test_alpha_grey_palette_and_16_bits():
    rgba = np.dstack([PIXELS, RNG.integers(0, 255, (40, 60), np.uint8)])
    np.testing.assert_array_equal(read_picture(encoded(Image.fromarray(rgba))).pixels, rgba)
    opaque = np.dstack([PIXELS, np.full((40, 60), 255, np.uint8)])
    assert read_picture(encoded(Image.fromarray(opaque))).pixels.shape == (40, 60, 3)
    grey = read_picture(encoded(Image.fromarray(PIXELS[:, :, 0]))).pixels
    np.testing.assert_array_equal(grey, np.repeat(PIXELS[:, :, :1], 3, axis=2))
    deep = PIXELS[:, :, 0].astype(np.uint16) * 257
    picture = read_picture(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(picture.pixels, np.repeat(PIXELS[:, :, :1], 3, axis=2))
    assert "16-bit" in picture.notes[0]
    palette = Image.fromarray(PIXELS).quantize(64)
    np.testing.assert_array_equal(read_picture(encoded(palette)).pixels, np.asarray(palette.convert("RGB")))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_are_rounded(suffix, channels):
    deep = RNG.integers(0, 65536, (31, 43, channels), np.uint16)
    order = [2, 1, 0, 3][:channels]  # OpenCV's
    data = cv2.imencode(suffix, np.ascontiguousarray(deep[:, :, order]))[1].tobytes()
    picture = read_picture(data)
    rounded = np.rint(deep / 257.0).astype(np.uint8)
    assert (rounded != deep >> 8).mean() > 0.2  # cutting is something else
    np.testing.assert_array_equal(picture.pixels, rounded)
    assert "16-bit samples are rounded to 8 bits" in picture.notes[0]
    with pytest.raises(MediaError):
        read_picture(data[: len(data) // 2])


def test_16_bits_keep_their_profile_orientation_and_transparency():
    deep = RNG.integers(0, 65536, (31, 43, 3), np.uint16)
    data = cv2.imencode(".png", np.ascontiguousarray(deep[:, :, ::-1]))[1].tobytes()
    rounded = np.rint(deep / 257.0).astype(np.uint8)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()  # not one of RGB: told, and left alone
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = tuple(int(v) for v in deep[3, 5])
    extra = (
        chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"iCCP", b"x\0\0" + zlib.compress(lab))
        + chunk(b"eXIf", exif.tobytes()[6:]) + chunk(b"tRNS", struct.pack(">3H", *clear))
    )  # fmt: skip
    picture = read_picture(data[:33] + extra + data[33:])  # after IHDR
    upright = np.rot90(np.dstack([rounded, np.where((deep == clear).all(2), 0, 255)]), -1)
    np.testing.assert_array_equal(picture.pixels, upright)
    assert any("profile cannot be used" in note for note in picture.notes)


def tiff_of(values, photometric, orientation=1):
    """A TIFF of uint16 [H, W, C]."""
    (high, wide, channels), ifd = values.shape, TiffImagePlugin.ImageFileDirectory_v2()
    tags = {256: wide, 257: high, 258: (16,) * channels, 259: 1, 262: photometric, 274: orientation}
    for tag, value in {**tags, 277: channels, 278: high, 279: values.nbytes, 273: 0}.items():
        ifd[tag] = value
    head = b"II" + struct.pack("<HI", 42, 8)  # Pillow puts the strip after the tags
    return head + ifd.tobytes(8) + values.astype("<u2").tobytes()


@pytest.mark.parametrize("wide", [16, 24])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_of_16_bits_are_turned_upright(orientation, wide):
    deep = RNG.integers(0, 65536, (16, wide, 3), np.uint16)
    turns, mirrored = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (1, 1), 6: (3, 0), 7: (3, 1), 8: (1, 0)}[
        orientation
    ]
    upright = np.rint(np.rot90(deep[:, ::-1] if mirrored else deep, turns) / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(tiff_of(deep, 2, orientation)).pixels, upright)


def test_16_bits_that_are_no_colours_of_ours_are_told():
    picture = read_picture(tiff_of(RNG.integers(0, 65536, (16, 16, 4), np.uint16), 5))  # CMYK
    assert any("the upper 8 bits are used" in note for note in picture.notes)


def test_values_keep_their_depth(tmp_path):
    deep = RNG.integers(0, 65536, (30, 50), np.uint16)
    Image.fromarray(deep).save(tmp_path / "d.png")
    np.testing.assert_array_equal(read_values(tmp_path / "d.png"), deep.astype(np.float32))
    real = RNG.random((30, 50), np.float32)
    Image.fromarray(real).save(tmp_path / "d.tif")
    np.testing.assert_array_equal(read_values(tmp_path / "d.tif"), real)
    np.savez(tmp_path / "d.npz", disparity=real)
    np.testing.assert_array_equal(read_values(tmp_path / "d.npz"), real)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 4), (1, 3000, 3), (900, 1100, 3)])
def test_png_is_lossless_and_the_same_for_any_core_count(shape, monkeypatch):
    pixels = RNG.integers(0, 256, shape, np.uint8)
    data = writers.encode_bytes(pixels, ".png")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), pixels)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert writers.encode_bytes(pixels, ".png") == data


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(MediaError, match="folder"), atomic_write(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_damaged_files_end_in_a_media_error(kind):
    whole = bytearray(encoded(Image.fromarray(PIXELS), kind))
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = whole.copy()
        for _ in range(int(rng.integers(1, 12))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        cut = bytes(data[: int(rng.integers(1, len(data) + 1))])
        try:
            assert read_picture(cut).pixels.dtype == np.uint8
        except (MediaError, ValueError, MemoryError) as error:
            assert type(error).__module__ == "secondeye.runtime.errors"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_panorama_on_a_sphere_is_told(kind):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description GPano:ProjectionType="equirectangular"/></x:xmpmeta>'
    image = Image.new("RGB", (64, 32))
    options = {"xmp": xmp}
    if kind == "TIFF":
        options = {"tiffinfo": {700: xmp}}
    elif kind == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    assert any("panorama on a sphere" in note for note in read_picture(encoded(image, kind, **options)).notes)
    assert not read_picture(encoded(image, kind)).notes
