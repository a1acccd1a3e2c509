# SPDX-License-Identifier: Apache-2.0
"""Quality mode over a small true bundle: what goes into the model, and what becomes of its picture."""

import numpy as np
import pytest
from bundles import DEPTH_SIZE, make_bundle

import secondeye
from secondeye import EngineError, InvalidInputError, ModelFormatError, StereoConfig, StereoConverter, ops
from secondeye.runtime.interpolate import interpolate
from secondeye.runtime.models.mono2stereo import Mono2Stereo, authors_disparity
from secondeye.runtime.quality import QualityPainter, painting_mask
from secondeye.runtime.stream_batch import StreamBatch
from secondeye.runtime.tiles import CELL, CONTEXT, cut, join, lay_out


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("q") / "bundle")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("q") / "fixed", size=((128, 128), (192, 192)), depth=False)


def options(bundle, **more):
    return StereoConfig(mode="quality", bundle=bundle, **{"steps": 2, "depth": "cues"} | more)


def test_outside_the_holes_the_warped_pixels_stay(bundle, scene):
    fast = StereoConverter(StereoConfig(depth="cues")).convert(scene[0])
    frame = StereoConverter(options(bundle)).convert(scene[0])
    np.testing.assert_array_equal(frame.holes, fast.holes)
    np.testing.assert_array_equal(frame.disparity, fast.disparity)
    mask = painting_mask(frame.holes)
    assert (mask == 255).any()
    np.testing.assert_array_equal(frame.right[mask == 0], fast.right[mask == 0])
    assert (frame.right[mask == 255] != fast.right[mask == 255]).any()
    stages = ["read", "depth", "disparity", "warp", "fill", "to latents", "denoise", "to pixels"]
    assert list(frame.timings) == stages


def test_the_seed_decides(bundle, scene):
    def right(seed):
        return StereoConverter(options(bundle, seed=seed, compose="generated")).convert(scene[0]).right

    np.testing.assert_array_equal(right(5), right(5))
    assert (right(5) != right(6)).any()


def test_nothing_to_fill_needs_no_model(bundle, scene):
    frame = StereoConverter(options(bundle, strength=0)).convert(scene[0])
    np.testing.assert_array_equal(frame.right, scene[0])
    assert "denoise" not in frame.timings


def test_the_left_view_is_the_mirrored_right_one(bundle, scene):
    disparity = (scene[1] / scene[1].max() * 8).astype(np.float32)
    both = StereoConverter(options(bundle, view="both"))
    a = both.render(scene[0], disparity)
    b = both.render(np.ascontiguousarray(scene[0][:, ::-1]), np.ascontiguousarray(disparity[:, ::-1]))
    np.testing.assert_array_equal(a.left, b.right[:, ::-1])
    np.testing.assert_array_equal(a.right, b.left[:, ::-1])


def test_a_bundle_of_one_size_takes_every_picture(fixed, scene):
    assert Mono2Stereo(fixed).size_for(1080, 1920) == (128, 192)
    for compose in ("inpaint", "generated"):
        frame = StereoConverter(options(fixed, compose=compose)).convert(scene[0])
        assert frame.right.shape == scene[0].shape


def test_sizes_of_a_ranged_bundle(bundle):
    model = Mono2Stereo(bundle)
    assert model.size_for(216, 384) == (216, 384)
    assert model.size_for(219, 381) == (216, 384)
    assert model.size_for(2160, 3840) == (576, 1024)
    assert model.size_for(16, 3000) == (128, 1024)


def test_alpha_stays(bundle, scene):
    alpha = np.full(scene[0].shape[:2], 200, np.uint8)
    frame = StereoConverter(options(bundle, compose="generated")).convert(np.dstack([scene[0], alpha]))
    assert frame.right.shape[2] == 4
    assert (frame.right[:, :, 3] == 200).mean() > 0.9


@pytest.mark.parametrize("layout", ["one-stage", "inpaint"])
def test_the_other_layouts(tmp_path, scene, layout):
    folder = make_bundle(tmp_path / layout, layout=layout, prediction=0.5)
    frames = [StereoConverter(options(folder, compose="generated", steps=n)).convert(scene[0]) for n in (1, 3)]
    assert (frames[0].right != frames[1].right).any()


