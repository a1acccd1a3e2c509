# SPDX-License-Identifier: Apache-2.0
"""The kernels' benchmark: it runs, and on a GPU it measures against a copy there."""

import json

import pytest

from secondeye import BackendUnavailableError, _native
from secondeye.benchmarks import kernels, kernels_device


def test_a_case_has_a_peer_and_moves_bytes():
    every = kernels.cases(72, 128)
    assert {"warp + holes", "warp + holes + fill", "inpainting mask", "pack side by side"} <= {c.op for c in every}
    for case in every:
        case.run(1)
        case.run_peer()
        assert case.moved >= 72 * 128


@pytest.mark.skipif(_native.cuda_device_count() > 0, reason="this machine has a GPU")
def test_without_a_gpu_the_device_benchmark_says_what_is_missing():
    with pytest.raises(BackendUnavailableError, match="--device cuda"):
        kernels_device.open_device()


@pytest.mark.gpu
def test_on_a_gpu_warp_takes_at_most_twice_the_time_of_its_bytes(tmp_path):
    try:
        kernels_device.open_device()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    kernels.on_gpu(tmp_path / "k.json", ["4K"])
    rows = {row["op"]: row for row in json.loads((tmp_path / "k.json").read_text())["results"]}
    assert rows["warp + holes"]["times_copy"] <= 2.0
