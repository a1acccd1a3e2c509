# SPDX-License-Identifier: Apache-2.0
"""The student's training and export, for a few steps on made scenes; and the full-size proof's own files."""

import argparse

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("cv2", reason="training needs opencv (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript (pip install -e '.[dev-export]')")
pytestmark = [pytest.mark.filterwarnings("ignore")]

import torch

from secondeye.export import distill
from secondeye.runtime.backends.own import open_small
from secondeye.runtime.objects import open_labeller


def shard(path, count, seed):
    """Coloured rectangles before a wall."""
    rng = np.random.default_rng(seed)
    pictures, objects = np.zeros((count, 128, 192, 3), np.uint8), np.ones((count, 128, 192), np.uint16)
    for picture, labels in zip(pictures, objects, strict=True):
        picture[:] = rng.integers(0, 255, 3)
        for number in range(2, 6):
            top, left = int(rng.integers(0, 90)), int(rng.integers(0, 140))
            part = slice(top, top + int(rng.integers(20, 60))), slice(left, left + int(rng.integers(20, 80)))
            picture[part], labels[part] = rng.integers(0, 255, 3), number
    np.savez(path, picture=pictures, objects=objects)


def test_borders_are_on_both_sides():
    objects = torch.tensor([[[1, 1, 2], [1, 1, 2], [3, 3, 3]]])
    want = [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert distill.borders(objects)[0].tolist() == want


def test_a_student_begins_as_the_depth_network_and_learns(tmp_path):
    shard(tmp_path / "train_0.npz", 2, 1)
    student = distill.begin(distill.START)
    assert sum(p.numel() for p in student.parameters()) < 4_000_000
    student.base.encoder.requires_grad_(False)
    samples = distill.read_shard(tmp_path / "train_0.npz")
    pictures = torch.from_numpy(np.stack([p for p, _ in samples])).permute(0, 3, 1, 2).float() / 255
    objects = torch.from_numpy(np.stack([o for _, o in samples]).astype(np.int64))
    pictures, objects = pictures[:, :, ::2, ::2].contiguous(), objects[:, ::2, ::2].contiguous()
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=2e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(10):
        loss, _ = distill.loss_of(student(pictures), objects, torch.Generator().manual_seed(3))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0]


def test_a_run_resumes_and_its_network_opens_as_a_segmenter(tmp_path):
    shard(tmp_path / "train_0.npz", 4, 1)
    shard(tmp_path / "validation_0.npz", 2, 2)
    fields = {"data": tmp_path, "out": tmp_path / "run", "start": distill.START, "batch": 2, "rate": 1e-3, "seed": 1}
    distill.train(argparse.Namespace(minutes=0.001, **fields))
    error = distill.export(tmp_path / "run" / "student.pt", tmp_path / "student.onnx")
    assert error < 0.02
    assert (tmp_path / "student.onnx").stat().st_size < 8 << 20
    picture = np.random.default_rng(3).random((1, 3, 64, 96), np.float32)
    ours, theirs = (  # our own kernels have all of its layers
        session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: picture})[0]
        for session in (open_small(tmp_path / "student.onnx", runner=runner) for runner in ("kernels", "onnxruntime"))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    labels, confidence = open_labeller(tmp_path / "student.onnx")(np.zeros((120, 200, 3), np.uint8))
    assert labels.shape == (120, 200)
    assert 0 < confidence <= 1
