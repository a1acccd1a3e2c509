# SPDX-License-Identifier: Apache-2.0
"""Engines: memory that is bound and not copied, and what is refused. What needs a GPU is not here."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import make_bundle

from secondeye import BackendUnavailableError, EngineError, InvalidInputError, ModelFormatError
from secondeye.runtime.backends.ort import OrtEngine
from secondeye.runtime.bundle import Manifest, read_bundle
from secondeye.runtime.files import file_hash
from secondeye.runtime.plans import Plan, check_plan, read_secret, secret_file
from secondeye.runtime.sessions import open_session


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SECONDEYE_ENGINE_KEY", raising=False)
    return make_bundle(tmp_path / "bundle", prediction=0.5)


@pytest.fixture
def engine(folder):
    return read_bundle(folder).engine("encoder")


def picture(height=136, width=192, seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, height, width)).astype(np.float32)


def mean(picture):
    n, c, h, w = picture.shape
    small = picture.reshape(n, c, h // 8, 8, w // 8, 8).mean((3, 5))
    return np.concatenate([small, np.zeros_like(small[:, :1])], 1)


def test_a_result_lies_where_it_is_wanted(engine):
    out = np.full((1, 4, 17, 24), np.nan, np.float32)
    got = engine.run({"picture": picture()}, {"latent": out})["latent"]
    assert got is out
    np.testing.assert_allclose(out, mean(picture()), atol=1e-5)
    fresh = engine.run({"picture": picture(seed=1)})["latent"]
    np.testing.assert_allclose(fresh, mean(picture(seed=1)), atol=1e-5)
    np.testing.assert_allclose(out, mean(picture()), atol=1e-5)


class Foreign:
    """An array of some other library: it has DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **words):
        return self._array.__dlpack__(**words)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_arrays_of_any_library_and_stride(engine):
    want = mean(picture())
    wide = np.repeat(picture(), 2, 3)[:, :, :, ::2]
    for given in (Foreign(picture()), wide, np.asfortranarray(picture())):
        np.testing.assert_allclose(engine.run({"picture": given})["latent"], want, atol=1e-5)
    target = np.empty_like(want)
    assert isinstance(engine.run({"picture": picture()}, {"latent": Foreign(target)})["latent"], Foreign)
    np.testing.assert_allclose(target, want, atol=1e-5)


def test_fixed_buffers_give_the_same(folder):
    """What a CUDA graph runs in, here on the CPU: one set of buffers for each set of shapes."""
    bundle = read_bundle(folder)
    entry, axes = bundle.manifest.engines["encoder"], bundle.manifest.axes
    fixed = OrtEngine(open_session(folder / entry.file), entry, axes, device="cpu", fixed=True)
    for seed, size in enumerate([(136, 192), (128, 256), (136, 192), (128, 256)]):
        given = picture(*size, seed=seed)
        np.testing.assert_allclose(fixed.run({"picture": given})["latent"], mean(given), atol=1e-5)


class OnGpu:
    """What an array on a GPU shows of itself."""

    def __init__(self, shape, strides=None):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "<f4", "data": (4096, False), "strides": strides, "version": 3,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "out", "words"),
    [
        ({"picture": OnGpu((1, 3, 136, 192))}, {}, "runs on the CPU"),
        ({"picture": OnGpu((1, 3, 136, 192), (1 << 20, 1 << 18, 1 << 10, 4))}, {}, "without gaps"),
        # The stride of one picture says nothing: pycuda's to_gpu(picture[None]) has an element's there.
        ({"picture": OnGpu((1, 3, 136, 192), (4, 136 * 192 * 4, 192 * 4, 4))}, {}, "runs on the CPU"),
        ({"picture": [[1.0]]}, {}, "expected an array, got list"),
        ({"picture": picture().astype(np.float64)}, {}, "float64"),
        ({"picture": picture()}, {"picture": picture()}, "some of latent"),
        ({"picture": picture()}, {"latent": np.empty((1, 4, 17, 23), np.float32)}, r"\[1, 4, 17, 24\]"),
        ({"picture": picture()}, {"latent": np.empty((1, 4, 17, 24), np.float64)}, "float64"),
        ({"picture": picture()}, {"latent": np.empty((1, 4, 24, 17), np.float32).swapaxes(2, 3)}, "in C order"),
    ],
)
def test_arrays_that_do_not_fit(engine, inputs, out, words):
    with pytest.raises(InvalidInputError, match=words):
        engine.run(inputs, out)


def test_an_output_is_no_input(folder):
    engine = read_bundle(folder).engine("unet")
    latent, one = np.ones((1, 4, 16, 16), np.float32), np.ones(1, np.float32)
    given = {"source": latent.copy(), "warped": latent.copy(), "latent": latent, "timestep": np.zeros(1, np.int64),
             "keep": one, "gain": one}  # fmt: skip
    assert engine.run(given)["next"].shape == latent.shape
    with pytest.raises(InvalidInputError, match="is no input"):
        engine.run(given, {"next": latent})


