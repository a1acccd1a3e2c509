# SPDX-License-Identifier: Apache-2.0
"""From a PyTorch module to a checked ONNX graph with a measured error.

An exporter describes its graphs (:class:`Graph`); this file does the rest, the same way for every model: precision,
export through torch.export, the gate, and the comparison with PyTorch in float32 at several sizes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from secondeye.runtime.bundle import TensorSpec as Tensor, shape_of
from secondeye.runtime.errors import ExportError
from secondeye.runtime.sessions import first_line, open_session

if TYPE_CHECKING:
    from torch import nn

QUANTISED_OPSET = 21
"""Of graphs with DequantizeLinear in blocks, which came with it; it changed nothing else that a graph of ours holds."""
Precision = Literal["fp32", "bf16", "fp16", "int8", "int4", "fp8"]
"""Of weights and arithmetic; ``int8``, ``int4`` and ``fp8`` (E4M3) are of the weights of matrix products alone, in
blocks of 32, and ``bf16`` of all large weights, with arithmetic in float32: ONNX Runtime has no such CPU kernels."""
ISLANDS = ("none", "norms", "norms and attention")
"""What stays in float32 inside a float16 graph, from the least to the most."""
OPERATORS = frozenset((
    "Add", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos",
    "DequantizeLinear", "Div", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "Identity",
    "InstanceNormalization", "LayerNormalization", "MatMul", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "ReduceMean",
    "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub",
    "Tanh", "Transpose", "Unsqueeze", "Where", "com.microsoft:MatMulNBits",
    "com.microsoft:MultiHeadAttention",
))  # fmt: skip
"""What a graph may hold: plain tensor arithmetic, no control flow, no functions, no custom code; and ONNX Runtime's own
product with packed weights and attention."""
BOUNDS = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 1e-2, "int8": 3e-2, "int4": 0.3, "fp8": 0.1}


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph of a model.

    Attributes:
        name: of the engine in the bundle.
        build: makes the module in float32, folded, in eval mode; the same inputs and outputs at any inner precision.
        inputs, outputs: in the order of the module's arguments and results.
        sizes: lengths of the named axes at which the error is measured, the first also traces.
        least: the least length of each named axis.
        bounds: the greatest relative error (root mean square) per precision that is accepted.
        steps: the values that an integer input may take.
        least_bits: of its weights in ``int4``, where fewer would cost more than they save.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    sizes: tuple[dict[str, int], ...]
    least: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=lambda: dict(BOUNDS))
    steps: int = 1000
    least_bits: int = 4

    def example(self, sizes: dict[str, int], seed: int = 0) -> dict[str, NDArray[Any]]:
        """Seeded inputs: normal floats, bytes, uniform steps."""
        return example_inputs(self.inputs, sizes, self.steps, seed)


def example_inputs(inputs: Sequence[Tensor], sizes: dict[str, int], steps: int, seed: int) -> dict[str, NDArray[Any]]:
    """Seeded inputs: normal floats, bytes, integers under `steps`."""
    rng = np.random.default_rng(seed)
    result: dict[str, NDArray[Any]] = {}
    for one in inputs:
        shape = shape_of(one, sizes)
        if one.dtype == "int64":
            result[one.name] = rng.integers(0, steps, shape)
        elif one.dtype == "uint8":
            result[one.name] = rng.integers(0, 256, shape, np.uint8)
        else:
            result[one.name] = rng.standard_normal(shape).astype(one.dtype)
    return result


def relative_error(got: Sequence[NDArray[Any]], want: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """(root mean square of the difference over that of the wanted values, greatest absolute difference)."""
    a = np.concatenate([np.asarray(x, np.float64).ravel() for x in got])
    b = np.concatenate([np.asarray(x, np.float64).ravel() for x in want])
    if not np.isfinite(a).all():
        return float("inf"), float("inf")
    scale = max(float(np.sqrt(np.mean(b**2))), 1e-12)
    return float(np.sqrt(np.mean((a - b) ** 2))) / scale, float(np.abs(a - b).max())


def _products_in_float32() -> Any:
    """A context in which convolutions and matrix products of float16 values are computed in float32 and rounded once.

    That is what a GPU's units do; PyTorch's own on a CPU are hundreds of times slower.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    products = {"convolution", "linear", "addmm", "mm", "bmm", "baddbmm"}

    def changed(tree: Any, old: torch.dtype, new: torch.dtype) -> Any:
        return tree_map(lambda x: x.to(new) if isinstance(x, torch.Tensor) and x.dtype == old else x, tree)

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._schema.name.partition("::")[2]
            given = (args, kwargs or {})
            halves = any(isinstance(x, torch.Tensor) and x.dtype == torch.float16 for x in args)
            if not halves or not (name in products or name.startswith("_scaled_dot_product")):
                return func(*given[0], **given[1])
            wide = changed(given, torch.float16, torch.float32)
            return changed(func(*wide[0], **wide[1]), torch.float32, torch.float16)

    return Mode()


