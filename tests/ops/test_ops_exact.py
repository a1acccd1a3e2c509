# SPDX-License-Identifier: Apache-2.0
"""Every implementation returns the reference's bytes: any shape, stride, value, instruction set, thread count."""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from secondeye import ops

ISAS = [*ops.isas(), "blocks"]
SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(200, 700)),
    st.tuples(st.integers(1, 6), st.integers(1, 40).map(lambda k: 16 * k)),  # whole words
    st.sampled_from([(1, 1), (1, 2), (3, 16384), (70, 3)]),
)
SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def picture(draw, shape=None, channels=(1, 3, 4)):
    """A uint8 picture, possibly a view with odd strides."""
    height, width = shape or draw(SHAPES)
    c = draw(st.sampled_from(channels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["plain", "flipped", "sliced", "planar"]))
    if kind == "flipped":
        return rng.integers(0, 256, (height, width, c), np.uint8)[::-1, ::-1]
    if kind == "sliced":
        return rng.integers(0, 256, (height, 2 * width + 1, c + 1), np.uint8)[:, 1::2, :c]
    if kind == "planar":
        return rng.integers(0, 256, (c, height, width), np.uint8).transpose(1, 2, 0)
    return rng.integers(0, 256, (height, width, c), np.uint8)


def disparity_for(shape, seed, kind):
    """Disparity of a kind: smooth, stepped, wild (with NaN and infinities), huge, or of one value."""
    rng = np.random.default_rng(seed)
    height, width = shape
    if kind == "smooth":
        return (np.sin(np.arange(width) / 9.0 + rng.random()) * 6 + np.zeros((height, 1))).astype(np.float32)
    if kind == "steps":
        return np.repeat(rng.integers(-9, 9, (height, width // 5 + 1)), 5, axis=1)[:, :width].astype(np.float32) / 2
    if kind == "huge":
        return (rng.normal(size=shape) * 1e5).astype(np.float32)
    if kind == "flat":
        return np.full(shape, rng.integers(-20, 20) / 4, np.float32)
    wild = (rng.normal(size=shape) * 5).astype(np.float32)
    wild[rng.random(shape) < 0.1] = np.nan
    wild[rng.random(shape) < 0.05] = np.inf
    wild[rng.random(shape) < 0.05] = -np.inf
    return wild[:, ::-1]


DISPARITIES = st.sampled_from(["smooth", "steps", "wild", "huge", "flat"])


@SETTINGS
@given(data=st.data(), source=picture(), kind=DISPARITIES, seed=st.integers(0, 10**6))
def test_warp_and_fill(data, source, kind, seed):
    disparity = disparity_for(source.shape[:2], seed, kind)
    options = {
        "eye": data.draw(st.sampled_from(["right", "left"])),
        "law": data.draw(st.sampled_from(["surface", "nearest"])),
        "tear": data.draw(st.sampled_from([1.0, 2.0, 7.5, 64.0])),
        "wrap": data.draw(st.booleans()),
    }
    want = ops.warp(source, disparity, backend="reference", **options)
    filled = ops.fill(want, eye=options["eye"], backend="reference")
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        got = ops.warp(source, disparity, isa=isa, threads=threads, **options)
        for name, one, other in zip(want._fields, got, want, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"{name}, {isa}, {threads} threads")
        np.testing.assert_array_equal(ops.fill(want, eye=options["eye"], isa=isa, threads=threads), filled)
        ops.fill(got, eye=options["eye"], out=got.view, isa=isa, threads=threads)  # in place
        np.testing.assert_array_equal(got.view, filled)
    deep = want._replace(view=np.ascontiguousarray(want.view.astype(np.uint16) * 257 - (want.view > 9)))
    filled = ops.fill(deep, eye=options["eye"], backend="reference")
    assert filled.dtype == np.uint16
    for isa in ISAS:
        np.testing.assert_array_equal(ops.fill(deep, eye=options["eye"], isa=isa), filled)


FLOATS = [np.nan, np.inf, -np.inf, -0.0, 6e-8, -3e-5, 65504.0, 65520.0, 1e38, 3e-39]


@SETTINGS
@given(data=st.data(), source=picture(channels=(1, 3)), kind=DISPARITIES, seed=st.integers(0, 10**6))
def test_warp_views_of_any_kind(data, source, kind, seed):
    rng = np.random.default_rng(seed)
    dtype = data.draw(st.sampled_from([np.uint8, np.float16, np.float32]))
    if dtype != np.uint8:
        values = rng.normal(size=source.shape).astype(np.float32)
        odd = rng.random(source.shape) < 0.1
        values[odd] = rng.choice(FLOATS, int(odd.sum()))
        with np.errstate(over="ignore"):
            source = values.astype(dtype)[:, ::-1]
    disparity = disparity_for(source.shape[:2], seed, kind)
    if data.draw(st.booleans()):
        with np.errstate(over="ignore"):
            disparity = disparity.astype(np.float16)
    scales = data.draw(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.70703125, 1.0]), min_size=1, max_size=5))
    options = {"law": data.draw(st.sampled_from(["surface", "nearest"])), "wrap": data.draw(st.booleans())}
    want = ops.warp_views(source, disparity, scales, backend="reference", **options)
    for isa in ISAS:
        got = ops.warp_views(source, disparity, scales, isa=isa, threads=data.draw(st.integers(1, 8)), **options)
        for one, other in zip(got, want, strict=True):
            bits = np.uint8 if dtype == np.uint8 else (np.uint16 if dtype == np.float16 else np.uint32)
            np.testing.assert_array_equal(one.view.view(bits), other.view.view(bits))
            np.testing.assert_array_equal(one.holes, other.holes)
            np.testing.assert_array_equal(one.map, other.map)