@pytest.mark.parametrize("scheduler", ["ddim", "warped"])
def test_what_the_network_is_given(tmp_path, scene, scheduler):
    """The source, the warp with mid-grey holes, and the start: noise, or the warp's latent with noise added."""
    model = Mono2Stereo(make_bundle(tmp_path / "b", prediction=1.0))
    source = np.ascontiguousarray(scene[0][:208])
    warped = ops.warp(source, np.full(source.shape[:2], 7, np.float32))
    schedule = model.schedule(scheduler, 1, 0.6)
    step, noise = schedule.steps[0], model.noise(208, 384, 3)
    latents = []
    for view, holes in ((source, None), (warped.view, warped.holes)):
        values = view.astype(np.float64) / 127.5 - 1
        if holes is not None:
            values[holes > 0] = 0
        small = values.reshape(26, 8, 48, 8, 3).mean((1, 3)).transpose(2, 0, 1)
        latents.append(np.concatenate([small, np.zeros_like(small[:1])]))
    start = schedule.noise * noise[0] + schedule.signal * latents[1]
    mean = np.concatenate([*latents, start]).mean(0)
    latent = step.keep * start + step.gain * mean
    want = np.repeat(np.repeat((np.clip(latent[:3], -1, 1) + 1) * 127.5, 8, 1), 8, 2).transpose(1, 2, 0)
    got = model(source, warped.view, warped.holes, schedule, noise)
    assert np.abs(got - np.floor(want)).max() <= 1
    assert (got == np.floor(want)).mean() > 0.999


def test_the_bundles_depth_is_fed_as_its_authors_do(bundle, scene):
    model = Mono2Stereo(bundle)
    small = interpolate(scene[0].astype(np.float32) / 255, *DEPTH_SIZE, "cubic")
    planes = (small - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(model.depth(scene[0]), np.maximum(planes.mean(2), 0) * 2, atol=1e-4)
    frame = StereoConverter(StereoConfig(mode="quality", bundle=bundle, steps=1)).convert(scene[0])
    assert frame.disparity.any()


def test_the_authors_conditioning(bundle, scene):
    config = StereoConfig(mode="quality", bundle=bundle, steps=1, conditioning="authors", compose="generated")
    source = np.ascontiguousarray(scene[0][:, :200])
    frame = StereoConverter(config).convert(source)
    raw = Mono2Stereo(bundle).depth(source)
    want = authors_disparity(raw, *source.shape[:2])
    np.testing.assert_array_equal(frame.disparity, want)
    columns = np.trunc(np.arange(200, dtype=np.float32) - want).astype(int)
    reached = np.zeros(source.shape[:2], bool)
    np.put_along_axis(reached, columns % 200, True, axis=1)
    np.testing.assert_array_equal(frame.holes == 0, reached)


def test_the_authors_two_resizes():
    raw = np.random.default_rng(2).random((70, 98), np.float32)
    once = interpolate(raw, 480, 640, "linear-corners")
    np.testing.assert_array_equal(authors_disparity(raw, 480, 640), once * np.float32(8 * 0.6))
    want = interpolate(once, 800, 1280, "linear") * np.float32(4.8)
    np.testing.assert_array_equal(authors_disparity(raw, 800, 1280), want)


def mask_by_definition(holes, radius):
    """Holes grown by twice a radius, then averaged over squares of that radius."""
    near = np.lib.stride_tricks.sliding_window_view(np.pad(holes, 2 * radius), (4 * radius + 1,) * 2).any((2, 3))
    return secondeye.ops.feather(near.astype(np.uint8), radius, backend="reference")


def test_blending():
    holes = np.zeros((40, 60), np.uint8)
    holes[10:20, 30:33] = 255
    mask = painting_mask(holes)  # a radius of 2
    assert (mask[8:22, 28:35] == 255).all()
    assert not mask[:, :24].any()
    assert not mask[:, 39:].any()
    assert (np.diff(mask[15, 32:].astype(int)) <= 0).all()
    np.testing.assert_array_equal(mask, mask_by_definition(holes, 2))
    a, b = (np.random.default_rng(s).integers(0, 256, (40, 60, 3), np.uint8) for s in (0, 1))
    mixed = secondeye.ops.blend(a, b, mask)
    np.testing.assert_array_equal(mixed[mask == 0], a[mask == 0])
    np.testing.assert_array_equal(mixed[mask == 255], b[mask == 255])
    exact = a + (b.astype(float) - a) * (mask / 255)[:, :, None]
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("bad", "word"),
    [({"bundle": None}, "bundle"), ({"fill": False}, "fill"), ({"steps": 0}, "steps"), ({"steps": 1001}, "steps"),
     ({"scheduler": "euler"}, "scheduler"), ({"compose": "x"}, "compose"), ({"seed": -1}, "seed"),
     ({"noise": 0}, "noise"), ({"mode": "best"}, "mode"), ({"conditioning": "authors"}, "depth")],
)  # fmt: skip
def test_settings_that_do_not_fit(bundle, bad, word):
    with pytest.raises(InvalidInputError, match=word):
        StereoConfig(**{"mode": "quality", "bundle": bundle, "depth": "cues"} | bad)


