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


def test_numbers_of_numpys_are_numbers():
    import pickle

    import numpy as np

    one = secondeye.StereoConfig(strength=np.float32(2), widen=np.int16(3), seed=np.int64(4), fill=np.bool_(True))
    assert one == secondeye.StereoConfig(strength=2.0, widen=3, seed=4)
    assert {type(v) for v in (one.strength, one.widen, one.seed, one.fill)} == {float, int, bool}
    high, wide = np.zeros((90, 160)).shape
    live = secondeye.LiveConfig(width=np.int64(wide), height=np.uint16(high), deadline_ms=np.float64(30))
    assert live == secondeye.LiveConfig(width=160, height=90, deadline_ms=30)
    assert secondeye.FilmConfig(start=np.float32(1), quality=np.int64(20)) == secondeye.FilmConfig(
        start=1.0, quality=20
    )
    for config in (one, live):
        assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(secondeye.InvalidInputError, match="strength"):
        secondeye.StereoConfig(strength=np.float32(np.nan))


@pytest.mark.parametrize("picture", [None, 3, [[1, 2], [3, 4]]])
def test_what_is_no_picture_is_refused_in_a_sentence(picture):
    with pytest.raises(secondeye.InvalidInputError, match="expected a path"):
        secondeye.StereoConverter().convert(picture)


if __name__ == "__main__":
    CONTRACT.write_text("\n".join(public_names()) + "\n")
