# SPDX-License-Identifier: Apache-2.0
"""What the ops mean, beyond agreeing with each other: geometry, occlusion, and named libraries' results."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from secondeye import InvalidInputError, ops
from secondeye.runtime.ops.resample import axis_weights

RNG = np.random.default_rng(11)
NOISE = RNG.integers(0, 256, (20, 64, 3), np.uint8)


def full(value, shape=(20, 64)):
    return np.full(shape, value, np.float32)


@pytest.mark.parametrize("law", ["surface", "nearest"])
@pytest.mark.parametrize("eye", ["right", "left"])
def test_no_disparity_is_the_identity(law, eye):
    got = ops.warp(NOISE, full(0), law=law, eye=eye)
    np.testing.assert_array_equal(got.view, NOISE)
    assert not got.holes.any()


@pytest.mark.parametrize("law", ["surface", "nearest"])
def test_whole_pixels_shift_exactly(law):
    right = ops.warp(NOISE, full(5), law=law)
    np.testing.assert_array_equal(right.view[:, :-5], NOISE[:, 5:])
    assert (right.holes[:, -5:] == 255).all()
    assert not right.holes[:, :-5].any()
    left = ops.warp(NOISE, full(5), eye="left", law=law)
    np.testing.assert_array_equal(left.view[:, 5:], NOISE[:, :-5])


def test_a_quarter_pixel_is_linear():
    got = ops.warp(NOISE, full(0.25)).view[:, :-1]
    want = (NOISE[:, :-1].astype(int) * 192 + NOISE[:, 1:].astype(int) * 64 + 128) >> 8
    np.testing.assert_array_equal(got, want)


@given(st.integers(1, 12), st.integers(1, 30), st.floats(0.5, 30))
@settings(max_examples=60, deadline=None)
def test_a_nearer_bar_of_any_width_is_seen_whole(width, start, near):
    picture = np.zeros((1, 80, 1), np.uint8)
    disparity = full(0, (1, 80))
    x0 = 31 + start
    picture[0, x0 : x0 + width] = 255
    disparity[0, x0 : x0 + width] = near
    bright = ops.warp(picture, disparity).view[0, :, 0] > 127
    assert abs(int(bright.sum()) - width) <= 1
    first = int(np.argmax(bright))
    assert abs(first - (x0 - near)) <= 1


def test_no_background_shows_through_a_stretched_foreground():
    # A near ramp, stretched to nearly twice its width, before a bright background.
    picture = np.full((1, 300, 1), 255, np.uint8)
    disparity = full(-40, (1, 300))
    picture[0, 100:200] = 10
    disparity[0, 100:200] = 60 - 0.9 * np.arange(100)
    got = ops.warp(picture, disparity)
    left, right = 100 - 60, 199 - (60 - 0.9 * 99)
    assert (got.view[0, left : int(right) + 1, 0] == 10).all()


def test_a_step_of_any_height_opens_a_clean_hole_and_fill_closes_it():
    picture = RNG.integers(60, 120, (40, 600, 3)).astype(np.uint8)
    disparity = full(0, (40, 600))
    picture[:, 200:330] = 250
    disparity[:, 200:330] = 150
    got = ops.warp(picture, disparity)
    assert (got.holes[:, 200:330] == 255).all()
    filled = ops.fill(got)
    assert filled.max(axis=2)[:, 200:330].max() <= 120, "foreground colour bled into the hole"
    spread = filled[:, 205:325].astype(float).std(axis=1).mean()
    assert spread > 0.5 * picture[:, 400:].astype(float).std(axis=1).mean(), "the hole is a smear"


def test_a_hole_of_30_pixels_is_filled_with_texture_and_not_with_streaks():
    rng = np.random.default_rng(8)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (160, 400, 3), np.uint8), (0, 0), 1.2)
    rows, columns = np.mgrid[0:160, 0:400]
    disc = ((rows - 80) / 60) ** 2 + ((columns - 120) / 50) ** 2 < 1
    got = ops.warp(np.where(disc[..., None], np.uint8(255), picture), disc.astype(np.float32) * 30)
    inside = got.holes > 0
    assert 25 <= inside[80].sum() - inside[0].sum() <= 32

    def steps(a, where, axis):
        both = where & np.roll(where, 1, axis)
        return np.abs(np.diff(a.astype(float), axis=axis, prepend=np.nan)).mean(2)[both].mean()

    filled = ops.fill(got)
    outside = np.zeros_like(inside)
    outside[10:150, 220:380] = True
    # A streak is a row without change along it: there is as much change along rows as in the background, and no more
    # down columns, where neighbours that know nothing of each other would show as combs.
    for axis in (0, 1):
        assert 0.6 < steps(filled, inside, axis) / steps(picture, outside, axis) < 1.25
    assert filled[inside].max() < 250, "the object bled into the hole"


def test_a_depth_step_at_4k_leaves_no_black_pixel():
    # The case at which a fill of fixed reach gives up: 5 % of 3840 pixels, a hole 192 wide.
    picture = RNG.integers(60, 200, (4, 3840, 3)).astype(np.uint8)
    disparity = full(-96, (4, 3840))
    disparity[:, 1500:2300] = 96
    got = ops.warp(picture, disparity)
    assert got.holes[:, 2204:2396].all()
    assert (ops.fill(got).max(axis=2) > 0).all()


@pytest.mark.parametrize("eye", ["right", "left"])
def test_the_warped_disparity_is_what_moved_each_pixel(eye):
    disparity = full(1.5)
    disparity[:, 20:40] = 6.25
    got = ops.warp(NOISE, disparity, eye=eye)
    seen = ops.warped_disparity(got, eye)
    np.testing.assert_array_equal(np.isnan(seen), got.holes > 0)
    # A torn edge ends half a pixel on, so what stands there may be half a pixel off.
    off = np.minimum(abs(seen - 1.5), abs(seen - 6.25))[~np.isnan(seen)]
    assert off.max() <= 0.5
    assert (off == 0).mean() > 0.9
    with pytest.raises(InvalidInputError, match="eye"):
        ops.warped_disparity(got, "middle")


def test_a_row_of_nothing_but_hole_stays_black():
    got = ops.warp(NOISE, full(5000))
    assert (got.holes == 255).all()
    assert not ops.fill(got).any()


def test_nearest_equals_a_plain_scatter_with_wrap():
    disparity = RNG.normal(size=(20, 64)).astype(np.float32) * 6
    x = np.arange(64, dtype=np.float32)
    want = np.zeros_like(NOISE)
    for y in range(20):
        column = (x - disparity[y]).astype(np.int32)
        for i in range(64):
            if -64 <= column[i] < 64:
                want[y, column[i]] = NOISE[y, i]
    np.testing.assert_array_equal(ops.warp(NOISE, disparity, law="nearest", wrap=True).view, want)


@pytest.mark.parametrize("size", [(256, 384), (37, 91), (400, 1000)])
def test_resize_is_within_one_of_pillow_and_opencv(size):
    picture = cv2.GaussianBlur(RNG.integers(0, 256, (301, 517, 3), np.uint8), (0, 0), 1.0)
    ours = ops.resize(picture, *size, filter="bilinear").astype(int)
    theirs = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    if size[0] < 301 and size[1] < 517:
        area = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(ops.resize(picture, *size, filter="area") - area).max() <= 1


@pytest.mark.parametrize("kind", ["bilinear", "area"])
@pytest.mark.parametrize("sizes", [(16384, 1), (16384, 3), (1, 16384), (7, 5), (5, 7), (1000, 999)])
def test_weights_sum_to_one_and_none_is_negative(sizes, kind):
    first, count, weights = axis_weights(*sizes, kind)
    assert (weights >= 0).all()
    assert (weights.sum(1) == 16384).all()
    assert (first >= 0).all()
    assert (first + count <= sizes[0]).all()


def test_prepare_normalises_like_numpy():
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    got = ops.prepare(NOISE, 20, 64, mean=mean, std=std)
    want = ((NOISE / 255.0 - mean) / std).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert ops.prepare(NOISE, 20, 64, dtype=np.float16).dtype == np.float16


def test_upsample_keeps_one_sides_value_and_follows_the_picture():
    # The model's edge lies two cells off the picture's; the upsampled one must lie where the picture has it.
    picture = np.full((160, 320, 3), 40, np.uint8)
    picture[:, 170:] = 220
    values = np.zeros((20, 40), np.float32)
    values[:, 20:] = 8
    values[:, 19:21] = 4
    got = ops.upsample(values, picture)
    assert set(np.unique(got[:, :150])) == {0.0}
    assert set(np.unique(got[:, 190:])) == {8.0}
    edge = np.argmax(got[80] > 4)
    assert abs(int(edge) - 170) <= 8
    assert ((got < 0.5) | (got > 7.5)).mean() > 0.99


def test_upsample_puts_edges_on_the_borders_of_labels():
    # Nothing in the picture says where the edge is, and the model has it ten pixels off: the label does.
    picture = np.full((160, 320, 3), 90, np.uint8)
    labels = np.ones((160, 320), np.uint16)
    labels[:, 170:] = 2
    values = np.zeros((20, 40), np.float32)
    values[:, 20:] = 8
    got = ops.upsample(values, picture, labels=labels)
    assert ((got < 0.5) | (got > 7.5)).all()
    assert np.abs(np.argmax(got > 4, axis=1) - 170).max() <= 2
    assert np.abs(np.argmax(ops.upsample(values, picture) > 4, axis=1) - 170).min() >= 8
    unknown = ops.upsample(values, picture, labels=np.zeros_like(labels))
    np.testing.assert_array_equal(unknown, ops.upsample(values, picture))


def test_restore_undoes_prepare():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor = ops.prepare(NOISE, *NOISE.shape[:2], mean=mean, std=std)
    np.testing.assert_array_equal(ops.restore(tensor, mean=mean, std=std), NOISE)
    np.testing.assert_array_equal(ops.restore(tensor.astype(np.float16), mean=mean, std=std), NOISE)
    assert ops.restore(np.full((3, 1, 1), np.nan, np.float32)).max() == 0


def test_smoothing_takes_the_teeth_off_an_edge_and_leaves_the_rest():
    teeth = 30 + np.random.default_rng(0).integers(0, 3, 40)
    values = np.where(np.arange(60) < teeth[:, None], 10.0, 0.0).astype(np.float32)
    values += np.linspace(0, 0.9, 60, dtype=np.float32)  # a slope, which spans less than the threshold
    got = ops.smooth_edges(values)
    assert np.abs(np.diff((got > 5).sum(1))).sum() < np.abs(np.diff(teeth)).sum() / 2
    away = np.r_[0:27, 34:60]
    np.testing.assert_allclose(got[:, away], values[:, away], atol=1 / 256)


def test_widening_moves_edges_outward_only():
    values = full(0, (30, 60))
    values[10:20, 20:40] = 5
    got = ops.widen_foreground(values, 2)
    assert (got[8:22, 18:42] == 5).all()
    assert got.sum() == 14 * 24 * 5


def test_conditioning():
    depth = np.linspace(0, 1, 101, dtype=np.float32)[None].repeat(3, 0)
    got = ops.disparity(depth, frame_width=1000, strength=3, convergence=0.5, range=(0.0, 1.0))
    np.testing.assert_allclose(got[0, [0, 50, 100]], [-15, 0, 15], atol=1 / 256)
    assert not ops.disparity(np.ones((3, 3), np.float32), frame_width=100).any()
    depth[0, 0] = np.nan
    assert ops.disparity(depth, frame_width=1000)[0, 0] == 0
    speckled = np.concatenate([RNG.random(10000), [1e6, -1e6, np.nan]]).astype(np.float32)[None]
    low, high = ops.depth_range(speckled, 0.01, 0.99)
    assert low > -2000
    assert high < 2000


def test_red_cyan_shows_each_eye_its_view():
    red, black = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    red[..., :] = 255
    left_only = ops.anaglyph(red, black)
    right_only = ops.anaglyph(black, red)
    assert left_only[0, 0, 0] > 240
    assert max(left_only[0, 0, 1:]) < 20
    assert right_only[0, 0, 0] < 20
    assert min(right_only[0, 0, 1:]) > 240


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.warp(NOISE.astype(np.float64), full(0)),
        lambda: ops.warp_views(NOISE, full(0), ()),
        lambda: ops.warp_views(NOISE, full(0), (0.5, 1.5)),
        lambda: ops.warp(NOISE, full(0).astype(np.float64)),
        lambda: ops.warp(NOISE, full(0, (20, 63))),
        lambda: ops.warp(NOISE, full(0), tear=0.5),
        lambda: ops.warp(NOISE, full(0), eye="middle"),
        lambda: ops.warp(NOISE[:0], full(0, (0, 64))),
        lambda: ops.warp(np.zeros((1, 16385, 3), np.uint8), full(0, (1, 16385))),
        lambda: ops.resize(NOISE, 0, 5),
        lambda: ops.resize(NOISE, 5, 5, filter="cubic"),
        lambda: ops.prepare(NOISE, 5, 5, std=(0, 1, 1)),
        lambda: ops.prepare(NOISE, 5, 5, std=(1, float("nan"), 1)),
        lambda: ops.prepare(NOISE, 5, 5, mean=(0, float("nan"), 0)),
        lambda: ops.prepare(NOISE, 5, 5, mean=(0, float("inf"), 0)),
        lambda: ops.upsample(full(0), NOISE[:, :, :1]),
        lambda: ops.upsample(full(0), NOISE, labels=np.zeros((2, 2), np.uint16)),
        lambda: ops.restore(NOISE),
        lambda: ops.restore(np.zeros((4, 5, 5), np.float32)),
        lambda: ops.restore(np.zeros((3, 0, 5), np.float32)),
        lambda: ops.widen_foreground(full(0), 99),
        lambda: ops.pack(NOISE, NOISE, "spiral"),
        lambda: ops.pack(NOISE, NOISE, out=np.zeros((20, 64, 3), np.uint8)),
        lambda: ops.anaglyph(NOISE, NOISE, "purple"),
        lambda: ops.disparity(full(0), frame_width=100, gamma=0),
        lambda: ops.warp(NOISE, full(0), isa="sse9"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(call):
    with pytest.raises(InvalidInputError, match=r"expected|does not|differs|overlaps"):
        call()


def test_an_output_over_its_input_is_refused():
    frame = NOISE.copy()
    with pytest.raises(InvalidInputError, match="overlaps"):
        ops.pack(frame, NOISE, "rows", out=frame)


def test_views_side_by_side_on_one_canvas_are_apart():
    depth, wide = full(2.0), NOISE.shape[1]
    want = ops.warp_views(NOISE, depth, (0.5, -0.5))
    canvas = np.full((NOISE.shape[0], 3 * wide + 2, 3), 7, np.uint8)
    canvas[:, 2 * wide + 2 :] = NOISE
    views = (canvas[:, :wide], canvas[:, wide + 1 : 2 * wide + 1])
    for isa in (*ops.isas(), "blocks"):
        out = ops.Views(one._replace(view=view) for one, view in zip(want, views, strict=True))
        ops.warp_views(canvas[:, 2 * wide + 2 :], depth, (0.5, -0.5), out=out, isa=isa)
        for one, view in zip(want, views, strict=True):
            np.testing.assert_array_equal(view, one.view)
        assert (canvas[:, [wide, 2 * wide + 1]] == 7).all()
        canvas[:, : 2 * wide] = 7
        canvas[:, wide] = 7
    for first, second in ((0, wide - 1), (wide, 1), (0, 0)):
        over = (canvas[:, first : first + wide], canvas[:, second : second + wide])
        with pytest.raises(InvalidInputError, match="overlaps"):
            ops.warp_views(
                NOISE, depth, (0.5, -0.5), out=ops.Views(w._replace(view=v) for w, v in zip(want, over, strict=True))
            )
    turned = (canvas[:, :wide][::-1], canvas[:, 1 : wide + 1])
    with pytest.raises(InvalidInputError, match="overlaps"):
        ops.warp_views(
            NOISE, depth, (0.5, -0.5), out=ops.Views(w._replace(view=v) for w, v in zip(want, turned, strict=True))
        )


def test_every_output_is_held_against_every_other_array():
    grey, depth, memory = NOISE[:, :, :1].copy(), full(2.0), np.zeros(32, np.int32)
    first, second = ops.warp(grey, depth), ops.warp(grey, depth)
    refused = [
        lambda: ops.warp(grey, depth, out=first._replace(map=depth.view(np.int32))),
        lambda: ops.warp(grey, depth, out=first._replace(holes=grey[:, :, 0])),
        lambda: ops.warp_views(grey, depth, (0.5, -0.5), out=(first, second._replace(holes=first.view[:, :, 0]))),
        lambda: ops.warp_views(grey, depth, (0.5, -0.5), out=(first, second._replace(map=first.map))),
        lambda: ops.fill(first, out=first.holes[:, :, None]),
        lambda: ops.motion(
            memory.view(np.uint8).reshape(8, 16), np.ones((8, 16), np.uint8), 2, out=memory[:6].reshape(1, 2, 3)
        ),
    ]
    for call in refused:
        with pytest.raises(InvalidInputError, match="overlaps"):
            call()


def _step(width=200, height=40, at=100, near=12.0):
    """A near half on the left, a far one on the right, and their warp to the right eye."""
    disparity = np.zeros((height, width), np.float32)
    disparity[:, :at] = near
    return ops.warp(np.full((height, width, 3), 90, np.uint8), disparity)


def test_the_mask_grows_over_the_background_and_spares_the_object():
    warped = _step()
    left, right = np.flatnonzero(warped.holes[20])[[0, -1]]
    mask = ops.inpaint_mask(warped, far=10, near=2, tall=0)
    inner = np.flatnonzero(mask[20] == 255)
    assert (inner[0], inner[-1]) == (left - 2, right + 10)


def test_the_mask_tells_frame_edges_from_disocclusions():
    disparity = np.full((20, 100), -6.0, np.float32)  # everything moves right: the left edge has nothing to show
    mask = ops.inpaint_mask(ops.warp(np.zeros((20, 100, 3), np.uint8), disparity), far=0, near=0)
    assert set(np.unique(mask)) == {0, 128}


def test_specks_go_and_pinholes_close():
    warped = _step()
    holes = warped.holes.copy()
    holes[5, 20:22] = 255
    first = np.flatnonzero(holes[20])[0]
    holes[20, first + 5] = 0
    mask = ops.inpaint_mask(warped._replace(holes=holes), far=0, near=0, tall=0)
    assert mask[5, 20] == 0
    assert mask[20, first + 5] == 255


@given(
    shape=st.tuples(st.integers(8, 90), st.integers(8, 130)),
    tile=st.sampled_from([16, 24, 64]),
    overlap=st.integers(0, 12),
    seed=st.integers(0, 999),
)
def test_tiles_cover_the_mask(shape, tile, overlap, seed):
    mask = (np.random.default_rng(seed).random(shape) < 0.004).astype(np.uint8) * 255
    tiles = ops.mask_tiles(mask, tile=tile, overlap=overlap, align=4)
    covered = np.zeros(shape, bool)
    for y, x, height, width in tiles:
        assert y % 4 == x % 4 == height % 4 == width % 4 == 0
        assert y + height <= shape[0]
        assert x + width <= shape[1]
        covered[y : y + height, x : x + width] = True
    whole = mask[: shape[0] // 4 * 4, : shape[1] // 4 * 4]
    assert covered[: whole.shape[0], : whole.shape[1]][whole != 0].all()
    assert (tiles == []) == (not mask.any())


def test_neighbouring_tiles_overlap():
    tiles = ops.mask_tiles(np.ones((100, 1000), np.uint8), tile=128, overlap=30, align=8)
    begins = sorted({tile.x for tile in tiles})
    assert all(b - a <= 98 for a, b in itertools.pairwise(begins))
    assert begins[-1] + 128 == 1000


def test_views_are_the_single_warps():
    disparity = np.repeat(RNG.integers(-5, 9, (20, 8)), 8, axis=1).astype(np.float32)
    left, middle, right = ops.warp_views(NOISE, disparity, (-1, 0, 1))
    for got, eye in ((left, "left"), (right, "right")):
        for a, b in zip(got, ops.warp(NOISE, disparity, eye=eye), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(middle.view, NOISE)
    assert not middle.holes.any()


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 0.501 / 255), (np.float16, 1.0 / 255)])
def test_a_float_picture_moves_as_its_bytes_do(dtype, bound):
    disparity = np.round(np.sin(np.arange(64) / 5.0) * 64).astype(np.float16) / 16 + np.zeros((20, 1), np.float16)
    planes = np.ascontiguousarray(NOISE.transpose(2, 0, 1) / 255).astype(dtype)  # CHW, as networks have it
    got = ops.warp(planes.transpose(1, 2, 0), disparity)
    want = ops.warp(NOISE, disparity.astype(np.float32))
    assert got.view.dtype == dtype
    np.testing.assert_array_equal(got.map, want.map)
    assert np.abs(got.view.astype(np.float32) - want.view / 255).max() <= bound
