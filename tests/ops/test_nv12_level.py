# SPDX-License-Identifier: Apache-2.0
"""nv12 and level: every implementation returns the reference's bytes; nv12 agrees with FFmpeg's conversion."""

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from secondeye import InvalidInputError, ops

ISAS = [*ops.isas(), "blocks"]
SETTINGS = settings(max_examples=40, deadline=None)
SHAPES = st.one_of(st.tuples(st.integers(1, 9), st.integers(1, 70)), st.sampled_from([(1, 1), (3, 2100), (2, 16384)]))


def strided(rng, shape, kind):
    """Bytes of a shape, in one of several layouts."""
    height, width, *rest = shape
    if kind == "flipped":
        return rng.integers(0, 256, shape, np.uint8)[::-1, ::-1]
    if kind == "sliced":
        return rng.integers(0, 256, (height, 2 * width, *rest), np.uint8)[:, ::2]
    return rng.integers(0, 256, shape, np.uint8)


@SETTINGS
@given(
    shape=SHAPES, kind=st.sampled_from(["plain", "flipped", "sliced"]), channels=st.sampled_from([3, 4]),
    standard=st.sampled_from(["bt601", "bt709", "bt2020"]), full=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_nv12(shape, kind, channels, standard, full, seed):
    rng = np.random.default_rng(seed)
    luma, chroma = strided(rng, shape, kind), strided(rng, ((shape[0] + 1) // 2, (shape[1] + 1) // 2, 2), kind)
    options = {"standard": standard, "full": full, "channels": channels}
    want = ops.nv12(luma, chroma, backend="reference", **options)
    for isa in ISAS:
        np.testing.assert_array_equal(ops.nv12(luma, chroma, isa=isa, threads=3, **options), want, err_msg=isa)


@SETTINGS
@given(
    shape=SHAPES, turned=st.booleans(), scale=st.floats(-9, 9, width=32), offset=st.floats(-300, 300, width=32),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_level(shape, turned, scale, offset, seed):
    rng = np.random.default_rng(seed)
    disparity = (rng.normal(size=shape) * 40).astype(np.float32)
    disparity.flat[:: max(1, disparity.size // 7)] = np.resize([np.nan, np.inf, -np.inf, 3e38, -0.0, 1e-40], 1)
    if turned:
        disparity = np.ascontiguousarray(disparity.T).T
    want = ops.level(disparity, scale, offset, backend="reference")
    for isa in ISAS:
        got = ops.level(disparity, scale, offset, isa=isa, threads=2)
        np.testing.assert_array_equal(got.view(np.int32) * np.isfinite(want), want.view(np.int32) * np.isfinite(want))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("standard", "full"), [("bt601", False), ("bt709", False), ("bt709", True)])
def test_nv12_is_what_ffmpeg_makes_of_it(standard, full):
    rng = np.random.default_rng(6)
    luma = np.clip(rng.normal(120, 50, (64, 96)), 16, 235).astype(np.uint8)
    chroma = np.clip(rng.normal(128, 12, (32, 48, 2)), 16, 240).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.concatenate([luma, chroma.reshape(32, 96)]), format="nv12")
    space = {"bt601": "ITU601", "bt709": "ITU709"}[standard]
    want = frame.reformat(
        format="rgb24", src_colorspace=space, src_color_range="JPEG" if full else "MPEG", dst_color_range="JPEG",
        interpolation="POINT",
    ).to_ndarray()  # fmt: skip
    got = ops.nv12(luma, chroma, standard=standard, full=full)
    assert np.abs(got.astype(int) - want).max() <= 3


def test_known_colours():
    grey = np.full((2, 2, 2), 128, np.uint8)
    luma = np.array([[16, 235, 126, 16]] * 4, np.uint8)
    np.testing.assert_array_equal(ops.nv12(luma, grey)[0, :, 1], [0, 255, 128, 0])
    assert ops.nv12(luma, grey, channels=4)[0, 0, 3] == 255


@pytest.mark.parametrize(
    ("luma", "chroma", "options", "said"),
    [
        ((4, 4), (2, 3, 2), {}, "half of luma's size"),
        ((4, 4), (2, 2, 3), {}, "channels in"),
        ((4, 4), (2, 2, 2), {"standard": "ntsc"}, "expected one of bt601"),
        ((4, 4), (2, 2, 2), {"channels": 1}, "3 or 4 channels"),
    ],
)
def test_what_is_no_nv12_is_refused(luma, chroma, options, said):
    with pytest.raises(InvalidInputError, match=said):
        ops.nv12(np.zeros(luma, np.uint8), np.zeros(chroma, np.uint8), **options)


def test_what_is_no_level_is_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(InvalidInputError, match="finite"):
            ops.level(np.zeros((4, 4), np.float32), bad)
    with pytest.raises(InvalidInputError):
        ops.level(np.zeros((4, 4), np.float64), 1.0)
