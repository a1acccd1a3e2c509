# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from secondeye import InvalidInputError, ops
from secondeye.runtime.converter import StereoFrame
from secondeye.runtime.layouts import compose


@pytest.mark.parametrize("isa", [*ops.isas(), "blocks"])
@pytest.mark.parametrize("layout", ["sbs", "tb"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 3), (17, 64, 4)])
def test_every_isa_equals_the_reference(isa, layout, shape):
    rng = np.random.default_rng(7)
    left, right = rng.integers(0, 256, (2, *shape), np.uint8)
    want = ops.pack(left, right, layout, backend="reference")
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(ops.pack(left, right, layout, isa=isa, threads=threads), want)


def test_views_of_different_shapes_are_refused():
    with pytest.raises(InvalidInputError, match="expected left's shape"):
        ops.pack(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize("layout", ["half-sbs", "half-tb"])
def test_a_half_pair_is_both_views_resized(layout):
    left, right = np.random.default_rng(3).integers(0, 256, (2, 30, 84, 3), np.uint8)
    size = (30, 42) if layout == "half-sbs" else (15, 84)
    want = np.concatenate([ops.resize(view, *size) for view in (left, right)], axis=1 if layout == "half-sbs" else 0)
    np.testing.assert_array_equal(ops.pack(left, right, layout), want)
    for odd in (left[:29, :83], left[:1, :1]):
        with pytest.raises(InvalidInputError, match=f"{layout}: expected an even"):
            ops.pack(odd, odd, layout)


@pytest.mark.parametrize("layout", ["half-sbs", "half-tb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 9), (1, 1)])
def test_half_layouts_take_views_of_any_size(layout, dtype, height, width):
    view = np.full((height, width, 3), 77, dtype)
    frame = StereoFrame(
        left=view, right=view, source=view, disparity=np.zeros((height, width), np.float32),
        holes=np.zeros((height, width), np.uint8), left_holes=None, timings={},
    )  # fmt: skip
    pair = compose(frame, layout)
    wide = layout == "half-sbs"
    expected = (height, 2 * max(1, width // 2), 3) if wide else (2 * max(1, height // 2), width, 3)
    assert pair.shape == expected
    assert pair.dtype == dtype
    assert (pair == 77).all()
