# SPDX-License-Identifier: Apache-2.0
"""Networks: small ones of known answers, random ones of the layers that our kernels have, and one that they do not run.

python tests/support/networks.py FOLDER     writes random ones, for the fuzzer to begin with
"""

import sys
from pathlib import Path

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


if __name__ == "__main__":
    for seed in range(40):
        model = Drawing(seed).model()
        if len(model) < 12_000:
            Path(sys.argv[1], f"{seed}.onnx").write_bytes(model)
