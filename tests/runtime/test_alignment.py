# SPDX-License-Identifier: Apache-2.0
"""Depth's edges on objects' borders; objects from a network's borders."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from secondeye import InvalidInputError, ModelFormatError, _native
from secondeye.runtime.alignment import aligned, aligned_reference, carried, carried_reference
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


@pytest.mark.parametrize("shape", [(8, 8), (9, 23), (61, 87), (144, 250)])
def test_the_native_laws_are_the_references(shape):
    random = np.random.default_rng(shape[1])
    height, width = shape
    unknown = []
    for kind in range(6):
        scale = (1, 3, 7, 13, 40, 200)[kind]
        labels = random.integers(0, 5, (height // scale + 1, width // scale + 1), np.uint16)
        labels = labels.repeat(scale, 0).repeat(scale, 1)[:height, :width]
        labels[labels == 4] = 65535
        steps = random.normal(0, 10, 5).astype(np.float32)[np.minimum(labels, 4)]
        for values in (softened(softened(steps)), random.random(shape, np.float32), np.zeros(shape, np.float32)):
            np.testing.assert_array_equal(aligned(values, labels), aligned_reference(values, labels))
        picture = softened(random.integers(0, 256, shape)).astype(np.uint8)
        now = np.clip(np.roll(picture, (kind - 2, 3 * kind), (0, 1)) + random.integers(-9, 10, shape), 0, 255)
        now = now.astype(np.uint8)
        now[: height // 3, : width // 4] = random.integers(0, 256)
        small = np.dstack([now, 255 - now, np.roll(now, 5, 1)])
        rough = random.integers(-300, 300) if kind == 5 else 1
        start = np.array([2 - kind, -3 * kind]) + random.integers(
            -abs(rough), abs(rough) + 1, (-(-height // 8), -(-width // 8), 2)
        )
        want = carried_reference(now, picture, labels, start.astype(np.int32), small)
        got = carried(now, picture, labels, start.astype(np.int32), small)
        for one, other in zip(got, want, strict=True):
            assert one.dtype == other.dtype == np.int32
            np.testing.assert_array_equal(one, other)
        unknown.append((want[0] == 0).mean())
    assert min(shape) < 10 or sum(0.05 < share < 0.95 for share in unknown) >= 3


def test_arrays_that_do_not_fit_are_refused():
    values, labels = np.zeros((16, 24), np.float32), np.zeros((16, 24), np.uint16)
    moves, parts = np.zeros((2, 3, 3), np.int32), np.zeros((16, 24), np.int32)
    luma, small = np.zeros((16, 24), np.uint8), np.zeros((16, 24, 3), np.uint8)
    for other in (labels[:, :-1].copy(), labels.astype(np.uint8), np.zeros((16, 48), np.uint16)[:, ::2]):
        with pytest.raises(InvalidInputError, match="align_edges"):
            _native.align_edges(values, other)
        with pytest.raises(InvalidInputError, match="carry_labels"):
            _native.carry_labels(luma, luma, other, small, moves, parts)
    for bad in (moves[:1].copy(), moves[:, :, :2].copy(), moves.astype(np.float32)):
        with pytest.raises(InvalidInputError, match="carry_labels"):
            _native.carry_labels(luma, luma, labels, small, bad, parts)
    _native.carry_labels(luma, luma, labels, small, moves, parts)
    assert (parts == 1).all()


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