def test_the_authors_conditioning_needs_depth(fixed, scene):
    with pytest.raises(InvalidInputError, match="--depth"):
        secondeye.convert(scene[0], mode="quality", bundle=fixed, conditioning="authors")


def test_a_broken_bundle_loads_nothing(bundle, tmp_path, scene):
    import shutil

    shutil.copytree(bundle, tmp_path / "b")
    with (tmp_path / "b" / "decoder.onnx").open("r+b") as file:
        file.seek(40)
        file.write(b"\0\0\0\0")
    with pytest.raises(ModelFormatError, match=r"decoder\.onnx is altered"):
        secondeye.convert(scene[0], mode="quality", bundle=tmp_path / "b")


def test_from_the_command(cli, tmp_path, bundle, photo, read):
    out = tmp_path / "o.png"
    words = ("convert", photo, "-o", out, "--mode", "quality", "--bundle", bundle, "--steps", 2, "--seed", 7, "-v")
    code, _, err = cli(*words)
    assert code == 0, err
    assert "to pixels" in err
    again = StereoConverter(StereoConfig(mode="quality", bundle=bundle, steps=2, seed=7)).convert(str(photo))
    np.testing.assert_array_equal(read(out)[:, 384:], again.right)
    assert cli("convert", photo, "--mode", "quality")[0] == 2
    code, _, err = cli("convert", photo, "--mode", "quality", "--bundle", tmp_path)
    assert code == 2
    assert "no manifest.json" in err


def tiled(tmp_path, batch=1, size=((128, 1024), (128, 1024))):
    return make_bundle(tmp_path / f"tiles{batch}", prediction=0.5, size=size, batch=batch)


def test_sparse_tiles_are_the_dense_picture_where_it_counts(tmp_path):
    """This network sees no further than a cell, so tiles must give exactly what the whole picture gives."""
    model = Mono2Stereo(tiled(tmp_path))
    rng = np.random.default_rng(1)
    source, warped = (rng.integers(0, 256, (520, 776, 3), np.uint8) for _ in range(2))
    holes = np.zeros((520, 776), np.uint8)
    holes[100:300, 40:60] = holes[510:, 700:] = 255
    where, told = mask_by_definition(holes, 3), []
    schedule, noise = model.schedule("ddim", 3, 0.8), model.noise(520, 776, 1)
    dense = model(source, warped, holes, schedule, noise)
    layout = model.lay_out(where)
    assert 0 < layout.share < 0.2
    sparse = model(
        source, warped, holes, schedule, noise, layout=layout, progress=lambda *step: told.append(step)
    )  # fmt: skip
    np.testing.assert_array_equal(sparse[where > 0], dense[where > 0])
    assert (sparse == warped).all(2).mean() > 0.8  # most of it was never painted
    assert told == [("to latents", 0, 1), *(("denoise", k, 3) for k in range(3)), ("to pixels", 0, 1)]
    nothing = model(source, warped, holes, schedule, noise, layout=model.lay_out(np.zeros_like(holes)))
    np.testing.assert_array_equal(nothing, warped)


def test_sparse_conversion_differs_only_where_nothing_is_taken(tmp_path, scene):
    folder = tiled(tmp_path)
    big = np.repeat(np.repeat(scene[0], 3, 0), 3, 1)
    dense, sparse = (StereoConverter(options(folder, tiles=tiles)).convert(big) for tiles in ("dense", "sparse"))
    assert "tiles" in sparse.timings
    assert not sparse.notes
    apart = np.abs(dense.right.astype(int) - sparse.right)
    assert apart.max() <= 1  # tiles that overlap are averaged


def test_tiles_that_would_not_pay_give_the_dense_picture_and_say_so(tmp_path, scene):
    folder = tiled(tmp_path)
    bars = np.tile(np.where(np.arange(384) % 50 < 25, np.float32(10), np.float32(0)), (216, 1))
    dense, sparse = (
        StereoConverter(options(folder, tiles=tiles)).render(scene[0], bars) for tiles in ("dense", "sparse")
    )  # fmt: skip
    np.testing.assert_array_equal(sparse.right, dense.right)
    assert "the model saw it whole" in sparse.notes[0]


def test_slivers_are_left_to_the_kernels_and_holes_are_not():
    holes = np.zeros((216, 384), np.uint8)
    holes[20:200, 50] = holes[20:200, 300:302] = 255
    assert not painting_mask(holes).any()
    holes[20:200, 150:153] = 255
    mask = painting_mask(holes)
    assert (mask[20:200, 150:153] == 255).all()
    assert not mask[:, 300:302].any()


