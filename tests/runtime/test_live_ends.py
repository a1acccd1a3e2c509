# SPDX-License-Identifier: Apache-2.0
"""Live sessions end: from any state, in time, with everything that others still hold left valid."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from secondeye import LiveConfig, LiveSession, SessionError

HEIGHT, WIDTH = 48, 96
RAMP = np.repeat(np.linspace(0, 1, 24, dtype=np.float32)[:, None], 32, 1)
SCENE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
LONG = 60.0  # seconds; nothing here takes so long, however busy the machine


def until(condition):
    """Waits until something holds."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


class Blocking:
    """A depth function that answers at once when it is tried, then waits until it is let go."""

    def __init__(self):
        self.inside, self.go, self.pictures = threading.Event(), threading.Event(), []

    def __call__(self, picture):
        self.pictures.append(picture)
        if len(self.pictures) > 1:
            self.inside.set()
            self.go.wait(LONG)
        return RAMP

    def opened(self, **options):
        """A session whose first frame's depth is under way."""
        config = {"width": WIDTH, "height": HEIGHT, "depth": self, "policy": "every"}
        session = LiveSession(LiveConfig(**(config | options)))
        session.submit(SCENE)
        assert self.inside.wait(LONG)
        return session


def test_what_is_held_outlives_the_session():
    session = LiveSession(LiveConfig(width=WIDTH, height=HEIGHT, depth=lambda _: RAMP))
    session.submit(SCENE)
    frame = session.wait(LONG)
    before = frame.picture.copy()
    session.close()
    del session
    gc.collect()
    np.testing.assert_array_equal(frame.picture, before)
    with pytest.raises(ValueError, match="read-only"):
        frame.picture[0, 0, 0] = 1


@pytest.mark.parametrize("options", [{}, {"depth_every": 0}, {"policy": "newest"}, {"deadline_ms": 1e5}])
def test_a_depth_function_may_return_when_its_session_is_gone(options):
    depth = Blocking()
    session = depth.opened(**options)
    native = weakref.ref(session)
    del session
    gc.collect()
    assert native() is None
    np.testing.assert_array_equal(depth.pictures[1], SCENE)  # the picture is still there
    gone = weakref.ref(depth)
    go, picture = depth.go, depth.pictures[1]
    del depth
    gc.collect()
    assert gone() is not None  # whoever is inside keeps it
    go.set()
    until(lambda: gone() is None)
    np.testing.assert_array_equal(picture, SCENE)  # and so does whoever keeps the picture


def test_a_depth_function_may_raise_when_its_session_is_gone():
    inside, go = threading.Event(), threading.Event()

    def depth(picture):
        if picture.any():
            inside.set()
            go.wait(LONG)
            raise ValueError("too late")
        return RAMP

    session = LiveSession(LiveConfig(width=WIDTH, height=HEIGHT, depth=depth))
    session.submit(SCENE)
    assert inside.wait(LONG)
    gone = weakref.ref(depth)
    del session, depth
    gc.collect()
    go.set()
    until(lambda: gone() is None)


def test_close_ends_whoever_waits_and_is_quick_from_any_state():
    depth = Blocking()
    session = depth.opened(slots=2)
    for _ in range(3):
        session.submit(SCENE)  # until there is no room
    ended = []

    def wait(its):
        with pytest.raises(SessionError) as caught:
            its.wait()
        ended.append(caught)

    waiting = threading.Thread(target=wait, args=(session,))
    waiting.start()
    begun = time.monotonic()
    session.close()
    assert time.monotonic() - begun < 1.0  # the promise
    waiting.join(LONG)
    assert ended
    session.close()
    for call, arguments in ((session.submit, [SCENE]), (session.poll, []), (session.render, [])):
        with pytest.raises(SessionError, match="has ended"):
            call(*arguments)
    depth.go.set()


def test_a_session_that_is_dropped_without_close_ends_too():
    depth = Blocking()
    session = depth.opened()
    depth.go.set()
    frame = session.wait(LONG)
    gone = weakref.ref(depth)
    del session, depth
    gc.collect()
    np.testing.assert_array_equal(frame.picture[:, :WIDTH], SCENE)
    del frame
    until(lambda: gone() is None)


PROGRAM = """
import sys, threading, time
import numpy as np, secondeye

def depth(picture):
    if "sleeps" in sys.argv and picture.any():
        inside.set()
        while True:
            time.sleep(0.0002)
    if "works" in sys.argv and picture.any():
        inside.set()
        while True:
            sum(range(100))
    return np.ones((16, 16), "f4")

def waits():
    while True:
        try:
            session.wait(0.001)
        except secondeye.SessionError:
            inside.set()

inside = threading.Event()
frame = np.full((48, 64, 3), 9, np.uint8)
session = secondeye.LiveSession(secondeye.LiveConfig(width=64, height=48, depth=depth))
session.submit(frame)
if len(sys.argv) == 1:
    held = session.wait(60)
    session.submit(frame)
else:
    if "waits" in sys.argv:
        threading.Thread(target=waits, daemon=True).start()
        session.close()
    assert inside.wait(60)
print("done")
"""


@pytest.mark.parametrize("doing", [[], ["sleeps"], ["works"], ["waits"]])
def test_a_program_that_ends_with_a_session_open_ends(doing):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *doing], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


FORKED = """
import os, signal
import numpy as np
from secondeye import LiveConfig, LiveSession, SessionError

frame = np.zeros((48, 96, 3), np.uint8)
session = LiveSession(LiveConfig(width=96, height=48, depth="cues"))
session.submit(frame)
held = session.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    said = 0
    calls = [lambda: session.submit(frame), session.wait, session.render, lambda: session.stats,
             lambda: session.set(strength=1.0), lambda: session.set_mask(None)]
    for call in calls:
        try:
            call()
        except SessionError as error:
            said += "forked" in str(error)
    del held
    session.close()
    with LiveSession(LiveConfig(width=96, height=48, depth="cues")) as own:  # one of its own works
        own.submit(frame)
        own.wait()
    raise SystemExit(said)  # the interpreter ends as usual, and takes the session with it
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 6, status
session.submit(frame)
assert session.wait() is not None
session.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_session_is_its_process_and_a_forked_one_is_told():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=180)
