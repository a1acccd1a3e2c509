# SPDX-License-Identifier: Apache-2.0
"""A module traced to ONNX, and the weights put in afterwards.

The tracer and the optimiser never see the large weights, which is what they would spend their time on. A module that
has the structure of one traced before (layer 14 after layer 13) takes its graph, with its own weights. What becomes of
those before the model is written, once, is in quantise.py.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from secondeye.runtime.errors import ExportError
from secondeye.runtime.files import atomic_write
from secondeye.runtime.sessions import first_line

if TYPE_CHECKING:
    from secondeye.export.graphs import Graph

OPSET = 18
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


def save(model: Any, path: Path) -> None:
    """Write a model whose weights lie beside it, as NAME.data."""
    import onnx_ir

    onnx_ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=1024)


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write the weights that a graph of :func:`save` has lost, where it says that they lie.

    Args:
        path: of the graph; NAME.data beside it is written.
        tensors: by the module's names, as it was when it was traced.

    Raises:
        ExportError: a weight that is not among them, or of another size or type.
    """
    import onnx

    kinds = {onnx.TensorProto.FLOAT16: torch.float16, onnx.TensorProto.FLOAT: torch.float32}
    with atomic_write(path.with_name(f"{path.name}.data")) as file:
        for one in onnx.load(path, load_external_data=False).graph.initializer:
            place = {entry.key: entry.value for entry in one.external_data}
            if not place:
                continue
            tensor = tensors.get(one.name.removesuffix(".T"))
            if tensor is not None and one.name.endswith(".T"):
                tensor = tensor.T
            if tensor is None or list(tensor.shape) != list(one.dims) or kinds.get(one.data_type) != tensor.dtype:
                raise ExportError(f"{path.name}: {one.name} is not a weight of this module.")
            file.seek(int(place.get("offset", 0)))
            file.write(tensor.contiguous().cpu().numpy().tobytes())
