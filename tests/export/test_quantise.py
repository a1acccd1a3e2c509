# SPDX-License-Identifier: Apache-2.0
"""Quantised weights: ONNX Runtime's own product, ONNX's operators, and plans of them."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")
# These packages warn about themselves and each other.
pytestmark = [pytest.mark.filterwarnings("ignore")]

from secondeye.export.graphs import Graph, Tensor, make_graph, relative_error
from secondeye.runtime.bundle import EngineEntry, File
from secondeye.runtime.errors import ExportError
from secondeye.runtime.files import file_hash
from secondeye.runtime.sessions import open_session

AXES = {"batch": (1, 1, 2), "tokens": (8, 16, 64)}


def network(inner):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(128, inner), torch.nn.GELU(), torch.nn.Linear(inner, 96, bias=False))


def graph_of(inner=192, **changes):
    return Graph(
        **{
            "name": "net", "build": lambda: network(inner).eval(),
            "inputs": (Tensor(name="x", dtype="float32", shape=("batch", "tokens", 128)),),
            "outputs": (Tensor(name="y", dtype="float32", shape=("batch", "tokens", 96)),),
            "sizes": ({"batch": 2, "tokens": 9}, {"batch": 1, "tokens": 17}),
        } | changes
    )  # fmt: skip


def made(folder, precision, graph, **options):
    folder.mkdir()
    return folder / "net.onnx", make_graph(graph, precision, folder / "net.onnx", lambda step: None, **options)


def types(path):
    import onnx

    model = onnx.load(path)
    return {n.op_type for n in model.graph.node}, {i.data_type for i in model.graph.initializer}, model


@pytest.mark.parametrize(("precision", "name", "inner"), [("int8", "INT8", 192), ("int4", "INT4", 80)])
def test_standard_operators_are_as_good_as_packed_products(tmp_path, precision, name, inner):
    from onnx import TensorProto

    graph = graph_of(inner)  # 80 is not whole blocks of 32
    packed, error = made(tmp_path / "packed", precision, graph)
    plain, other = made(tmp_path / "plain", precision, graph, standard=True)
    operators, kinds, model = types(plain)
    assert "MatMulNBits" in types(packed)[0]
    assert "DequantizeLinear" in operators
    assert getattr(TensorProto, name) in kinds
    assert not [n for n in model.graph.node if n.domain]
    assert other["relative_rms"] <= 1.05 * error["relative_rms"]
    inputs = graph.example({"batch": 2, "tokens": 33}, 5)
    results = [open_session(path).run(None, inputs) for path in (packed, plain)]
    assert relative_error(*results)[0] < 2 * error["relative_rms"]


def stated(weights, bits):
    """The rounding of a block of weights [K], one by one: the first of the scales that are off by the least."""
    most, found = 2 ** (bits - 1) - 1, []
    for share in (1.0, 0.94, 0.88, 0.82) if bits == 4 else (1.0,):
        scale = np.abs(weights).max() * np.float32(share / most)
        values = np.rint(weights / scale).clip(-most, most)
        found.append((float(((values * scale - weights) ** 2).sum()), values.astype(int).tolist(), scale))
    return min(found, key=lambda one: one[0])[1:]


@pytest.mark.parametrize("bits", [4, 8])
def test_integers_are_those_of_their_rule_and_the_file_is_written_once(tmp_path, monkeypatch, bits):
    import onnx
    from onnx import numpy_helper

    written, save = [], onnx.save  # which onnx_ir's own comes to in the end
    monkeypatch.setattr(onnx, "save", lambda *rest, **more: written.append(rest[1].name) or save(*rest, **more))
    path, _ = made(tmp_path / "x", f"int{bits}", graph_of(80), standard=True)
    assert written == ["net.onnx"]
    _, _, model = types(path)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 21)]
    tensors = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    assert sorted(n for n, t in tensors.items() if t.ndim == 2) == sorted(
        f"{n}.weight.T_{part}" for n in (0, 2) for part in ("values", "scales")
    )
    for n in (0, 2):
        whole = network(80)[n].weight.detach().numpy().T
        values, scales = tensors[f"{n}.weight.T_values"], tensors[f"{n}.weight.T_scales"]
        assert scales.shape == (-(-len(whole) // 32), whole.shape[1])
        for block, column in np.ndindex(scales.shape):
            part = slice(32 * block, 32 * block + 32), column
            want, scale = stated(whole[part], bits)
            assert values[part].astype(int).tolist() == want
            assert scales[block, column] == scale


def test_packing_leaves_pytorchs_threads_as_they_were():
    from secondeye.export import quantise

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(TypeError):
            quantise.packed_rows(torch.zeros(4, 32), None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_eight_bit_floats_are_what_their_format_says(tmp_path):
    import ml_dtypes
    from onnx import numpy_helper

    path, error = made(tmp_path / "f", "fp8", graph_of())
    assert 0.005 < error["relative_rms"] < 0.06
    _, _, model = types(path)
    tensors = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    values = next(v for v in tensors.values() if v.dtype == ml_dtypes.float8_e4m3fn and v.shape == (192, 96))
    scales = next(v for v in tensors.values() if v.shape == (6, 96))
    want = network(192)[2].weight.detach().numpy().T
    got = values.astype(np.float32) * np.repeat(scales, 32, axis=0)
    assert (np.abs(got - want) <= np.abs(want) / 16 + 2.0**-10 * np.repeat(scales, 32, axis=0)).all()
    assert (np.abs(values.astype(np.float32)).reshape(6, 32, 96).max(1) == 448).all()


@pytest.mark.parametrize("precision", ["int8", "int4", "fp8"])
@pytest.mark.parametrize("standard", [True, False])
def test_weights_too_small_for_a_scale_are_zero(tmp_path, precision, standard):
    """A 448th of 1e-43 is 0 in float32, and what is divided by it no number."""
    if precision == "fp8" and not standard:
        return

    def build():
        module = network(192)
        with torch.no_grad():
            for factor, start in zip((1e-37, 1e-40, 1e-43, 1e-44), range(0, 128, 32), strict=True):
                module[0].weight[start : start + 3, start : start + 32] *= factor
        return module.eval()

    _, error = made(tmp_path / "x", precision, graph_of(build=build), standard=standard)
    assert error["relative_rms"] < error["bound"]


def test_an_error_over_the_bound_is_refused(tmp_path):
    graph = graph_of(bounds={"int4": 1e-3})
    with pytest.raises(ExportError, match="over the bound"):
        made(tmp_path / "x", "int4", graph, standard=True)


@pytest.mark.parametrize("precision", ["int8", "int4", "fp8"])
def test_plans_of_quantised_weights_are_built_without_a_gpu(tmp_path, monkeypatch, precision):
    pytest.importorskip("tensorrt_rtx", reason="plans need TensorRT-RTX (pip install -e '.[tensorrt-rtx]')")
    from secondeye.export.engines import choose_target, compile_plan

    monkeypatch.setenv("SECONDEYE_CACHE", str(tmp_path / "cache"))
    graph = graph_of()
    path, error = made(tmp_path / "graph", precision, graph, standard=True)
    data = path.with_name("net.onnx.data")
    entry = EngineEntry(
        file=path.name, sha256=file_hash(path), data=File(file=data.name, sha256=file_hash(data)), backend="onnx",
        opset=21, precision=precision, inputs=graph.inputs, outputs=graph.outputs, error=error,
    )  # fmt: skip
    target = replace(choose_target("tensorrt-rtx", "sm_89,sm_120"), gpu=None)
    plan = compile_plan(path.parent, entry, AXES, target, "key", tmp_path, timing=tmp_path, steps=1000)
    assert (tmp_path / plan.file).stat().st_size > 10_000
    assert plan.targets == ("sm_89", "sm_120")
