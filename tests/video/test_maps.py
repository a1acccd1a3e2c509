# SPDX-License-Identifier: Apache-2.0
"""Films with depth of their own: maps out and in again, from films, pictures and arrays."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from secondeye import FilmConfig, InvalidInputError, MediaError, StereoConfig, convert_video
from secondeye.runtime.video.config import open_film
from secondeye.runtime.video.maps import MapReader, open_maps

EXACT = FilmConfig(stereo=StereoConfig(depth="cues", widen=0), auto_convergence=False, codec="ffv1")
FRAMES = 50


@pytest.fixture(scope="module")
def film(tmp_path_factory, make_clip):
    """50 frames of 160 x 96 with a cut, whose colours are told to be of limited range."""
    tags = {"color_primaries": 1, "color_trc": 1, "colorspace": 1, "color_range": 1}
    path = tmp_path_factory.mktemp("maps") / "film.mp4"
    return make_clip(path, [40 * k for k in range(FRAMES)], cut_at=30, tags=tags)


@pytest.fixture(scope="module")
def want(film, tmp_path_factory):
    """The film converted with a depth model, and its maps as a film and as pictures."""
    folder = tmp_path_factory.mktemp("want")
    convert_video(film, folder / "pair.mkv", EXACT)
    (folder / "maps").mkdir()
    maps = replace(EXACT, layout="disparity")
    convert_video(film, folder / "maps.mkv", maps)
    convert_video(film, folder / "maps" / "%04d.png", maps)
    return folder


def pictures(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def grey(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray() for frame in file.decode(video=0)])


def write_grey(path, maps, *, rate=25, codec="ffv1", kind="gray16le"):
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = maps.shape[2], maps.shape[1], kind
        for one in maps:
            if one.dtype == np.uint8:
                frame = av.VideoFrame.from_ndarray(np.repeat(one[:, :, None], 3, 2), "rgb24")
            else:
                frame = av.VideoFrame.from_ndarray(one, "gray16le")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def ramp(count=FRAMES, size=(96, 160)):
    """Maps that are dark on the left, bright on the right, and brighter from frame to frame."""
    x = np.linspace(0.0, 0.8, size[1])[None, None]
    at = np.linspace(0.0, 0.2, count)[:, None, None]
    return np.broadcast_to(x + at, (count, *size)).astype(np.float32)


def read_all(film, path, kind="disparity", config=EXACT, first=0):
    info = open_film(film, config)
    track = open_maps(info, path, kind)
    reader = MapReader(track, first)
    return np.stack([reader(k, (info.height, info.width)).copy() for k in range(first, info.frames)]), track


@pytest.mark.parametrize(("name", "jobs"), [("maps.mkv", 1), ("maps/%04d.png", 1), ("maps.mkv", 2)])
def test_maps_that_were_written_give_the_same_views(film, want, tmp_path, name, jobs):
    config = replace(EXACT, depth_map=str(want / name), segment=24, stereo=StereoConfig(depth="none.onnx", widen=0))
    report = convert_video(film, tmp_path / "again.mkv", config, jobs=jobs)
    assert (report.frames, report.shots) == (FRAMES, 2)
    np.testing.assert_array_equal(pictures(tmp_path / "again.mkv"), pictures(want / "pair.mkv"))


def test_a_part_takes_its_own_maps(film, want, tmp_path):
    part = replace(EXACT, start=1.0, end=1.6, depth_map=str(want / "maps.mkv"))
    convert_video(film, tmp_path / "part.mkv", part)
    np.testing.assert_array_equal(pictures(tmp_path / "part.mkv"), pictures(want / "pair.mkv")[25:40])


def test_maps_have_one_scale_for_the_whole_film(film, tmp_path):
    """What does not move keeps its grey when something nearer goes, in 16 bits and in 8."""
    own = np.full((FRAMES, 96, 160), 0.25, np.float32)
    own[:20, 30:60, 40:80] = 1.0
    own[:, :4] = 0.0
    np.save(tmp_path / "own.npy", own)
    for codec, layout, bits in (("ffv1", "disparity", 16), ("h264", "disparity", 8), ("h264", "rgbd", 8)):
        config = replace(EXACT, depth_map=str(tmp_path / "own.npy"), layout=layout, codec=codec, quality=None)
        convert_video(film, tmp_path / "grey.mkv", config)
        got = grey(tmp_path / "grey.mkv") if bits == 16 else pictures(tmp_path / "grey.mkv")[..., 0]
        assert got.dtype.itemsize * 8 == bits
        assert got.shape[1:] == ((96, 320) if layout == "rgbd" else (96, 160))
        still = got[:, 80, -20].astype(int)
        np.testing.assert_allclose(still, 0.25 * (2**bits - 1), atol=2**bits / 128)
        assert got[10, 45, -100] > 0.98 * (2**bits - 1)


def test_pictures_that_are_no_png_have_8_bits(film, tmp_path, read):
    convert_video(film, tmp_path / "m%02d.jpg", replace(EXACT, layout="disparity", end=0.1))
    assert read(tmp_path / "m01.jpg").dtype == np.uint8


def test_arrays_of_any_scale_and_of_depth(film, tmp_path):
    unit = ramp()
    whole = np.rint((unit - unit.min()) / (unit.max() - unit.min()) * 65535)
    np.save(tmp_path / "scaled.npy", unit * 7 - 3)
    np.save(tmp_path / "depth.npy", (1.0 / (0.1 + unit))[..., None])
    np.save(tmp_path / "bytes.npy", np.rint(unit * 200).astype(np.uint8))
    for name, kind, apart in (("scaled", "disparity", 1), ("depth", "depth", 1), ("bytes", "disparity", 200)):
        got, track = read_all(film, tmp_path / f"{name}.npy", kind)
        np.testing.assert_allclose(got, whole, atol=apart)
        assert track.notes == ()


def test_grey_of_any_format(film, tmp_path):
    """Eight bits, limited range and 10 bits reach black and white as 16 bits do."""
    unit = ramp()
    eight, sixteen = np.rint(unit * 255).astype(np.uint8), np.rint(unit * 65535).astype(np.uint16)
    for name, maps, codec, kind, apart in (
        ("g16.mkv", sixteen, "ffv1", "gray16le", 0),
        ("g8.mkv", eight, "ffv1", "gray", 130),
        ("g10.mkv", sixteen, "ffv1", "gray10le", 2 * 65535 / 1023),
        ("limited.mkv", eight, "ffv1", "yuv420p", 65535 / 100),
        ("lossy.mp4", eight, "libx264", "yuv420p", 2600),
        ("rgb.mkv", eight, "ffv1", "bgr0", 130),
    ):
        got, _ = read_all(film, write_grey(tmp_path / name, maps, codec=codec, kind=kind))
        np.testing.assert_allclose(got, sixteen, atol=apart, err_msg=name)


def test_limited_range_is_read_exactly(film, tmp_path):
    levels = np.resize(np.arange(256, dtype=np.uint8), (96, 160))
    planes = np.concatenate([levels, np.full((48, 160), 128, np.uint8)])
    with av.open(str(tmp_path / "limited.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(FRAMES):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))
        file.mux(stream.encode(None))
    want = np.rint(np.clip((levels.astype(float) - 16) / 219, 0, 1) * 65535)
    np.testing.assert_array_equal(read_all(film, tmp_path / "limited.mkv")[0][7], want)


def test_maps_at_another_rate_are_shown_when_they_were(film, tmp_path):
    slow = np.rint(ramp(FRAMES // 2) * 65535).astype(np.uint16)
    path = write_grey(tmp_path / "slow.mkv", slow, rate=Fraction(25, 2))
    np.testing.assert_array_equal(read_all(film, path)[0], np.repeat(slow, 2, 0))
    # A film that is taken at another rate takes the maps of the frames that it takes.
    full = np.rint(ramp() * 65535).astype(np.uint16)
    path = write_grey(tmp_path / "full.mkv", full)
    config = replace(EXACT, fps="12.5")
    np.testing.assert_array_equal(read_all(film, path, config=config)[0], full[::2])
    np.testing.assert_array_equal(read_all(film, path, config=config, first=9)[0], full[18::2])


def test_other_sizes_and_bars(film, tmp_path, make_clip):
    half = np.rint(ramp(size=(48, 80)) * 65535).astype(np.uint16)
    got, track = read_all(film, write_grey(tmp_path / "half.mkv", half))
    np.testing.assert_array_equal(got, half)  # enlarged along the picture's edges, not here
    assert "80 x 48" in track.notes[0]
    config = replace(EXACT, depth_map=str(tmp_path / "half.mkv"), layout="disparity")
    report = convert_video(film, tmp_path / "out.mkv", config)
    assert any("80 x 48" in note for note in report.notes)
    np.testing.assert_allclose(
        grey(tmp_path / "out.mkv")[:, 10:-10, 10:-10], np.rint(ramp() * 65535)[:, 10:-10, 10:-10], atol=1000
    )
    large = np.rint(ramp(size=(192, 320)) * 65535).astype(np.uint16)
    got, _ = read_all(film, write_grey(tmp_path / "large.mkv", large))
    np.testing.assert_allclose(got, np.rint(ramp() * 65535), atol=400)
    # Bars that are left out of the film are left out of its maps, which show the whole frame.
    barred = tmp_path / "barred.mkv"
    with av.open(str(barred), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv444p"
        for one in pictures(film):
            frame = av.VideoFrame.from_ndarray(np.pad(one, ((16, 16), (0, 0), (0, 0))), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    tall = np.rint(ramp(size=(128, 160)).transpose(0, 1, 2) * 40000).astype(np.uint16)
    tall[:, :16] = tall[:, -16:] = 65535
    got, track = read_all(barred, write_grey(tmp_path / "tall.mkv", tall), config=replace(EXACT, crop_bars=True))
    assert track.size == (96, 160)
    np.testing.assert_array_equal(got, tall[:, 16:-16])


def test_maps_without_a_frame_take_the_one_before(film, tmp_path):
    full = np.rint(ramp() * 65535).astype(np.uint16)
    info = open_film(film, EXACT)
    track = open_maps(info, write_grey(tmp_path / "full.mkv", full), "disparity")
    reader = MapReader(track, 0)
    reader._maps = (found for found in list(reader._maps) if found[0] not in (0, 7, 8))
    got = np.stack([reader(k, (96, 160)).copy() for k in range(FRAMES)])
    at = np.arange(FRAMES)
    at[0], at[7:9] = 1, 9
    np.testing.assert_array_equal(got, full[at])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("few.mkv", lambda p: write_grey(p, np.zeros((20, 96, 160), np.uint16)), "lasts 0.80 s and the film 2.00 s"),
        ("wide.mkv", lambda p: write_grey(p, np.zeros((50, 96, 240), np.uint16)), "another shape than the film's"),
        ("few.npy", lambda p: np.save(p, np.zeros((49, 96, 160), np.float32)), "49 maps, and the film has 50"),
        ("flat.npy", lambda p: np.save(p, np.zeros((96, 160), np.float32)), r"expected an array of maps"),
        ("nan.npy", lambda p: np.save(p, np.full((50, 96, 160), np.nan)), "NaN or infinite"),
        ("cut.npy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"), "no array that can be read"),
        ("objects.npy", lambda p: np.save(p, np.array([{}]), allow_pickle=True), "no array that can be read"),
        ("maps.npz", lambda p: np.savez(p, depths=np.zeros((50, 96, 160))), "is an archive of arrays; save its maps"),
        ("none.mkv", lambda p: None, "no such file"),
    ],
)
def test_maps_that_do_not_fit_are_refused(film, tmp_path, name, make, message):
    make(tmp_path / name)
    before = set(tmp_path.iterdir())
    with pytest.raises((InvalidInputError, MediaError), match=message):
        convert_video(film, tmp_path / "never.mkv", replace(EXACT, depth_map=str(tmp_path / name)))
    assert set(tmp_path.iterdir()) == before


def test_maps_in_colour_are_refused(film, tmp_path):
    with pytest.raises(InvalidInputError, match="in colour"):
        convert_video(film, tmp_path / "never.mkv", replace(EXACT, depth_map=str(film)))
    assert not list(tmp_path.iterdir())


def test_maps_of_floats_are_refused(film, tmp_path):
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "grayf32le"
    frame = av.VideoFrame(160, 96, "grayf32le")
    frame.planes[0].update(np.full((96, 160), 3.5, np.float32).tobytes())
    data = b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))
    for k in range(FRAMES):
        (tmp_path / f"{k}.exr").write_bytes(data)
    with pytest.raises(InvalidInputError, match="of floats"):
        convert_video(film, tmp_path / "never.mkv", replace(EXACT, depth_map=str(tmp_path / "%d.exr")))


def test_other_maps_do_not_mix(film, want, tmp_path):
    """A stopped run goes on with the same maps, by whatever name, and not with others."""
    config = replace(EXACT, depth_map=str(want / "maps.mkv"), segment=24)

    def stop(now):
        if now.done == 40:
            raise MediaError("stopped here")

    with pytest.raises(MediaError, match="stopped here"):
        convert_video(film, tmp_path / "out.mkv", config, progress=stop)
    own = ramp()
    np.save(tmp_path / "own.npy", own)
    with pytest.raises(InvalidInputError, match="depth_map was"):
        convert_video(film, tmp_path / "out.mkv", replace(config, depth_map=str(tmp_path / "own.npy")))
    moved = tmp_path / "moved.mkv"
    moved.write_bytes((want / "maps.mkv").read_bytes())
    report = convert_video(film, tmp_path / "out.mkv", replace(config, depth_map=str(moved)))
    assert report.reused == 24
    np.testing.assert_array_equal(pictures(tmp_path / "out.mkv"), pictures(want / "pair.mkv"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["FILM", "-o", "-", "--depth-map", "MAPS"], "pipes"),
        (["FILM", "FILM", "-o", "folder/", "--depth-map", "MAPS"], "one film"),
        (["FILM", "-o", "out.mkv", "--depth-map", "MAPS", "--depth-map-kind", "depth"], "near is bright"),
        (["FILM", "-o", "out.mkv", "--depth-map", "MAPS", "--depth-map-kind", "pixels"], "one of disparity, depth"),
        (["FILM", "-o", "out.mkv", "--save-depth", "d.npy"], "--layout disparity"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(cli, film, want, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, told = cli("convert", *({"FILM": film, "MAPS": want / "maps.mkv"}.get(word, word) for word in words))
    assert code == 2
    assert message in told
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def test_through_the_command(cli, film, tmp_path):
    maps, out = tmp_path / "maps.mkv", tmp_path / "out.mkv"
    words = ("--codec", "ffv1", "--depth-model", "cues", "--end", "0.4")
    assert cli("convert", film, "-o", maps, "--layout", "disparity", "--codec", "ffv1", "--depth-model", "cues")[0] == 0
    code, _, told = cli("convert", film, "-o", out, "--depth-map", maps, "--report", tmp_path / "r.html", *words)
    assert code == 0, told
    assert "10 frames" in told
    assert "maps of" in (tmp_path / "r.html").read_text()