@SETTINGS
@given(data=st.data(), source=picture(channels=(3,)), kind=DISPARITIES, seed=st.integers(0, 10**6))
def test_inpaint_mask_and_cells(data, source, kind, seed):
    eye = data.draw(st.sampled_from(["right", "left"]))
    warped = ops.warp(source, disparity_for(source.shape[:2], seed, kind), eye=eye)
    if data.draw(st.booleans()):  # holes of any shape, apart from the map
        speckled = np.random.default_rng(seed).random(source.shape[:2]) < data.draw(st.sampled_from([0.03, 0.5, 0.97]))
        warped = warped._replace(holes=(speckled * 3).astype(np.uint8))
    small, grown = st.integers(0, 4), st.sampled_from([0, 1, 3, 33, 64])
    sizes = {name: data.draw(small) for name in ("close", "speck")}
    sizes |= {name: data.draw(grown) for name in ("far", "near", "tall")}
    want = ops.inpaint_mask(warped, eye=eye, backend="reference", **sizes)
    side, share = data.draw(st.integers(1, 20)), data.draw(st.sampled_from(["any", "area"]))
    cells = ops.mask_cells(want, side, kind=share, backend="reference")
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        got = ops.inpaint_mask(warped, eye=eye, isa=isa, threads=threads, **sizes)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(ops.mask_cells(want, side, kind=share, isa=isa, threads=threads), cells)


@SETTINGS
@given(data=st.data(), source=picture(), seed=st.integers(0, 10**6))
def test_feather_and_blend(data, source, seed):
    rng, shape = np.random.default_rng(seed), source.shape[:2]
    over = data.draw(picture(shape=shape, channels=(source.shape[2],)))
    masked = rng.random(shape) < data.draw(st.sampled_from([0.01, 0.5, 0.99, 1.0]))
    mask = np.where(masked, rng.integers(1, 256, shape), 0).astype(np.uint8)
    if data.draw(st.booleans()):  # in blocks, whole ones and empty ones among them
        mask = np.repeat(np.repeat(mask, 9, 0), 90, 1)[: shape[0], : shape[1]]
    mask = np.repeat(mask, 2, 1)[:, ::2] if data.draw(st.booleans()) else mask[::-1, ::-1]
    radius = data.draw(st.sampled_from([0, 1, 2, 5, 16]))
    soft = ops.feather(mask, radius, backend="reference")
    blended = [ops.blend(source, over, one, backend="reference") for one in (mask, soft)]
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        np.testing.assert_array_equal(ops.feather(mask, radius, isa=isa, threads=threads), soft)
        for one, want in zip((mask, soft), blended, strict=True):
            np.testing.assert_array_equal(ops.blend(source, over, one, isa=isa, threads=threads), want)


@pytest.mark.parametrize("radius", [0, 3, 16])
def test_feather_over_many_rows(radius):
    mask = np.zeros((200, 300), np.uint8)
    mask[60:150, 100:103] = mask[5, 5] = mask[199, 299] = mask[90:160, 150:290] = 9
    want = ops.feather(mask, radius, backend="reference")
    for isa in ISAS:
        for threads in (1, 3):
            np.testing.assert_array_equal(ops.feather(mask, radius, isa=isa, threads=threads), want)


