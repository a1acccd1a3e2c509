# SPDX-License-Identifier: Apache-2.0
"""The converter and depth models from Python."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import secondeye
from secondeye import InvalidInputError, ModelFormatError, StereoConfig, StereoConverter
from secondeye.runtime.depth import DepthOptions, open_depth


def test_import_is_light():
    code = (
        "import sys, secondeye;"
        "heavy = {'torch', 'onnxruntime', 'numpy', 'PIL', 'av', 'typer', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy; secondeye.StereoConfig; assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_convert_gives_both_views(scene):
    frame = secondeye.convert(scene[0], strength=2.0)
    assert frame.left.shape == frame.right.shape == scene[0].shape
    assert frame.disparity.shape == frame.holes.shape == scene[0].shape[:2]
    assert frame.disparity.dtype == np.float32
    assert set(np.unique(frame.holes)) <= {0, 255}
    np.testing.assert_array_equal(frame.left, scene[0])
    assert list(frame.timings) == ["read", "depth", "disparity", "warp", "fill"]
    assert np.ptp(frame.disparity) == pytest.approx(0.02 * 384, rel=0.05)


def test_zero_strength_is_the_identity(scene):
    frame = secondeye.convert(scene[0], strength=0)
    np.testing.assert_array_equal(frame.right, scene[0])
    assert not frame.holes.any()


def test_the_result_does_not_depend_on_threads(scene):
    frames = [StereoConverter(StereoConfig(threads=n, depth="cues")).convert(scene[0]) for n in (1, 2, 3)]
    for other in frames[1:]:
        np.testing.assert_array_equal(frames[0].right, other.right)


def test_both_moves_each_eye_half_way(scene):
    one = StereoConverter(StereoConfig(depth="cues")).convert(scene[0])
    both = StereoConverter(StereoConfig(depth="cues", view="both")).convert(scene[0])
    assert both.left_holes is not None
    assert one.left_holes is None
    assert (both.left != scene[0]).any()
    np.testing.assert_array_equal(both.disparity, one.disparity)


def test_alpha_travels(scene):
    alpha = np.zeros(scene[0].shape[:2], np.uint8)
    alpha[60:160, 100:300] = 255
    frame = secondeye.convert(np.dstack([scene[0], alpha]), depth="cues")
    assert frame.right.shape[2] == 4
    assert 0.6 < (frame.right[:, :, 3] > 127).sum() / (alpha > 127).sum() < 1.4


def test_maps_of_every_kind(scene):
    converter = StereoConverter(StereoConfig(widen=0))
    near = converter.convert(scene[0], depth=scene[1])
    metres = converter.convert(scene[0], depth=1 / scene[1], depth_kind="depth")
    assert np.abs(near.disparity - metres.disparity).max() < 0.05
    exact = np.zeros(scene[0].shape[:2], np.float32)
    exact[:, 100:200] = 4.0
    np.testing.assert_array_equal(converter.convert(scene[0], depth=exact, depth_kind="pixels").disparity, exact)
    with pytest.raises(InvalidInputError, match="depth_kind"):
        converter.convert(scene[0], depth=exact, depth_kind="feet")
    with pytest.raises(InvalidInputError, match="map of numbers"):
        converter.convert(scene[0], depth=np.zeros((3, 3, 3)))


@pytest.mark.parametrize(
    "bad", [np.zeros((50, 50, 3), np.float32), np.zeros((50, 50, 2), np.uint8), np.zeros(50, np.uint8)]
)
def test_pixels_that_are_no_picture(bad):
    with pytest.raises(InvalidInputError, match="uint8"):
        secondeye.convert(bad)


def test_render_takes_pictures_of_bytes_alone(scene):
    disparity = np.zeros(scene[0].shape[:2], np.float32)
    with pytest.raises(InvalidInputError, match="uint8"):
        StereoConverter().render((scene[0] / 255).astype(np.float32), disparity)


@pytest.mark.parametrize("name", ["threads", "seed", "steps", "widen", "depth_size"])
def test_what_is_counted_is_a_whole_number(name):
    with pytest.raises(InvalidInputError, match=f"{name}: expected"):
        StereoConfig(**{name: 33.5 if name == "depth_size" else 1.5})


@pytest.mark.parametrize("size", [320, (320,), "320x200", (320.5, 200), (320, True)])
def test_a_size_is_two_whole_numbers(size):
    with pytest.raises(InvalidInputError, match=r"size: expected \(width, height\)"):
        StereoConfig(size=size)


def test_a_size_of_any_kind_of_whole_numbers_is_a_tuple():
    config = StereoConfig(size=[np.int64(320), 200])
    assert config == StereoConfig(size=(320, 200))
    assert json.dumps(config.size) == "[320, 200]"


def test_every_problem_of_a_configuration_is_named():
    with pytest.raises(InvalidInputError) as caught:
        StereoConfig(strength=99, convergence=-1, view="up")
    assert all(word in str(caught.value) for word in ("strength", "convergence", "view"))
    with pytest.raises(InvalidInputError, match=r"expected.*strength"):
        secondeye.convert(np.zeros((50, 50, 3), np.uint8), strenght=1)


def network(path, *, shape, multiple=1, channels_last=False, name="predicted_depth"):
    """A stand-in for a public network: the mean of its normalised input, at its resolution over `multiple`."""
    picture = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    axis = 3 if channels_last else 1
    nodes = []
    source = "pixel_values"
    if multiple > 1:  # refuses sizes that are no multiples, as a patch embedding does
        nodes.append(helper.make_node("SpaceToDepth", [source], ["packed"], blocksize=multiple))
        nodes.append(helper.make_node("DepthToSpace", ["packed"], ["whole"], blocksize=multiple))
        source = "whole"
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [axis])
    nodes.append(helper.make_node("ReduceMean", [source, "axes"], [name], keepdims=0))
    model = helper.make_model(
        helper.make_graph(nodes, "g", [picture], [result], [axes]), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    onnx.save(model, path)
    return path


def test_depth_anything_shapes_are_found(tmp_path, scene):
    path = network(tmp_path / "da.onnx", shape=["batch", 3, "h", "w"], multiple=14)
    values = open_depth(path)(scene[0])
    assert values.shape == (518, 924)
    assert open_depth(path, DepthOptions(size=252))(scene[0]).shape == (252, 448)
    grey = np.full((100, 100, 3), 128, np.uint8)
    want = np.mean((128 / 255 - np.array((0.485, 0.456, 0.406))) / np.array((0.229, 0.224, 0.225)))
    assert open_depth(path)(grey).mean() == pytest.approx(want, abs=1e-3)


def test_midas_shapes_are_found(tmp_path, scene):
    fixed = network(tmp_path / "midas.onnx", shape=[1, 3, 256, 256], name="797")
    assert open_depth(fixed)(scene[0]).shape == (256, 256)
    with pytest.raises(InvalidInputError, match="fixed at 256 x 256"):
        open_depth(fixed, DepthOptions(size=384))
    steps_of_32 = network(tmp_path / "dpt.onnx", shape=[1, 3, "h", "w"], multiple=32)
    assert open_depth(steps_of_32)(scene[0]).shape == (384, 672)
    last = network(tmp_path / "nhwc.onnx", shape=[1, 64, 96, 3], channels_last=True)
    assert open_depth(last)(scene[0]).shape == (64, 96)


def test_a_configuration_beside_the_model_is_read(tmp_path):
    (tmp_path / "onnx").mkdir()
    path = network(tmp_path / "onnx" / "model.onnx", shape=["b", 3, "h", "w"])
    config = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "ensure_multiple_of": 8,
              "size": {"height": 80, "width": 80}}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    white = np.full((100, 150, 3), 255, np.uint8)
    values = open_depth(path)(white)
    assert values.shape == (80, 120)
    assert values.mean() == pytest.approx(2.0, abs=1e-4)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1], "image_std": [0]}')
    with pytest.raises(ModelFormatError, match="preprocessor_config"):
        open_depth(path)


def test_depth_that_grows_with_distance_is_turned_round(tmp_path, scene):
    path = network(tmp_path / "d.onnx", shape=[1, 3, 64, 64])
    options = {"normalisation": "none"}
    plain = open_depth(path, DepthOptions(**options))(scene[0])
    turned = open_depth(path, DepthOptions(output="depth", **options))(scene[0])
    assert np.corrcoef(plain.ravel(), turned.ravel())[0, 1] < -0.5


def test_the_built_in_model_takes_any_shape_of_picture():
    model = open_depth("builtin")
    for shape in ((16, 16), (64, 900), (900, 64), (33, 57)):
        values = model(np.zeros((*shape, 3), np.uint8))
        assert np.isfinite(values).all()
        assert values.size <= 256 * 384 * 2
