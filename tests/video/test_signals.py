# SPDX-License-Identifier: Apache-2.0
"""3D that players recognise: every layout's signals, read back by parsers that are not ours."""

import io
import json
import shutil
import struct
import subprocess
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from secondeye import FilmConfig, InvalidInputError, StereoConfig, convert_video
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video import boxes, media, signals
from secondeye.runtime.video.hdr import side_data_of
from secondeye.runtime.video.inspect import inspect_film
from secondeye.runtime.video.projection import Vr180

CUES = StereoConfig(depth="cues")
# layout: (AVStereo3D's type, inverted), what mediainfo says of it
MEANT = {
    "sbs": ((1, 0), "Side by Side (left eye first)"),
    "half-sbs": ((1, 0), "Side by Side (left eye first)"),
    "cross": ((1, 1), "Side by Side (right eye first)"),
    "tb": ((2, 0), "Top-Bottom (left eye first)"),
    "half-tb": ((2, 0), "Top-Bottom (left eye first)"),
    "checkerboard": ((4, 0), "Checkboard (left eye first)"),  # its own spelling
    "rows": ((6, 0), "Row Interleaved (left eye first)"),
    "columns": ((7, 0), "Column Interleaved (left eye first)"),
}


@pytest.fixture(scope="module")
def short(tmp_path_factory, make_clip):
    """12 frames."""
    return make_clip(tmp_path_factory.mktemp("short") / "clip.mkv", [40 * k for k in range(12)], sound=False)


def made(short, path, layout, codec="h264", **options):
    stereo = options.pop("stereo", CUES)
    convert_video(short, path, FilmConfig(stereo=stereo, layout=layout, codec=codec, preset="ultrafast", **options))
    return path


