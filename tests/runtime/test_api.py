# SPDX-License-Identifier: Apache-2.0
"""The public names: those of runtime/api.txt, each importable and described.

A new one is added there by: python tests/runtime/test_api.py
"""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import secondeye

CONTRACT = Path(__file__).parents[2] / "runtime" / "api.txt"


def public_names():
    """secondeye's names and its ops', dotted, in order."""
    from secondeye import ops

    return sorted([f"secondeye.{n}" for n in secondeye.__all__] + [f"secondeye.ops.{n}" for n in ops.__all__])


def test_the_public_names_are_those_of_the_contract():
    assert public_names() == CONTRACT.read_text().split(), f"run: python {Path(__file__).name}"


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_there_and_described(name):
    thing = secondeye
    for part in name.split(".")[1:]:
        thing = getattr(thing, part)
    if inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing):
        assert (inspect.getdoc(thing) or "").strip(), "no docstring"


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["numpy", "onnxruntime", "PIL", "av", "typer", "rich", "torch", "secondeye.export"]
    code = f"import sys, secondeye; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_runtime_never_imports_torch_or_the_exporters():
    code = (
        "import sys, secondeye; [getattr(secondeye, n) for n in secondeye.__all__]; from secondeye.runtime import cli; "
    )
    code += "print([m for m in sys.modules if m == 'torch' or m.startswith('secondeye.export')])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


if __name__ == "__main__":
    CONTRACT.write_text("\n".join(public_names()) + "\n")
