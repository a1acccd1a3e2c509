# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from secondeye import InvalidInputError, ops


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
