# SPDX-License-Identifier: Apache-2.0
"""The kernels' benchmark: it runs, and on a GPU it measures against a copy there."""

import json
import subprocess
import sys

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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kernels", "--size", "8K"], "--size: expected 720p, 1080p, 4K, got 8K"),
        (["kernels", "--json", "no/folder.json"], "the folder no does not exist"),
        (["network", "--size", "256"], "--size: expected HEIGHTxWIDTH, got '256'"),
        (["network", "no.onnx"], "no.onnx: no such file"),
        (["depth", "--extra", "net.onnx", "."], "--extra: expected NAME=FILE.onnx"),
        (["video", "--json", __file__], "no result of this benchmark"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(words, said):
    command = [sys.executable, "-m", f"secondeye.benchmarks.{words[0]}", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["kernels", "depth", "quality", "segmentation"])
def test_without_opencv_a_benchmark_names_its_extra(name):
    code = f"import sys, runpy; sys.modules['cv2'] = None; runpy.run_module('secondeye.benchmarks.{name}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "pip install 'secondeye[bench]'" in done.stderr
    assert "Traceback" not in done.stderr


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
