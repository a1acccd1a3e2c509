# SPDX-License-Identifier: Apache-2.0
"""What is asked of TensorRT-RTX and CUDA, and in which order. Stand-ins have the installed module's own names, so a
call that it does not have fails here; whether a GPU does it right is for a GPU to say."""

import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest
from bundles import make_bundle

from secondeye.runtime import plans
from secondeye.runtime.backends import cuda
from secondeye.runtime.backends.trt import ALIGNMENT, TrtEngine
from secondeye.runtime.bundle import read_bundle
from secondeye.runtime.errors import EngineError
from secondeye.runtime.files import file_hash
from secondeye.runtime.plans import Plan, keep_kernels, read_kernels, read_secret

rtx = pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")
pytest.importorskip("cuda.bindings", reason="plans need cuda-bindings (pip install -e '.[tensorrt-rtx]')")

PICTURE = np.zeros((1, 3, 128, 128), np.float32)


class Cuda:
    """Writes down what the CUDA runtime is asked for; memory is the host's."""

    def __init__(self):
        self.asked, self.held = [], {}

    def __call__(self, name, *arguments):
        assert hasattr(cuda._module(), name)
        self.asked.append(name)
        if name == "cudaMalloc":
            buffer = np.zeros(arguments[0] + ALIGNMENT, np.uint8)
            address = -(-buffer.ctypes.data // ALIGNMENT) * ALIGNMENT
            self.held[address] = buffer
            return address
        return 7

    def take(self):
        names, self.asked = self.asked, []
        return [name.removeprefix("cuda") for name in names if name != "cudaMalloc"]


@pytest.fixture
def device(monkeypatch):
    fake = Cuda()
    monkeypatch.setattr(cuda, "_call", fake)
    monkeypatch.setattr(cuda, "find_gpu", lambda: cuda.Gpu(name="a GPU", target="sm_89"))
    for kind in (cuda.Buffer, cuda.Stream, cuda.Graph):
        monkeypatch.delattr(kind, "__del__")
    return fake


@pytest.fixture
def vendor(monkeypatch):
    """The module with its classes' methods, none of which does anything."""
    context = create_autospec(rtx.IExecutionContext, instance=True)
    context.execute_async_v3.return_value = True
    latent = {}

    def set_input_shape(name, shape):
        n, _, high, wide = shape
        latent["shape"] = rtx.Dims((n, 4, high // 8, wide // 8))
        return True

    context.set_input_shape.side_effect = set_input_shape
    context.get_tensor_shape.side_effect = lambda name: latent["shape"]
    cache = create_autospec(rtx.IRuntimeCache, instance=True)
    cache.serialize.return_value = b"kernels"
    settings = create_autospec(rtx.IRuntimeConfig, instance=True)
    settings.create_runtime_cache.return_value = cache
    engine = create_autospec(rtx.ICudaEngine, instance=True)
    engine.create_runtime_config.return_value = settings
    engine.create_execution_context.return_value = context
    runtime = create_autospec(rtx.Runtime, instance=True)
    runtime.deserialize_cuda_engine.return_value = engine
    names = ("ILogger", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy", "__version__")
    module = SimpleNamespace(**{n: getattr(rtx, n) for n in names}, logs=[])
    module.Runtime = lambda log: module.logs.append(log) or runtime
    monkeypatch.setattr("secondeye.runtime.backends.trt.need", lambda backend: module)
    monkeypatch.setattr(plans, "need", lambda backend: module)
    return SimpleNamespace(
        context=context, cache=cache, settings=settings, engine=engine, runtime=runtime, module=module
    )


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Opens the encoder of a bundle by a plan of some bytes."""
    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "cache"))
    bundle = read_bundle(make_bundle(tmp_path / "bundle"))
    (bundle.folder / "encoder.plan").write_bytes(b"plan")
    entry = bundle.manifest.engines["encoder"]

    def open_plan(backend="tensorrt-rtx", **options):
        plan = Plan(
            file="encoder.plan", sha256=file_hash(bundle.folder / "encoder.plan"), backend=backend,
            version=rtx.__version__, targets=("sm_89",), graph=entry.graph_hash(), key="k",
        )  # fmt: skip
        plan = replace(plan, seal=plan.seal_under(read_secret(make=True)))
        return TrtEngine(bundle.folder, entry, bundle.manifest.axes, plan, **options), plan

    return open_plan


def test_shapes_are_set_once_and_kernels_are_kept_for_the_next_process(made, device, vendor):
    engine, plan = made(cuda_graph=True)
    assert vendor.settings.cuda_graph_strategy == rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    eager = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
    assert vendor.settings.dynamic_shapes_kernel_specialization_strategy == eager
    vendor.settings.set_runtime_cache.assert_called_once_with(vendor.cache)
    vendor.engine.create_execution_context.assert_called_once_with(vendor.settings)
    vendor.cache.deserialize.assert_not_called()
    for _ in range(3):
        assert engine.run({"picture": PICTURE})["latent"].shape == (1, 4, 16, 16)
    assert vendor.context.set_input_shape.call_args_list == [(("picture", PICTURE.shape),)]
    assert vendor.context.execute_async_v3.call_count == 3
    assert vendor.cache.serialize.call_count == 1
    assert read_kernels(plan, "a GPU") == b"kernels"
    made()
    vendor.cache.deserialize.assert_called_once_with(b"kernels")


def test_kernels_of_another_machine_are_not_opened(made, device, vendor, monkeypatch, tmp_path):
    _, plan = made()
    keep_kernels(plan, "a GPU", b"kernels")
    assert read_kernels(plan, "a GPU") == b"kernels"
    assert read_kernels(plan, "another GPU") is None
    (file,) = (tmp_path / "cache" / "kernels").iterdir()
    file.write_bytes(file.read_bytes() + b"!")
    assert read_kernels(plan, "a GPU") is None
    keep_kernels(plan, "a GPU", b"kernels")
    (tmp_path / "cache" / "engine.key").unlink()
    read_secret(make=True)
    assert read_kernels(plan, "a GPU") is None


def test_one_record_of_what_comes_twice(made, device, vendor):
    engine, _ = made("tensorrt", cuda_graph=True)
    vendor.engine.create_runtime_config.assert_not_called()
    device.take()
    once = ["MemcpyAsync", "MemcpyAsync", "StreamSynchronize"]
    recorded = ["StreamBeginCapture", "StreamEndCapture", "GraphInstantiate", "GraphDestroy", "GraphLaunch"]
    small, large = {"picture": PICTURE}, {"picture": np.zeros((1, 3, 128, 256), np.float32)}
    said = []
    for given in (small, small, small, large, small, small):
        engine.run(given)
        said.append(device.take())
    again = [once[0], *recorded, *once[1:]]
    assert said == [once, again, [once[0], "GraphLaunch", *once[1:]], once, once, again]


def test_a_callers_stream_is_waited_for_on_the_gpu(made, device, vendor):
    engine, _ = made("tensorrt")
    theirs = cuda.Buffer(PICTURE.shape, np.float32)
    interface = theirs.__cuda_array_interface__ | {"stream": 1234}
    device.take()
    result = engine.run({"picture": SimpleNamespace(__cuda_array_interface__=interface)})["latent"]
    waits = ["EventCreateWithFlags", "EventRecord", "StreamWaitEvent", "EventDestroy"]
    assert device.take() == [*waits, "StreamSynchronize"]
    assert isinstance(result, cuda.Buffer)


def gpu_array(memory, shape, offset=0, **more):
    """An array on the GPU as pycuda 2025 shows it: strides always, no stream."""
    strides = tuple(4 * int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
    interface = {
        "shape": shape, "strides": strides, "data": (memory.ptr + offset, False), "typestr": "<f4", "stream": None,
        "version": 3,
    }  # fmt: skip
    return SimpleNamespace(__cuda_array_interface__=interface | more, memory=memory)


def test_addresses_that_the_vendor_does_not_take_are_copied_on_the_gpu(made, device, vendor):
    engine, _ = made("tensorrt")
    theirs, room = cuda.Buffer((4, 1 << 16), np.float32), cuda.Buffer((4, 1 << 16), np.float32)
    device.take()
    for offset, copies in ((0, 0), (256, 0), (4, 2), (128, 2)):
        out = gpu_array(room, (1, 4, 16, 16), offset)
        got = engine.run({"picture": gpu_array(theirs, PICTURE.shape, offset)}, {"latent": out})["latent"]
        assert got is out
        assert device.take().count("MemcpyAsync") == copies
        for call in vendor.context.set_tensor_address.call_args_list:
            assert call.args[1] % ALIGNMENT == 0


def test_results_are_of_the_kind_that_the_inputs_are_of(made, device, vendor, monkeypatch):
    """With pycuda's names and signatures, whose arrays cannot be made without a driver."""

    class GPUArray:
        def __init__(self, shape, dtype, allocator=None):
            self.memory, self.allocator, self.shape = cuda.Buffer(shape, dtype), allocator, shape
            self.__cuda_array_interface__ = gpu_array(self.memory, shape).__cuda_array_interface__

        def __eq__(self, other):
            raise AssertionError("theirs compares elements")

        __hash__ = None

    GPUArray.__module__ = "pycuda.gpuarray"
    monkeypatch.setitem(sys.modules, "pycuda.gpuarray", SimpleNamespace(empty=GPUArray))
    engine, _ = made("tensorrt")

    class Own(GPUArray):
        """A class of the caller's, derived from theirs."""

    for kind in (GPUArray, Own):
        got = engine.run({"picture": kind(PICTURE.shape, np.float32, "a pool")})["latent"]
        assert type(got) is GPUArray
        assert got.allocator == "a pool"
        assert got.shape == (1, 4, 16, 16)


def test_a_plan_that_gives_another_shape_than_the_manifest_is_not_run(made, device, vendor):
    engine, _ = made("tensorrt")
    vendor.context.get_tensor_shape.side_effect = lambda name: rtx.Dims((1, 4, 32, 32))
    with pytest.raises(EngineError, match=r"gives \[1, 4, 32, 32\] where the manifest says \[1, 4, 16, 16\]"):
        engine.run({"picture": PICTURE})
    vendor.context.execute_async_v3.assert_not_called()


def test_failures_tell_what_the_vendor_said(made, device, vendor):
    engine, _ = made()
    vendor.context.execute_async_v3.return_value = False
    vendor.module.logs[0].log(rtx.ILogger.WARNING, "no matter")
    vendor.module.logs[0].log(rtx.ILogger.ERROR, "out of\nmemory.")
    with pytest.raises(EngineError, match=r"TensorRT-RTX could not run it \(out of memory\)\.$"):
        engine.run({"picture": PICTURE})
    with pytest.raises(EngineError, match=r"TensorRT-RTX could not run it\.$"):
        engine.run({"picture": PICTURE})
    vendor.engine.create_execution_context.return_value = None
    with pytest.raises(EngineError, match="has no room"):
        made()
    vendor.runtime.deserialize_cuda_engine.return_value = None
    with pytest.raises(EngineError, match=r"encoder\.plan: TensorRT-RTX cannot open it; build"):
        made()
