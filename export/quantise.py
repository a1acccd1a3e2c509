# SPDX-License-Identifier: Apache-2.0
"""Weights in a traced model, before it is written: transposed, packed or narrowed, each once.

Weights of matrix products are rounded symmetrically, in blocks of 32 along the inner axis with a scale each. ONNX
Runtime has a product of its own that reads them packed, whose scales may be negative, which wins a level
(:func:`pack`); TensorRT takes DequantizeLinear before an ordinary product, and positive scales alone, so there the
scale is searched instead (:func:`to_integers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BLOCK = 32  # weights that share a scale
_FLOAT8_MOST = 448.0  # of E4M3
_LEAST = np.float32(1e-34)  # a block of smaller weights is written as 0; a 448th of it is no subnormal number yet
Map = NDArray[np.float32]
Weights = tuple[NDArray[Any], Map]


def fold_transposes(model: Any) -> None:
    """Weights that are only ever used transposed are stored so."""
    import onnx_ir as ir

    for node in [n for n in model.graph if n.op_type == "Transpose"]:
        weight = node.inputs[0]
        if weight is None or not weight.is_initializer() or weight.const_value is None:
            continue
        order = node.attributes["perm"].as_ints()
        tensor = weight.const_value
        turned = ir.LazyTensor(
            lambda t=tensor, o=order: ir.Tensor(np.ascontiguousarray(t.numpy().transpose(o))),  # type: ignore[misc]
            dtype=tensor.dtype,
            shape=ir.Shape([tensor.shape[i] for i in order]),
            name=f"{weight.name}.T",
        )
        value = ir.Value(name=turned.name, shape=turned.shape, type=ir.TensorType(tensor.dtype), const_value=turned)
        model.graph.initializers.add(value)
        node.outputs[0].replace_all_uses_with(value)
        _drop(model, node)


def to_bfloat16(model: Any, names: set[str]) -> None:
    """Store the named weights as bfloat16 (half to even), each with a Cast back."""
    import onnx_ir as ir

    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if name.removesuffix(".T") not in names or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes <= 1024:
            continue
        narrow = ir.LazyTensor(
            lambda t=tensor: _bfloat16(t.numpy()),  # type: ignore[misc]
            dtype=ir.DataType.BFLOAT16,
            shape=tensor.shape,
            name=f"{name}_bf16",
        )
        stored = ir.Value(
            name=narrow.name, shape=tensor.shape, type=ir.TensorType(ir.DataType.BFLOAT16), const_value=narrow
        )
        model.graph.initializers.add(stored)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
        cast.outputs[0].shape, cast.outputs[0].type = tensor.shape, ir.TensorType(ir.DataType.FLOAT)
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.insert_before(model.graph[0], cast)


def pack(model: Any, bits: int) -> None:
    """Products with constant matrices become MatMulNBits: symmetric, in blocks of 32 along the inner axis."""
    import onnx_ir as ir

    packed: dict[str, tuple[Any, Any]] = {}
    for node in [n for n in model.graph if n.op_type == "MatMul" and n.domain == ""]:
        turned, weight = _weight(node.inputs[1])
        if weight is None or weight.const_value is None or len(weight.const_value.shape) != 2:
            continue
        matrix = weight.const_value.numpy()
        rows = matrix if turned else matrix.T
        if weight.name not in packed:
            values, scales = packed_rows(torch.from_numpy(np.ascontiguousarray(rows)), bits)
            packed[weight.name] = tuple(
                _initializer(model, f"{weight.name}_{suffix}", array)
                for suffix, array in ((f"Q{bits}", values), ("scales", scales))
            )
        out, inner = rows.shape
        made = ir.node(
            "MatMulNBits",
            [node.inputs[0], *packed[weight.name]],
            {"K": inner, "N": out, "bits": bits, "block_size": BLOCK},
            domain="com.microsoft",
            name=node.name,
        )
        _replace(model, node, made)
    if packed:
        model.opset_imports["com.microsoft"] = 1


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """On small pieces more threads wait for each other: five times slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def packed_rows(weight: torch.Tensor, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Weights [N, K] in `bits` bits.

    A block's scale maps its value furthest from 0 to -2^(bits-1); values are rounded to the nearest step, stored with
    2^(bits-1) added, the lower half of a byte first.

    Returns:
        uint8 [N, blocks, 32 * bits / 8] and float32 [N, blocks], as ONNX Runtime's MatMulNBits has them.
    """
    count, inner = weight.shape
    blocks, half = -(-inner // BLOCK), 1 << (bits - 1)
    values = torch.empty(count, blocks, BLOCK * bits // 8, dtype=torch.uint8)
    scales = torch.empty(count, blocks)
    step = max(1, (1 << 18) // inner)  # so that what is in hand stays in the cache
    for at in range(0, count, step):
        part = nn.functional.pad(weight[at : at + step].float(), (0, blocks * BLOCK - inner)).view(-1, blocks, BLOCK)
        low, high = part.amin(dim=2), part.amax(dim=2)
        scale = torch.where(-low > high, low, high) / -half
        inverse = torch.where(scale.abs() < float(_LEAST) / half, 0.0, 1 / scale)
        coded = (part * inverse[..., None]).round_().add_(half).clamp_(0, 2 * half - 1).to(torch.uint8)
        if bits == 4:
            pairs = coded.view(torch.int16)
            coded = (pairs | (pairs >> 4)).to(torch.uint8)
        values[at : at + step], scales[at : at + step] = coded, scale
    return values.numpy(), scales.numpy()


def to_integers(model: Any, bits: int, opset: int) -> None:
    """Weights of 4 or 8 bits, by DequantizeLinear; a block's scale is the one of least squared error."""
    import ml_dtypes

    most = (1 << (bits - 1)) - 1
    shares = (1.0, 0.94, 0.88, 0.82) if bits == 4 else (1.0,)  # of the greatest weight; what is over it is clipped

    def rounded(weights: Map) -> Weights:
        found = np.zeros(weights.shape, np.int8)
        greatest = scales = _greatest(weights)
        least = np.full_like(greatest, np.inf)
        for share in shares:
            scale = (greatest * np.float32(share / most)).astype(np.float32)
            values = np.rint(weights / _spread(scale, weights)).clip(-most, most)
            error = np.add.reduceat((values * _spread(scale, weights) - weights) ** 2, _starts(weights), axis=0)
            better = error < least
            least, scales = np.where(better, error, least), np.where(better, scale, scales)
            found = np.where(_spread(better, weights), values, found).astype(np.int8)
        return found.astype(np.int8 if bits == 8 else ml_dtypes.int4), scales

    _dequantised(model, opset, rounded)


def to_float8(model: Any, opset: int) -> None:
    """Constant weights of matrix products as E4M3, the greatest of a block as 448."""
    import ml_dtypes

    def rounded(weights: Map) -> Weights:
        scales = (_greatest(weights) / np.float32(_FLOAT8_MOST)).astype(np.float32)
        return (weights / _spread(scales, weights)).astype(ml_dtypes.float8_e4m3fn), scales

    _dequantised(model, opset, rounded)


def _starts(weights: Map) -> NDArray[np.intp]:
    return np.arange(0, len(weights), BLOCK)


def _greatest(weights: Map) -> Map:
    """Of each block the greatest magnitude, [K / 32, N]; 1 where all is 0, or so small that a scale would be."""
    found: Map = np.maximum.reduceat(np.abs(weights), _starts(weights), axis=0)
    return np.where(found < _LEAST, np.float32(1), found)


def _spread(blocks: NDArray[Any], weights: Map) -> NDArray[Any]:
    """What is told for blocks [K / 32, N], for every weight [K, N]."""
    return np.repeat(blocks, BLOCK, axis=0)[: len(weights)]


def _dequantised(model: Any, opset: int, rounded: Callable[[Map], Weights]) -> None:
    """Products with constant weights [K, N] get them from DequantizeLinear of (values [K, N], scales [K / 32, N])."""
    import onnx_ir as ir

    made: dict[str, Any] = {}
    for node in [n for n in model.graph if n.op_type == "MatMul" and n.domain == ""]:
        weight = node.inputs[1]
        tensor = weight.const_value if weight.is_initializer() else None
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
            continue
        if weight.name not in made:
            parts = zip(rounded(tensor.numpy()), ("values", "scales"), strict=True)
            inputs = [_initializer(model, f"{weight.name}_{suffix}", array) for array, suffix in parts]
            back = ir.node("DequantizeLinear", inputs, {"axis": 0, "block_size": BLOCK})
            made[weight.name] = value = back.outputs[0]
            value.name, value.shape, value.type = f"{weight.name}_dequantised", tensor.shape, weight.type
            model.graph.insert_before(node, back)
        node.replace_input_with(1, made[weight.name])
        if not weight.uses() and not weight.is_graph_output():
            del model.graph.initializers[weight.name]
    model.opset_imports[""] = opset
    model.ir_version = max(model.ir_version, 10)  # which opset 21 came with


def _bfloat16(array: NDArray[np.float32]) -> Any:
    import ml_dtypes
    import onnx_ir

    return onnx_ir.Tensor(torch.tensor(array).to(torch.bfloat16).view(torch.int16).numpy().view(ml_dtypes.bfloat16))


def _weight(value: Any) -> tuple[bool, Any]:
    """(whether it is transposed first, the constant) behind a product's second operand, or (False, None)."""
    if value.is_initializer():
        return False, value
    node = value.producer()
    if node is None or node.op_type != "Transpose" or tuple(node.attributes["perm"].as_ints()) != (1, 0):
        return False, None
    return (True, node.inputs[0]) if node.inputs[0].is_initializer() else (False, None)


def _initializer(model: Any, name: str, array: NDArray[Any]) -> Any:
    import onnx_ir as ir

    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.initializers.add(value)
    return value


def _replace(model: Any, old: Any, new: Any) -> None:
    """One node for another of one output, with what fed the old one alone taken away."""
    result, made = old.outputs[0], new.outputs[0]
    made.name, made.shape, made.type = result.name, result.shape, result.type
    model.graph.insert_before(old, new)
    result.replace_all_uses_with(made, replace_graph_outputs=True)
    _drop(model, old)


def _drop(model: Any, node: Any) -> None:
    """Remove a node that nothing uses, and then what nothing uses of that which it was made of."""
    inputs = [value for value in node.inputs if value is not None]
    model.graph.remove(node, safe=True)
    for value in inputs:
        if value.uses() or value.is_graph_output():
            continue
        if value.is_initializer():
            del model.graph.initializers[value.name]
        elif value.producer() is not None and value.producer().op_type == "Transpose":
            _drop(model, value.producer())
