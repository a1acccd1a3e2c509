# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is read, and what is refused with one sentence."""

import json

import numpy as np
import pytest
from bundles import make_bundle

from secondeye import InvalidInputError, MediaError, ModelFormatError
from secondeye.runtime.bundle import read_bundle
from secondeye.runtime.models.mono2stereo import Mono2Stereo


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def edit(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_a_manifest_survives_writing_and_reading(bundle):
    manifest = read_bundle(bundle).manifest
    assert manifest.to_json() == (bundle / "manifest.json").read_bytes()
    assert manifest.engines["encoder"].inputs[0].shape == ("batch", 3, ("height", 8), ("width", 8))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema=99), ["schema 99", "build the bundle again"]),
        (lambda d: d.pop("schema"), ["schema None"]),
        (lambda d: d.update(kind=3), ["kind: expected str"]),
        (lambda d: d.update(engines={}), ["no engines"]),
        (lambda d: d["engines"]["unet"].update(file="../unet.onnx"), ["'../unet.onnx'", "inside the folder"]),
        (lambda d: d["engines"]["unet"].update(file="/etc/passwd"), ["inside the folder"]),
        (lambda d: d["engines"]["unet"].update(file=".hidden"), ["inside the folder"]),
        (lambda d: d["engines"]["unet"].update(sha256="0" * 64), ["unet.onnx is altered or damaged"]),
        (lambda d: d["engines"]["unet"].update(file="gone.onnx"), ["gone.onnx is missing"]),
        (lambda d: d["engines"]["unet"].update(data={"file": "w.data", "sha256": "1" * 64}), ["w.data is missing"]),
        (lambda d: d["engines"]["unet"].update(backend="vulkan"), ["backend: 'vulkan'"]),
        (lambda d: d["engines"]["unet"]["inputs"][0].update(dtype="object"), ["'object'"]),
        (lambda d: d["engines"]["unet"]["inputs"][0].update(shape=["batch", -4, "h", True]), ["-4", "'h'", "True"]),
        (lambda d: d["axes"].update(height=[9, 3]), ["axes.height"]),
        (lambda d: d["axes"].update(height="big"), ["axes.height"]),
        (lambda d: d.update(kind=3, axes=4, sources=[]), ["kind", "axes", "sources"]),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(bundle, change, words):
    edit(bundle, change)
    with pytest.raises(ModelFormatError) as caught:
        read_bundle(bundle)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}'])
def test_no_manifest_at_all(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(ModelFormatError):
        read_bundle(bundle)


def test_a_link_out_of_the_folder_is_refused(bundle, tmp_path):
    outside = tmp_path / "unet.onnx"
    (bundle / "unet.onnx").rename(outside)
    (bundle / "unet.onnx").symlink_to(outside)
    with pytest.raises(ModelFormatError, match="leads outside the folder"):
        read_bundle(bundle)


def test_no_bundle(tmp_path):
    with pytest.raises(MediaError, match="build-engine"):
        read_bundle(tmp_path / "gone")
    with pytest.raises(ModelFormatError, match="no manifest"):
        read_bundle(tmp_path)
    with pytest.raises(ModelFormatError, match="kind"):
        read_bundle(make_bundle(tmp_path / "b"), kind="segmentation")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d["engines"].pop("decoder"), "no engine 'decoder'"),
        (lambda d: d["engines"].update(decoder=None), "expected"),
        (lambda d: d["engines"]["unet"]["inputs"].pop(0), ""),
        (lambda d: d["engines"]["unet"]["inputs"].pop(2), "engine 'unet' takes"),
        (lambda d: d["engines"].update(extra=d["engines"]["encoder"]), "'extra'"),
        (lambda d: d["constants"].update(latent_factor=4), "constants"),
        (lambda d: d["constants"].pop("scheduler"), "constants"),
    ],
)
def test_engines_that_are_not_the_models(bundle, change, word):
    edit(bundle, change)
    if not word:  # a layout without the source is a layout; it is the graph that then refuses
        model = Mono2Stereo(bundle)
        assert model.parts == ("warped", "latent")
        return
    with pytest.raises(ModelFormatError, match=word):
        Mono2Stereo(bundle)


def test_inputs_are_checked_before_the_engine_sees_them(bundle):
    model = Mono2Stereo(bundle)
    good = np.zeros((1, 3, 128, 192), np.float32)
    assert model.run("encoder", picture=good).shape == (1, 4, 16, 24)
    for bad in (good.astype(np.float64), good[:, :, :100], good[:, :2], good[0], good.repeat(2, 0), good[:, :, :, :64]):
        with pytest.raises(InvalidInputError, match="picture"):
            model.run("encoder", picture=bad)
    with pytest.raises(InvalidInputError, match="inputs"):
        model.run("encoder", image=good)
    latent = np.zeros((1, 4, 16, 24), np.float32)
    one, step = np.ones(1, np.float32), np.zeros(1, np.int64)
    with pytest.raises(InvalidInputError, match="warped"):
        wide = latent[:, :, :, :20].repeat(2, 3)
        model.run("unet", source=latent, warped=wide, latent=latent, timestep=step, keep=one, gain=one)


def test_a_bundle_whose_build_was_killed_as_it_took_its_place_is_named_and_outlives_the_next_build(bundle, tmp_path):
    from secondeye.export.cache import place_folder

    aside = tmp_path / ".bundle.old"
    bundle.rename(aside)  # where a kill between the two renames leaves it
    with pytest.raises(MediaError, match=r"rename .*\.bundle\.old"):
        read_bundle(bundle)
    with pytest.raises(FileNotFoundError):
        place_folder(tmp_path / "not made", bundle)
    assert read_bundle(aside)
    place_folder(make_bundle(tmp_path / "made"), bundle)
    assert read_bundle(bundle)
    assert not aside.exists()
