# SPDX-License-Identifier: Apache-2.0
"""Networks on our own kernels: ONNX Runtime's numbers, the same bytes for any thread count, refusals with a reason."""

import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings, strategies as st
from networks import beyond_the_kernels
from onnx import TensorProto, helper, numpy_helper

from secondeye import LiveConfig, LiveSession, _native, ops
from secondeye.runtime import live
from secondeye.runtime.backends.own import KernelSession
from secondeye.runtime.depth import BUILTIN, DepthOptions, builtin_path, open_depth
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, ModelFormatError
from secondeye.runtime.ops._common import ISA_CODES

ISAS = list(ops.isas())
BUILT_IN = builtin_path().read_bytes()


def picture(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return ops.prepare(ops.resize(coarse, height, width), height, width, mean=(0, 0, 0), std=(1, 1, 1))


def run(network, tensor, threads=0):
    out = np.full(network.shape(*tensor.shape[2:]), np.nan, np.float32)
    network.run(tensor[0], out, threads)
    return out


def in_onnxruntime(model, tensor):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: tensor})[0][0]


@pytest.mark.parametrize("size", [(256, 384), (32, 32), (64, 352), (320, 288), (32, 416)])
def test_the_built_in_network_gives_onnxruntimes_map(size):
    tensor = picture(*size)
    want = in_onnxruntime(BUILT_IN, tensor)
    for isa in ISAS:
        got = run(_native.Network(BUILT_IN, ISA_CODES[isa]), tensor)
        assert np.abs(got - want).max() < 1e-4 * np.abs(want).max(), isa


def test_registers_and_threads_do_not_change_a_byte():
    tensor = picture(96, 160, 3)
    fused = [isa for isa in ("avx2", "avx512", "neon", "auto") if isa in ISAS or isa == "auto"]
    if ISAS == ["base"]:
        fused = ["base"]
    maps = [run(_native.Network(BUILT_IN, ISA_CODES[isa]), tensor, n) for isa in fused for n in (1, 2, 3, 16)]
    for one in maps[1:]:
        assert one.tobytes() == maps[0].tobytes()


def test_threads_of_a_caller_may_share_a_network():
    network = _native.Network(BUILT_IN, 0)
    tensors = [picture(64, 96 + 32 * (k % 3), k) for k in range(6)]
    want = [run(network, t).tobytes() for t in tensors]
    wrong = []

    def work(k):
        for _ in range(5):
            if run(network, tensors[k]).tobytes() != want[k]:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


