# SPDX-License-Identifier: Apache-2.0
"""Objects in live sessions: edges on borders, labels that come late, segmenters that fail or never answer."""

import gc
import threading
import time

import numpy as np
import pytest
from moving import HEIGHT, WIDTH, MovingScene
from networks import brightness_network
from PIL import Image

from secondeye import InvalidInputError, LiveConfig, LiveSession, MediaError, SessionError
from secondeye.runtime.objects import SURE


def until(condition, seconds=5.0):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def opened(scene, segment, **options):
    """A session whose pictures are nearness in grey."""
    settings = {"depth": scene, "policy": "every", "layout": "depth", "widen": 0, "segment": segment} | options
    return LiveSession(LiveConfig(width=WIDTH, height=HEIGHT, **settings))


def one(session, frame):
    """A frame, through."""
    session.submit(frame, timeout=5)
    result = session.wait(5)
    assert result is not None
    return result


def answered(session):
    """Waits until every key frame has its labels."""
    until(lambda: session.stats.keys_labelled == session.stats.keys_offered)


def edge_error(scene, result):
    """How far nearness is off within 6 pixels of the disc's edge, of its own range."""
    grey = result.picture[:, :, 0].astype(np.float64)
    unit = (grey - grey.min()) / (grey.max() - grey.min())
    labels = scene.labels
    near = (np.roll(labels, 6, 1) != np.roll(labels, -6, 1)) | (np.roll(labels, 6, 0) != np.roll(labels, -6, 0))
    return np.abs(unit - (labels == 2))[near].mean()


def errors_of(segmenter, frames=24, **options):
    """Edge errors of frame after frame; a segmenter's labels are there before the next frame."""
    scene = MovingScene()
    errors, tickets = [], []
    with opened(scene, "off" if segmenter is None else segmenter(scene), **options) as session:
        for k in range(frames):
            result = one(session, scene.frame(k))
            errors.append(edge_error(scene, result))
            tickets.append(result.objects_ticket)
            answered(session)
        return np.array(errors), tickets, session.stats


def exact(scene):
    """A segmenter that knows."""
    return lambda _: (scene.labels.copy(), 1.0)


def test_edges_lie_nearer_to_the_true_ones():
    without, tickets, stats = errors_of(None)
    assert set(tickets) == {0}
    assert (stats.keys_offered, stats.stages["objects_age"].count) == (0, 0)
    fresh, tickets, stats = errors_of(exact, key_every=1)
    assert tickets == list(range(24))  # labels are those of the frame before, carried
    assert fresh[1:].mean() < 0.7 * without[1:].mean()
    assert (stats.keys_offered, stats.keys_labelled) == (24, 24)
    assert stats.stages["objects_age"].count == 23
    seldom, tickets, stats = errors_of(exact, key_every=12)
    assert set(tickets[1:]) <= {1, 13, *range(3, 13), *range(15, 25)}
    assert seldom[1:].mean() < 0.85 * without[1:].mean()
    assert stats.keys_labelled < 6


def test_labels_of_a_slow_segmenter_are_carried_to_the_frame_at_hand():
    scene = MovingScene()
    begun, free = threading.Event(), threading.Event()

    def slow(_):
        labels = scene.labels.copy()
        begun.set()
        assert free.wait(10)
        return labels, 1.0

    errors = []
    with opened(scene, slow, key_every=1000) as session:
        for k in range(16):
            if k == 8:
                free.set()
                answered(session)
            result = one(session, scene.frame(k))
            assert result.objects_ticket == (0 if k < 8 else 1)
            errors.append(edge_error(scene, result))
            assert begun.wait(5)
        age = session.stats.stages["objects_age"]
    assert age.count == 8
    first = MovingScene()
    first.frame(0)
    assert (first.labels != scene.labels).mean() > 0.1  # the disc is elsewhere by now
    assert np.mean(errors[8:]) < 0.85 * errors_of(None, 16)[0][8:].mean()