def stereo_of(path):
    """(type, inverted) that FFmpeg's libraries give to a film's first frame; None for none."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        found = {struct.unpack_from("=ii", bytes(s)) for s in side_data_of(frame) if s.type.name == "STEREO3D"}
    assert len(found) <= 1, "the container and the video contradict each other"
    return found.pop() if found else None


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.mark.parametrize("layout", ["sbs", "half-tb", "rows", "anaglyph"])
def test_matroska_says_the_pixels_shape_too(short, tmp_path, layout):
    for aspect in (Fraction(64, 45), Fraction(3, 1), Fraction(8, 9)):
        with av.open(str(short)) as source, av.open(str(tmp_path / "wide.mp4"), "w") as wide:
            stream = wide.add_stream("libx264", rate=25)
            stream.width, stream.height = (source.streams.video[0].width, source.streams.video[0].height)
            stream.codec_context.sample_aspect_ratio = aspect
            for frame in source.decode(video=0):
                wide.mux(stream.encode(frame))
            wide.mux(stream.encode(None))
        config = FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", layout=layout)
        convert_video(tmp_path / "wide.mp4", tmp_path / "out.mkv", config)
        with av.open(str(tmp_path / "out.mkv")) as file:
            got = file.streams.video[0].sample_aspect_ratio
            assert abs(float(got / aspect) - 1) < 0.01, (got, aspect)
            assert len(list(file.decode(video=0))) == 12


@pytest.mark.parametrize("layout", MEANT)
def test_the_video_itself_says_its_layout(short, tmp_path, layout):
    assert stereo_of(made(short, tmp_path / "film.mp4", layout)) == MEANT[layout][0]


@needs("mediainfo")
@pytest.mark.parametrize("layout", MEANT)
def test_matroska_says_its_layout(short, tmp_path, layout):
    path = made(short, tmp_path / "film.mkv", layout)
    told = subprocess.run(
        ["mediainfo", "--Output=Video;%MultiView_Layout%", path], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == MEANT[layout][1]
    assert stereo_of(path) == MEANT[layout][0]


@needs("ffprobe")
@pytest.mark.parametrize(("layout", "kind"), [("sbs", "side by side"), ("half-tb", "top and bottom")])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_mp4_says_its_layout(short, tmp_path, layout, kind, suffix):
    path = made(short, tmp_path / f"film{suffix}", layout, codec="hevc")
    words = ["ffprobe", "-v", "error", "-show_entries", "stream_side_data=type,inverted", "-of", "json", path]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert told["streams"][0]["side_data_list"] == [{"type": kind, "inverted": 0}]


@needs("exiftool")
def test_a_third_parser_reads_st3d(short, tmp_path):
    path = made(short, tmp_path / "film.mp4", "tb")
    told = subprocess.run(["exiftool", path], capture_output=True, text=True, check=True).stdout
    assert "Stereoscopic Top-Bottom" in told


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_other_codecs_say_it_too(short, tmp_path, codec):
    path = tmp_path / "film.mp4"
    config = FilmConfig(stereo=CUES, layout="half-sbs", codec=codec, preset="ultrafast" if codec == "hevc" else "10")
    convert_video(short, path, config)
    assert stereo_of(path) == (1, 0)


def test_swapped_views_are_told_as_such(short, tmp_path):
    path = made(short, tmp_path / "film.mkv", "sbs", stereo=StereoConfig(depth="cues", swap=True))
    assert stereo_of(path) == (1, 1)


def test_anaglyphs_say_their_colours(short, tmp_path):
    path = made(short, tmp_path / "film.mkv", "anaglyph", anaglyph="dubois-green-magenta")
    assert inspect_film(path).signals == {"Matroska StereoMode": "anaglyph, green and magenta"}


def test_every_key_frame_has_the_sei(short, tmp_path):
    path = made(short, tmp_path / "film.mkv", "tb")
    sei = signals.frame_packing_nal("h264", signals.SIGNALS["tb"])
    with av.open(str(path)) as file:
        for packet in file.demux(video=0):
            assert (sei in bytes(packet)) == (packet.size > 0 and packet.is_keyframe)


def test_inspect_says_what_a_player_understands(cli, short, tmp_path):
    path = made(short, tmp_path / "holiday_SBS.mp4", "sbs")
    code, told, _ = cli("inspect", path)
    assert code == 0
    assert "a 3D film: side by side, left view first, each view 160 x 96" in told
    assert told.count("side by side, left view first") == 4  # the verdict, the SEI, the box, the name
    code, told, _ = cli("inspect", short, "--json")
    assert json.loads(told)["verdict"].startswith("a flat film")


def test_inspect_warns_of_contradictions(short, tmp_path):
    path = made(short, tmp_path / "film_TB.mp4", "sbs")
    assert "The file name says top-bottom" in inspect_film(path).warnings[0]
    plain = shutil.copy(short, tmp_path / "film_LR_180.mkv")
    warnings = inspect_film(plain).warnings
    assert any("Only its name says" in one for one in warnings)
    assert any("says 180 degrees, and no box" in one for one in warnings)


@pytest.mark.parametrize(("name", "content"), [("a.mp4", b"\0\0\0\x18ftypmp42"), ("b.mkv", b"nothing" * 50)])
def test_inspect_refuses_what_is_no_film(cli, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    code, _, told = cli("inspect", tmp_path / name)
    assert (code, "Traceback" in told) == (2, False)


# ---- VR180 ------------------------------------------------------------------------------------------------


@needs("ffprobe")
def test_vr180_is_told_and_drawn(short, tmp_path):
    path = made(short, tmp_path / "film_180_LR.mp4", "sbs", projection="vr180", fov=90.0)
    words = ["ffprobe", "-v", "error", "-show_entries", "stream_side_data", "-of", "json", path]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    sphere = next(d for d in told["streams"][0]["side_data_list"] if "projection" in d)
    assert sphere["projection"] == "tiled equirectangular"
    # A quarter of the whole sphere's width (1024 pixels) is missing on each side: half a sphere is there.
    bounds = [sphere[f"bound_{k}"] for k in ("left", "top", "right", "bottom")]
    np.testing.assert_allclose(bounds, [256, 0, 256, 0], atol=1)
    facts = inspect_film(path)
    assert facts.projection == "equirectangular, 180 x 180 degrees"
    assert (facts.width, facts.height) == (512, 256)
    assert facts.warnings == ()


def test_vr180_puts_directions_where_they_belong():
    width, height, fov = 400, 200, 90.0
    grid = np.zeros((height, 2 * width, 3), np.uint8)
    grid[:] = 40
    # A dot at the right view's 30 degrees right, 10 degrees up.
    x = width / 2 * (1 + np.tan(np.radians(30)) / np.tan(np.radians(45)))
    y = height / 2 - width / 2 * np.tan(np.radians(10)) / np.cos(np.radians(30))
    grid[round(y) - 3 : round(y) + 3, width + round(x) - 3 : width + round(x) + 3] = 255
    draw = Vr180(width, height, 1.0, "sbs", fov)
    frame = av.VideoFrame.from_ndarray(grid, "rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    out = draw(frame).to_ndarray(format="rgb24")
    side = out.shape[0]
    assert out.shape == (side, 2 * side, 3)
    right = out[:, side:, 0]
    dot = np.argwhere(right > 200).mean(0)
    want = side * (90 - 10) / 180, side * (90 + 30) / 180
    assert np.abs(dot - want).max() < 1.5
    assert not (out[:, :side] > 60).any(), "the dot is in one view only"
    assert not right[: side // 4].any(), "nothing over the picture"
    assert not right[:, : side // 4 - 1].any(), "nothing beside it"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "vr180", "layout": "half-sbs"}, "VR180 takes sbs or tb"),
        ({"projection": "vr180", "fov": 170.0}, "20 to 150 degrees"),
        ({"projection": "cube"}, "flat or vr180"),
        ({"bits": 12}, "expected 8, or None"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        FilmConfig(**options)


def test_vr180_needs_a_container_that_can_say_so(short, tmp_path):
    with pytest.raises(InvalidInputError, match="MP4 and MOV"):
        convert_video(short, tmp_path / "film.mkv", FilmConfig(projection="vr180"))


# ---- boxes ------------------------------------------------------------------------------------------------


def test_the_box_writer_only_adds(short, tmp_path):
    path = made(short, tmp_path / "film.mp4", "anaglyph")
    data = path.read_bytes()
    file = io.BytesIO(data)
    boxes.add_to_sample_entry(file, [boxes.full_box(b"st3d", b"\x01")])
    before, after = (boxes.sample_entry_boxes(io.BytesIO(d)) for d in (data, file.getvalue()))
    assert {k: v for k, v in after.items() if k != b"st3d"} == before
    assert len(file.getvalue()) == len(data) + 13
    # An index in front of the film becomes free space, and the film still plays.
    words = ["-movflags", "faststart"]
    front = tmp_path / "front.mp4"
    with av.open(str(path)) as source, av.open(str(front), "w", options={"movflags": words[1]}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with front.open("r+b") as opened:
        boxes.add_to_sample_entry(opened, [boxes.full_box(b"st3d", b"\x01")])
    assert stereo_of(front) == (2, 0)
    with av.open(str(front)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 12


def test_damaged_boxes_are_survived(short, tmp_path):
    data = bytearray(made(short, tmp_path / "film.mp4", "sbs").read_bytes())
    start = data.index(b"moov") - 4
    rng = np.random.default_rng(11)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(start, len(data), 6):
            broken[at] = rng.integers(256)
        boxes.sample_entry_boxes(io.BytesIO(bytes(broken)))
        boxes.sample_entry_boxes(io.BytesIO(bytes(broken[: rng.integers(8, len(data))])))
    with pytest.raises(InvalidInputError, match="MP4 or MOV"):
        boxes.add_to_sample_entry(io.BytesIO(b"RIFF0000AVI " * 9), [])


# ---- depth of samples and HDR -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hdr(tmp_path_factory):
    """8 frames of 10 bits, BT.2020 and PQ, with mastering metadata."""
    path = tmp_path_factory.mktemp("hdr") / "hdr.mkv"
    picture, _ = render_sample(200, 96)
    screen = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    options = {"x265-params": f"log-level=none:hdr10=1:master-display={screen}:max-cll=1000,400", "crf": "4"}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx265", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 16, 9, 1
        for k in range(8):
            deep = np.ascontiguousarray(picture[:, 2 * k : 2 * k + 160]).astype(np.uint16) * 200 + 4000
            frame = av.VideoFrame.from_ndarray(deep, "rgb48le")
            frame.pts = k
            file.mux(stream.encode(frame.reformat(format="yuv420p10le", dst_colorspace=9)))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".mp4")])
def test_hdr_is_carried(hdr, tmp_path, codec, suffix):
    path = tmp_path / f"film{suffix}"
    report = convert_video(
        hdr, path, FilmConfig(stereo=CUES, codec=codec, preset="ultrafast" if codec == "hevc" else "10")
    )
    assert report.notes == ("Its 10 bits a sample stay 10.",)
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        frame = next(file.decode(video=0))
        assert frame.format.name == "yuv420p10le"
        got = tuple(int(getattr(context, n)) for n in ("color_primaries", "color_trc", "colorspace", "color_range"))
        assert got == (9, 16, 9, 1)
        told = {s.type.name: bytes(s) for s in side_data_of(frame)}
    assert struct.unpack("=2I", told["CONTENT_LIGHT_LEVEL"][:8]) == (1000, 400)
    numbers = struct.unpack("=22i", told["MASTERING_DISPLAY_METADATA"][:88])
    assert numbers[0] / numbers[1] == pytest.approx(0.68, abs=1e-4)
    assert numbers[18] / numbers[19] == pytest.approx(1000)
    if suffix == ".mp4":
        with path.open("rb") as file:
            assert {b"mdcv", b"clli", b"st3d"} <= set(boxes.sample_entry_boxes(file))
    assert inspect_film(path).colour == "BT.2020, PQ (HDR10), limited range"


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", ".mp4"), ("av1", ".mkv")])
def test_hlg_is_carried(tmp_path, codec, suffix):
    source, path = tmp_path / "hlg.mkv", tmp_path / f"film{suffix}"
    with av.open(str(source), "w") as file:
        stream = file.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 18, 9, 1
        for k in range(8):
            deep = np.full((96, 160, 3), 9000 + 999 * k, np.uint16)
            frame = av.VideoFrame.from_ndarray(deep, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts = k
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    preset = "ultrafast" if codec == "hevc" else "10"
    report = convert_video(source, path, FilmConfig(stereo=CUES, codec=codec, preset=preset))
    assert report.notes == ("Its 10 bits a sample stay 10.",)
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        frames = list(file.decode(video=0))
        got = tuple(int(getattr(context, n)) for n in ("color_primaries", "color_trc", "colorspace", "color_range"))
    assert got == (9, 18, 9, 1)
    assert len(frames) == 8
    assert frames[0].format.name == "yuv420p10le"
    assert "HLG" in inspect_film(path).colour


def test_prores_says_its_colours_and_that_its_range_is_limited(hdr, tmp_path, make_clip):
    """Its frames say them, which decoders believe; a full range it cannot say."""
    convert_video(hdr, tmp_path / "a.mov", FilmConfig(stereo=CUES, codec="prores"))
    assert inspect_film(tmp_path / "a.mov").colour == "BT.2020, PQ (HDR10), limited range"
    source = make_clip(tmp_path / "full.mkv", [0, 40], sound=False, codec="ffv1", tags={"color_range": 2})
    convert_video(source, tmp_path / "b.mov", FilmConfig(stereo=CUES, codec="prores"))
    with av.open(str(source)) as wanted, av.open(str(tmp_path / "b.mov")) as film:
        want, got = (next(file.decode(video=0)).to_ndarray(format="rgb24") for file in (wanted, film))
    assert np.abs(got[:, :160].astype(int) - want).mean() < 2  # with a range that is not its own: over 10


@pytest.mark.parametrize(
    ("size", "layout", "matrix"),
    [((160, 96), "sbs", 5), ((96, 320), "tb", 5), ((160, 584), "half-tb", 1), ((1280, 96), "half-sbs", 1)],
)
def test_a_matrix_that_is_guessed_is_told(tmp_path, make_clip, size, layout, matrix):
    """Players guess it by the size, which is another one for two views."""
    source = make_clip(tmp_path / "film.mkv", [0, 40], sound=False, size=size)
    for name in ("a.mp4", "a.mkv"):
        convert_video(source, tmp_path / name, FilmConfig(stereo=CUES, layout=layout, preset="ultrafast"))
        with av.open(str(tmp_path / name)) as file:
            assert int(file.streams.video[0].codec_context.colorspace) == matrix


def test_ten_bits_stay_ten_bits(hdr, tmp_path):
    path = tmp_path / "film.mkv"
    report = convert_video(hdr, path, FilmConfig(stereo=CUES, codec="ffv1"))
    assert any("no place for its HDR metadata" in note for note in report.notes)
    with av.open(str(path)) as file, av.open(str(hdr)) as source:
        for got, want in zip(file.decode(video=0), source.decode(video=0), strict=True):
            luma = got.reformat(format="gray16le").to_ndarray()[:, :160].astype(int)
            exact = want.reformat(format="gray16le").to_ndarray().astype(int)
            assert np.abs(luma - exact).mean() / 64 < 0.5, "levels of 10 bits"
            assert np.unique(luma).size > 256


def test_what_cannot_stay_deep_says_so(hdr, tmp_path):
    report = convert_video(hdr, tmp_path / "a.mkv", FilmConfig(stereo=CUES, layout="anaglyph", preset="ultrafast"))
    assert report.notes == ("Its 10 bits a sample become 8. It is HDR: its tags are kept, and bands may show.",)
    report = convert_video(hdr, tmp_path / "b.mkv", FilmConfig(stereo=CUES, bits=8, preset="ultrafast"))
    assert "become 8" in report.notes[0]


@pytest.mark.parametrize("layout", ["half-sbs", "rows", "checkerboard", "half-tb"])
def test_deep_layouts_equal_the_ordinary_ones(layout):
    from secondeye.runtime.converter import StereoConverter
    from secondeye.runtime.layouts import compose

    picture, depth = render_sample(128, 64)
    unit = (depth - depth.min()) / np.ptp(depth)
    converter = StereoConverter(CUES)
    one = compose(converter.convert_with(picture, unit.astype(np.float32)), layout)
    deep = picture.astype(np.uint16) * 257
    other = compose(converter.convert_with(picture, unit.astype(np.float32), values=deep), layout)
    assert other.dtype == np.uint16
    assert np.abs(one.astype(int) - other / 257).max() < 1.5  # bytes are rounded twice on their way


def test_a_source_on_a_sphere_or_in_3d_is_told(clip, tmp_path):
    whole = tmp_path / "360.mp4"
    with av.open(str(clip)) as source, av.open(str(whole), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    sphere = signals.stereo_boxes(None, vr180=True)[0].replace(struct.pack(">II", 1 << 30, 1 << 30), bytes(8))
    with whole.open("r+b") as file:
        boxes.add_to_sample_entry(file, [sphere])
    assert any("a sphere (equirectangular)" in note for note in media.probe(whole).notes)
    assert not media.probe(clip).notes
    config = FilmConfig(stereo=StereoConfig(depth="cues"), preset="ultrafast", end=0.4, projection="vr180")
    convert_video(clip, tmp_path / "180.mp4", config)
    notes = " ".join(media.probe(tmp_path / "180.mp4").notes)
    assert "sphere (equirectangular)" in notes
    assert "3D already (side by side)" in notes
    convert_video(clip, tmp_path / "spatial.mov", replace(config, projection="flat", codec="mv-hevc"))
    assert "3D already (spatial video)" in " ".join(media.probe(tmp_path / "spatial.mov").notes)
    for suffix in (".mkv", ".mp4"):
        convert_video(clip, tmp_path / f"sbs{suffix}", replace(config, projection="flat"))
        assert "3D already (side by side)" in " ".join(media.probe(tmp_path / f"sbs{suffix}").notes)
