# SPDX-License-Identifier: Apache-2.0
"""The benchmark of one step: a tiny network on the CPU, whose rows agree; weights that a graph has lost come back."""

import json

import pytest

pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")

from secondeye.benchmarks import unet
from secondeye.runtime.errors import InvalidInputError


def test_rows_agree_with_pytorch_in_float32(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    words = {"latent": "16x24", "share": 0.0625, "device": "cpu", "runs": 2, "timeout": 300.0, "folder": tmp_path / "f"}
    unet.main(**words, only="torch,onnxruntime,onnxruntime fused", json_file=tmp_path / "one.json")
    rows = json.loads((tmp_path / "one.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "PyTorch eager", "PyTorch eager, channels last", "ONNX Runtime", "ONNX Runtime, fused attention",
    ]  # fmt: skip
    assert all(row["relative_rms"] < 1e-5 and row["share_of_matmul"] > 0 for row in rows)
    for name in ("unet.onnx.data", "wanted.npy"):
        (tmp_path / "f" / name).unlink()
    unet.main(**words, only="onnxruntime", json_file=tmp_path / "two.json")
    assert json.loads((tmp_path / "two.json").read_text())["rows"][0]["relative_rms"] < 1e-5


def test_what_is_no_family_is_refused():
    with pytest.raises(InvalidInputError, match="onnxruntime fused"):
        unet.main(only="torch,vulkan")