def test_a_device_that_is_not_there_is_refused(folder):
    import onnxruntime as ort

    bundle = read_bundle(folder)
    for device, provider in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        if provider in ort.get_available_providers():
            pytest.skip(f"this onnxruntime has {provider}")
        with pytest.raises(BackendUnavailableError, match=r"secondeye\[cuda\]"):
            bundle.engine("encoder", device=device)
    with pytest.raises(InvalidInputError, match="cpu, cuda, tensorrt, tensorrt-rtx"):
        bundle.engine("encoder", device="vulkan")
    with pytest.raises(InvalidInputError, match="cuda_graph"):
        bundle.engine("encoder", cuda_graph=True)


def sealed(plan):
    return replace(plan, seal=plan.seal_under(read_secret(make=True)))


def with_plan(folder, **changes):
    """The bundle with a plan of its encoder; any bytes will do for what is refused before they are opened."""
    (folder / "encoder.plan").write_bytes(b"plan")
    manifest = read_bundle(folder).manifest
    entry = manifest.engines["encoder"]
    fields = {"file": "encoder.plan", "sha256": file_hash(folder / "encoder.plan"), "backend": "tensorrt-rtx",
              "version": "1", "targets": ("sm_89",), "graph": entry.graph_hash(), "key": "k"}  # fmt: skip
    plan = sealed(Plan(**fields | changes))
    engines = manifest.engines | {"encoder": replace(entry, plans=(plan,))}
    parts = {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}
    (folder / "manifest.json").write_bytes(Manifest(**parts | {"engines": engines}).to_json())
    return plan


def test_a_plan_survives_the_manifest(folder):
    plan = with_plan(folder)
    assert read_bundle(folder).manifest.engines["encoder"].plans == (plan,)
    (folder / "encoder.plan").write_bytes(b"nalp")
    with pytest.raises(ModelFormatError, match=r"encoder\.plan is altered"):
        read_bundle(folder)


def test_only_what_this_machine_built_is_opened(folder, tmp_path, monkeypatch):
    plan = with_plan(folder)
    secret = secret_file().read_bytes()
    assert len(secret) == 32
    assert os.name == "nt" or secret_file().stat().st_mode & 0o077 == 0
    forged = replace(plan, targets=("sm_89", "sm_120"))
    with pytest.raises(EngineError, match="did not build"):
        check_plan(folder, forged)
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(EngineError, match="did not build"):
        read_bundle(folder).engine("encoder", device="tensorrt-rtx")
    monkeypatch.setenv("SECONDEYE_ENGINE_KEY", str(tmp_path / "fleet.key"))
    (tmp_path / "fleet.key").write_bytes(secret)
    with pytest.raises((BackendUnavailableError, EngineError)) as caught:  # trusted now, and refused for another reason
        read_bundle(folder).engine("encoder", device="tensorrt-rtx")
    assert "did not build" not in str(caught.value)


def test_a_plan_of_another_graph_is_refused(folder):
    with_plan(folder, graph="0" * 64)
    with pytest.raises(EngineError, match="another graph"):
        read_bundle(folder).engine("encoder", device="tensorrt-rtx")


def test_a_graph_still_runs_beside_its_plan(folder):
    with_plan(folder)
    got = read_bundle(folder).engine("encoder").run({"picture": picture()})["latent"]
    np.testing.assert_allclose(got, mean(picture()), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"backend": "vulkan"}, "vulkan"), ({"targets": "sm_89"}, "targets"), ({"seal": 3}, "seal"),
        ({"check": []}, "check"), ({"file": "../x"}, "inside the folder"),
    ],
)  # fmt: skip
def test_a_plan_that_is_none(folder, change, word):
    with_plan(folder)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    data["engines"]["encoder"]["plans"][0].update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(ModelFormatError, match=word):
        read_bundle(folder)


def test_channels_last_is_asked_for_on_cuda_alone_and_done_without_where_it_is_not_there(folder, monkeypatch):
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings (pip install -e '.[cuda]')")
    asked, session = [], open_session(folder / "encoder.onnx")

    def opened(path, *, device, options=None, cuda_graph=False, **words):
        asked.append((device, dict(options or {}), cuda_graph))
        if options and refused:
            raise ModelFormatError("no kernels for it")
        return session

    monkeypatch.setattr("secondeye.runtime.bundle.open_session", opened)
    bundle, stream, last = read_bundle(folder), SimpleNamespace(handle=1), {"prefer_nhwc": "1"}
    refused = False
    bundle.engine("encoder", nhwc=True)
    bundle.engine("encoder", device="cuda", stream=stream, nhwc=True)
    bundle.engine("encoder", device="cuda", stream=stream)
    refused = True
    bundle.engine("encoder", device="cuda", stream=stream, nhwc=True)
    assert asked == [
        ("cpu", {}, False), ("cuda", last, True), ("cuda", {}, True), ("cuda", last, True), ("cuda", {}, True),
    ]  # fmt: skip