def _run_torch(module: nn.Module, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    import torch

    with torch.no_grad(), _products_in_float32():
        result = module(*(torch.from_numpy(value) for value in inputs.values()))
    return [one.numpy() for one in (result if isinstance(result, tuple) else (result,))]


def to_half(module: nn.Module, island: str) -> nn.Module:
    """The module in float16 but for an island of :data:`ISLANDS`."""
    import torch

    module.half()
    for one in module.modules():
        if island != "none" and isinstance(one, torch.nn.GroupNorm | torch.nn.LayerNorm):
            one.float()
        if hasattr(one, "in_fp32"):
            one.in_fp32 = island == "norms and attention"
    return module


def make_graph(
    graph: Graph,
    precision: Precision,
    path: Path,
    told: Callable[[str], None],
    *,
    floor: str | None = None,
    standard: bool = False,
) -> dict[str, Any]:
    """Export one graph, check it, measure it.

    Args:
        graph: what to export.
        precision: of weights and arithmetic inside.
        path: the ONNX file to write; its weights go beside it as NAME.data.
        told: called with the name of each step.
        floor: of ``fp16``: at least this one of :data:`ISLANDS` stays in float32.
        standard: with ONNX's own operators alone, for other backends than ONNX Runtime.

    Returns:
        What the manifest says: island, relative and absolute error, bound.

    Raises:
        ExportError: PyTorch cannot export it, the gate refuses it, or its error is over the bound.
    """
    import torch

    from secondeye.export import fused, quantise, traced

    torch.set_num_threads(max(1, min(torch.get_num_threads(), os.cpu_count() or 1)))
    bound = graph.bounds[precision]
    told("reference")
    module = graph.build()
    examples = [graph.example(sizes, seed) for seed, sizes in enumerate(graph.sizes)]
    wanted = [_run_torch(module, example) for example in examples]
    island, tried = "all", []
    if precision == "fp16":
        for island in ISLANDS[0 if floor is None else ISLANDS.index(floor) :]:
            told(f"float16, in float32: {island}")
            module = to_half(graph.build() if tried else module, island)
            error = relative_error(_run_torch(module, examples[0]), wanted[0])[0]
            tried.append(error)
            if error <= graph.bounds["fp16"]:
                break
        else:
            errors = ", ".join(f"{e:.2g}" for e in tried)
            raise ExportError(
                f"{graph.name}: float16 is off by {errors} (relative, {' / '.join(ISLANDS)} in float32), over the "
                f"bound of {graph.bounds['fp16']:g}; build it with --precision fp32."
            )
    told("export")
    names = {name for name, _ in module.named_parameters()}
    model = traced.trace(graph, module)
    del module
    told("weights" if precision in ("fp32", "fp16") else f"weights to {precision}")
    bits = 8 if precision == "int8" else graph.least_bits
    if not standard:
        fused.fuse_attention(model)
    if precision in ("int8", "int4") and not standard:
        quantise.pack(model, bits)
    quantise.fold_transposes(model)
    if precision == "bf16":
        quantise.to_bfloat16(model, names)
    elif precision in ("int8", "int4") and standard:
        quantise.to_integers(model, bits, QUANTISED_OPSET)
    elif precision == "fp8":
        quantise.to_float8(model, QUANTISED_OPSET)
    traced.save(model, path)
    del model
    told("check")
    _gate(path)
    told("compare")
    relative, absolute = _compare(graph, path, examples, wanted)
    if not relative <= bound:
        raise ExportError(
            f"{graph.name}: differs from PyTorch by {relative:.2g} (relative), over the bound of {bound:g}."
        )
    return {
        "fp32_island": island,
        "relative_rms": relative,
        "max_abs": absolute,
        "bound": bound,
        "sizes": [list(sizes.values()) for sizes in graph.sizes],
    }


def _gate(path: Path) -> None:
    """Refuse a graph that ONNX's own checker, or our list of operators, does not pass."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        raise ExportError(f"{path.name}: ONNX's checker refuses it ({first_line(error)}).") from error
    model = onnx.load(str(path), load_external_data=False)
    names = {f"{n.domain}:{n.op_type}" if n.domain else n.op_type for n in model.graph.node}
    others = sorted(names - OPERATORS)
    if others or model.functions:
        raise ExportError(f"{path.name}: operators that are not on the list: {', '.join(others) or 'functions'}.")


def _compare(
    graph: Graph, path: Path, examples: list[dict[str, NDArray[Any]]], wanted: list[list[NDArray[Any]]]
) -> tuple[float, float]:
    """The worst error of the ONNX graph over the examples."""
    session = open_session(path)
    errors = [relative_error(session.run(None, e), w) for e, w in zip(examples, wanted, strict=True)]
    return max(e[0] for e in errors), max(e[1] for e in errors)