def test_tiles_that_a_bundle_does_not_take(tmp_path, scene):
    whole = tiled(tmp_path, 1, size=((640, 640), (1152, 1152)))
    with pytest.raises(InvalidInputError, match="--shape"):
        StereoConverter(options(whole, tiles="sparse")).convert(scene[0])
    with pytest.raises(InvalidInputError, match="compose inpaint"):
        options(whole, tiles="sparse", compose="generated")


def strips(rng, height, width, count):
    """A mask like disocclusions: strips along edges that wander."""
    where = np.zeros((height, width), np.uint8)
    for _ in range(count):
        y, x = rng.integers(0, height - 100), rng.integers(0, width)
        for row in range(y, y + rng.integers(40, 100)):
            x += int(rng.integers(-2, 3))
            where[row, max(0, x) : max(0, x) + 14] = 255
    return where


@pytest.mark.parametrize("seed", range(6))
def test_tiles_cover_a_mask_with_context_and_come_to_less_than_the_picture(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(8 * n) for n in rng.integers(50, 90, 2))
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    where = strips(rng, height, width, 2 + seed)
    where[0, width - 1] = where[height - 1, 0] = 255
    layout = lay_out(where, (128, 128))
    assert not layout.whole
    assert layout.height * layout.width == pytest.approx(layout.share * where.size)
    assert layout.height % 64 == 0 or layout.height == height
    taken = np.zeros((layout.height, layout.width), int)
    seen = np.zeros_like(where)
    room = CONTEXT * CELL
    for y, x, tall, wide, top, left in layout.pieces:
        assert not {n % CELL for n in (y, x, tall, wide, top, left)} - {0}
        taken[top : top + tall, left : left + wide] += 1
        above, before = (0 if n == 0 else room for n in (y, x))
        below, after = 0 if y + tall == height else room, 0 if x + wide == width else room
        seen[y + above : y + tall - below, x + before : x + wide - after] = 1
    assert taken.max() == 1  # no piece lies on another
    assert seen[where > 0].all()
    canvas = cut(picture, layout)
    assert canvas.shape == (layout.height, layout.width, 3)
    joined = join(np.zeros_like(picture), canvas, layout)
    np.testing.assert_array_equal(joined[seen > 0], picture[seen > 0])
    assert not joined[(joined != picture).any(2)].any()  # what no tile covers is the base


