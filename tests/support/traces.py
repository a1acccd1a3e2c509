# SPDX-License-Identifier: Apache-2.0
"""Exports in less time: what was traced is not traced again, and a second process builds what is asked for later."""

import functools
import gc
import hashlib
import logging
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import torch


def quicken():
    """Let PyTorch's exporter read its table of operators once, log nothing and trace no module twice."""
    logging.getLogger("torch.__trace").disabled = True
    from onnxscript._framework_apis import torch_2_5

    from secondeye.export import traced

    torch_2_5.get_torchlib_ops = functools.cache(torch_2_5.get_torchlib_ops)
    whole, known = traced._traced, {}

    def remembered(graph, module):
        key = _key(graph, module)
        if key is None:
            return whole(graph, module)
        if key not in known:
            known[key] = whole(graph, module)
        model, alike = known[key]
        return model.clone(), alike

    traced._traced = remembered
    gc.set_threshold(200_000, 50, 100)  # tracing makes objects by the million, nearly all of which stay


def _key(graph, module):
    """All that a trace depends on, every weight included; None where that cannot be told."""
    own = torch.nn.Module().__dict__.keys()
    told = hashlib.sha256(repr((graph.inputs, graph.outputs, graph.sizes, graph.least, graph.steps)).encode())
    for path, one in module.named_modules():
        settings = repr({k: v for k, v in one.__dict__.items() if k not in own})
        if " at 0x" in settings or "tensor(" in settings:
            return None
        told.update(repr((path, type(one).__module__, type(one).__qualname__, settings)).encode())
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        told.update(repr((name, tuple(value.shape), value.dtype)).encode())
        told.update(value.detach().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return told.hexdigest()


def second_process():
    """Runs functions one after the other, quickened too. Exporting keeps one core busy, and there are two."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (list(sys.path),))


def _begin(path):
    sys.path[:] = path
    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    quicken()
