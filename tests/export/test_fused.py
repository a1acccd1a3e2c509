# SPDX-License-Identifier: Apache-2.0
"""Attention as ONNX Runtime's own operator: found where it is, left where it is not, and the same numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="building needs torch (pip install -e '.[dev-export]')")
pytest.importorskip("onnxscript", reason="building needs onnxscript (pip install -e '.[dev-export]')")
# These packages warn about themselves and each other.
pytestmark = [pytest.mark.filterwarnings("ignore")]

from secondeye.export.graphs import Graph, Tensor, make_graph
from secondeye.export.models.diffusion import Attention, TransformerBlock
from secondeye.runtime.sessions import open_session


class Network(torch.nn.Module):
    """Attention over itself and over constants, and attention whose one head is too wide."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block, self.wide = TransformerBlock(288, 3, 40), Attention(288, 1)
        with torch.no_grad():
            self.block.attn2.fold(torch.randn(1, 2, 40))

    def forward(self, x):
        return self.wide(self.block(x.to(self.wide.to_q.weight.dtype))).float()


GRAPH = Graph(
    name="net", build=lambda: Network().eval(),
    inputs=(Tensor(name="x", dtype="float32", shape=("batch", "tokens", 288)),),
    outputs=(Tensor(name="y", dtype="float32", shape=("batch", "tokens", 288)),),
    sizes=({"batch": 2, "tokens": 9}, {"batch": 1, "tokens": 17}),
)  # fmt: skip


def types(path):
    import onnx

    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_narrow_heads_are_fused_and_give_the_same(tmp_path, precision):
    for name in ("own", "plain"):
        (tmp_path / name).mkdir()
        make_graph(GRAPH, precision, tmp_path / name / "net.onnx", lambda step: None, standard=name == "plain")
    own, plain = (types(tmp_path / name / "net.onnx") for name in ("own", "plain"))
    assert (own.count("MultiHeadAttention"), own.count("Softmax")) == (2, 1)
    assert (plain.count("MultiHeadAttention"), plain.count("Softmax")) == (0, 3)
    x = np.random.default_rng(0).standard_normal((3, 33, 288)).astype(np.float32)
    got, want = (open_session(tmp_path / name / "net.onnx").run(None, {"x": x})[0] for name in ("own", "plain"))
    np.testing.assert_allclose(got, want, atol=1e-5 if precision == "fp32" else 5e-3)
