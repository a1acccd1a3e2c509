# SPDX-License-Identifier: Apache-2.0
"""Float resampling against OpenCV, and the corners rule against its definition (PyTorch: see tests/export)."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from secondeye.runtime.interpolate import interpolate

SIDES = st.integers(1, 60)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]))
def test_cubic_is_opencvs(h, w, height, width, channels):
    values = np.random.default_rng(h * 100 + w).random((h, w, channels), np.float32)
    want = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    np.testing.assert_allclose(interpolate(values, height, width, "cubic"), want, atol=3e-6)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_linear_is_opencvs(h, w, height, width):
    values = np.random.default_rng(h * 100 + w).random((h, w), np.float32)
    want = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width)
    np.testing.assert_allclose(interpolate(values, height, width, "linear"), want, atol=3e-6)


@given(st.integers(2, 60), st.integers(2, 60), SIDES, SIDES)
def test_corners_keep_a_plane_a_plane(h, w, height, width):
    y, x = np.mgrid[:h, :w].astype(np.float32)
    got = interpolate(2 * y + 3 * x, height, width, "linear-corners")
    rows = np.linspace(0, h - 1, height) if height > 1 else np.zeros(1)
    columns = np.linspace(0, w - 1, width) if width > 1 else np.zeros(1)
    np.testing.assert_allclose(got, 2 * rows[:, None] + 3 * columns, atol=1e-3)


def test_the_same_size_is_the_same():
    values = np.random.default_rng(0).random((7, 9), np.float32)
    for kind in ("cubic", "linear", "linear-corners"):
        assert interpolate(values, 7, 9, kind) == pytest.approx(values, abs=1e-6)