class Drawing:
    """A random graph of the layers that the kernels have."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(op, inputs, [f"v{self.count}"], **attributes))
        return f"v{self.count}"

    def conv(self, x, channels, outputs, *, kernel, stride=1, depthwise=False, tensorflow=False):
        shape = (channels if depthwise else outputs, 1 if depthwise else channels, kernel, kernel)
        weights = self.constant((self.rng.normal(size=shape) / np.sqrt(shape[1] * kernel**2)).astype(np.float32))
        inputs = [x, weights]
        if self.rng.random() < 0.7:
            inputs.append(self.constant(self.rng.normal(size=shape[0]).astype(np.float32)))
        low = (kernel - stride) // 2 if tensorflow else kernel // 2
        high = kernel - stride - low if tensorflow else kernel // 2
        return self.node(
            "Conv", inputs, group=channels if depthwise else 1, kernel_shape=[kernel, kernel],
            strides=[stride, stride], pads=[low, low, high, high],
        )  # fmt: skip

    def active(self, x):
        kind = self.rng.integers(3)
        if kind == 0:
            return self.node("Relu", [x])
        if kind == 1:
            return self.node("Clip", [x, self.constant(np.float32(-0.5)), self.constant(np.float32(1.5))])
        return x

    def part(self, x, first, end):
        places = [self.constant(np.array([v], np.int64)) for v in (first, end, 1)]
        return self.node("Slice", [x, *places])

    def model(self):
        rng = self.rng
        channels = int(rng.integers(1, 21))
        x = self.node("Mul", ["picture", self.constant(np.float32(2))])
        x = self.node("Sub", [x, self.constant(rng.random((1, 3, 1, 1)).astype(np.float32))])
        start = x
        x = self.active(self.conv(x, 3, channels, kernel=int(rng.choice([1, 3, 5]))))
        scale = 1
        for _ in range(int(rng.integers(2, 6))):
            kind = rng.integers(4)
            if kind == 0:  # an inverted residual
                wide = channels * int(rng.integers(1, 7))
                stride = int(rng.choice([1, 1, 2])) if scale < 4 else 1
                kernel = int(rng.choice([3, 5]))
                y = self.active(self.conv(x, channels, wide, kernel=1))
                y = self.active(
                    self.conv(y, wide, wide, kernel=kernel, stride=stride, depthwise=True, tensorflow=stride == 2)
                )
                y = self.conv(y, wide, channels, kernel=1)
                x = self.node("Add", [y, x] if rng.random() < 0.5 else [x, y]) if stride == 1 else y
                scale *= stride
            elif kind == 1:  # separable
                wide = int(rng.integers(1, 30))
                x = self.active(
                    self.conv(x, channels, channels, kernel=int(rng.choice([3, 5])), depthwise=channels > 1)
                )
                x = self.active(self.conv(x, channels, wide, kernel=1))
                channels = wide
            elif kind == 2:
                wide = int(rng.integers(1, 12))
                x = self.active(self.conv(x, channels, wide, kernel=3))
                channels = wide
            else:  # what the whole picture is about
                v = self.node("ReduceMean", [x, self.constant(np.array([2, 3], np.int64))], keepdims=0)
                weights = rng.normal(size=(channels, channels)).astype(np.float32) / channels
                v = self.node(
                    "Gemm", [v, self.constant(weights), self.constant(np.zeros(channels, np.float32))], transB=1
                )
                x = self.node("Relu", [self.conv(x, channels, channels, kernel=1)])
                x = self.node("Add", [x, self.node("Unsqueeze", [v, self.constant(np.array([2, 3], np.int64))])])
        while scale > 1:
            x = self.node(
                "Resize", [x, "", self.constant(np.array([1, 1, 2, 2], np.float32))], mode="linear",
                coordinate_transformation_mode="half_pixel",
            )  # fmt: skip
            scale //= 2
        if rng.random() < 0.7:
            parts = [x, start] if rng.random() < 0.5 else [start, x]
            x, channels = self.node("Concat", parts, axis=1), channels + 3
        if rng.random() < 0.5:
            x = self.conv(x, channels, 1, kernel=3)
        else:  # a border and what else a student says of a pixel
            y = self.conv(x, channels, 5, kernel=3)
            one, two = self.part(y, 0, 1), self.part(y, 1, 2**63 - 1)
            one = self.node("Add", [one, self.conv(x, channels, 1, kernel=1)])
            x = self.node("Concat", [one, two], axis=1)
        self.nodes[-1].output[0] = "map"
        return made(self.nodes, self.constants)


def made(nodes, constants, shape=(1, 3, "height", "width")):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, "c", "h", "w"])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model.SerializeToString()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 9), columns=st.integers(2, 20), threads=st.integers(1, 3))
def test_random_networks_give_onnxruntimes_map(seed, rows, columns, threads):
    model = Drawing(seed).model()
    tensor = np.random.default_rng(seed).random((1, 3, 4 * rows, 4 * columns), np.float32)
    want = in_onnxruntime(model, tensor)
    maps = [run(_native.Network(model, ISA_CODES[isa]), tensor, threads) for isa in ISAS]
    for got in maps:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(want).max())))
    assert maps[1:2] == [] or all(m.tobytes() == maps[1].tobytes() for m in maps[2:])


def first(op, *, inputs=("x",), constants=(), **attributes):
    """A network of one 1 x 1 layer with an operator behind it."""
    weight = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["picture", "weight"], ["x"]),
        helper.make_node(op, [*inputs], ["map"], **attributes),
    ]
    return made(nodes, [weight, *constants])


WEIGHT = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
SCALES = numpy_helper.from_array(np.array([1, 1, 3, 3], np.float32), "s")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (first("Sigmoid"), "Sigmoid"),
        (first("Conv", inputs=("x", "w"), constants=[WEIGHT], dilations=[2, 2], pads=[2] * 4), "kind that they lack"),
        (first("Conv", inputs=("x", "w"), constants=[WEIGHT], auto_pad="SAME_UPPER"), "kind that they lack"),
        (first("Resize", inputs=("x", "", "s"), constants=[SCALES], mode="linear"), "resizes otherwise"),
        (first("ReduceMean", keepdims=1), "mean otherwise"),
        (first("Concat", inputs=("x", "x"), axis=2), "concatenates otherwise"),
        (first("Concat", inputs=("x", "x"), axis=1), "part of two"),
        (b"", "no graph"),
        (b"\xff" * 99, "not an ONNX file"),
        (BUILT_IN[:-1], "not an ONNX file"),
        (BUILT_IN[: len(BUILT_IN) // 2], "not an ONNX file"),
    ],
)  # fmt: skip
def test_what_the_kernels_lack_is_named(model, reason):
    with pytest.raises(ValueError, match=reason):
        _native.Network(model, 0)


def test_what_they_lack_runs_in_onnxruntime(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(first("Sigmoid"))
    source = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    depth = open_depth(path)
    assert depth.runner == "onnxruntime"
    assert depth(source).shape[0] >= 64
    with pytest.raises(ModelFormatError, match="Sigmoid"):
        open_depth(path, DepthOptions(runner="kernels"))
    with pytest.raises(BackendUnavailableError, match="CPU alone"):
        open_depth(BUILTIN, DepthOptions(runner="kernels", device="cuda"))
    two = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    path.write_bytes(made([helper.make_node("Conv", ["picture", "w"], ["map"])], [two]))
    with pytest.raises(ModelFormatError, match="expected one map"):
        open_depth(path)
    ours, theirs = open_depth(BUILTIN), open_depth(BUILTIN, DepthOptions(runner="onnxruntime"))
    assert (ours.runner, theirs.runner) == ("kernels", "onnxruntime")
    np.testing.assert_allclose(ours(source), theirs(source), rtol=1e-3, atol=1e-3)


def test_a_session_runs_what_they_lack_in_onnxruntime(tmp_path, monkeypatch):
    path = beyond_the_kernels(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="Identity"):
        KernelSession(path)
    frame = np.ascontiguousarray(
        np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    )
    pictures = []
    for patch in (False, True):
        if patch:
            monkeypatch.setattr(live, "builtin_path", lambda: path)
        with LiveSession(LiveConfig(width=320, height=180, policy="every", layout="depth")) as session:
            session.submit(frame, timeout=None)
            pictures.append(session.wait().picture.astype(int).copy())
    assert pictures[0].std() > 5
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.1  # a rounding may decide which side of an edge a pixel is on


def test_damaged_files_never_do_harm():
    """Every one is refused, or is a network still."""
    rng = np.random.default_rng(5)
    tensor = picture(32, 32)
    small = Drawing(11).model()
    for k in range(300):
        damaged = bytearray(small)
        for _ in range(int(rng.integers(1, 6))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        if k % 3 == 0:
            at = int(rng.integers(len(damaged)))
            damaged[at : at + int(rng.integers(9))] = rng.bytes(int(rng.integers(9)))
        try:
            network = _native.Network(bytes(damaged), 0)
            out = np.empty(network.shape(32, 32), np.float32)
        except (ValueError, InvalidInputError):
            continue
        network.run(tensor[0], out, 2)


def test_sizes_that_do_not_fit_are_refused():
    network = _native.Network(BUILT_IN, 0)
    for height, width in ((0, 32), (33, 32), (32, 48), (8192, 32), (-4, 32)):
        with pytest.raises(InvalidInputError):
            network.shape(height, width)
    tensor = picture(32, 64)
    with pytest.raises(InvalidInputError):
        network.run(tensor[0], np.empty((1, 32, 32), np.float32), 0)
    with pytest.raises(InvalidInputError):
        network.run(tensor[0][:, ::-1], np.empty((1, 32, 64), np.float32), 0)
    weight = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")
    fixed = _native.Network(made([helper.make_node("Conv", ["picture", "w"], ["map"])], [weight], (1, 3, 16, 24)), 0)
    assert fixed.input() == (16, 24)
    assert fixed.shape(16, 24) == (1, 16, 24)
    with pytest.raises(InvalidInputError):
        fixed.shape(16, 32)
