# SPDX-License-Identifier: Apache-2.0
"""A session's views are what their law says, in NumPy over the ops: moves, what stays flat, overlay, roll."""

import math

import numpy as np
import pytest

from secondeye import LiveConfig, LiveSession, ops

HEIGHT, WIDTH = 41, 75
F = np.float32
rng = np.random.default_rng(21)
SCENE = rng.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
STEPS = np.where(np.indices((14, 25)).sum(0) % 9 < 4, 0.15, 0.85).astype(F) + F(0.01) * np.arange(25, dtype=F)
MASK = (rng.random((HEIGHT, WIDTH)) < 0.1).astype(np.uint8) * 7
MASK[8:19, 30:52] = 1
OVERLAY = rng.integers(0, 256, (17, 30, 4), np.uint8)
OVERLAY[:4, :, 3], OVERLAY[4:8, :, 3] = 0, 255
HOWS = [{}, {"isa": "base"}, {"isa": "blocks"}, pytest.param({"device": "cuda"}, marks=pytest.mark.gpu)]


def plane_of(picture):
    """A frame's disparity at its own size: see Canvas::plane."""
    low, high = (F(v) for v in ops.depth_range(STEPS))
    slope = F(1) / (high - low)
    nearness = np.clip(slope * STEPS + -low * slope, 0, 1)
    plane = ops.upsample(nearness * F(F(0.04) * F(WIDTH)), picture, threshold=1.0)
    return ops.smooth_edges(ops.widen_foreground(plane, radius=1, threshold=1.0))


def nearest(v):
    """To a whole number, half away from 0."""
    return int(math.copysign(math.floor(abs(float(v)) + 0.5), v))


def moves_of_view(values, source, offset):
    """What each pixel of a view takes of its picture's values; source: where it is of, -1 in holes."""
    out = np.empty_like(values)
    for row, (value, s) in enumerate(zip(values, source, strict=True)):
        taken = [value[min((m + 128) >> 8, WIDTH - 1)] if m >= 0 else None for m in s]
        for t, v in enumerate(taken):
            if v is None:
                before = next((b for b in taken[t::-1] if b is not None), None)
                after = next((a for a in taken[t:] if a is not None), None)
                sides = [side for side in (before, after) if side is not None]
                v = min(sides) if sides else offset
            out[row, t] = v
    return out


def view(frame, look, across, down, shift, mask=None, mask_at=0.0, overlay=None, x=0, y=0, overlay_at=0.0):
    """One view, for an eye at (across, down)."""
    angle = math.radians(look["roll"])
    across, down = F(across), F(down)
    turned = float(across) * math.cos(angle) - float(down) * math.sin(angle)
    across, down = F(turned), F(float(across) * math.sin(angle) + float(down) * math.cos(angle))
    strength, convergence, shift = F(look["strength"]), F(look["convergence"]), F(shift)
    reach, from_left, plane = strength / F(100) * F(WIDTH), across < 0, plane_of(frame)
    slide = -shift if from_left else shift
    paint = (lambda w, eye: ops.fill(w, eye=eye)) if look["fill"] else (lambda w, eye: w.view)

    def moves(size, offset, more):
        base = offset + more
        made = plane * (size * strength / F(4)) + base
        return made if mask is None else np.where(mask != 0, size * F(mask_at) + more, made), base

    size, drop = abs(across), abs(down)
    moved, _ = moves(size, -size * convergence * reach, slide)
    eye = "left" if from_left else "right"
    warped = ops.warp(frame, moved, eye=eye, backend="reference")
    picture = paint(warped, eye)
    if drop > 0:
        flip = (lambda a: a[:, ::-1]) if from_left else (lambda a: a)
        values, offset = moves(drop, -drop * convergence * reach, F(0))
        by = flip(moves_of_view(flip(values), flip(warped.map), offset))
        eye = "left" if down < 0 else "right"
        lifted = ops.warp(
            np.ascontiguousarray(picture.transpose(1, 0, 2)), np.ascontiguousarray(by.T), eye=eye, backend="reference"
        )
        picture = paint(lifted, eye).transpose(1, 0, 2)
    picture = picture.copy()
    if mask is not None:
        dx, dy = nearest(across * F(mask_at) + shift), nearest(down * F(mask_at))
        for v, u in np.argwhere(mask):
            if 0 <= v - dy < HEIGHT and 0 <= u - dx < WIDTH:
                picture[v - dy, u - dx] = frame[v, u]
    return picture if overlay is None else over(picture, overlay, x, y, across, down, shift, overlay_at)


