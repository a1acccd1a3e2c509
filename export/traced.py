# SPDX-License-Identifier: Apache-2.0
"""A module traced to ONNX, and the weights put in afterwards: packed, transposed or narrowed once, then written.

The tracer and the optimiser never see the large weights, which is what they would spend their time on. A module that
has the structure of one traced before (layer 14 after layer 13) takes its graph, with its own weights.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secondeye.runtime.errors import ExportError
from secondeye.runtime.sessions import first_line

if TYPE_CHECKING:
    from secondeye.export.graphs import Graph

OPSET = 18
BLOCK = 32  # weights that share a scale
_PLAIN = (bool, int, float, str, tuple, type(None))
_KEPT = 8
_templates: dict[str, tuple[Any, list[str]]] = {}  # by structure: a model without weights, its parameters' names


def trace(graph: Graph, module: nn.Module) -> Any:
    """The module as an onnx_ir.Model, its weights shared with the module's memory.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    names = [name for name, _ in module.named_parameters()]
    key = structure(graph, module)
    found = _templates.get(key) if key is not None else None
    if found is None:
        model, whole = _traced(graph, module)
        if key is not None and whole:
            while len(_templates) >= _KEPT:
                del _templates[next(iter(_templates))]
            _templates[key] = (model.clone(), names)
    else:
        model = found[0].clone()
        new = dict(zip(found[1], names, strict=True))
        values = list(model.graph.initializers.values())
        model.graph.initializers.clear()
        for value in values:
            if value.name in new:
                value.const_value, value.name = None, new[value.name]
            model.graph.initializers.add(value)
    import onnx_ir

    for name, parameter in module.named_parameters():
        value = model.graph.initializers.get(name)
        if value is not None:
            value.const_value = onnx_ir.Tensor(parameter.detach().numpy(), name=name)
    return model


def structure(graph: Graph, module: nn.Module) -> str | None:
    """All that a trace depends on: classes, plain attributes, shapes, folded constants; None where there is more."""
    own = nn.Module().__dict__.keys()
    told = hashlib.sha256(repr((graph.inputs, graph.outputs, graph.sizes, graph.least, graph.steps)).encode())
    for path, one in module.named_modules():
        settings = {k: v for k, v in one.__dict__.items() if k not in own}
        if not all(isinstance(v, _PLAIN) for v in settings.values()):
            return None
        kind = type(one)
        told.update(repr((re.sub(r"\d+", "#", path), kind.__module__, kind.__qualname__, settings)).encode())
    for parameter in module.parameters():
        told.update(repr((tuple(parameter.shape), parameter.dtype)).encode())
    for name, buffer in module.named_buffers():
        told.update(repr((name, tuple(buffer.shape), buffer.dtype)).encode())
        told.update(np.ascontiguousarray(buffer.numpy()).tobytes())
    return told.hexdigest()


def _dynamic(graph: Graph, module: nn.Module) -> tuple[Any, ...]:
    dims: dict[str, Any] = {}
    for one in graph.inputs:
        for axis in one.shape:
            name = axis if isinstance(axis, str) else axis[0] if isinstance(axis, tuple) else None
            if name is not None and name not in dims:
                dims[name] = torch.export.Dim(name, min=graph.least.get(name, 1), max=4096)
    shapes = tuple(
        {
            i: dims[axis] if isinstance(axis, str) else dims[axis[0]] * axis[1]
            for i, axis in enumerate(one.shape)
            if not isinstance(axis, int)
        }
        for one in graph.inputs
    )
    # A module whose forward is declared with *inputs has one argument, a tuple.
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if kinds == [inspect.Parameter.VAR_POSITIONAL] else shapes


def _traced(graph: Graph, module: nn.Module) -> tuple[Any, bool]:
    """(model, whether no parameter went into a constant, so that another's may take their places)."""
    from onnxscript import optimizer

    example = tuple(torch.from_numpy(v) for v in graph.example(graph.sizes[0]).values())
    for library in ("torch.onnx", "onnx_ir"):  # which would name each weight that it does not see
        logging.getLogger(library).setLevel(logging.ERROR)
    parameters = dict(module.named_parameters())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own deprecations, which a user can do nothing about
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=[one.name for one in graph.inputs],
                output_names=[one.name for one in graph.outputs],
                dynamic_shapes=_dynamic(graph, module),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                optimize=False,
            )
            assert program is not None
            model = program.model
            uses = {v.name: len(v.uses()) for v in model.graph.initializers.values() if v.name in parameters}
            for value in model.graph.initializers.values():
                if value.name in parameters and all(use.node.op_type == "Transpose" for use in value.uses()):
                    value.const_value = None  # or the optimiser transposes it
            optimizer.optimize(model)
    except Exception as error:  # torch's exporter has many kinds
        raise ExportError(
            f"{graph.name}: PyTorch cannot export it ({first_line(error.__cause__ or error)})."
        ) from error
    # Stack traces and paths of the machine that built it are nobody's business, and would make each build differ.
    model.metadata_props.clear()
    for function_or_graph in (model.graph, *model.graph.subgraphs()):
        function_or_graph.metadata_props.clear()
        for node in function_or_graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.producer_name, model.producer_version, model.doc_string = "secondeye", None, None
    left = {v.name: len(v.uses()) for v in model.graph.initializers.values()}
    return model, all(left.get(name, 0) == count for name, count in uses.items())


# ---- weights -----------------------------------------------------------------------------------------------------


def pack(model: Any, bits: int) -> None:
    """Products with constant matrices become MatMulNBits: symmetric, in blocks of 32 along the inner axis."""
    import onnx_ir as ir

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on small pieces more threads wait for each other: five times slower on a busy machine
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
    torch.set_num_threads(threads)
    if packed:
        model.opset_imports["com.microsoft"] = 1


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
        inverse = torch.where(scale == 0, 0.0, 1 / scale)
        coded = (part * inverse[..., None]).round_().add_(half).clamp_(0, 2 * half - 1).to(torch.uint8)
        if bits == 4:
            pairs = coded.view(torch.int16)
            coded = (pairs | (pairs >> 4)).to(torch.uint8)
        values[at : at + step], scales[at : at + step] = coded, scale
    return values.numpy(), scales.numpy()


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


def save(model: Any, path: Path) -> None:
    """Write a model whose weights lie beside it, as NAME.data."""
    import onnx_ir

    onnx_ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=1024)


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