def test_a_cut_forgets_and_asks_again():
    scene = MovingScene()
    with opened(scene, exact(scene), key_every=1000) as session:
        one(session, scene.frame(0))
        answered(session)
        assert one(session, scene.frame(1)).objects_ticket == 1
        cut = one(session, np.ascontiguousarray(255 - scene.frame(2)[::-1] // 3))
        assert cut.cut
        assert cut.objects_ticket == 0
        answered(session)
        assert session.stats.keys_labelled == 2
        assert one(session, np.ascontiguousarray(255 - scene.frame(2)[::-1] // 3)).objects_ticket == 3


def test_what_goes_out_of_sight_is_asked_for_again():
    scene = MovingScene()
    wall = np.random.default_rng(7).integers(0, 256, (HEIGHT // 4, 200, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    with opened(scene, exact(scene), key_every=1000) as session:
        for k in range(12):
            scene.frame(0)
            one(session, np.ascontiguousarray(wall[:, 14 * k : 14 * k + WIDTH]))
            answered(session)
        assert 2 <= session.stats.keys_labelled <= 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda scene: 1 / 0, "division by zero"),
        (lambda scene: scene.labels, "expected (labels, confidence), got ndarray"),
        (lambda scene: (scene.labels.astype(np.float32), 1.0), "whole numbers, got float32"),
        (lambda scene: (scene.labels[0], 1.0), "expected labels [h, w]"),
        (lambda scene: (scene.labels.astype(int) * -1, 1.0), "from 0 to 65535, got -2"),
        (lambda scene: (scene.labels, 0.4), f"not sure of its objects (confidence 0.40, needed {SURE})"),
    ],
)
def test_a_segmenter_that_fails_is_told_and_the_session_lives_on(answer, said):
    scene, good = MovingScene(), []

    def segmenter(_):
        return (scene.labels, 1.0) if good else answer(scene)

    with opened(scene, segmenter, key_every=1) as session:
        one(session, scene.frame(0))
        until(lambda: session.segment_error)
        assert said in session.segment_error
        assert "\n" not in session.segment_error
        assert one(session, scene.frame(1)).objects_ticket == 0
        until(lambda: session.stats.keys_offered == 2)
        good.append(True)
        for k in range(2, 6):
            result = one(session, scene.frame(k))
            time.sleep(0.02)
        assert result.objects_ticket > 0
        assert session.segment_error == ""
        assert session.stats.keys_labelled < session.stats.keys_offered
        assert session.depth_error == ""


def test_labels_may_have_any_size_and_four_channels_and_nv12_are_seen_in_rgb():
    scene, seen = MovingScene(), []

    def coarse(picture):
        seen.append(picture)
        return scene.labels[::3, ::5], 1.0

    with opened(scene, coarse, channels=4) as session:
        rgba = np.dstack([scene.frame(0), np.full((HEIGHT, WIDTH), 9, np.uint8)])
        one(session, rgba)
        answered(session)
        assert one(session, rgba).objects_ticket == 1
    np.testing.assert_array_equal(seen[0], rgba[:, :, :3])
    seen.clear()
    with opened(scene, coarse, nv12="bt709") as session:
        one(session, np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8))
        answered(session)
    assert seen[0].shape == (HEIGHT, WIDTH, 3)
    assert np.abs(seen[0].astype(int) - 130).max() <= 1


def test_a_segmenter_that_never_answers_holds_up_nothing():
    scene, begun, free = MovingScene(), threading.Event(), threading.Event()

    def stuck(_):
        begun.set()
        free.wait(20)
        return scene.labels, 1.0

    session = opened(scene, stuck)
    one(session, scene.frame(0))
    assert begun.wait(5)
    for k in range(1, 30):
        one(session, scene.frame(k))
    assert (session.stats.keys_offered, session.stats.keys_labelled) == (1, 0)
    start = time.monotonic()
    session.close()
    with pytest.raises(SessionError):
        session.wait(1)
    assert time.monotonic() - start < 1
    free.set()


def test_the_thread_ends_with_the_session_closed_or_forgotten():
    def running():
        return [t for t in threading.enumerate() if t.name == "secondeye objects"]

    until(lambda: not running())  # those of other tests
    scene = MovingScene()
    session = opened(scene, exact(scene))
    one(session, scene.frame(0))
    assert len(running()) == 1
    session.close()
    until(lambda: not running())
    session = opened(scene, exact(scene))
    one(session, scene.frame(0))
    assert len(running()) == 1
    del session
    gc.collect()
    until(lambda: not running())


def test_networks_and_pictures_of_labels_are_segmenters(tmp_path):
    scene = MovingScene()
    frame = scene.frame(0)
    Image.fromarray(scene.labels).save(tmp_path / "labels.png")
    for spec in (tmp_path / "labels.png", brightness_network(tmp_path / "net.onnx")):
        with opened(scene, spec) as session:
            one(session, frame)
            until(lambda s=session: s.stats.keys_labelled == 1 or s.segment_error)
            assert session.segment_error == ""
            assert one(session, frame).objects_ticket == 1


def test_what_is_no_segmenter_is_refused(tmp_path):
    scene = MovingScene()
    with pytest.raises(InvalidInputError, match="segment: expected a name, a path or a function, got int"):
        opened(scene, 7)
    with pytest.raises(MediaError, match="no such file"):
        opened(scene, tmp_path / "nothing.onnx")
    for every in (0, 1001, 2.5, True):
        with pytest.raises(InvalidInputError, match="key_every: expected"):
            opened(scene, "off", key_every=every)
