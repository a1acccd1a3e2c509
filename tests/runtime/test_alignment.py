# SPDX-License-Identifier: Apache-2.0
"""Depth's edges on objects' borders; objects from a network's borders."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from secondeye import ModelFormatError
from secondeye.runtime.alignment import aligned
from secondeye.runtime.borders import find_parts
from secondeye.runtime.objects import open_labeller


def disc(height=60, width=80):
    y, x = np.mgrid[:height, :width]
    return ((x - 35) ** 2 + (y - 30) ** 2 < 18**2).astype(np.uint16) + np.uint16(1)


def softened(values):
    """Averaged over 3 x 3 cells, as a network's edges are."""
    padded = np.pad(values, 1, mode="edge")
    return sum(
        padded[i : i + values.shape[0], j : j + values.shape[1]] for i in range(3) for j in range(3)
    ) / np.float32(9)


def test_soft_edges_become_steps_on_the_border():
    labels = disc()
    true = np.where(labels == 2, 20.0, 4.0).astype(np.float32)
    soft = softened(true)
    assert (np.abs(soft - true) > 1).sum() > 100
    np.testing.assert_allclose(aligned(soft, labels), true, atol=1e-4)


def test_smooth_depth_thin_objects_and_no_object_keep_what_they_had():
    labels = disc()
    slope = np.linspace(0, 50, 80, dtype=np.float32)[None].repeat(60, 0)
    np.testing.assert_array_equal(aligned(slope, labels), slope)
    noise = np.random.default_rng(1).random((60, 80), np.float32)
    thin = np.ones((60, 80), np.uint16)
    thin[:, 40:42] = 2  # no cell of it is far from its border
    np.testing.assert_array_equal(aligned(noise, thin)[:, 40:42], noise[:, 40:42])
    np.testing.assert_array_equal(aligned(noise, np.zeros((60, 80), np.uint16)), noise)


def test_parts_between_borders_are_objects_and_like_ones_are_joined():
    picture = np.full((64, 96, 3), 100, np.uint8)
    border = np.full((64, 96), -3.0, np.float32)
    border[:, 31:33] = border[:, 63:65] = 3.0
    embedding = np.zeros((2, 64, 96), np.float32)
    embedding[0, :, 64:] = 2.0
    parts = find_parts(border, embedding, picture, same=0.5)
    assert len(np.unique(parts)) == 2  # the first two are alike, so the border between them was none
    assert parts[10, 10] == parts[10, 50] != parts[10, 90]
    embedding[1, :, :32] = 2.0
    assert len(np.unique(find_parts(border, embedding, picture, same=0.5))) == 3
    assert (find_parts(np.full((64, 96), 3.0, np.float32), embedding, picture, same=0.5) == 1).all()


def border_network(path, **facts):
    """A border wherever the picture is black; an embedding of its red and green."""
    weight = np.zeros((3, 3, 1, 1), np.float32)
    weight[0, :, 0, 0], weight[1, 0, 0, 0], weight[2, 1, 0, 0] = -4.0, 4.0, 4.0
    bias = np.array([2.0, 0.0, 0.0], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight", "bias"], ["out"])], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    helper.set_model_props(model, {"kind": "borders", **facts})
    onnx.save(model, path)
    return path


def test_a_network_that_draws_borders_is_a_segmenter(tmp_path):
    picture = np.zeros((240, 360, 3), np.uint8)
    picture[:, :170] = (220, 60, 60)
    picture[:, 190:] = (60, 220, 60)
    path = border_network(tmp_path / "net.onnx", same="0.3", input_multiple="32")
    labels, confidence = open_labeller(path)(picture)
    assert labels.shape == (240, 360)
    assert labels.dtype == np.uint16
    assert len(np.unique(labels)) == 2
    assert (labels[:, :160] == labels[0, 0]).all()
    assert (labels[:, 200:] == labels[0, 359]).all()
    assert 0.7 < confidence <= 1.0
    with pytest.raises(ModelFormatError, match="says that it draws borders, but not how"):
        open_labeller(border_network(tmp_path / "bare.onnx"))
