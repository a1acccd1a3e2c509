# SPDX-License-Identifier: Apache-2.0
"""A frame that stays on the GPU: the small graphs give numpy's bytes, and the order of what is queued is right, with
host memory in the place of the GPU's and ONNX Runtime in that of a vendor's plan; on a GPU, the same pictures as the
host's way."""

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import make_bundle

from secondeye.runtime import tiles
from secondeye.runtime.backends import cuda, trt
from secondeye.runtime.backends.ort import OrtEngine
from secondeye.runtime.bundle import read_bundle, shape_of
from secondeye.runtime.errors import BackendUnavailableError, EngineError, InvalidInputError
from secondeye.runtime.models import mono2stereo, resident
from secondeye.runtime.models.mono2stereo import Mono2Stereo
from secondeye.runtime.ops._arrays import take
from secondeye.runtime.plans import Plan
from secondeye.runtime.sessions import open_session

ENGINES = ("encoder", "unet", "decoder", "to_planes", "to_start", "to_pixels")


class HostCuda:
    """The CUDA runtime's calls on host memory: done at once, or, while a stream is recorded, when the record is
    started. Memory is of the alignment that CUDA gives."""

    def __init__(self):
        self.held, self.recording, self.launches = {}, None, 0

    def __call__(self, name, *arguments):
        if name == "cudaMalloc":
            buffer = np.full(arguments[0] + 256, 0xAA, np.uint8)
            address = -(-buffer.ctypes.data // 256) * 256
            self.held[address] = buffer
            return address
        if name == "cudaStreamBeginCapture":
            assert self.recording is None
            self.recording = []
        elif name == "cudaStreamEndCapture":
            record, self.recording = self.recording, None
            return record
        elif name == "cudaGraphInstantiate":
            return arguments[0]
        elif name == "cudaGraphLaunch":
            self.launches += 1
            for work in arguments[0]:
                work()
        elif name in ("cudaMemcpyAsync", "cudaMemcpy"):
            self.put(lambda: ctypes.memmove(*arguments[:3]))
        elif name == "cudaMemsetAsync":
            self.put(lambda: ctypes.memset(*arguments[:3]))
        elif self.recording is not None:
            assert name == "cudaGraphDestroy", f"{name} while a stream is recorded"
        return 1

    def put(self, work):
        """What is put on the stream."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)


class HostPlan:
    """An execution context of a vendor's, run by ONNX Runtime at the addresses that it was given."""

    def __init__(self, gpu, path, entry):
        self.gpu, self.session, self.entry = gpu, open_session(path), entry
        self.shapes, self.places, self.calls = {}, {}, []

    def set_input_shape(self, name, shape):
        assert self.gpu.recording is None
        self.calls.append("shape")
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        lengths = {
            axis if isinstance(axis, str) else axis[0]: length if isinstance(axis, str) else length // axis[1]
            for one in self.entry.inputs
            for axis, length in zip(one.shape, self.shapes[one.name], strict=True)
            if not isinstance(axis, int)
        }
        return shape_of(next(one for one in self.entry.outputs if one.name == name), lengths)

    def set_tensor_address(self, name, address):
        self.calls.append("address")
        self.places[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream):
        places, shapes = dict(self.places), dict(self.shapes)

        def at(one, shape):
            count = int(np.prod(shape)) * np.dtype(one.dtype).itemsize
            return np.frombuffer((ctypes.c_char * count).from_address(places[one.name]), one.dtype).reshape(shape)

        def work():
            results = self.session.run(None, {one.name: at(one, shapes[one.name]) for one in self.entry.inputs})
            for one, result in zip(self.entry.outputs, results, strict=True):
                at(one, result.shape)[...] = result

        self.gpu.put(work)
        return True


@pytest.fixture
def gpu_calls(monkeypatch):
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings (pip install -e '.[cuda]')")
    calls = HostCuda()
    monkeypatch.setattr(cuda, "_call", calls)
    for kind in (cuda.Buffer, cuda.Stream, cuda.Mark, cuda.Graph):
        monkeypatch.delattr(kind, "__del__")
    return calls


@pytest.fixture
def host(gpu_calls):
    """Engines and buffers of the GPU's path, on the host."""

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
        return resident.Resident({name: engine(bundle, name, stream) for name in ENGINES}, stream, parts)

    return build


@pytest.fixture
def by_plans(gpu_calls, monkeypatch):
    """The same with plans of TensorRT or TensorRT-RTX."""
    monkeypatch.setattr(cuda, "find_gpu", lambda: cuda.Gpu(name="a GPU", target="sm_89"))
    monkeypatch.setattr(trt, "check_plan", lambda folder, plan: str(folder / plan.file).encode())
    monkeypatch.setattr(trt, "listener", lambda module: (None, []))
    monkeypatch.setattr(trt, "_Kernels", lambda *words: SimpleNamespace(are_new=lambda shapes: False))

    def build(bundle, parts, backend="tensorrt"):
        entries = {f"{name}.onnx": bundle.manifest.engines[name] for name in ENGINES}

        def opened(data):
            path = mono2stereo.Path(data.decode())
            context = HostPlan(gpu_calls, path, entries[path.name])
            return SimpleNamespace(
                create_execution_context=lambda *settings: context,
                create_runtime_config=lambda: SimpleNamespace(),
            )

        vendor = SimpleNamespace(
            Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=opened),
            CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE=1),
            DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER=1),
        )
        monkeypatch.setattr(trt, "need", lambda _: vendor)
        stream, engines = cuda.Stream(), {}
        for name in ENGINES:
            plan = Plan(
                file=f"{name}.onnx", sha256="", backend=backend, version="1", targets=("sm_89",), graph="", key=""
            )
            entry, axes = bundle.manifest.engines[name], bundle.manifest.axes
            engines[name] = trt.TrtEngine(bundle.folder, entry, axes, plan, stream=stream)
        return resident.Resident(engines, stream, parts)

    return build


