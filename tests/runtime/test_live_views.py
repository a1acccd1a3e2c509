# SPDX-License-Identifier: Apache-2.0
"""Views of a live session: quilts, a rolled or lifted head, what stays flat, what was seen behind things before."""

import numpy as np
import pytest

from secondeye import InvalidInputError, LiveConfig, LiveSession, ops

HEIGHT, WIDTH = 48, 96
RAMP = np.repeat(np.linspace(0, 1, 24, dtype=np.float32)[:, None], 32, 1)
SCENE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def session(**options):
    """A small session whose depth is a ramp, near below, unless it is told otherwise."""
    defaults = {"width": WIDTH, "height": HEIGHT, "depth": lambda _: RAMP, "policy": "every", "strength": 10.0}
    return LiveSession(LiveConfig(**(defaults | options)))


def one(live, frame=SCENE):
    """A frame, through."""
    assert live.submit(frame, timeout=60) is not None
    result = live.wait(60)
    assert result is not None
    return result


def test_a_quilt_is_its_views_side_by_side_from_the_bottom_left():
    with session() as live:
        assert live.render_quilt(2, 2) is None
        one(live)
        views = live.render(np.linspace(-1.5, 1.5, 6))
        quilt = live.render_quilt(3, 2, eyes=(-1.5, 1.5))
        down = live.render_quilt(3, 2, eyes=(-1.5, 1.5), from_top=True)
    assert quilt.shape == (2 * HEIGHT, 3 * WIDTH, 3)
    for k, view in enumerate(views):
        row, column = divmod(k, 3)
        np.testing.assert_array_equal(quilt[(1 - row) * HEIGHT :][:HEIGHT, column * WIDTH :][:, :WIDTH], view)
        np.testing.assert_array_equal(down[row * HEIGHT :][:HEIGHT, column * WIDTH :][:, :WIDTH], view)


