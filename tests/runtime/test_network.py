# SPDX-License-Identifier: Apache-2.0
"""Networks on our own kernels: ONNX Runtime's numbers, the same bytes for any thread count, refusals with a reason."""

import threading

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings, strategies as st
from networks import Drawing, beyond_the_kernels, made
from onnx import helper, numpy_helper

from secondeye import LiveConfig, LiveSession, _native, ops
from secondeye.runtime import live
from secondeye.runtime.backends.own import KernelSession
from secondeye.runtime.depth import BUILTIN, DepthOptions, builtin_path, open_depth
from secondeye.runtime.errors import BackendUnavailableError, InvalidInputError, ModelFormatError
from secondeye.runtime.ops._common import ISA_CODES

ISAS = [*ops.isas(), "auto"]  # the last may be AVX-512 where the other kernels need more of it
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
    fused = [isa for isa in ISAS if isa != "base"]
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
