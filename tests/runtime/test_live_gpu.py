# SPDX-License-Identifier: Apache-2.0
"""Live sessions on a GPU give the CPU's bytes; its steps are also taken on the host, as block programs."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from secondeye import (
    BackendUnavailableError,
    FramePath,
    InvalidInputError,
    LiveConfig,
    LiveSession,
    SessionError,
    _native,
)

HEIGHT, WIDTH = 70, 122
WAVES = np.sin(np.mgrid[0:24, 0:40].sum(0) / 5).astype(np.float32)
SCENE = np.random.default_rng(8).integers(0, 256, (HEIGHT, WIDTH + 64, 4), np.uint8)
LONG = 60.0
HOWS = ["blocks", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture
def there(request):
    """The options of a session on a GPU, or of one that takes its steps on the host."""
    if request.param == "cuda":
        request.getfixturevalue("cuda")
        return {"device": "cuda"}
    return {"isa": request.param}


def config(**options):
    return LiveConfig(**({"width": WIDTH, "height": HEIGHT, "depth": depth, "policy": "every"} | options))


def depth(picture):
    """Of a moving picture: it changes with it."""
    return WAVES + np.float32(picture[:, :, 0].mean() / 64)


def pictures(frames, looks=({},), **options):
    """What a session makes of frames, one after another, its looks taking turns."""
    made = []
    with LiveSession(config(**options)) as session:
        for k, frame in enumerate(frames):
            session.set(**looks[k % len(looks)])
            session.submit(frame, k, timeout=LONG)
            result = session.wait(LONG)
            made.append((np.array(result.picture), result.depth_ticket, result.own_depth, result.cut))
        assert session.depth_error == ""
    return made


def same(got, want):
    assert [g[1:] for g in got] == [w[1:] for w in want]
    for (a, *_), (b, *_) in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def moving(channels, count=12):
    return [SCENE[:, 3 * k : 3 * k + WIDTH, :channels] for k in range(count)]  # no copy: rows have a pitch


@pytest.mark.parametrize("there", HOWS, indirect=True)
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_are_the_cpus(there, channels):
    looks = [
        {"layout": layout, "view": view, "strength": strength, "fill": view == "both", "swap": layout == "tb"}
        for layout, view, strength in (
            ("sbs", "right", 9.0), ("half-sbs", "both", 4.0), ("anaglyph", "right", 4.0), ("tb", "both", 0.0),
            ("half-tb", "right", 12.0), ("checkerboard", "both", 3.0), ("right", "right", 6.0), ("depth", "right", 6.0),
        )
    ]  # fmt: skip
    frames = moving(channels)
    options = {"channels": channels, "depth_every": 2, "slots": 2}
    same(pictures(frames, looks, **options, **there), pictures(frames, looks, **options))


@pytest.mark.parametrize("there", HOWS, indirect=True)
def test_nv12_and_a_deadline_that_is_missed(there):
    rng = np.random.default_rng(4)
    frames = [rng.integers(0, 256, (HEIGHT + (HEIGHT + 1) // 2, WIDTH), np.uint8) for _ in range(4)]
    options = {"nv12": "bt601", "full_range": True, "deadline_ms": 0.001, "cheaper": ("plain-edges",)}
    same(pictures(frames, **options, **there), pictures(frames, **options))


def test_the_network_takes_what_the_gpus_steps_made_small():
    frames = moving(3, 4)
    same(pictures(frames, depth="builtin", isa="blocks"), pictures(frames, depth="builtin"))


@pytest.mark.parametrize("there", HOWS, indirect=True)
def test_before_there_is_depth_pictures_are_flat(there):
    def failing(picture):
        if picture.any():
            raise ValueError("no")
        return WAVES

    with LiveSession(config(depth=failing, layout="tb", **there)) as session:
        session.submit(SCENE[:, :WIDTH, :3], timeout=LONG)
        result = session.wait(LONG)
        assert result.depth_failed
        np.testing.assert_array_equal(result.picture, np.concatenate([SCENE[:, :WIDTH, :3]] * 2))


MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[20:34, 30:80] = np.random.default_rng(2).integers(0, 3, (14, 50))
TEXT = np.random.default_rng(6).integers(0, 256, (30, 50, 4), np.uint8)
FLAT = [
    # the mask's disparity and the overlay's place and disparity, or None; the look
    (2.5, None, {"layout": "sbs", "view": "both", "roll": 0.0}),
    (None, (10, 8, 5.0), {"layout": "half-sbs", "view": "right", "strength": 6.0}),
    (-4.0, (WIDTH - 9, HEIGHT - 5, -3.0), {"layout": "tb", "view": "both", "swap": True, "roll": 20.0}),
    (0.0, (-30, -12, 0.0), {"layout": "anaglyph", "view": "right", "roll": -35.0, "fill": False}),
    (0.0, (0, 0, 0.0), {"layout": "depth", "fill": True}),
    (None, (40, 500, 0.0), {"layout": "right", "strength": 0.0, "swap": False}),  # beyond the frame
    (7.0, (40, 30, 2.0), {"layout": "rows", "strength": 15.0, "view": "both", "roll": 8.0}),
    (None, None, {"layout": "checkerboard", "roll": -8.0}),
]


def with_flat(frames, **options):
    """Frames under what lies over them, and views of each from elsewhere."""
    made = []
    with LiveSession(config(depth_every=2, slots=2, **options)) as session:
        for k, frame in enumerate(frames):
            flat, laid, look = FLAT[k % len(FLAT)]
            session.set(**look)
            session.set_mask(None if flat is None else MASK, disparity=flat or 0.0)
            x, y, disparity = laid or (0, 0, 0.0)
            session.set_overlay(None if laid is None else TEXT, x=x, y=y, disparity=disparity)
            session.submit(frame, timeout=LONG)
            made.append(np.array(session.wait(LONG).picture))
            if k % 3 == 0:
                made += session.render([-1.0, 0.25, 1.5], down=0.3 * (k - 3), shift=float(k), roll=5.0 * k - 15)
                made.append(session.render_quilt(3, 2, eyes=(-1.2, 1.0), down=-0.2, from_top=k % 2 == 0))
                made.append(session.render_quilt(4, 1, tile=(50 + k, 31), convergence=0.8))
        assert session.depth_error == ""
    return made


@pytest.mark.parametrize("there", HOWS, indirect=True)
@pytest.mark.parametrize(("channels", "remember"), [(3, False), (4, True)])
def test_what_lies_flat_and_what_is_rendered_are_the_cpus(there, channels, remember):
    frames = moving(channels, 9)
    options = {"channels": channels, "remember": remember}
    for got, want in zip(with_flat(frames, **options, **there), with_flat(frames, **options), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("there", HOWS, indirect=True)
def test_what_was_seen_before_is_the_cpus(there):
    """A thing that goes to the right before a wall that pans; cuts between."""
    rng = np.random.default_rng(11)
    wall = rng.integers(0, 100, (HEIGHT, WIDTH + 60, 3), np.uint8)
    frames = []
    for k in range(14):
        frame = wall[:, k : k + WIDTH].copy()
        frame[20:50, 10 + 5 * k : 35 + 5 * k] = 200 + k % 3
        frames.append(np.full_like(frame, 90) if k == 9 else frame)
    options = {
        "depth": lambda p: (p.max(2) > 150)[::2, ::2].astype(np.float32),
        "strength": 9.0,
        "convergence": 0.0,
        "steady": 0.0,
    }
    looks = [{"view": "both", "roll": 0.0}, {"view": "right", "roll": 15.0}]
    remembered = pictures(frames, looks, remember=True, **options)
    same(pictures(frames, looks, remember=True, **options, **there), remembered)
    without = pictures(frames, looks, **options)
    assert any((a[0] != b[0]).any() for a, b in zip(remembered, without, strict=True))


@pytest.mark.parametrize("there", HOWS, indirect=True)
def test_flat_things_over_nv12_and_before_there_is_depth(there):
    rng = np.random.default_rng(4)
    frames = [rng.integers(0, 256, (HEIGHT + (HEIGHT + 1) // 2, WIDTH), np.uint8) for _ in range(4)]
    for got, want in zip(with_flat(frames, nv12="bt709", **there), with_flat(frames, nv12="bt709"), strict=True):
        np.testing.assert_array_equal(got, want)

    def failing(picture):
        if picture.any():
            raise ValueError("no")
        return WAVES

    made = []
    for options in (there, {}):
        with LiveSession(config(depth=failing, layout="depth", remember=True, **options)) as session:
            session.set_mask(MASK, disparity=3.0)
            session.set_overlay(TEXT, x=5, y=60, disparity=8.0)
            for layout in ("depth", "sbs"):
                session.set(layout=layout, roll=10.0)
                session.submit(SCENE[:, :WIDTH, :3], timeout=LONG)
                made.append(np.array(session.wait(LONG).picture))
            made += session.render([1.0, -1.0], down=0.5, shift=2.0)
    for got, want in zip(made[:4], made[4:], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("there", HOWS, indirect=True)
def test_overlays_and_masks_may_be_replaced_while_frames_are_under_way(there):
    """Every picture is of one of them, whole, whatever comes and goes meanwhile."""
    frame = SCENE[:, :WIDTH, :3]
    texts = [np.full((40, 90, 4), (40 * k, 255 - 40 * k, 9, 255), np.uint8) for k in range(6)]
    options = {"layout": "right", "depth": lambda _: WAVES, "steady": 0.0, "strength": 5.0}
    allowed = []
    for k in range(6):
        with LiveSession(config(**options)) as session:
            session.set_overlay(texts[k], x=3 * k, y=2 * k)
            session.submit(frame, timeout=LONG)
            allowed.append(session.wait(LONG).picture.tobytes())
    seen, over = set(), threading.Event()
    with LiveSession(config(slots=3, **options, **there)) as session:

        def change():
            k = 0
            while not over.is_set():
                session.set_overlay(texts[k % 6], x=3 * (k % 6), y=2 * (k % 6))
                k += 1

        def render():
            while not over.is_set():
                for view in session.render([1.0]) or []:
                    assert view.tobytes() in allowed

        session.set_overlay(texts[0])
        changer = threading.Thread(target=change)
        with ThreadPoolExecutor(1) as pool:
            changer.start()
            renders = pool.submit(render)
            try:
                for _ in range(40):
                    session.submit(frame, timeout=LONG)
                    seen.add(session.wait(LONG).picture.tobytes())
            finally:
                over.set()
                changer.join()
            renders.result()
    assert seen <= set(allowed)


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="keep_on_gpu"):
        config(keep_on_gpu=True)
    with pytest.raises(InvalidInputError, match="device: expected one of cpu, cuda"):
        config(device="tpu")


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_a_session_says_so():
    with pytest.raises(BackendUnavailableError, match="no NVIDIA GPU"):
        LiveSession(config(device="cuda"))


def test_a_pipe_gives_its_paths_pictures_in_order():
    path = FramePath(WIDTH, HEIGHT, map_size=(40, 24))
    frames, nearness = [np.ascontiguousarray(f) for f in moving(3, 3)], (WAVES + 1) / 2
    with_lanes(path, frames, nearness)


def with_lanes(path, frames, nearness):
    pipe = path.pipe(2)
    assert pipe.wait() is None
    assert pipe.submit(frames[0], nearness, layout="tb")
    assert pipe.submit(frames[1], nearness, strength=7.0)
    assert not pipe.submit(frames[2], nearness)
    with pytest.raises(InvalidInputError):
        pipe.submit(frames[2][:-1], nearness)
    on_host = FramePath(WIDTH, HEIGHT, map_size=(40, 24))
    np.testing.assert_array_equal(pipe.wait(), on_host(frames[0], nearness, layout="tb"))
    out = np.empty((HEIGHT, 2 * WIDTH, 3), np.uint8)
    assert pipe.wait(out) is out
    np.testing.assert_array_equal(out, on_host(frames[1], nearness, strength=7.0))
    assert pipe.wait() is None


# ---- on a GPU --------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_pipe_on_a_gpu(cuda):
    path = FramePath(WIDTH, HEIGHT, map_size=(40, 24), device="cuda")
    with_lanes(path, [np.ascontiguousarray(f) for f in moving(3, 3)], (WAVES + 1) / 2)


@pytest.mark.gpu
def test_views_may_be_rendered_into_memory_on_the_gpu(cuda):
    frame = SCENE[:, :WIDTH, :3]
    made = []
    for device in ("cpu", "cuda"):
        with LiveSession(config(device=device)) as session:
            session.submit(frame, timeout=LONG)
            session.wait(LONG)
            look = {"down": 0.4, "roll": 5.0}
            made.append([*session.render([-1.0, 0.5], **look), session.render_quilt(3, 1, tile=(41, 25))])
            if device == "cpu":
                continue
            stream = cuda.cuda.Stream()
            with cuda.cuda.stream(stream):
                wide = cuda.zeros((HEIGHT, 2 * WIDTH, 3), dtype=cuda.uint8, device="cuda")
                quilt = cuda.zeros((25, 123, 3), dtype=cuda.uint8, device="cuda")
                cuda.cuda._sleep(20_000_000)
                wide.fill_(7)  # comes before the views
                session.render([-1.0, 0.5], out=[wide[:, :WIDTH], wide[:, WIDTH:]], **look)
                session.render_quilt(3, 1, tile=(41, 25), out=quilt)
            made.append([*(t.cpu().numpy() for t in (wide[:, :WIDTH], wide[:, WIDTH:], quilt))])
    for other in made[1:]:
        for got, want in zip(other, made[0], strict=True):
            np.testing.assert_array_equal(got, want)
    with LiveSession(config()) as session, pytest.raises(BackendUnavailableError):
        session.render([0.0], out=[cuda.zeros((HEIGHT, WIDTH, 3), dtype=cuda.uint8, device="cuda")])


@pytest.mark.gpu
def test_results_may_stay_on_the_gpu(cuda):
    frames = moving(3, 3)
    want = pictures(frames)
    with LiveSession(config(device="cuda", keep_on_gpu=True)) as session:
        for frame, (picture, *_) in zip(frames, want, strict=True):
            session.submit(frame, timeout=LONG)
            result = session.wait(LONG)
            np.testing.assert_array_equal(cuda.as_tensor(result.picture, device="cuda").cpu().numpy(), picture)


def on_cuda(**options):
    """A session whose own network runs on the GPU; skipped where ONNX Runtime has no CUDA provider."""
    try:
        return LiveSession(config(depth="builtin", device="cuda", **options))
    except BackendUnavailableError as error:
        assert "CUDA provider" in str(error)
        pytest.skip(str(error))


@pytest.mark.gpu
def test_the_network_runs_on_the_gpu_or_is_refused(cuda):
    with on_cuda(layout="right") as session:
        session.submit(SCENE[:, :WIDTH, :3], timeout=LONG)
        result = session.wait(LONG)
        assert result.own_depth
        assert session.depth_error == ""
    [(want, *_)] = pictures([SCENE[:, :WIDTH, :3]], depth="builtin", layout="right")
    assert np.abs(result.picture.astype(int) - want).mean() < 8  # noise: what moved by a pixel is another value


@pytest.mark.gpu
@pytest.mark.parametrize("nv12", [None, "bt709"])
def test_frames_on_the_gpu_are_read_on_their_stream(cuda, nv12):
    if nv12 is None:
        frame = np.ascontiguousarray(SCENE[:, :WIDTH, :3])
    else:
        frame = np.random.default_rng(1).integers(0, 256, (HEIGHT + (HEIGHT + 1) // 2, WIDTH), np.uint8)
    results = []
    with on_cuda(nv12=nv12) as session:
        session.submit(frame, timeout=LONG)
        results.append(np.array(session.wait(LONG).picture))
        stream = cuda.cuda.Stream()
        with cuda.cuda.stream(stream):
            cuda.cuda._sleep(20_000_000)
            there = cuda.from_numpy(frame).pin_memory().to("cuda", non_blocking=True)
            session.submit(there, timeout=LONG)
            there.zero_()  # comes after the copy
        results.append(np.array(session.wait(LONG).picture))
    assert (results[0][:, :WIDTH] == results[1][:, :WIDTH]).all()
    with LiveSession(config(device="cuda")) as session, pytest.raises(BackendUnavailableError):
        session.submit(cuda.from_numpy(np.ascontiguousarray(SCENE[:, :WIDTH, :3])).cuda())


LOST = """
import sys, time
import numpy as np, torch
from secondeye import LiveConfig, LiveSession, SessionError

