# SPDX-License-Identifier: Apache-2.0
"""The trained network as the ONNX file that the package carries.

    python -m secondeye.export.builtin.export_onnx --run RUN/model.safetensors --out runtime/assets/depth_builtin.onnx

Batch norm is folded into the convolutions, the large weights are stored as float16 (ONNX Runtime turns them back when
it loads, so the arithmetic stays float32), and both sides are free in steps of 32.
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .network import Block, DepthNet, Separable

OPSET = 18
INPUT_SIZE = (256, 384)
LARGE = 256
"""Weights with fewer values stay float32: they are biases, and cost nothing."""


def fold_batch_norm(model: DepthNet) -> None:
    """Fold every batch norm into the convolution before it."""
    model.eval()
    encoder = model.encoder
    encoder._conv_stem, encoder._bn0 = fuse_conv_bn_eval(encoder._conv_stem, encoder._bn0), nn.Identity()
    for module in model.modules():
        if isinstance(module, Block):
            if module.expands:
                module._expand_conv = fuse_conv_bn_eval(module._expand_conv, module._bn0)
                module._bn0 = nn.Identity()
            module._depthwise_conv = fuse_conv_bn_eval(module._depthwise_conv, module._bn1)
            module._project_conv = fuse_conv_bn_eval(module._project_conv, module._bn2)
            module._bn1 = module._bn2 = nn.Identity()
        elif isinstance(module, Separable):
            module.depthwise = fuse_conv_bn_eval(module.depthwise, module.bn0)
            module.pointwise = fuse_conv_bn_eval(module.pointwise, module.bn1)
            module.bn0 = module.bn1 = nn.Identity()
        elif isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()


def to_onnx(model: DepthNet) -> onnx.ModelProto:
    """Export with torch.export; height and width free in steps of 32."""
    sides = {2: 32 * torch.export.Dim("rows", min=2, max=64), 3: 32 * torch.export.Dim("columns", min=2, max=64)}
    program = torch.onnx.export(
        model, (torch.rand(1, 3, *INPUT_SIZE),), input_names=["image"], output_names=["disparity"],
        dynamic_shapes={"image": sides}, opset_version=OPSET, dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    buffer = io.BytesIO()
    program.save(buffer)
    return onnx.load_from_string(buffer.getvalue())


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 weights as float16, each with a Cast back to float32."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < LARGE:
            kept.append(tensor)
            continue
        small = f"{tensor.name}_half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), small))
        casts.append(helper.make_node("Cast", [small], [tensor.name], to=TensorProto.FLOAT))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def label(model: onnx.ModelProto, version: str) -> None:
    """Name the model, and say how its input is made; runtime/depth.py reads this."""
    facts = {
        "name": "SecondEye built-in depth", "version": version, "licence": "Apache-2.0", "kind": "disparity",
        "normalisation": "none", "input_size": f"{INPUT_SIZE[0]}x{INPUT_SIZE[1]}", "input_multiple": "32",
    }  # fmt: skip
    del model.metadata_props[:]
    helper.set_model_props(model, facts)
    model.producer_name = "secondeye.export.builtin"
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]


def worst_error(model: DepthNet, data: bytes) -> float:
    """Greatest difference from PyTorch, as a share of the output's range, over sizes odd and even."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    worst = 0.0
    for height, width in (INPUT_SIZE, (64, 64), (352, 288), (160, 608)):
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            want = model(image).numpy()
        got = session.run(None, {"image": image.numpy()})[0]
        worst = max(worst, float(np.abs(got - want).max() / np.ptp(want)))
    return worst


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the trained weights (train.py's model.safetensors)")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file")
    parser.add_argument("--model-version", default="1")
    parser.add_argument(
        "--bound", type=float, default=0.02, help="refuse a greater error against PyTorch (default: 0.02)"
    )
    arguments = parser.parse_args()
    model = DepthNet()
    model.load_state_dict(load_file(arguments.run))
    fold_batch_norm(model)
    graph = to_onnx(model)
    halve_weights(graph)
    label(graph, arguments.model_version)
    onnx.checker.check_model(graph, full_check=True)
    data = graph.SerializeToString()
    error = worst_error(model, data)
    print(f"{len(data) / 2**20:.2f} MiB, opset {OPSET}, greatest error against PyTorch {error:.2e} of the range")
    if error > arguments.bound:
        raise SystemExit(f"the error is over the bound of {arguments.bound}")
    temporary = arguments.out.with_suffix(".part")
    temporary.write_bytes(data)
    os.replace(temporary, arguments.out)


if __name__ == "__main__":
    main()
