# SPDX-License-Identifier: Apache-2.0
"""Attention in a traced graph as ONNX Runtime's own operator, whose GPU kernels never write a score to memory.

The traced form is standard ONNX: two products with a softmax between, whose scores over the 15360 tokens of a
768 x 1280 picture take gigabytes. ``com.microsoft:MultiHeadAttention`` computes the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MOST_WIDE = 256  # channels of a head, beyond which that operator has no fast kernel


def fuse_attention(model: Any) -> int:
    """Put ONNX Runtime's operator in the place of every attention whose heads are narrow enough.

    Args:
        model: an onnx_ir.Model of :func:`secondeye.export.traced.trace`, changed in place.

    Returns:
        How many were replaced.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    count = 0
    for softmax in [node for node in model.graph if node.op_type == "Softmax"]:
        found = _match(softmax)
        if found is None:
            continue
        inputs, heads, out = found
        fused = ir.node(
            "MultiHeadAttention", inputs, {"num_heads": heads}, domain="com.microsoft",
            outputs=[ir.Value(name=f"{out.name}.fused", shape=out.shape, type=out.type)],
        )  # fmt: skip
        model.graph.insert_before(out.producer(), fused)
        out.replace_all_uses_with(fused.outputs[0])
        count += 1
    if count:
        model.graph.opset_imports["com.microsoft"] = 1
        RemoveUnusedNodesPass()(model)
    return count


def _match(softmax: Any) -> tuple[list[Any], int, Any] | None:
    """(query, key and value; heads; the value that holds the result) of the attention round a softmax."""
    scores = _made_by(softmax.inputs[0], "MatMul")
    product = _only_use(softmax.outputs[0], "MatMul")
    if scores is None or product is None:
        return None
    turned = _only_use(product.outputs[0], "Transpose")
    flat = None if turned is None else _only_use(turned.outputs[0], "Reshape")
    query, scale = _scaled(scores.inputs[0])
    key, again = _scaled(scores.inputs[1])
    for kind in ("Reshape", "Transpose", "Reshape"):  # the key's last two axes change places, the first two as one
        made = None if key is None else _made_by(key, kind)
        key = None if made is None else made.inputs[0]
    if flat is None or query is None or key is None or not scale or scale != again:
        return None
    wide = round(scale**-4)
    if not math.isclose(scale * again, wide**-0.5, rel_tol=1e-3) or wide > MOST_WIDE:
        return None
    query = _tokens(query)
    value = product.inputs[1]
    tokens = [_tokens(key), _tokens(value)]
    if query is None or query.shape is None or not isinstance(query.shape[-1], int):
        return None
    pair = [key, value] if None in tokens else tokens  # as heads where they were folded so
    return [query, *pair], query.shape[-1] // wide, flat.outputs[0]


def _made_by(value: Any, kind: str) -> Any:
    node = value.producer()
    return node if node is not None and node.op_type == kind else None


def _only_use(value: Any, kind: str) -> Any:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == kind else None


def _scaled(value: Any) -> tuple[Any, float]:
    """(what a constant is multiplied with, the constant)."""
    node = _made_by(value, "Mul")
    constant = None if node is None else node.inputs[1].const_value
    if constant is None or constant.size != 1:
        return None, 0.0
    return node.inputs[0], float(np.asarray(constant.numpy(), np.float64).ravel()[0])


def _tokens(heads: Any) -> Any:
    """[N, tokens, width], of which [N, heads, tokens, width / heads] was made; None where it was not."""
    node = _made_by(heads, "Transpose")
    if node is None or list(node.attributes["perm"].as_ints()) != [0, 2, 1, 3]:
        return None
    split = _made_by(node.inputs[0], "Reshape")
    return None if split is None else split.inputs[0]