def over(picture, overlay, x, y, across, down, shift, disparity):
    x -= nearest(F(across) * F(disparity) + F(shift))
    y -= nearest(F(down) * F(disparity))
    for v, u in np.ndindex(overlay.shape[:2]):
        if 0 <= y + v < HEIGHT and 0 <= x + u < WIDTH:
            colour, alpha = overlay[v, u, :3].astype(int), int(overlay[v, u, 3])
            at = picture[y + v, x + u]
            at[:3] = (alpha * colour + (255 - alpha) * at[:3].astype(int) + 127) // 255
    return picture


@pytest.fixture
def session(request):
    """Opens sessions on what `how` says."""

    def opened(channels, how):
        if "device" in how:
            request.getfixturevalue("cuda")
        options = {"width": WIDTH, "height": HEIGHT, "channels": channels, "widen": 1, "policy": "every"} | how
        return LiveSession(LiveConfig(depth=lambda _: STEPS, steady=0.0, **options))

    return opened


def shown(live, frame):
    live.submit(frame, timeout=60)
    return np.array(live.wait(60).picture)


CASES = [
    # across, down, shift; mask's disparity or None; overlay's (x, y, disparity) or None; look
    (1.0, 0.0, 0.0, None, None, {}),
    (-0.7, 0.0, 3.0, 0.0, None, {"strength": 15.0}),
    (0.4, 0.6, 0.0, None, (20, 10, 4.0), {"convergence": 0.0}),
    (-1.0, -0.5, -2.5, 5.5, (-9, 30, -7.0), {"strength": 20.0}),
    (-0.8, 0.3, 1.0, -6.0, (60, -5, 3.0), {"fill": False}),
    (0.0, 1.0, 0.0, 2.0, (0, 0, 0.0), {"roll": 25.0}),
    (1.0, 0.0, 0.0, 4.0, (30, 12, 9.0), {"roll": -50.0, "strength": 12.0}),
    (0.5, 0.0, 100.0, 0.0, (300, 12, 0.0), {}),  # nothing of what is flat is seen
]


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("channels", [3, 4])
def test_a_view_is_what_its_law_says(session, how, channels):
    frame = np.ascontiguousarray(SCENE[:, :, :channels])
    with session(channels, how) as live:
        shown(live, frame)
        for across, down, shift, flat, laid, changes in CASES:
            look = {"strength": 8.0, "convergence": 0.5, "fill": True, "roll": 0.0} | changes
            more = {} if flat is None else {"mask": MASK, "mask_at": flat}
            if laid is not None:
                more |= {"overlay": OVERLAY, "x": laid[0], "y": laid[1], "overlay_at": laid[2]}
            live.set_mask(None if flat is None else MASK, disparity=flat or 0.0)
            x, y, disparity = laid or (0, 0, 0.0)
            live.set_overlay(None if laid is None else OVERLAY, x=x, y=y, disparity=disparity)
            (got,) = live.render([across], down=down, shift=shift, **look)
            want = view(frame, look, across, down, shift, **more)
            np.testing.assert_array_equal(got, want, err_msg=str((flat, laid, look)))


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_a_pair_is_its_two_views(session, how):
    frame = np.ascontiguousarray(SCENE[:, :, :3])
    look = {"strength": 9.0, "convergence": 0.3, "fill": True, "roll": 12.0}
    flat = {"mask": MASK, "mask_at": 3.0, "overlay": OVERLAY, "x": 50, "y": 30, "overlay_at": -4.0}
    with session(3, how) as live:
        live.set_mask(MASK, disparity=3.0)
        live.set_overlay(OVERLAY, x=50, y=30, disparity=-4.0)
        live.set(**look, view="both", swap=True, layout="tb")
        both = shown(live, frame)
        live.set(view="right", swap=False)
        one = shown(live, frame)
        live.set(strength=0.0, roll=0.0)
        still = shown(live, frame)
        live.set(strength=3.0, layout="depth")
        depth = shown(live, frame)
    np.testing.assert_array_equal(both, np.concatenate([view(frame, look, a, 0, 0, **flat) for a in (0.5, -0.5)]))
    left = over(frame.copy(), OVERLAY, 50, 30, 0, 0, 0, -4.0)
    np.testing.assert_array_equal(one, np.concatenate([left, view(frame, look, 1.0, 0, 0, **flat)]))
    right = over(frame.copy(), OVERLAY, 50, 30, 1, 0, 0, -4.0)
    np.testing.assert_array_equal(still, np.concatenate([left, right]))
    grey = plane_of(frame) * (F(255) / F(F(0.04) * F(WIDTH))) + F(0.5)
    np.testing.assert_array_equal(depth, np.clip(grey, 0, 255).astype(np.uint8)[:, :, None].repeat(3, 2))
