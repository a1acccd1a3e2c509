# SPDX-License-Identifier: Apache-2.0
"""A frame that stays on the GPU: the small graphs give numpy's bytes, and the order of what is queued is right, with
host memory in the place of the GPU's; on a GPU, the same pictures as the host's way."""

import ctypes

import numpy as np
import pytest
from bundles import make_bundle

from secondeye.runtime import tiles
from secondeye.runtime.backends import cuda
from secondeye.runtime.backends.ort import OrtEngine
from secondeye.runtime.bundle import read_bundle
from secondeye.runtime.models import mono2stereo, resident
from secondeye.runtime.models.mono2stereo import Mono2Stereo
from secondeye.runtime.ops._arrays import take
from secondeye.runtime.sessions import open_session


class HostCuda:
    """The CUDA runtime's calls on host memory, done at once."""

    def __init__(self):
        self.held = {}

    def __call__(self, name, *arguments):
        if name == "cudaMalloc":
            buffer = np.full(arguments[0], 0xAA, np.uint8)
            self.held[buffer.ctypes.data] = buffer
            return buffer.ctypes.data
        if name in ("cudaMemcpyAsync", "cudaMemcpy"):
            ctypes.memmove(arguments[0], arguments[1], arguments[2])
        elif name == "cudaMemsetAsync":
            ctypes.memset(*arguments[:3])
        return 1