def test_tiles_of_another_size_are_resampled():
    with session() as live:
        one(live)
        (view,) = live.render([0.0])
        small = live.render_quilt(1, 1, eyes=(0.0, 0.0), tile=(WIDTH // 2, HEIGHT // 2))
        np.testing.assert_array_equal(small, ops.resize(view, HEIGHT // 2, WIDTH // 2))
        out = np.empty((45 * 8, 60 * 6, 3), np.uint8)
        assert live.render_quilt(6, 8, tile=(60, 45), out=out, strength=0.0) is out
        np.testing.assert_array_equal(out[:45, :60], out[-45:, -60:])
        with pytest.raises(InvalidInputError, match="1 to 256 tiles"):
            live.render_quilt(20, 20)
        with pytest.raises(InvalidInputError, match="out: expected"):
            live.render_quilt(2, 1, out=out)
        with pytest.raises(InvalidInputError):
            live.render_quilt(2, 1, eyes=(-3.0, 1.0))


def test_what_lies_on_the_screen_is_still_in_every_view_of_a_quilt():
    flat = np.full((24, 32), 0.0, np.float32)
    flat[12:] = 1.0
    with session(depth=lambda _: flat, convergence=1.0, widen=0, steady=0.0) as live:
        one(live)
        quilt = live.render_quilt(4, 1, eyes=(-1, 1))
    for k in range(4):
        np.testing.assert_array_equal(quilt[36:, k * WIDTH : (k + 1) * WIDTH], SCENE[36:])


def vertical_shift(view, frame, reach=12):
    """By how many rows a view's lower middle has moved up against the frame."""
    part = slice(HEIGHT // 2 - 4, HEIGHT // 2 + 4)
    errors = {
        s: np.abs(view[part, 20:70].astype(int) - np.roll(frame, -s, 0)[part, 20:70].astype(int)).mean()
        for s in range(-reach, reach + 1)
    }
    return min(errors, key=errors.get)


@pytest.mark.parametrize("down", [-1.0, 1.0])
def test_an_eye_further_down_sees_near_things_further_up(down):
    near = np.ones((24, 32), np.float32)
    near[:, :4] = 0
    with session(depth=lambda _: near, convergence=0.0, strength=6.0, widen=0, steady=0.0) as live:
        one(live)
        (view,) = live.render([0.0], down=down)
    assert vertical_shift(view, SCENE) == round(down * 0.06 * WIDTH)


def test_a_rolled_head_turns_disparity():
    near = np.ones((24, 32), np.float32)
    near[:, :4] = 0
    options = {"depth": lambda _: near, "convergence": 0.0, "strength": 8.0, "widen": 0, "steady": 0.0}
    with session(**options) as live:
        one(live)
        straight, turned = live.render([1.0])[0], live.render([1.0], roll=30.0)[0]
        up, half = live.render([0.866025], down=0.5)[0], live.render([1.0], roll=-30.0)[0]
        assert vertical_shift(np.roll(straight, 8, 1), SCENE) == 0
        np.testing.assert_array_equal(turned, up)
        rows = [vertical_shift(np.roll(v, 7, 1), SCENE) for v in (turned, half)]
        assert rows == [4, -4]
        live.set(roll=30.0, layout="right")
        np.testing.assert_array_equal(one(live).picture, turned)
        with pytest.raises(InvalidInputError, match="roll: expected -60 to 60"):
            live.set(roll=90.0)


def test_no_view_leaves_a_hole():
    steps = np.where(np.indices((24, 32)).sum(0) % 11 < 5, 0.1, 0.9).astype(np.float32)
    white = np.full_like(SCENE, 200)
    with session(depth=lambda _: steps, strength=20.0) as live:
        one(live, white)
        for roll in (-40.0, 0.0, 25.0):
            for view in live.render([-1.0, 0.3, 1.0], down=0.4, roll=roll):
                assert (view == 200).all()


def test_what_the_mask_covers_stays_flat_and_sharp():
    text = SCENE.copy()
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:16, 30:60] = True
    text[mask] = (0, 255, 0)
    with session(strength=12.0, convergence=0.0, view="both") as live:
        live.set_mask(mask)
        picture = one(live, text).picture
        for at in (0, WIDTH):
            np.testing.assert_array_equal(picture[10:16, at + 30 : at + 60], text[10:16, 30:60])
        live.set_mask(mask, disparity=6.0)
        right, lower = live.render([1.0])[0], live.render([0.0], down=1.0)[0]
        np.testing.assert_array_equal(right[10:16, 24:54], text[10:16, 30:60])
        np.testing.assert_array_equal(lower[4:10, 30:60], text[10:16, 30:60])
        assert not (right[10:16, 54:60] == (0, 255, 0)).all(2).any()
        live.set_mask(None)
        assert (live.render([1.0])[0][10:16, 30:60] != text[10:16, 30:60]).any()
        with pytest.raises(InvalidInputError):
            live.set_mask(mask[:-1])


# ---- what was seen before --------------------------------------------------------------------------------------


def street(k, pan=0, height=96, width=192, step=4):
    """A frame of a thing that goes to the right before a background that may pan, and the background alone."""
    rng = np.random.default_rng(11)
    wall = rng.integers(0, 100, (height, width + 200, 3), np.uint8)
    wall = ops.resize(np.ascontiguousarray(wall[::2, ::2]), height, width + 200)
    back = wall[:, 100 + pan : 100 + pan + width]
    frame = back.copy()
    frame[30:66, 20 + step * k : 60 + step * k] = rng.integers(180, 256, (36, 40, 3), np.uint8)
    return np.ascontiguousarray(frame), back


def depth_of(frame):
    return (frame.astype(int).max(2) > 130)[::2, ::2].astype(np.float32)


@pytest.mark.parametrize("speed", [0, 2])
def test_what_was_seen_before_comes_back_from_behind_things(speed):
    options = {"width": 192, "height": 96, "depth": depth_of, "strength": 8.0, "convergence": 0.0, "steady": 0.0}
    errors = {}
    for remember in (False, True):
        with session(**options, remember=remember) as live:
            for k in range(16):
                frame, back = street(k, speed * k)
                one(live, frame)
            right = live.render([1.0])[0]
        left = 20 + 4 * 15
        # The thing is seen 15 pixels further left, so the second eye sees that much of the wall behind its right side.
        uncovered = (slice(34, 62), slice(left + 40 - 12, left + 40 - 4))
        errors[remember] = np.abs(right[uncovered].astype(int) - back[uncovered]).mean()
    assert errors[True] < 2.0
    assert errors[False] > 8.0


def test_a_camera_that_turns_is_not_remembered():
    options = {"width": 192, "height": 96, "depth": depth_of, "strength": 8.0, "convergence": 0.0, "steady": 0.0}
    rng = np.random.default_rng(4)
    frames = [rng.integers(0, 100, (96, 192, 3), np.uint8) for _ in range(4)]
    pictures = []
    for remember in (False, True):
        with session(**options, remember=remember) as live:
            for frame in frames:
                frame[30:60, 60:90] = 220
                picture = one(live, frame).picture.copy()
        pictures.append(picture)
    np.testing.assert_array_equal(*pictures)


def test_memory_needs_room_and_says_so_and_repeats_itself():
    options = {"width": 192, "height": 96, "depth": depth_of, "strength": 8.0}
    runs, bytes_ = [], []
    for remember in (True, True, False):
        with session(**options, remember=remember) as live:
            runs.append([one(live, street(k)[0]).picture.copy() for k in range(6)])
            bytes_.append(live.stats.memory_bytes)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert bytes_[0] - bytes_[2] >= 5 * 192 * 96 * 8


# ---- NV12 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
def test_frames_may_come_as_nv12(channels):
    rng = np.random.default_rng(7)
    frame = rng.integers(16, 236, (HEIGHT + HEIGHT // 2, WIDTH), np.uint8)
    chroma = frame[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)
    want = ops.nv12(frame[:HEIGHT], chroma, standard="bt601", channels=channels)
    with session(nv12="bt601", channels=channels) as live, session(channels=channels) as plain:
        np.testing.assert_array_equal(one(live, frame).picture, one(plain, want).picture)
        pitched = np.zeros((len(frame), WIDTH + 10), np.uint8)[:, :WIDTH]
        pitched[:] = frame
        one(live, frame[::-1])
        np.testing.assert_array_equal(one(live, pitched).picture[:, :WIDTH], want)
        for bad in (frame[:-1], want, frame.astype(np.float32)):
            with pytest.raises(InvalidInputError):
                live.submit(bad)
    with pytest.raises(InvalidInputError, match="width: expected an even one"):
        session(nv12="bt601", width=WIDTH + 1)
    with pytest.raises(InvalidInputError, match="nv12: expected one of"):
        session(nv12="ntsc")