def scene(height=128, width=192, seed=0, count=1):
    rng = np.random.default_rng(seed)
    source, warped = (rng.integers(0, 256, (count, height, width, 3), np.uint8) for _ in range(2))
    return source, warped, (rng.random((count, height, width)) < 0.1).astype(np.uint8) * 255


def paint(model, there, seed, size, schedule):
    """The host's picture, the GPU's, and what was told meanwhile."""
    source, warped, holes = (one[0] for one in scene(*size, seed=seed))
    noise, told = model.noise(*size, seed), []
    model.resident = None
    want = model(source, warped, holes, schedule, noise)
    model.resident = there
    got = model(source, warped, holes, schedule, noise, progress=lambda *words: told.append(words[0]))
    assert np.abs(got.astype(int) - want).max() <= 1
    assert (got != want).mean() < 1e-3
    assert told == ["to latents", *["denoise"] * len(schedule.steps), "to pixels"]


@pytest.mark.parametrize("layout", ["dual", "one-stage", "inpaint"])
@pytest.mark.parametrize(("scheduler", "steps"), [("warped", 1), ("warped", 4), ("ddim", 3)])
def test_same_pictures_as_by_the_host(host, tmp_path, layout, scheduler, steps):
    model = Mono2Stereo(make_bundle(tmp_path / "bundle", layout=layout, prediction=0.5))
    schedule = model.schedule(scheduler, steps, 0.8)
    there = host(model.bundle, model.parts)
    for seed, size in enumerate([(128, 192), (136, 160), (128, 192), (128, 192)]):
        paint(model, there, seed, size, schedule)
    assert set(there.stage_ms) == {"to latents", "denoise", "to pixels"}
    assert there._engines["unet"]._recorded == 1  # the size that came again


@pytest.mark.parametrize("layout", ["dual", "one-stage", "inpaint"])
@pytest.mark.parametrize("scheduler", ["warped", "ddim"])
def test_a_frame_of_tensorrts_plans_is_one_record(by_plans, gpu_calls, tmp_path, layout, scheduler):
    model = Mono2Stereo(make_bundle(tmp_path / "bundle", layout=layout, prediction=0.5))
    there = by_plans(model.bundle, model.parts)
    two, three = (model.schedule(scheduler, steps, 0.8) for steps in (2, 3))
    wide, small = (128, 192), (136, 160)
    launches = []
    for seed, (size, schedule) in enumerate(
        [(wide, two), (wide, two), (wide, two), (small, two), (wide, two), (wide, three), (wide, three), (wide, two)]
    ):
        before = gpu_calls.launches
        paint(model, there, seed, size, schedule)
        launches.append(gpu_calls.launches - before)
        assert set(there.stage_ms) == ({"frame"} if launches[-1] else {"to latents", "denoise", "to pixels"})
    assert launches == [0, 1, 1, 0, 0, 0, 1, 0]