@pytest.fixture
def host(monkeypatch):
    """Engines and buffers of the GPU's path, on the host."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings (pip install -e '.[cuda]')")
    monkeypatch.setattr(cuda, "_call", HostCuda())
    for kind in (cuda.Buffer, cuda.Stream, cuda.Mark):
        monkeypatch.delattr(kind, "__del__")

    def engine(bundle, name, stream):
        entry = bundle.manifest.engines[name]
        made = OrtEngine(
            open_session(bundle.folder / entry.file), entry, bundle.manifest.axes, device="cuda", stream=stream,
            recording=True,
        )  # fmt: skip
        made._place = "cpu"
        return made

    def build(bundle, parts):
        stream = cuda.Stream()
        tools = resident.open_tools("cpu", 0, stream)
        engines = {name: engine(bundle, name, stream) for name in ("encoder", "unet", "decoder")}
        return resident.Resident(engines, tools, stream, parts)

    return build


def scene(height=128, width=192, seed=0, count=1):
    rng = np.random.default_rng(seed)
    source, warped = (rng.integers(0, 256, (count, height, width, 3), np.uint8) for _ in range(2))
    return source, warped, (rng.random((count, height, width)) < 0.1).astype(np.uint8) * 255


def run(name, **inputs):
    path = mono2stereo.Path(resident.__file__).parents[1] / "assets" / f"{name}.onnx"
    return open_session(path).run(None, inputs)[0]


def test_small_graphs_give_numpys_bytes():
    source, _, holes = scene(count=2)
    want = mono2stereo._planes(source)
    want[(holes != 0)[:, None].repeat(3, 1)] = 0
    assert np.array_equal(run("to_planes", picture=source, holes=holes), want)
    values = np.random.default_rng(1).uniform(-1.2, 1.2, (2, 3, 17, 23)).astype(np.float32)
    assert np.array_equal(run("to_pixels", planes=values), mono2stereo._bytes(values))
    noise, warped = np.random.default_rng(2).standard_normal((2, 1, 4, 5, 6), np.float32)
    got = run("to_start", noise=noise, warped=warped, share=np.array([0.3, 0.7], np.float32))
    assert np.array_equal(got, np.float32(0.3) * noise + np.float32(0.7) * warped)


def test_small_graphs_are_those_that_are_made():
    pytest.importorskip("onnx", reason="needs onnx")
    from secondeye.export.picture_graphs import make

    for name, model in make().items():
        path = mono2stereo.Path(resident.__file__).parents[1] / "assets" / f"{name}.onnx"
        assert path.read_bytes() == model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("layout", ["dual", "one-stage", "inpaint"])
@pytest.mark.parametrize(("scheduler", "steps"), [("warped", 1), ("warped", 4), ("ddim", 3)])
def test_same_pictures_as_by_the_host(host, tmp_path, layout, scheduler, steps):
    model = Mono2Stereo(make_bundle(tmp_path / "bundle", layout=layout, prediction=0.5))
    schedule = model.schedule(scheduler, steps, 0.8)
    there = host(model.bundle, model.parts)
    for seed, size in enumerate([(128, 192), (136, 160), (128, 192), (128, 192)]):
        source, warped, holes = (one[0] for one in scene(*size, seed=seed))
        noise = model.noise(*size, seed)
        model.resident = None
        want = model(source, warped, holes, schedule, noise)
        model.resident = there
        told = []
        got = model(source, warped, holes, schedule, noise, progress=lambda *words, told=told: told.append(words))
        assert np.abs(got.astype(int) - want).max() <= 1
        assert (got != want).mean() < 1e-3
        assert [stage for stage, _, _ in told] == ["to latents", *["denoise"] * steps, "to pixels"]
    assert set(there.stage_ms) == {"to latents", "denoise", "to pixels"}
    assert there._engines["unet"]._recorded == 1  # the size that came again


def test_buffers_of_old_sizes_go(host, tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "KEPT", 2)
    model = Mono2Stereo(make_bundle(tmp_path / "bundle"))
    there = host(model.bundle, model.parts)
    schedule = model.schedule("warped", 1, 0.8)
    for width in (128, 136, 144, 152):
        source, warped, holes = scene(128, width)
        there.paint(source, warped, holes, None, schedule, model.noise(128, width, 0), lambda *words: None)
    assert [shape[2] for shape in there._sets] == [144, 152]


gpu = pytest.mark.gpu


@pytest.fixture
def on_gpu():
    """A GPU that ONNX Runtime reaches."""
    import onnxruntime

    try:
        found = cuda.find_gpu()
    except Exception as error:  # no package, no driver, no GPU
        pytest.skip(f"no GPU ({error})")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    return found


@gpu
@pytest.mark.parametrize("layout", ["dual", "one-stage", "inpaint"])
def test_a_gpu_paints_what_the_host_does(on_gpu, tmp_path, layout):
    folder = make_bundle(tmp_path / "bundle", layout=layout, prediction=0.5)
    here, there = Mono2Stereo(folder), Mono2Stereo(folder, device="cuda")
    for scheduler, steps in (("warped", 1), ("ddim", 3)):
        schedule = here.schedule(scheduler, steps, 0.8)
        for seed, size in enumerate([(128, 192), (136, 160), (128, 192), (128, 192), (128, 192)]):
            source, warped, holes = (one[0] for one in scene(*size, seed=seed))
            noise = here.noise(*size, seed)
            want, got = (model(source, warped, holes, schedule, noise) for model in (here, there))
            assert (np.abs(got.astype(int) - want) > 1).mean() < 1e-3
        where = np.zeros((256, 512), np.uint8)
        where[100:140, 200:232] = 255
        source, warped, holes = (one[0] for one in scene(256, 512))
        layout_ = there.lay_out(where)
        assert not layout_.whole
        noise = here.noise(256, 512, 0)
        want, got = (m(source, warped, holes, schedule, noise, layout=layout_) for m in (here, there))
        assert isinstance(layout_, tiles.Layout)
        assert (np.abs(got.astype(int) - want) > 1).mean() < 1e-3


@gpu
@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda"])
def test_arrays_of_a_gpu_go_in_and_come_out(on_gpu, tmp_path, library):
    engine = read_bundle(make_bundle(tmp_path / "bundle")).engine("encoder", device="cuda")
    picture = np.random.default_rng(0).standard_normal((1, 3, 136, 192)).astype(np.float32)
    want = read_bundle(tmp_path / "bundle").engine("encoder").run({"picture": picture})["latent"]
    if library == "torch":
        torch = pytest.importorskip("torch", reason="needs torch")
        given, out = torch.from_numpy(picture).cuda(), torch.zeros(want.shape, device="cuda")
        back = torch.Tensor.cpu
    elif library == "cupy":
        cupy = pytest.importorskip("cupy", reason="needs cupy")
        given, out, back = cupy.asarray(picture), cupy.zeros(want.shape, cupy.float32), cupy.asnumpy
    else:
        pytest.importorskip("pycuda", reason="needs pycuda")
        import pycuda.autoprimaryctx  # noqa: F401  # the context that ONNX Runtime has
        from pycuda import gpuarray

        given, out, back = gpuarray.to_gpu(picture), gpuarray.zeros(want.shape, np.float32), lambda one: one.get()
    address = take("out", out).ptr
    got = engine.run({"picture": given}, {"latent": out})["latent"]
    assert got is out
    assert take("got", got).ptr == address
    np.testing.assert_allclose(np.asarray(back(out)), want, atol=1e-3)
    free = engine.run({"picture": given})["latent"]  # made where the input lies
    assert type(free) is type(given)
    np.testing.assert_allclose(np.asarray(back(free)), want, atol=1e-3)
