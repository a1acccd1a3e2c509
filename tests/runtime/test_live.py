# SPDX-License-Identifier: Apache-2.0
"""Live sessions: order, policies, deadlines, depth that is carried, views on demand. Their ends: test_live_ends.py."""

import gc
import itertools
import threading
import time

import numpy as np
import pytest
from networks import beyond_the_kernels

import secondeye
from secondeye import InvalidInputError, LiveConfig, LiveSession, ops
from secondeye.runtime import live
from secondeye.runtime.ops._arrays import DeviceArray

HEIGHT, WIDTH = 48, 96
RAMP = np.repeat(np.linspace(0, 1, 24, dtype=np.float32)[:, None], 32, 1)
SCENE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
LONG = 60.0  # seconds; nothing here takes so long, however busy the machine


def config(**options):
    """A small session whose depth is a ramp: near below."""
    return LiveConfig(width=WIDTH, height=HEIGHT, **({"depth": lambda _: RAMP, "policy": "every"} | options))


def one(session, frame=SCENE, timestamp=0):
    """A frame, through."""
    assert session.submit(frame, timestamp, timeout=LONG) is not None
    result = session.wait(LONG)
    assert result is not None
    return result


def until(condition):
    """Waits until something holds."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def test_every_frame_comes_out_in_order_with_its_timestamp():
    with LiveSession(config(depth_every=3)) as session:
        out = []

        def fetch():
            frame = session.wait(LONG)
            out.append((frame.ticket, frame.timestamp, frame.own_depth, frame.depth_ticket))

        for k in range(40):
            while session.submit(np.roll(SCENE, k, 1), 1000 + k) is None:
                fetch()
        while len(out) < 40:
            fetch()
        stats = session.stats
    assert [o[:2] for o in out] == [(k + 1, 1000 + k) for k in range(40)]
    assert all(own == (depth == ticket) for ticket, _, own, depth in out)
    assert 14 <= stats.depth_runs < 40
    assert (stats.submitted, stats.ready, stats.dropped, stats.depth_failures) == (40, 40, 0, 0)
    assert stats.stages["total"].count == 40


def test_the_picture_is_what_the_kernels_make_of_it():
    with LiveSession(config(strength=10.0, convergence=0.0, steady=0.0, widen=0)) as session:
        picture = one(session).picture
        view = session.render([1.0])[0]
    left, right = picture[:, :WIDTH], picture[:, WIDTH:]
    np.testing.assert_array_equal(left, SCENE)
    np.testing.assert_array_equal(right, view)
    low, high = ops.depth_range(RAMP)
    nearness = np.clip((RAMP - np.float32(low)) / np.float32(high - low), 0, 1)
    plane = ops.upsample(nearness * np.float32(0.04 * WIDTH), SCENE, threshold=1.0)
    warped = ops.warp(SCENE, plane * np.float32(2.5))
    np.testing.assert_array_equal(right, ops.fill(warped))


@pytest.mark.parametrize("layout", ["sbs", "tb", "rows", "columns", "checkerboard", "half-sbs", "half-tb", "right"])
def test_layouts_hold_both_views(layout):
    with LiveSession(config(strength=8.0, view="both")) as session:
        one(session)
        left, right = session.render([-0.5, 0.5])
        session.set(layout=layout)
        got = one(session).picture
    if layout == "right":
        want = right
    elif layout.startswith("half"):
        size = (HEIGHT, WIDTH // 2) if layout == "half-sbs" else (HEIGHT // 2, WIDTH)
        want = ops.pack(*(ops.resize(v, *size) for v in (left, right)), layout.removeprefix("half-"))
    else:
        want = ops.pack(left, right, layout)
    np.testing.assert_array_equal(got, want)


def test_anaglyph_depth_and_swap():
    with LiveSession(config(strength=8.0, layout="anaglyph")) as session:
        got = one(session).picture
        right = session.render([1.0])[0]
        np.testing.assert_array_equal(got, ops.anaglyph(SCENE, right))
        session.set(layout="depth")
        grey = one(session).picture
        assert (np.diff(grey[:, 5, 0].astype(int)) >= 0).all()
        assert grey[0, 0, 0] < 20 < 235 < grey[-1, 0, 0]
        session.set(layout="sbs", swap=True)
        np.testing.assert_array_equal(one(session).picture[:, WIDTH:], SCENE)


def test_four_channels_and_any_strides():
    rgba = np.dstack([SCENE, np.full((HEIGHT, WIDTH), 7, np.uint8)])
    bgra = np.ascontiguousarray(rgba[:, :, [2, 1, 0, 3]])
    with LiveSession(config(channels=4)) as session:
        straight = one(session, rgba).picture.copy()
        reordered = one(session, bgra[:, :, [2, 1, 0, 3]]).picture.copy()
        planar = np.ascontiguousarray(rgba.transpose(2, 0, 1)).transpose(1, 2, 0)
        np.testing.assert_array_equal(one(session, planar).picture, straight)
    np.testing.assert_array_equal(reordered, straight)
    assert (straight[:, :WIDTH, 3] == 7).all()


def test_the_newest_frame_wins_with_a_slow_consumer():
    with LiveSession(config(policy="newest", slots=3)) as session:
        for k in range(200):
            assert session.submit(SCENE, k) is not None
        until(lambda: session.stats.ready + session.stats.dropped >= 199)
        frame = session.wait(LONG)
        while (newer := session.wait(0.2)) is not None:
            frame = newer
        assert frame.timestamp == 199
        assert session.stats.dropped > 0


def test_room_is_what_slots_allow_and_comes_back():
    with LiveSession(config(slots=2)) as session:
        held = [one(session), one(session)]
        first = held[0].picture.copy()
        tickets = [session.submit(SCENE[::-1]) for _ in range(6)]
        assert tickets[-1] is None  # the session's own memory is all in use, and nothing is overwritten
        np.testing.assert_array_equal(held[0].picture, first)
        del held
        gc.collect()
        assert session.submit(SCENE, timeout=LONG) is not None


def test_parameters_act_on_the_next_frame_and_render_at_once():
    with LiveSession(config(strength=0.0)) as session:
        np.testing.assert_array_equal(one(session).picture[:, WIDTH:], SCENE)
        session.set(strength=15.0)
        assert (one(session).picture[:, WIDTH:] != SCENE).mean() > 0.3
        flat = session.render([1.0], strength=0.0)[0]
        np.testing.assert_array_equal(flat, SCENE)
        assert session.config.strength == 15.0
        moved = session.render([0.0], shift=5.0)[0]
        np.testing.assert_array_equal(moved[:, : WIDTH - 5], SCENE[:, 5:])
        with pytest.raises(InvalidInputError, match="strength: expected 0 to 20"):
            session.set(strength=21)
        with pytest.raises(InvalidInputError, match="unknown option depth"):
            session.set(depth="cues")


def test_views_for_a_moved_head_lie_between():
    step = np.where(np.arange(24)[:, None] < 12, 0.2, 0.9).astype(np.float32) * np.ones((1, 32), np.float32)
    column = np.random.default_rng(5).integers(0, 256, WIDTH, np.uint8)
    bars = np.repeat(column[None, :, None], HEIGHT, 0).repeat(3, 2)
    with LiveSession(config(depth=lambda _: step, strength=12.0, convergence=0.0, widen=0)) as session:
        one(session, bars)
        rows = [view[HEIGHT - 4, 20:60, 0].astype(int) for view in session.render([-1, -0.5, 0, 0.5, 1])]
    shifts = []
    for row in rows:
        errors = [np.abs(row - np.roll(bars[0, :, 0].astype(int), -s)[20:60]).sum() for s in range(-14, 15)]
        shifts.append(int(np.argmin(errors)) - 14)
    assert shifts[2] == 0
    assert shifts == sorted(shifts)
    assert shifts[4] - shifts[0] >= 8


def test_an_overlay_stays_sharp_at_its_own_disparity():
    text = np.zeros((6, 10, 4), np.uint8)
    text[:, :, 0], text[:, :, 3] = 255, 255
    text[0, 0, 3] = 128
    with LiveSession(config()) as session:
        session.set_overlay(text, x=30, y=20, disparity=4.0)
        picture = one(session).picture.astype(int)
        assert (picture[21:26, 30:40] == (255, 0, 0)).all()
        assert (picture[21:26, WIDTH + 26 : WIDTH + 36] == (255, 0, 0)).all()
        blend = (128 * np.array([255, 0, 0]) + 127 * SCENE[20, 30].astype(int) + 127) // 255
        np.testing.assert_array_equal(picture[20, 30], blend)
        session.set_overlay(None)
        np.testing.assert_array_equal(one(session).picture[:, :WIDTH], SCENE)
        session.set_overlay(text, x=-5, y=HEIGHT - 2)  # what is outside is cut off
        one(session)
        with pytest.raises(InvalidInputError):
            session.set_overlay(np.zeros((HEIGHT + 1, 4, 4), np.uint8))


def test_carried_depth_follows_a_moving_object():
    rng = np.random.default_rng(8)
    height, width = 128, 256
    back = rng.integers(60, 120, (height, width, 3), np.uint8)
    thing = rng.integers(150, 255, (40, 40, 3), np.uint8)

    def frame(k):
        picture = back.copy()
        picture[40:80, 60 + 2 * k : 100 + 2 * k] = thing
        return picture

    def depth(picture):
        return (picture[::2, ::2].mean(2) > 140).astype(np.float32) + 0.01

    options = {"width": width, "height": height, "policy": "every", "layout": "depth", "steady": 0.0, "widen": 0}
    with LiveSession(LiveConfig(depth=depth, depth_every=1000, **options)) as session:
        for k in range(11):
            grey = one(session, frame(k)).picture[:, :, 0]
        assert session.stats.depth_runs == 1
    inside = grey[46:74, 86:114]
    assert (inside > 128).mean() > 0.8
    assert (grey[46:74, 40:60] > 128).mean() < 0.2


def test_steady_depth_flickers_less_and_a_cut_starts_anew():
    rng = np.random.default_rng(1)
    noise = iter(rng.normal(size=(200, 24, 32)).astype(np.float32) * 0.02)
    smooth = np.clip(SCENE.astype(int) // 4 + 60, 0, 255).astype(np.uint8)

    def flicker(steady):
        with LiveSession(config(depth=lambda _: RAMP + next(noise), steady=steady, layout="depth", widen=0)) as session:
            greys = [one(session, smooth).picture[:, :, 0].astype(int) for _ in range(20)]
            other = one(session, 255 - smooth)
        assert other.cut
        return np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(greys[8:])])

    assert flicker(0.9) < 0.35 * flicker(0.0)


class Slow:
    """A depth function that from the second frame on takes until it is let go."""

    def __init__(self, answer=RAMP):
        self.runs, self.go, self.answer = 0, threading.Event(), answer

    def __call__(self, picture):
        if picture.any():  # not the trial
            self.runs += 1
            if self.runs > 1:
                self.go.wait(LONG)
        return self.answer


def test_a_deadline_takes_the_last_depth_and_counts_it():
    depth = Slow()
    with LiveSession(config(depth=depth, deadline_ms=40.0, slots=8)) as session:
        assert one(session).own_depth  # there is none to carry yet
        frames = [one(session) for _ in range(4)]
        assert all(f.cheaper and not f.own_depth and f.depth_ticket == 1 for f in frames)
        assert session.stats.cheaper >= 4
        depth.go.set()
        until(lambda: one(session).depth_ticket > 5)
    with LiveSession(config(deadline_ms=0.001)) as session:
        assert one(session).late
        assert session.stats.late == 1


@pytest.mark.parametrize("options", [{"policy": "every"}, {"policy": "newest", "cheaper": ()}])
def test_frames_wait_for_their_depth_where_nothing_else_is_allowed(options):
    depth = Slow()
    with LiveSession(config(depth=depth, **options)) as session:
        one(session)
        session.submit(SCENE)
        until(lambda: depth.runs == 2)
        session.submit(SCENE)
        assert session.wait(0.2) is None
        depth.go.set()
        assert all(session.wait(LONG).own_depth for _ in range(2 if options["policy"] == "every" else 1))


def test_where_the_newest_wins_a_frame_waits_for_its_depth_until_the_next_comes():
    depth = Slow()
    with LiveSession(config(depth=depth, policy="newest")) as session:
        one(session)
        session.submit(SCENE)
        until(lambda: depth.runs == 2)
        assert session.wait(0.2) is None
        for k in range(3):
            ticket = session.submit(SCENE)
            while (frame := session.wait(LONG)).ticket < ticket - (k == 0):
                pass
            # The first may be the one that waited; the others find depth at work still.
            assert frame.cheaper
            assert (frame.own_depth, frame.depth_ticket) == (False, 1)
        assert depth.runs == 2
        depth.go.set()
        until(lambda: one(session).own_depth)
        assert session.stats.depth_failures == 0


def test_depth_on_the_side_never_holds_frames_up():
    depth = Slow()
    with LiveSession(config(depth=depth, depth_every=0, slots=16)) as session:
        assert one(session).depth_ticket == 0
        until(lambda: one(session).depth_ticket == 1)
        until(lambda: depth.runs == 2)
        seen = [one(session) for _ in range(10)]
        assert all(frame.depth_ticket == 1 and not frame.own_depth and not frame.cheaper for frame in seen)
        depth.go.set()
        until(lambda: one(session).depth_ticket > 1)


def test_depth_that_comes_too_late_to_be_used_is_not_named():
    """The camera has gone on: what was found of a frame before shows another place, and the depth before goes on."""
    depth = Slow(np.repeat(np.linspace(0, 1, 90, dtype=np.float32)[:, None], 160, 1))
    squares = 255 * np.random.default_rng(5).integers(0, 2, (18, 60), np.uint8)
    wide = np.kron(squares, np.ones((10, 10), np.uint8))[:, :, None].repeat(3, axis=2)
    frames = [np.ascontiguousarray(wide[:, 14 * k : 14 * k + 320]) for k in range(14)]
    with LiveSession(LiveConfig(width=320, height=180, depth=depth, depth_every=0, policy="every")) as session:
        assert one(session, frames[0]).depth_ticket == 0
        until(lambda: session.stats.depth_runs == 1)
        assert one(session, frames[1]).depth_ticket == 1
        until(lambda: depth.runs == 2)  # of the second frame, and it takes long
        assert [one(session, frame).depth_ticket for frame in frames[2:13]] == [1] * 11
        depth.go.set()
        until(lambda: session.stats.depth_runs == 2)
        last = one(session, frames[13])
        assert (last.depth_ticket, last.own_depth, last.cut) == (1, False, False)


def test_depth_that_fails_is_said_and_the_session_lives_on():
    answers = iter([RAMP, RAMP, ValueError("out of film"), RAMP * np.float32(np.nan), RAMP])

    def depth(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with LiveSession(config(depth=depth)) as session:
        assert not one(session).depth_failed
        bad = one(session)
        assert bad.depth_failed
        assert bad.depth_ticket == 1
        assert "out of film" in session.depth_error
        assert one(session).depth_failed
        assert not one(session).depth_failed
        assert session.stats.depth_failures == 2


def test_many_threads_at_once():
    with LiveSession(config(policy="newest", depth_every=2, slots=6)) as session:
        errors = []

        def busy(work):
            try:
                for k in range(60):
                    work(k)
            except Exception as error:
                errors.append(error)

        works = [
            lambda k: session.submit(np.roll(SCENE, k, 1), k),
            lambda k: session.submit(SCENE, k),
            lambda _: session.wait(0.01),
            lambda k: session.set(strength=k % 20),
            lambda _: session.render([0.5]),
            lambda _: session.stats,
        ]
        threads = [threading.Thread(target=busy, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert not errors
        stats = session.stats
        assert stats.submitted <= 120


def test_the_builtin_network_gives_what_the_converter_sees():
    scene, _ = secondeye.runtime.sample.render_sample(320, 180)
    with LiveSession(LiveConfig(width=320, height=180, layout="depth", steady=0.0, widen=0)) as session:
        grey = one(session, scene).picture[:, :, 0].astype(int)
    frame = secondeye.StereoConverter(secondeye.StereoConfig(strength=4.0, convergence=0.0, widen=0)).convert(scene)
    want = np.clip(frame.disparity / (0.04 * 320) * 255, 0, 255)
    assert np.abs(grey - want).mean() < 1.0


def test_the_builtin_network_needs_no_onnxruntime(monkeypatch):
    monkeypatch.delenv("SECONDEYE_ONNXRUNTIME", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with LiveSession(LiveConfig(width=320, height=180)) as session:
        assert one(session, secondeye.runtime.sample.render_sample(320, 180)[0]).own_depth


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 8}, "width: expected 16 to 8192"),
        ({"strength": float("nan")}, "strength: expected 0 to 20"),
        ({"layout": "hologram"}, "layout: expected one of sbs"),
        ({"cheaper": ("no-sound",)}, "cheaper: expected some of"),
        ({"slots": 1, "steady": 2}, "slots: expected 2 to 16, got 1; steady"),
        ({"depth": 7}, "depth: expected a name, a path or a function"),
        ({"depth": lambda _: np.zeros((2, 2))}, "depth: expected a map"),
    ],
)
def test_bad_configurations_are_sentences(options, said):
    with pytest.raises(InvalidInputError, match=said):
        LiveSession(LiveConfig(**({"width": 64, "height": 48, "depth": "cues"} | options)))


def test_bad_frames_are_refused_and_nothing_is_lost(tmp_path):
    with LiveSession(config()) as session:
        for frame in (SCENE[:-1], SCENE[:, :, :2], SCENE.astype(np.float32), SCENE[:, :, 0]):
            with pytest.raises(InvalidInputError):
                session.submit(frame)
        with pytest.raises(InvalidInputError, match="submit"):
            session.submit("frame.png")
        device = DeviceArray(None, 4096, SCENE.shape, SCENE.strides, SCENE.dtype, False, 0)
        with pytest.raises(secondeye.BackendUnavailableError):
            session.submit(device)
        assert one(session).ticket == 1
        with pytest.raises(InvalidInputError, match="one picture for each"):
            session.render([0, 1], out=[SCENE.copy()])


def test_a_file_that_is_no_library_or_no_model(tmp_path, monkeypatch):
    text = tmp_path / "not.so"
    text.write_text("hello")
    monkeypatch.setenv("SECONDEYE_ONNXRUNTIME", str(text))
    with LiveSession(LiveConfig(width=64, height=48)):
        pass  # our own kernels need no library
    model = beyond_the_kernels(tmp_path / "model.onnx")
    monkeypatch.setattr(live, "builtin_path", lambda: model)
    with pytest.raises(secondeye.ModelFormatError, match="cannot be loaded"):
        LiveSession(LiveConfig(width=64, height=48))
