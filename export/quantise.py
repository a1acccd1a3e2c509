# SPDX-License-Identifier: Apache-2.0
"""Smaller weights in an ONNX file, in place, for backends that take DequantizeLinear before an ordinary product.

Weights of matrix products are rounded symmetrically, in blocks of 32 along the inner axis with a scale each. ONNX
Runtime has a product of its own that reads them packed (traced.py), whose scales may be negative, which wins a level;
TensorRT takes positive ones alone, so here the scale is searched instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # weights that share a scale
_FLOAT8_MOST = 448.0  # of E4M3
Map = NDArray[np.float32]
Weights = tuple[NDArray[Any], Map]


def to_integers(path: Path, bits: int, opset: int) -> None:
    """Weights of 4 or 8 bits by DequantizeLinear; a block's scale is the one of least squared error."""
    import ml_dtypes

    most = (1 << (bits - 1)) - 1
    shares = (1.0, 0.94, 0.88, 0.82) if bits == 4 else (1.0,)  # of the greatest weight; what is over it is clipped

    def rounded(weights: Map) -> Weights:
        found = np.zeros(weights.shape, np.int8)
        scales, least = _greatest(weights), _greatest(weights)
        least[...] = np.inf
        for share in shares:
            scale = (_greatest(weights) * np.float32(share / most)).astype(np.float32)
            values = np.rint(weights / _spread(scale, weights)).clip(-most, most)
            error = np.add.reduceat((values * _spread(scale, weights) - weights) ** 2, _starts(weights), axis=0)
            better = error < least
            least, scales = np.where(better, error, least), np.where(better, scale, scales)
            found = np.where(_spread(better, weights), values, found).astype(np.int8)
        return found.astype(np.int8 if bits == 8 else ml_dtypes.int4), scales

    _dequantised(path, opset, rounded)


def to_float8(path: Path, opset: int) -> None:
    """Constant weights of matrix products as E4M3, the greatest of a block as 448."""
    import ml_dtypes

    def rounded(weights: Map) -> Weights:
        scales = (_greatest(weights) / np.float32(_FLOAT8_MOST)).astype(np.float32)
        return (weights / _spread(scales, weights)).astype(ml_dtypes.float8_e4m3fn), scales

    _dequantised(path, opset, rounded)


def _starts(weights: Map) -> NDArray[np.intp]:
    return np.arange(0, len(weights), BLOCK)


def _greatest(weights: Map) -> Map:
    """Of each block the greatest magnitude, [K / 32, N]; 1 where all is 0."""
    found: Map = np.maximum.reduceat(np.abs(weights), _starts(weights), axis=0)
    return np.where(found == 0, np.float32(1), found)


def _spread(blocks: NDArray[Any], weights: Map) -> NDArray[Any]:
    """What is told for blocks [K / 32, N], for every weight [K, N]."""
    return np.repeat(blocks, BLOCK, axis=0)[: len(weights)]


def _dequantised(path: Path, opset: int, rounded: Callable[[Map], Weights]) -> None:
    """Products with constant weights [K, N] get them from DequantizeLinear of (values [K, N], scales [K / 32, N])."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    constants = {
        one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT and len(one.dims) == 2
    }
    nodes: list[Any] = []
    made: dict[str, str] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type == "MatMul" else ""
        if name in constants:
            if name not in made:
                made[name], parts = f"{name}_dequantised", [f"{name}_values", f"{name}_scales"]
                for part, to in zip(rounded(numpy_helper.to_array(constants[name])), parts, strict=True):
                    graph.initializer.append(numpy_helper.from_array(part, to))
                nodes.append(helper.make_node("DequantizeLinear", parts, [made[name]], axis=0, block_size=BLOCK))
            node.input[1] = made[name]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    wanted = {name for node in nodes for name in node.input}
    for one in [one for one in graph.initializer if one.name not in wanted]:
        graph.initializer.remove(one)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    _save_apart(model, path)


def _save_apart(model: Any, path: Path) -> None:
    """A model whose weights lie beside it, as NAME.data."""
    import onnx

    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
