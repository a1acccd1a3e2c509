# SPDX-License-Identifier: Apache-2.0
"""Spatial video: both views in one stream of two layers, read by a decoder that is not ours."""

import shutil
import struct
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from av.codec.context import Flags

from secondeye import FilmConfig, InternalError, InvalidInputError, StereoConfig, convert_video
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video import boxes, mvhevc
from secondeye.runtime.video.inspect import inspect_film

PARAMS = "log-level=none:b-adapt=0:scenecut=0:open-gop=0:log2-max-poc-lsb=8:keyint=10:min-keyint=10"


def coded(pictures, params=PARAMS):
    """(extradata, [(pts, packet)]) of an ordinary HEVC encoder."""
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), 25
    encoder.options = {"preset": "fast", "crf": "14", "x265-params": params}
    encoder.flags |= Flags.global_header
    packets = []
    for k, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame.pts = k
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return bytes(encoder.extradata), [(p.pts, bytes(p)) for p in packets]


def decoded(extradata, packets, **options):
    decoder = av.CodecContext.create("hevc", "r")
    decoder.extradata, decoder.options = extradata, options
    frames = []
    for pts, data in packets:
        packet = av.Packet(data)
        packet.pts = pts
        frames += decoder.decode(packet)
    return [f.to_ndarray(format="yuv420p") for f in (*frames, *decoder.decode(None))]


@pytest.mark.parametrize("size", [(160, 96), (170, 90)])
def test_both_layers_decode_to_the_views_own_bits(size):
    width, height = size
    picture, _ = render_sample(width + 60, height)
    views = [[p[:, 2 * k : 2 * k + width] for k in range(25)] for p in (picture, 255 - picture)]
    (extra, left), (other, right) = (coded(v) for v in views)
    sets = mvhevc.parameter_sets(extra)
    code = b"\0\0\0\1"
    whole = code + code.join([sets.vps, sets.sps, sets.pps, sets.second_sps, sets.second_pps])
    both = [(a, mvhevc.joined(x, y, sets)) for (a, x), (_, y) in zip(left, right, strict=True)]
    shown = decoded(whole, both, view_ids="-1")
    assert len(shown) == 50
    for k, (one, want) in enumerate(zip(decoded(extra, left), decoded(other, right), strict=True)):
        np.testing.assert_array_equal(shown[2 * k], one)
        np.testing.assert_array_equal(shown[2 * k + 1], want)
    # A decoder of one layer shows the left view.
    for one, want in zip(decoded(whole, both), decoded(extra, left), strict=True):
        np.testing.assert_array_equal(one, want)


def test_other_structures_are_refused():
    picture, _ = render_sample(160, 96)
    extra, _ = coded([picture] * 3, PARAMS.replace("log2-max-poc-lsb=8", "log2-max-poc-lsb=6"))
    with pytest.raises(InternalError, match="8 bits"):
        mvhevc.parameter_sets(extra)
    with pytest.raises(InternalError, match="no parameter sets"):
        mvhevc.parameter_sets(b"")


@pytest.fixture(scope="module")
def spatial(tmp_path_factory, clip):
    """The clip as spatial video, in three segments; and side by side without loss."""
    folder = tmp_path_factory.mktemp("spatial")
    stereo = StereoConfig(depth="cues")
    config = FilmConfig(stereo=stereo, codec="mv-hevc", preset="ultrafast", segment=24, quality=12, fov=60.0)
    convert_video(clip, folder / "film.mov", config)
    convert_video(clip, folder / "film.mkv", FilmConfig(stereo=stereo, codec="ffv1"))
    return folder


def test_a_film_holds_both_views_in_time(spatial, clip):
    with av.open(str(spatial / "film.mov")) as file, av.open(str(spatial / "film.mkv")) as plain:
        stream = file.streams.video[0]
        stream.codec_context.options = {"view_ids": "-1"}
        frames = list(file.decode(stream))
        sides = [f.to_ndarray(format="rgb24").astype(int) for f in plain.decode(video=0)]
    assert len(frames) == 120
    for k, side in enumerate(sides):
        pair = frames[2 * k : 2 * k + 2]
        for frame, want in zip(pair, (side[:, :160], side[:, 160:]), strict=True):
            assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - want).mean() < 6
        assert float(pair[0].pts * pair[0].time_base) == pytest.approx(k / 25, abs=0.0011)
    with av.open(str(spatial / "film.mov")) as file, av.open(str(clip)) as source:
        got, want = ([bytes(p) for p in f.demux(audio=0) if p.size] for f in (file, source))
    assert got == want


def test_the_boxes_say_spatial(spatial):
    with (spatial / "film.mov").open("rb") as file:
        entry = boxes.sample_entry_boxes(file)
        assert b"hvc1" in (spatial / "film.mov").read_bytes()
    assert boxes.inner(entry[b"vexu"], b"eyes", b"stri") == b"\0\0\0\0\x03"
    assert struct.unpack(">I", entry[b"hfov"]) == (60_000,)
    assert entry[b"lhvC"][0] == 1
    assert b"st3d" not in entry
    facts = inspect_film(spatial / "film.mov")
    assert facts.verdict == "a 3D film: spatial video, both eyes, each view 160 x 96; 60 degrees wide"


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_an_old_player_sees_a_flat_film(spatial):
    words = ["ffprobe", "-v", "warning", "-count_frames", "-select_streams", "v"]
    words += ["-show_entries", "stream=nb_read_frames,width", "-of", "csv=p=0", spatial / "film.mov"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip().strip(",") == "160,60"


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({"layout": "half-sbs"}, "film.mov", "layout sbs"),
        ({"projection": "vr180"}, "film.mov", "layout sbs"),
        ({}, "film.mkv", r"\.mp4 or \.mov"),
    ],
)
def test_spatial_video_refuses_what_it_cannot_hold(clip, tmp_path, options, name, message):
    with pytest.raises(InvalidInputError, match=message):
        convert_video(clip, tmp_path / name, FilmConfig(codec="mv-hevc", **options))