def test_plans_of_tensorrt_rtx_are_queued(by_plans, gpu_calls, tmp_path):
    model = Mono2Stereo(make_bundle(tmp_path / "bundle", prediction=0.5))
    there = by_plans(model.bundle, model.parts, "tensorrt-rtx")
    for seed in range(3):
        paint(model, there, seed, (128, 192), model.schedule("warped", 3, 0.8))
    assert gpu_calls.launches == 0
    unet, encoder = (there._engines[name]._context.calls for name in ("unet", "encoder"))
    assert unet.count("shape") == 6  # once an input: neither shapes nor addresses change from step to step
    assert unet.count("address") == 7
    assert encoder == ["shape", "address", "address", *["address"] * 5]  # its result goes to two places in turn


def test_a_frame_that_cannot_be_recorded_is_queued(by_plans, gpu_calls, tmp_path):
    model = Mono2Stereo(make_bundle(tmp_path / "bundle", prediction=0.5))
    there = by_plans(model.bundle, model.parts)
    context = there._engines["decoder"]._context
    run = context.execute_async_v3
    context.execute_async_v3 = lambda stream: gpu_calls.recording is None and run(stream)
    for seed in range(3):
        paint(model, there, seed, (128, 192), model.schedule("warped", 2, 0.8))
    assert gpu_calls.launches == 0
    context.execute_async_v3 = lambda stream: False
    with pytest.raises(EngineError, match=r"decoder\.onnx: TensorRT could not run it"):
        paint(model, there, 0, (128, 192), model.schedule("warped", 2, 0.8))


def test_frames_stay_on_the_gpu_where_every_engine_has_a_plan(by_plans, tmp_path, monkeypatch):
    folder = make_bundle(tmp_path / "bundle", depth=False)
    bundle = read_bundle(folder)
    by_plans(bundle, ())  # the vendor
    opened = dict(bundle.manifest.engines)
    plan = Plan(file="", sha256="", backend="tensorrt", version="1", targets=("sm_89",), graph="", key="")

    def engine(self, name, *, device, stream, **words):
        return SimpleNamespace(capturable=True, stream=stream)

    monkeypatch.setattr(type(bundle), "engine", engine)
    assert Mono2Stereo(bundle, device="tensorrt").resident is None
    for name, entry in opened.items():
        bundle.manifest.engines[name] = replace(entry, plans=(plan,))
    model = Mono2Stereo(bundle, device="tensorrt")
    assert model.resident is not None
    assert {id(one.stream) for one in model._engines.values()} == {id(model._stream)}
    assert Mono2Stereo(bundle, device="tensorrt-rtx").resident is None


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


def paints_as_the_host(here, there):
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
@pytest.mark.parametrize("layout", ["dual", "one-stage", "inpaint"])
def test_a_gpu_paints_what_the_host_does(on_gpu, tmp_path, layout):
    folder = make_bundle(tmp_path / "bundle", layout=layout, prediction=0.5)
    paints_as_the_host(Mono2Stereo(folder), Mono2Stereo(folder, device="cuda"))


@gpu
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_plans_paint_what_the_host_does(tmp_path, monkeypatch, backend):
    from secondeye.export.engines import choose_target, compile_plan

    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "cache"))
    try:
        cuda.find_gpu()
        target = choose_target(backend, "auto")
    except (BackendUnavailableError, InvalidInputError) as error:
        pytest.skip(f"no plans of {backend} here ({error})")
    folder = make_bundle(tmp_path / "bundle", prediction=0.5)
    manifest = read_bundle(folder).manifest
    axes = {name: (low, low, high) for name, (low, high) in manifest.axes.items()}
    for name, entry in manifest.engines.items():
        plan = compile_plan(folder, entry, axes, target, name, folder, timing=tmp_path, steps=1000)
        assert plan.check["relative_rms"] < 1e-3
        manifest.engines[name] = replace(entry, plans=(plan,))
    (folder / "manifest.json").write_bytes(manifest.to_json())
    there = Mono2Stereo(folder, device=backend)
    assert there.resident is not None
    paints_as_the_host(Mono2Stereo(folder), there)
    assert there.resident.one_graph == (backend == "tensorrt")


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
