# SPDX-License-Identifier: Apache-2.0
"""Objects in the frame path: who tells them apart, and what they do to depth's edges."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from secondeye import InvalidInputError, MediaError, ModelFormatError, StereoConfig, StereoConverter
from secondeye.runtime.objects import FixedLabels, OnnxLabels, open_labeller

HEIGHT, WIDTH = 120, 160


def network(path, *, outputs=2, kind="scores"):
    """Scores by brightness: class 1 where red is over its mean."""
    weight = np.zeros((outputs, 3, 1, 1), np.float32)
    weight[-1, 0] = 30.0
    nodes = [helper.make_node("Conv", ["picture", "weight"], ["out"])]
    if kind == "classes":
        nodes = [
            helper.make_node("Conv", ["picture", "weight"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["out"], axis=1, keepdims=0),
        ]
    shape, element = (
        ([1, outputs, "h", "w"], TensorProto.FLOAT) if kind == "scores" else ([1, "h", "w"], TensorProto.INT64)
    )
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("out", element, shape)], [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def two_things():
    picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    picture[20:60, 20:60] = (250, 60, 60)
    picture[70:110, 90:150] = (250, 60, 60)
    return picture


@pytest.mark.parametrize("kind", ["scores", "classes"])
def test_a_network_of_ones_own_tells_objects_apart(tmp_path, kind):
    labels, confidence = OnnxLabels(network(tmp_path / "net.onnx", kind=kind))(two_things())
    assert labels.shape == (HEIGHT, WIDTH)
    assert labels.dtype == np.uint16
    assert confidence > 0.9
    assert len({labels[5, 5], labels[40, 40], labels[90, 120]}) == 3
    assert (labels[24:56, 24:56] == labels[40, 40]).all()


def test_labels_from_a_file_are_brought_to_size(tmp_path):
    small = (np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000).repeat(6, 0).repeat(6, 1)
    Image.fromarray(small).save(tmp_path / "labels.png")
    labels, confidence = FixedLabels(tmp_path / "labels.png")(np.zeros((54, 72, 3), np.uint8))
    np.testing.assert_array_equal(labels, small.repeat(3, 0).repeat(3, 1))
    assert confidence == 1.0
    np.save(tmp_path / "bad.npy", np.full((20, 30), 0.5))
    with pytest.raises(InvalidInputError, match="expected labels, whole numbers"):
        FixedLabels(tmp_path / "bad.npy")


def test_labels_put_the_edge_of_depth_on_the_objects_border(tmp_path):
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)  # which says nothing of where the object ends
    labels = np.ones((HEIGHT, WIDTH), np.uint16)
    labels[:, 85:] = 2
    np.save(tmp_path / "labels.npy", labels)
    depth = np.zeros((15, 20), np.float32)
    depth[:, 10:] = 1.0  # the network's edge is at column 80

    def edge(**options):
        config = StereoConfig(strength=10.0, convergence=0.0, widen=0, depth="cues", **options)
        frame = StereoConverter(config).convert(picture, depth=depth)
        return np.argmax(frame.disparity > 8, axis=1), frame

    aligned, frame = edge(segment=tmp_path / "labels.npy")
    assert np.abs(aligned - 85).max() <= 1
    np.testing.assert_array_equal(frame.labels, labels)
    plain, frame = edge()
    assert np.abs(plain - 80).max() <= 1
    assert frame.labels is None


def test_an_unsure_segmenter_is_left_out_and_that_is_said(tmp_path):
    path = network(tmp_path / "unsure.onnx", outputs=5)
    picture = np.full((HEIGHT, WIDTH, 3), 124, np.uint8)  # the mean: every class scores the same
    frame = StereoConverter(StereoConfig(depth="cues", segment=path)).convert(picture)
    assert frame.labels is None
    assert any("not sure" in note for note in frame.notes)


def test_what_cannot_be_opened_is_a_sentence(tmp_path):
    assert open_labeller("off") is None
    with pytest.raises(MediaError, match="no such file; give sgt:FOLDER"):
        open_labeller(tmp_path / "nothing.png")
    with pytest.raises(MediaError, match="no such bundle"):
        open_labeller(f"sgt:{tmp_path / 'nothing'}")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ModelFormatError, match="not a segmentation network"):
        open_labeller(tmp_path / "other.onnx")
