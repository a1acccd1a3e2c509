# SPDX-License-Identifier: Apache-2.0
"""Objects in the frame path: who tells them apart, and what they do to depth's edges."""

import numpy as np
import onnx
import pytest
from networks import brightness_network
from onnx import TensorProto, helper
from PIL import Image

from secondeye import InvalidInputError, MediaError, ModelFormatError, StereoConfig, StereoConverter
from secondeye.runtime import ops
from secondeye.runtime.labels import enlarged
from secondeye.runtime.objects import FixedLabels, keep_near_objects, open_labeller, seen_objects

HEIGHT, WIDTH = 120, 160


def two_things():
    picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    picture[20:60, 20:60] = (250, 60, 60)
    picture[70:110, 90:150] = (250, 60, 60)
    return picture


@pytest.mark.parametrize("kind", ["scores", "classes"])
def test_a_network_of_ones_own_tells_objects_apart(tmp_path, kind):
    labels, confidence = open_labeller(brightness_network(tmp_path / "net.onnx", kind=kind))(two_things())
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
    Image.fromarray(np.tile(np.uint8([255, 0, 0]), (20, 30, 1))).save(tmp_path / "red.png")
    with pytest.raises(InvalidInputError, match="depth or labels must be grey"):
        FixedLabels(tmp_path / "red.png")


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
    path = brightness_network(tmp_path / "unsure.onnx", outputs=5)
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


def test_small_labels_find_the_pictures_edges():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:270, :480]
    true = np.where((x - 200) ** 2 + (y - 140) ** 2 < 90**2, 2, np.where(x > 380 + y * 0.2, 3, 1)).astype(np.uint16)
    colours = np.array([(0, 0, 0), (60, 90, 60), (190, 120, 70), (90, 100, 190)])
    picture = np.clip(colours[true] + rng.normal(0, 6, (270, 480, 3)), 0, 255).astype(np.uint8)
    small = np.ascontiguousarray(true[2::5, 2::5])
    plain = small.repeat(5, 0).repeat(5, 1)
    found = enlarged(small, picture)
    assert found.dtype == np.uint16
    assert (found != true).mean() < 0.2 * (plain != true).mean()
    np.testing.assert_array_equal(enlarged(np.ones((27, 48), np.uint16), picture), np.ones((270, 480)))


@pytest.mark.parametrize("eye", ["right", "left"])
def test_the_mask_keeps_off_the_near_object_and_grows_over_the_far_one(eye):
    disparity = np.zeros((40, 120), np.float32)
    labels = np.ones((40, 120), np.uint16)
    disparity[:, 40:80] = 12.0
    labels[:, 40:80] = 2
    warped = ops.warp(np.zeros((40, 120, 3), np.uint8), disparity, eye=eye)
    seen = seen_objects(labels, warped, eye)
    assert ((warped.holes != 0) <= (seen == 0)).all()
    holes, seen = (a if eye == "right" else a[:, ::-1] for a in (warped.holes, seen))
    first, last = np.flatnonzero(holes[20])[[0, -1]] if holes[20, 119] == 0 else (0, 0)
    assert last > first
    assert seen[20, first - 1] == 2
    assert seen[20, last + 1] == 1
    mask = keep_near_objects(np.full((40, 120), 255, np.uint8), holes, seen)
    assert (mask[20, :first][seen[20, :first] == 2] == 0).all()
    assert (mask[20, first : last + 8] == 255).all()
    unknown = keep_near_objects(np.full((40, 120), 255, np.uint8), holes, np.zeros_like(seen))
    assert (unknown == 255).all()
