# SPDX-License-Identifier: Apache-2.0
import os
import signal
import sys

import numpy as np
import pytest
from hypothesis import settings
from kills import handlers_kept
from PIL import Image

from secondeye import _native
from secondeye.runtime.cli import main
from secondeye.runtime.sample import render_sample

if os.name == "nt":  # they are about what POSIX has
    collect_ignore = ["video/test_failures.py", "stream/test_live_command.py", "stream/test_serve.py"]


def pytest_collection_modifyitems(items):
    if os.name == "nt":
        for item in items:
            if item.get_closest_marker("posix"):
                item.add_marker(pytest.mark.skip(reason="Windows has it in its own way, or not"))


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background; and what the tests start would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine is slow at any moment; how long a case takes is a benchmark's matter.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def scene():
    """A rendered picture, uint8 [216, 384, 3], and its inverse depth."""
    return render_sample(384, 216)


@pytest.fixture(scope="session")
def cuda():
    """torch, on a machine where our CUDA kernels run."""
    torch = pytest.importorskip("torch", reason="torch carries the arrays to the GPU")
    if not torch.cuda.is_available() or _native.cuda_device_count() == 0:
        pytest.skip("no GPU, or a build without CUDA kernels")
    return torch


@pytest.fixture
def photo(tmp_path, scene):
    """A JPEG file."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene[0]).save(path, quality=92)
    return path


@pytest.fixture
def cli(monkeypatch, capfd):
    """Runs the command in this process; gives (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["secondeye", *map(str, words)])
        try:
            with handlers_kept():
                main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        out = capfd.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def read():
    """Reads a picture file as an array."""

    def load(path):
        with Image.open(path) as image:
            return np.asarray(image)

    return load