def join_by_definition(base, canvas, layout):
    """The mean of all pieces, whole arrays at a time."""
    total, weights = np.zeros(base.shape), np.zeros((*base.shape[:2], 1))
    for y, x, tall, wide, top, left in layout.pieces:
        down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in (tall, wide))
        weight = np.minimum(np.minimum(down[:, None], across), CONTEXT * CELL)[:, :, None]
        total[y : y + tall, x : x + wide] += weight * canvas[top : top + tall, left : left + wide]
        weights[y : y + tall, x : x + wide] += weight
    mean = (total + weights // 2) // np.maximum(weights, 1)
    return np.where(weights > 0, mean, base).astype(np.uint8)


@pytest.mark.parametrize("conditioning", ["stereo", "authors"])
@pytest.mark.parametrize("tiles", ["dense", "sparse"])
def test_a_view_that_is_there_is_not_warped_again(tmp_path, scene, monkeypatch, tiles, conditioning):
    authors = conditioning == "authors"
    config = options(tiled(tmp_path), tiles=tiles, conditioning=conditioning, depth="auto" if authors else "cues")
    pixels = np.repeat(np.repeat(scene[0], 3, 0), 3, 1)[:640, :1024]
    want = StereoConverter(config).convert(pixels)
    warped = ops.warp(pixels, want.disparity, law="nearest" if authors else "surface", wrap=authors)
    painter = QualityPainter(config)
    given = (pixels, want.disparity, ops.fill(warped), warped.holes, "right", lambda *step: None)
    np.testing.assert_array_equal(painter(*given), want.right)  # by a warp of its own
    monkeypatch.setattr(ops, "warp", lambda *arrays, **options: pytest.fail("warped again"))
    np.testing.assert_array_equal(painter(*given, view=warped.view), want.right)


@pytest.mark.parametrize("seed", range(6))
def test_pieces_that_overlap_are_averaged(seed):
    rng = np.random.default_rng(seed)
    layout = lay_out(strips(rng, 480, 640, 3 + seed), (128, 128))
    assert not layout.whole
    base = rng.integers(0, 256, (480, 640, 3), np.uint8)
    canvas = rng.integers(0, 256, (layout.height, layout.width, 3), np.uint8)
    np.testing.assert_array_equal(join(base, canvas, layout), join_by_definition(base, canvas, layout))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_mask_of_nothing_has_no_tiles_and_one_all_over_is_the_picture(share):
    where = np.where(np.random.default_rng(0).random((400, 600)) < share, 255, 0).astype(np.uint8)
    layout = lay_out(where, (128, 128))
    assert layout.whole == (share > 0)
    assert layout.pieces == (((0, 0, 400, 600, 0, 0),) if share else ())


@pytest.mark.parametrize(("scheduler", "steps"), [("ddim", 1), ("warped", 3), ("ddim", 4)])
def test_a_stream_gives_the_frames_that_single_calls_give(tmp_path, scheduler, steps):
    model = Mono2Stereo(tiled(tmp_path, 4))
    schedule, noise = model.schedule(scheduler, steps, 0.7), model.noise(128, 192, 2)
    stream = StreamBatch(model, schedule, noise)
    rng = np.random.default_rng(3)
    frames = []
    for _ in range(6):
        holes = np.where(rng.random((128, 192)) < 0.1, 255, 0).astype(np.uint8)
        frames.append((*(rng.integers(0, 256, (128, 192, 3), np.uint8) for _ in range(2)), holes))
    got = [stream(*frame) for frame in frames]
    assert stream.delay == steps - 1
    assert [one is None for one in got] == [k < stream.delay for k in range(6)]
    got = [one for one in got if one is not None] + list(stream.flush())
    want = [model(*frame, schedule, noise) for frame in frames]
    np.testing.assert_array_equal(got, want)
    assert list(stream.flush()) == []


@pytest.mark.parametrize("engine", ["encoder", "unet", "decoder"])
def test_a_stream_is_where_it_was_after_a_failure(tmp_path, monkeypatch, engine):
    model = Mono2Stereo(tiled(tmp_path, 3))
    schedule, noise = model.schedule("ddim", 3, 0.8), model.noise(128, 192, 2)
    stream, run = StreamBatch(model, schedule, noise), model.run
    holes = np.zeros((128, 192), np.uint8)
    frames = [
        (np.full((128, 192, 3), 40 * k, np.uint8), np.full((128, 192, 3), 40 * k, np.uint8), holes) for k in range(6)
    ]
    want = [model(*frame, schedule, noise) for frame in frames]

    def failing(name, **rest):
        if name == engine:
            raise EngineError("out of memory")
        return run(name, **rest)

    got = []
    for frame in frames:
        monkeypatch.setattr(model, "run", failing)
        if engine != "decoder" or len(got) >= stream.delay:
            with pytest.raises(EngineError):
                stream(*frame)
        monkeypatch.setattr(model, "run", run)
        got.append(stream(*frame))
    np.testing.assert_array_equal([one for one in got if one is not None] + list(stream.flush()), want)


def test_arrays_of_another_dtype_or_size_are_refused(tmp_path):
    """Noise of float64, as NumPy makes it, would be written beyond its buffer on a GPU."""
    model = Mono2Stereo(tiled(tmp_path, 1))
    noise, picture = model.noise(128, 192, 0), np.zeros((128, 192, 3), np.uint8)
    holes, schedule = picture[:, :, 0], model.schedule("ddim", 1, 0.8)
    model(picture, picture, holes, schedule, noise)
    stream = StreamBatch(model, schedule, noise)
    shares = picture.astype(np.float32)
    for wrong in ((shares, picture), (picture, shares)):
        for call in (stream, lambda *frame: model(*frame, schedule, noise)):
            with pytest.raises(InvalidInputError, match=r"expected source and warped uint8 \[128, 192, 3\]"):
                call(*wrong, holes)
    for other in (noise.astype(np.float64), noise[0], np.repeat(noise, 2, axis=0), model.noise(128, 200, 0)):
        with pytest.raises(InvalidInputError, match="noise float32"):
            model(picture, picture, holes, schedule, other)


def test_what_a_stream_does_not_take(tmp_path):
    model = Mono2Stereo(tiled(tmp_path, 2))
    noise = model.noise(128, 192, 0)
    with pytest.raises(InvalidInputError, match="--batch 3"):
        StreamBatch(model, model.schedule("ddim", 3, 0.8), noise)
    stream = StreamBatch(model, model.schedule("ddim", 2, 0.8), noise)
    picture = np.zeros((128, 200, 3), np.uint8)
    with pytest.raises(InvalidInputError, match="128, 192"):
        stream(picture, picture, picture[:, :, 0])
