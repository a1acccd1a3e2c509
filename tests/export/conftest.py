# SPDX-License-Identifier: Apache-2.0
import functools
import logging

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_exports():
    """PyTorch's exporter parses its whole table of operators for every graph, and tells pytest of every step."""
    logging.getLogger("torch.__trace").disabled = True
    try:
        from onnxscript._framework_apis import torch_2_5
    except ImportError:
        yield
        return
    read = torch_2_5.get_torchlib_ops
    torch_2_5.get_torchlib_ops = functools.cache(read)
    yield
    torch_2_5.get_torchlib_ops = read
