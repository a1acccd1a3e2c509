# SPDX-License-Identifier: Apache-2.0
"""Small segmentation networks whose answers are known, and a depth network that our kernels do not run."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from secondeye.runtime.depth import builtin_path


def brightness_network(path, *, outputs=2, kind="scores"):
    """Scores by brightness: class 1 where red is over its mean."""
    weight = np.zeros((outputs, 3, 1, 1), np.float32)
    weight[-1, 0] = 30.0
    nodes = [helper.make_node("Conv", ["picture", "weight"], ["out"])]
    if kind == "classes":
        nodes = [
            helper.make_node("Conv", ["picture", "weight"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["out"], axis=1, keepdims=0),
        ]
    shape, element = (
        ([1, outputs, "h", "w"], TensorProto.FLOAT) if kind == "scores" else ([1, "h", "w"], TensorProto.INT64)
    )
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("out", element, shape)], [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def beyond_the_kernels(path):
    """The built-in depth network with a layer that changes nothing and that our kernels lack: for ONNX Runtime."""
    model = onnx.load(builtin_path())
    last = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Identity", ["before"], [last]))
    onnx.save(model, path)
    return path
