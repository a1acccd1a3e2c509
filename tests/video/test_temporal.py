# SPDX-License-Identifier: Apache-2.0
"""Steady depth: flicker goes, edges stay, cuts are seen, and the memory is as short as it says."""

import numpy as np
import pytest

from secondeye import InvalidInputError
from secondeye.runtime.sample import render_sample
from secondeye.runtime.video.look import look
from secondeye.runtime.video.temporal import WARM_UP, WINDOW, TemporalState

H, W = 96, 160


def flickering(frames, seed=1):
    """Pictures of a still scene, and what a jumpy network says of each."""
    rng = np.random.default_rng(seed)
    picture, depth = render_sample(W, H)
    for _ in range(frames):
        shimmer = np.kron(rng.normal(size=(H // 8, W // 8)), np.ones((8, 8))) * 0.02 * np.ptp(depth)
        noisy = np.clip(picture + rng.normal(size=picture.shape) * 2, 0, 255).astype(np.uint8)
        yield noisy, (depth * rng.uniform(0.85, 1.15) + rng.normal() * 0.1 + shimmer).astype(np.float32)


def run(frames, first=0):
    state, before, out = TemporalState(first), None, []
    for picture, depth in frames:
        before = look(picture, depth, before)
        out += state.push(before)
    return out + state.flush()


def test_every_frame_comes_out_once_in_order():
    out = run(flickering(40), first=7)
    assert [one.index for one in out] == list(range(7, 47))
    assert [one.cut for one in out] == [True] + [False] * 39


def test_flicker_falls_to_a_fifth():
    frames = list(flickering(60))
    steady = np.stack([one.depth for one in run(frames)])
    alone = []
    for _, depth in frames:  # each frame with a range of its own
        low, high = np.percentile(depth, [1, 99])
        alone.append(np.clip((depth - low) / (high - low), 0, 1))
    before, after = (np.abs(np.diff(v[20:], axis=0)).mean() for v in (np.stack(alone), steady))
    assert after < before / 5


def moving(frames):
    """A near square that moves three pixels a frame over a far wall; exact depth with a little noise."""
    rng = np.random.default_rng(2)
    wall = rng.integers(40, 120, (H, W, 3), np.uint8)
    thing = rng.integers(120, 250, (40, 40, 3), np.uint8)
    for k in range(frames):
        picture, depth = wall.copy(), np.full((H, W), 0.2, np.float32)
        x = 5 + 3 * k
        picture[30:70, x : x + 40], depth[30:70, x : x + 40] = thing, 1.0
        yield picture, depth + rng.normal(size=depth.shape).astype(np.float32) * 0.01


def test_a_moving_edge_leaves_no_trail():
    for one, (_, depth) in zip(run(moving(30)), moving(30), strict=True):
        row, exact = one.depth[50] > 0.5, depth[50] > 0.6
        got, want = np.flatnonzero(row), np.flatnonzero(exact)
        assert abs(got[0] - want[0]) <= 1
        assert abs(got[-1] - want[-1]) <= 1


def test_what_is_uncovered_takes_nothing_of_what_hid_it():
    """A network's depth bleeds over the edge of a near square that moves off: the place it leaves is the wall's."""
    rng = np.random.default_rng(4)
    frames = []
    for k, (picture, depth) in enumerate(moving(30)):
        x = 5 + 3 * k
        depth = depth.copy()
        depth[30:70, max(0, x - 3) : x] += 0.3  # the halo
        noise = rng.normal(size=picture.shape) * 2
        frames.append((np.clip(picture + noise, 0, 255).astype(np.uint8), depth))
    steady = run(frames)
    for k in range(12, 26):
        x = 5 + 3 * k
        left, wall = steady[k].depth[34:66, x - 12 : x - 5], steady[k].depth[:20].mean()
        assert abs(float(left.mean() - wall)) < 0.02
        assert float(np.abs(left - wall).mean()) < 0.03


def test_a_still_place_beside_motion_is_still():
    frames = list(moving(3))
    before = look(*frames[0], None)
    now = look(*frames[1], before)
    row = now.still[50]  # the square moves from 5..45 to 8..48
    assert row[52:].all()
    assert not row[6:50].all()
    assert (now.source[now.still] == np.flatnonzero(now.still)).all()


def test_noise_falls_at_the_first_frame_too():
    """The frames to come steady a place that has no past yet."""
    frames = [(picture, depth) for picture, depth in flickering(20)]
    steady, (low, high) = run(frames), np.percentile(frames[0][1], [1, 99])
    alone = np.clip((frames[0][1] - low) / (high - low), 0, 1)
    settled = np.mean([one.depth for one in steady[8:]], axis=0)
    assert np.abs(steady[0].depth - settled).mean() < 0.6 * np.abs(alone - settled).mean()


def test_cuts_are_seen_and_nothing_else():
    picture, depth = render_sample(W, H)
    other = np.ascontiguousarray(255 - picture[::-1, ::-1])
    frames = [(picture, depth)] * 12 + [(other, depth)] * 12
    frames += [(np.roll(other, 3 * k, 1), depth) for k in range(12)]  # a fast pan is none
    other = np.roll(other, 33, 1)
    frames += [((other * s).astype(np.uint8), depth) for s in np.linspace(1, 0.4, 12)]  # nor is a fade
    cuts = [one.index for one in run(frames) if one.cut]
    assert cuts == [0, 12]


def test_specks_do_not_take_the_range():
    rng = np.random.default_rng(3)
    clean = list(flickering(40))
    snowy = []
    for picture, depth in clean:
        flakes = rng.random((H, W)) < 0.004
        snowy.append(
            (
                np.where(flakes[:, :, None], 255, picture).astype(np.uint8),
                np.where(flakes, 9.0, depth).astype(np.float32),
            )
        )
    for one, other in zip(run(clean), run(snowy), strict=True):
        assert abs(float(np.median(one.depth)) - float(np.median(other.depth))) < 0.05


def test_the_memory_is_finite():
    frames = list(moving(30)) + list(flickering(60))
    whole = {one.index: one.depth for one in run(frames)}
    begin = 30 + 20
    # From WARM_UP frames before on: nearly the same. And the same to the bit from wherever the same start is taken.
    part = {one.index: one.depth for one in run(frames[begin - WARM_UP :], first=begin - WARM_UP)}
    again = {one.index: one.depth for one in run(frames[begin - WARM_UP : begin + 20 + WINDOW], first=begin - WARM_UP)}
    for index in range(begin, begin + 20):
        assert np.abs(whole[index] - part[index]).max() < 0.02
        np.testing.assert_array_equal(part[index], again[index])


def test_borders_tell_what_they_cut():
    rng = np.random.default_rng(6)
    picture = rng.integers(40, 200, (H, W, 3), np.uint8)
    depth = np.full((H, W), 0.2, np.float32)
    depth[20:, :30] = 1.0  # a near thing that the left border cuts
    depth[40:60, 80:120] = 0.8
    for one in run([(picture, depth)] * 30):
        assert one.borders[0] > 0.95
        assert one.borders[1] < 0.05


def test_a_saved_state_goes_on():
    frames = list(flickering(50))
    want = run(frames)
    state, before, out = TemporalState(), None, []
    for k, (picture, depth) in enumerate(frames):
        if k == 27:
            state = TemporalState.from_bytes(state.to_bytes())
        before = look(picture, depth, before)
        out += state.push(before)
    out += state.flush()
    assert len(out) == len(want)
    for one, other in zip(out, want, strict=True):
        np.testing.assert_array_equal(one.depth, other.depth)
        assert (one.index, one.convergence, one.cut) == (other.index, other.convergence, other.cut)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04nonsense", b"\x93NUMPY"])
def test_a_damaged_state_is_refused(data):
    with pytest.raises(InvalidInputError, match="no saved temporal state"):
        TemporalState.from_bytes(data)
