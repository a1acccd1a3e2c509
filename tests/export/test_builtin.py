# SPDX-License-Identifier: Apache-2.0
"""The built-in depth model's making: scenes are numbers, augmentation keeps picture and map together, training runs."""

import itertools
import json
from importlib import resources

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("cv2", reason="training needs opencv (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="exporting needs onnxscript (pip install -e '.[dev-export]')")
pytestmark = [pytest.mark.filterwarnings("ignore")]

import torch

from secondeye.export.builtin import export_onnx, train
from secondeye.export.builtin.augment import Augmenter
from secondeye.export.builtin.stream import VALIDATION_SEED, training_works, validation_works

BUILTIN = resources.files("secondeye.runtime") / "assets" / "depth_builtin.onnx"


def test_held_out_scenes_are_never_trained_on():
    assert sum(work.count for work in validation_works(300)) == 300
    assert all(work.base == VALIDATION_SEED for work in validation_works(300))
    last = max(work.base + work.first + work.count for work in itertools.islice(training_works(9_990_000), 100))
    assert last <= VALIDATION_SEED


def test_augmentation_is_seeded_and_keeps_the_map_on_the_picture():
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.integers(0, 2, (6, 8, 12)).repeat(16, 1).repeat(16, 2).astype(np.float32))
    pictures = (maps[..., None] * 255).expand(-1, -1, -1, 3).to(torch.uint8)
    one, other = (Augmenter(7)(pictures, maps, (96, 160)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert one[0].shape == (6, 3, 96, 160)
    assert set(one[1].unique().tolist()) <= {0.0, 1.0}
    x, d = Augmenter(7).crop(pictures, maps, (96, 160))
    assert ((x.mean(1, keepdim=True) > 0.5) == (d > 0.5)).float().mean() > 0.99


def test_jpeg_loses_about_what_opencv_s_does():
    import cv2

    noise = np.random.default_rng(2).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (96, 64), interpolation=cv2.INTER_CUBIC)
    for quality in (30, 90):
        coded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        want = cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1].astype(np.float32)
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
        got = Augmenter(1)._jpeg(x, torch.tensor([float(quality)]))[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        lost = np.abs(want - picture).mean()
        assert np.abs(got - picture).mean() == pytest.approx(lost, rel=0.25)
        assert np.abs(got - want).mean() < 0.75 * lost


def test_loss_is_free_of_scale_and_tells_a_wrong_order():
    target = torch.rand(3, 1, 64, 96)
    generator = torch.Generator().manual_seed(1)
    right, none = train.loss_of(target * 7 + 3, target, generator)
    wrong, every = train.loss_of(-target, target, generator)
    assert none.max() == 0
    assert every.min() > 0.99
    assert right < 0.5 * wrong


def shard(path, count, seed):
    """Rectangles before a wall, the brighter the nearer."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, *export_onnx.INPUT_SIZE, 3), np.uint8)
    disparities = np.full((count, *export_onnx.INPUT_SIZE), 0.1, np.float16)
    for picture, disparity in zip(pictures, disparities, strict=True):
        for near in np.sort(rng.uniform(0.2, 1, 5)):
            top, left = int(rng.integers(0, 180)), int(rng.integers(0, 280))
            part = slice(top, top + int(rng.integers(40, 120))), slice(left, left + int(rng.integers(40, 160)))
            picture[part], disparity[part] = near * 250, near
    np.savez(path, picture=pictures, disparity=disparities)


def test_a_run_trains_keeps_its_best_and_resumes(tmp_path):
    shard(tmp_path / "train_000000.npz", 6, 1)
    shard(tmp_path / "validation_000000.npz", 4, 2)
    out = tmp_path / "run"
    words = ["--data", str(tmp_path), "--out", str(out), "--batch", "2", "--keep", "6", "--held-out", "4"]
    words += ["--start", str(BUILTIN), "--against", str(BUILTIN)]
    run = train.Training(train.parse(words))
    run.begin()
    run.compare()
    for _ in range(2):
        loss = run.learn()
        assert np.isfinite(float(loss))
    run.measure()
    run.keep()
    again = train.Training(train.parse(words))
    assert again.step == 2
    assert again.best == run.best
    for name, value in again.average.state_dict().items():
        assert torch.equal(value, run.average.state_dict()[name])
    log = json.loads((out / "training.json").read_text())["log"]
    assert [line["kind"] for line in log] == ["scenes", "held out, depth_builtin.onnx", "held out"]
    model = train.DepthNet()
    export_onnx.fold_batch_norm(model)
    model.load_state_dict(export_onnx.load_file(out / "model.safetensors"))
    pool = train.Pool(4, torch.device("cpu"))
    with np.load(tmp_path / "validation_000000.npz") as data:
        pool.add(data["picture"], data["disparity"])
    assert train.validate(model, pool)["both"] == pytest.approx(log[-1]["both"], abs=1e-4)


def test_a_scene_is_a_number_and_every_family_has_depth():
    pytest.importorskip("moderngl", reason="drawing scenes needs moderngl and OpenGL through EGL")
    pytest.importorskip("skimage", reason="textures need scikit-image (pip install -e '.[dev]')")
    from secondeye.export.builtin.scenes import FAMILIES, SHARES, Renderer
    from secondeye.export.builtin.textures import make_textures

    assert sum(SHARES) == pytest.approx(1)
    try:
        renderer = Renderer(make_textures(3, 8), 64, 96)
    except Exception as error:
        pytest.skip(f"no OpenGL through EGL here: {error}")
    for family in FAMILIES:
        drawn = [renderer.draw_objects(5, family) for _ in range(2)]
        for one, other in zip(*drawn, strict=True):
            assert np.array_equal(one, other)
        picture, disparity, objects = drawn[0]
        assert picture.std() > 3
        assert np.isfinite(disparity).all()
        assert ((disparity > 0) == (objects > 0)).mean() > 0.99


def test_a_pixel_takes_its_second_nearest_sample():
    pytest.importorskip("moderngl", reason="drawing scenes needs moderngl and OpenGL through EGL")
    from secondeye.export.builtin.scenes import Renderer, Scene

    rng = np.random.default_rng(4)
    renderer = Renderer.__new__(Renderer)
    renderer.height, renderer.width = 5, 7
    distance = rng.uniform(0.5, 9, (10, 14)).astype(np.float32)
    distance[rng.random((10, 14)) < 0.3] = 0
    objects = np.arange(1, 141, dtype=np.float32).reshape(10, 14)
    raw = rng.integers(0, 255, (10, 14, 3), dtype=np.uint8)
    _, near, which = renderer._resolve(raw, distance, objects, Scene(rng), sky=np.ones(3))
    for y in range(5):
        for x in range(7):
            cell = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            samples = zip(distance[cell].ravel(), objects[cell].ravel(), strict=True)
            four = [(1 / d if d else 0.0, o if d else 0) for d, o in samples]
            want = sorted(four, reverse=True)[1]
            assert near[y, x] == pytest.approx(want[0])
            assert which[y, x] == want[1]
