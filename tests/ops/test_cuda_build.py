# SPDX-License-Identifier: Apache-2.0
"""What a build carries: without nvcc the CPU's kernels only, with it a cubin for every architecture that we name."""

import re
from pathlib import Path

import numpy as np
import pytest

from secondeye import _native, ops

ROOT = Path(__file__).parents[2]
CUDA_MACHINE = 190  # ELF's number for CUDA code


def architectures(module: Path) -> set[int]:
    """The compute capabilities of the cubins within a file, from their ELF headers."""
    data, found, at = module.read_bytes(), set(), -1
    while (at := data.find(b"\x7fELF\x02\x01", at + 1)) >= 0:
        machine = int.from_bytes(data[at + 18 : at + 20], "little")
        flags = int.from_bytes(data[at + 48 : at + 52], "little")
        if machine == CUDA_MACHINE:
            found.add(flags >> 8 & 0xFF)
    return found


@pytest.mark.skipif(not _native.cuda_compiled(), reason="a build without nvcc")
def test_a_cuda_build_carries_every_architecture():
    named = re.findall(r"code=\[([^]]+)\]", (ROOT / "CMakeLists.txt").read_text())
    wanted = {int(word.removeprefix("sm_")) for word in ",".join(named).split(",") if word.startswith("sm_")}
    assert {75, 87, 110, 120} <= wanted
    assert architectures(Path(_native.__file__)) == wanted


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_the_cpu_does_the_work():
    picture = np.random.default_rng(2).integers(0, 256, (9, 40, 3), np.uint8)
    got = ops.warp(picture, np.zeros((9, 40), np.float32))
    np.testing.assert_array_equal(got.view, picture)