scene = np.random.default_rng(8).integers(0, 256, (70, 122, 3), np.uint8)
ready = np.eye(24, 40, dtype=np.float32)
session = LiveSession(LiveConfig(width=122, height=70, depth=lambda _: ready, device="cuda", policy="every"))
session.submit(scene, timeout=30)
assert session.wait(30) is not None
try:
    torch.zeros(4, device="cuda")[torch.tensor([1 << 20], device="cuda")].sum().item()  # the context is lost
except Exception:
    pass
begun, said = time.monotonic(), ""
try:
    while time.monotonic() - begun < 20:
        session.submit(scene, timeout=5)
        session.wait(5)
except SessionError as error:
    said = str(error)
taken, begun = time.monotonic() - begun, time.monotonic()
session.close()
print(said, taken, time.monotonic() - begun)
sys.exit(0 if "GPU failed" in said and taken < 5 and time.monotonic() - begun < 1 else 1)
"""


@pytest.mark.gpu
def test_a_gpu_that_fails_ends_the_session_and_says_so(cuda):
    run = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.gpu
def test_closing_takes_less_than_a_second_with_frames_under_way(cuda):
    session = LiveSession(config(device="cuda", width=3840, height=2160, policy="newest"))
    frame = np.zeros((2160, 3840, 3), np.uint8)
    for _ in range(4):
        session.submit(frame)
    begun = time.monotonic()
    session.close()
    with pytest.raises(SessionError):
        session.wait(1)
    assert time.monotonic() - begun < 1
