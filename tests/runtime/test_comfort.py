# SPDX-License-Identifier: Apache-2.0
"""Strength in percent, pixels and degrees, and the limits of comfort."""

import math

import numpy as np
import pytest

import secondeye
from secondeye import InvalidInputError, Screen, StereoConfig, StereoConverter
from secondeye.runtime.comfort import comfort_limit, comfort_note, strength_percent

TELEVISION = Screen(1.0, 2.0)


def test_degrees_are_what_the_viewer_sees():
    percent = strength_percent(1.0, "degrees", screen=TELEVISION)
    assert percent == pytest.approx(3.49, abs=0.01)
    metres = percent / 100 * TELEVISION.width_m
    assert 2 * math.degrees(math.atan(metres / 2 / TELEVISION.distance_m)) == pytest.approx(1.0)
    assert TELEVISION.degrees(percent) == pytest.approx(1.0)
    assert strength_percent(38.4, "pixels", frame_width=1920) == pytest.approx(2.0)


def test_comfort_follows_from_the_screen():
    assert comfort_limit() == 3.0
    assert comfort_limit(TELEVISION) == pytest.approx(TELEVISION.percent(1.0))
    # In a cinema the eyes' distance binds before the angle: 63 mm of 12 m behind the screen, and half of all is there.
    assert comfort_limit(Screen(12.0, 10.0)) == pytest.approx(100 * 0.063 / (12 * 0.5))
    assert comfort_limit(Screen(12.0, 10.0), convergence=0.0) == pytest.approx(Screen(12.0, 10.0).percent(1.0))
    assert comfort_note(2.9) is None
    assert "over the comfort limit of 3" in str(comfort_note(3.1))
    assert "1.4 degrees" in str(comfort_note(5.0, TELEVISION))


def test_every_unit_gives_the_same_picture(scene):
    picture, depth = scene
    width = picture.shape[1]
    percent = TELEVISION.percent(0.5)
    configs = (
        StereoConfig(strength=percent),
        StereoConfig(strength=percent / 100 * width, strength_unit="pixels"),
        StereoConfig(strength=0.5, strength_unit="degrees", screen=TELEVISION),
    )
    first, *rest = (StereoConverter(config).convert(picture, depth=depth) for config in configs)
    assert np.ptp(first.disparity) == pytest.approx(percent / 100 * width, abs=0.1)
    for other in rest:
        np.testing.assert_allclose(other.disparity, first.disparity, atol=1 / 128)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": 1.0, "strength_unit": "degrees"}, "screen: degrees need one"),
        ({"strength": 11.0, "strength_unit": "degrees", "screen": TELEVISION}, "0 to 10"),
        ({"strength": 1.0, "strength_unit": "feet"}, "percent, pixels, degrees"),
        ({"strength": -1.0, "strength_unit": "pixels"}, "strength: expected 0 to"),
    ],
)
def test_units_that_do_not_fit_are_refused(options, says):
    with pytest.raises(InvalidInputError, match=says):
        StereoConfig(**options)


def test_too_many_pixels_for_the_picture_are_refused(scene):
    with pytest.raises(InvalidInputError, match=r"1000 pixels, which are 260\.4 percent"):
        secondeye.convert(scene[0], strength=1000, strength_unit="pixels", depth="cues")
    with pytest.raises(InvalidInputError, match="metres"):
        Screen(0, 2)
