# SPDX-License-Identifier: Apache-2.0
"""Schedules against the equations they stand for."""

import math

import numpy as np
import pytest
from bundles import scheduler_constants
from hypothesis import given, strategies as st

from secondeye import InvalidInputError, ModelFormatError
from secondeye.runtime.schedulers import make_schedule

CONSTANTS = scheduler_constants()
ALPHAS = CONSTANTS["alphas"]


def predict(kind, x0, noise, alpha):
    """What a perfect network gives for a latent made of x0 and noise."""
    a, s = math.sqrt(alpha), math.sqrt(1 - alpha)
    return {"v_prediction": a * noise - s * x0, "epsilon": noise, "sample": x0}[kind]


@given(
    steps=st.integers(1, 1000),
    kind=st.sampled_from(["v_prediction", "epsilon", "sample"]),
    scheduler=st.sampled_from(["ddim", "warped"]),
    spacing=st.sampled_from(["leading", "trailing"]),
    seed=st.integers(0, 99),
)
def test_a_perfect_network_is_led_to_its_picture(steps, kind, scheduler, spacing, seed):
    """On the line of one picture and one noise every step lands on that line, the last at the final alpha."""
    x0, noise = np.random.default_rng(seed).standard_normal(2)
    constants = CONSTANTS | {"prediction": kind, "spacing": spacing}
    schedule = make_schedule(constants, scheduler, steps)
    first = ALPHAS[schedule.steps[0].timestep]
    x = math.sqrt(first) * x0 + math.sqrt(1 - first) * noise
    for step in schedule.steps:
        x = step.keep * x + step.gain * predict(kind, x0, noise, ALPHAS[step.timestep])
        # DDIM's own steps may not meet end to end (its stride is rounded); the line is met again before each.
        if scheduler == "ddim" and step is not schedule.steps[-1]:
            a = ALPHAS[schedule.steps[schedule.steps.index(step) + 1].timestep]
            x = math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
    last = schedule.steps[-1].timestep - (1000 // steps if scheduler == "ddim" else 1001)
    end = ALPHAS[last] if last >= 0 else CONSTANTS["final_alpha"]
    assert x == pytest.approx(math.sqrt(end) * x0 + math.sqrt(1 - end) * noise, abs=1e-6)


def test_the_authors_steps():
    times = [s.timestep for s in make_schedule(CONSTANTS, "ddim", 50).steps]
    assert times == list(range(981, 0, -20))


def test_as_many_steps_as_asked_for_each_at_a_time_that_was_trained():
    for spacing in ("leading", "trailing"):
        for steps in range(1, 1001):
            times = [s.timestep for s in make_schedule(CONSTANTS | {"spacing": spacing}, "ddim", steps).steps]
            assert len(times) == steps
            assert 0 <= min(times) <= max(times) <= 999
            assert times == sorted(set(times), reverse=True)


@given(steps=st.integers(1, 1000), start=st.floats(0.01, 1.0))
def test_warped_goes_down_from_its_start(steps, start):
    schedule = make_schedule(CONSTANTS, "warped", steps, start)
    times = [s.timestep for s in schedule.steps]
    assert len(times) == steps
    assert times == sorted(times, reverse=True)
    assert times[0] == max(1, round(start * 1000)) - 1
    assert schedule.signal**2 + schedule.noise**2 == pytest.approx(1)
    assert schedule.signal**2 == pytest.approx(ALPHAS[times[0]])


@pytest.mark.parametrize(
    ("scheduler", "steps", "start"),
    [("euler", 4, 0.8), ("ddim", 0, 0.8), ("ddim", 1001, 0.8), ("warped", 4, 0.0), ("warped", 4, 1.1)],
)
def test_numbers_out_of_range(scheduler, steps, start):
    with pytest.raises(InvalidInputError):
        make_schedule(CONSTANTS, scheduler, steps, start)


@pytest.mark.parametrize(
    "change",
    [{"alphas": None}, {"alphas": [2.0, 0.5]}, {"alphas": [0.5]}, {"alphas": ["a", "b"]}, {"final_alpha": 0},
     {"prediction": "x"}, {"spacing": "linspace"}, {"offset": 1.5}, {"offset": -1}],
)  # fmt: skip
def test_constants_that_are_no_schedulers(change):
    with pytest.raises(ModelFormatError):
        make_schedule(CONSTANTS | change, "ddim", 4)