@SETTINGS
@given(data=st.data(), source=picture(), kind=st.sampled_from(["bilinear", "area"]))
def test_resize_and_prepare(data, source, kind):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 90))
    scaled = ops.resize(source, height, width, filter=kind, backend="reference")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    dtype = data.draw(st.sampled_from([np.float32, np.float16]))
    options = {"filter": kind, "mean": mean, "std": std, "dtype": dtype}
    tensor = ops.prepare(source, height, width, backend="reference", **options)
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        np.testing.assert_array_equal(ops.resize(source, height, width, filter=kind, isa=isa, threads=threads), scaled)
        got = ops.prepare(source, height, width, isa=isa, threads=threads, **options)
        np.testing.assert_array_equal(got.view(np.uint8), tensor.view(np.uint8))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (6, 34), (5, 130), (4, 1922), (64, 3), (2, 16384)])
def test_halves_into_a_place_of_a_larger_picture(size, channels):
    source = np.random.default_rng(6).integers(0, 256, (*size, channels), np.uint8)
    for height, width in ((size[0], size[1] // 2), (size[0] // 2, size[1]), (size[0] // 2, size[1] // 2)):
        want = ops.resize(source, height, width, backend="reference")
        if size[0] % 2 == 0 and size[1] % 2 == 0 and height == size[0]:
            np.testing.assert_array_equal(want, (source[:, ::2].astype(int) + source[:, 1::2] + 1) >> 1)
        for isa in ISAS:
            canvas = np.full((height + 2, 2 * width + 9, channels), 77, np.uint8)
            ops.resize(source, height, width, isa=isa, out=canvas[1:-1, 5 : 5 + width])
            np.testing.assert_array_equal(canvas[1:-1, 5 : 5 + width], want)
            canvas[1:-1, 5 : 5 + width] = 77
            assert (canvas == 77).all()


@SETTINGS
@given(data=st.data(), shape=SHAPES, half=st.booleans(), seed=st.integers(0, 10**6))
def test_restore(data, shape, half, seed):
    rng = np.random.default_rng(seed)
    tensor = rng.normal(size=(1, 3, *shape)).astype(np.float32)
    tensor[rng.random(tensor.shape) < 0.05] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
    if half:
        with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float16)
    if data.draw(st.booleans()):
        tensor = tensor[:, ::-1, ::-1, ::-1]
    out = rng.integers(0, 256, (*shape, 4), np.uint8) if data.draw(st.booleans()) else None
    mean, std = (0.485, 0.456, 0.5), (0.229, 0.224, -0.5)
    want = ops.restore(tensor, mean=mean, std=std, out=None if out is None else out.copy(), backend="reference")
    for isa in ISAS:
        got = ops.restore(tensor, mean=mean, std=std, out=out, isa=isa, threads=data.draw(st.integers(1, 8)))
        np.testing.assert_array_equal(got, want)


@SETTINGS
@given(data=st.data(), source=picture(channels=(3, 4)), kind=DISPARITIES, seed=st.integers(0, 10**6))
def test_upsample_smooth_and_widen(data, source, kind, seed):
    cells = (data.draw(st.integers(1, 12)), data.draw(st.integers(1, 30)))
    values = disparity_for(cells, seed, kind)
    threshold = data.draw(st.sampled_from([None, 0.0, 1.0, 100.0]))
    guided = data.draw(st.booleans())
    labels = None
    if data.draw(st.booleans()):
        coarse = np.random.default_rng(seed).choice(np.array([0, 1, 2, 40000], np.uint16), cells)
        rows = np.arange(source.shape[0]) * cells[0] // source.shape[0]
        labels = coarse[rows][:, np.arange(source.shape[1]) * cells[1] // source.shape[1]]
    want = ops.upsample(values, source, labels=labels, threshold=threshold, guided=guided, backend="reference")
    radius = data.draw(st.integers(0, 5))
    full = disparity_for(source.shape[:2], seed, kind)
    wide = ops.widen_foreground(full, radius, backend="reference")
    span = data.draw(st.sampled_from([0.0, 1.0, 40.0, 16384.0]))
    smooth = ops.smooth_edges(full, threshold=span, backend="reference")
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        got = ops.upsample(values, source, labels=labels, threshold=threshold, guided=guided, isa=isa, threads=threads)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(ops.widen_foreground(full, radius, isa=isa, threads=threads), wide)
        np.testing.assert_array_equal(ops.smooth_edges(full, threshold=span, isa=isa, threads=threads), smooth)


@pytest.mark.parametrize("cells", [(3, 1500), (40, 2), (2, 16384)])
@pytest.mark.parametrize("size", [(5, 300), (9, 1), (2, 5000)])
def test_upsample_from_maps_finer_than_the_picture_and_coarser(cells, size):
    source = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
    values = disparity_for(cells, 4, "steps")
    want = ops.upsample(values, source, threshold=1.0, backend="reference")
    for isa in ISAS:
        np.testing.assert_array_equal(ops.upsample(values, source, threshold=1.0, isa=isa), want, err_msg=isa)


@pytest.mark.parametrize("width", [1, 7008, 7016, 7024, 12000, 16384])
@pytest.mark.parametrize("eye", ["right", "left"])
def test_wide_rows_with_and_without_room_beside_the_map(width, eye):
    frame = np.random.default_rng(width).integers(0, 256, (2, width + 5, 3), np.uint8)
    for source in (frame[:, 5:], np.ascontiguousarray(frame[:, :width])):  # off a 16-byte border, and on it
        disparity = disparity_for(source.shape[:2], width, "steps")
        want = ops.warp(source, disparity, eye=eye, backend="reference")
        for isa in ISAS:
            for name, one, other in zip(want._fields, ops.warp(source, disparity, eye=eye, isa=isa), want, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=f"{name}, {isa}")


@SETTINGS
@given(data=st.data(), left=picture(), seed=st.integers(0, 10**6))
def test_pack_and_anaglyph(data, left, seed):
    right = np.random.default_rng(seed).integers(0, 256, left.shape, np.uint8)
    layout = data.draw(st.sampled_from(["sbs", "tb", "rows", "columns", "checkerboard", "half-sbs", "half-tb"]))
    if layout == "half-sbs":
        left, right = (view[:, : view.shape[1] // 2 * 2] for view in (left, right))
    elif layout == "half-tb":
        left, right = (view[: view.shape[0] // 2 * 2] for view in (left, right))
    assume(left.size > 0)
    want = ops.pack(left, right, layout, backend="reference")
    kind = data.draw(st.sampled_from(sorted(ops.ANAGLYPHS)))
    for isa in ISAS:
        threads = data.draw(st.integers(1, 8))
        np.testing.assert_array_equal(ops.pack(left, right, layout, isa=isa, threads=threads), want)
        if left.shape[2] == 3:
            coloured = ops.anaglyph(left, right, kind, backend="reference")
            np.testing.assert_array_equal(ops.anaglyph(left, right, kind, isa=isa, threads=threads), coloured)


@SETTINGS
@given(data=st.data(), shape=st.tuples(st.integers(1, 40), st.integers(1, 90)), seed=st.integers(0, 10**6))
def test_motion(data, shape, seed):
    rng = np.random.default_rng(seed)
    before = rng.integers(0, data.draw(st.sampled_from([2, 256])), shape, np.uint8)
    now = np.roll(before, data.draw(st.tuples(st.integers(-4, 4), st.integers(-4, 4))), (0, 1))
    start = None
    if data.draw(st.booleans()):
        start = rng.integers(-50, 50, (-(-shape[0] // 8), -(-shape[1] // 8), 2)).astype(np.int32)
    radius = data.draw(st.integers(0, 5))
    want = ops.motion(now, before, radius, start=start, backend="reference")
    for isa in ISAS:
        got = ops.motion(now, before, radius, start=start, isa=isa, threads=data.draw(st.integers(1, 8)))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS)
def test_nothing_is_written_outside_a_view(isa):
    frame = np.full((12, 30, 3), 7, np.uint8)
    source = np.random.default_rng(1).integers(0, 256, (6, 11, 3), np.uint8)
    disparity = disparity_for((6, 11), 3, "wild")
    holes, back = np.full((8, 13), 9, np.uint8), np.full((8, 13), 5, np.int32)
    out = ops.Warped(frame[3:9, 10:21], holes[1:7, 1:12], back[1:7, 1:12])
    ops.warp(source, disparity, out=out, isa=isa)
    frame[3:9, 10:21], holes[1:7, 1:12], back[1:7, 1:12] = 7, 9, 5
    assert (frame == 7).all()
    assert (holes == 9).all()
    assert (back == 5).all()
