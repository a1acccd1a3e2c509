# SPDX-License-Identifier: Apache-2.0
"""What a result was measured on."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from secondeye import __version__, _native
from secondeye.runtime.files import check_place
from secondeye.runtime.ops import isas


def bench_extra(name: str) -> Any:
    """A package of the extra ``bench``; a program that needs it ends with a sentence where it is absent."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SystemExit(f"secondeye: this needs {name} ({error}); pip install 'secondeye[bench]'.") from error


def result_place(path: Path | None) -> Path | None:
    """Refuses, before anything is measured, a place where no result can be written: the callback of such options."""
    if path is not None:
        check_place(path)
    return path


def console() -> Console:
    """Where tables go: as wide as they need where nobody set a width."""
    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 140))


def memory_mib() -> float:
    """This process's resident memory now (Linux, Windows)."""
    if os.name == "nt":
        counters = (ctypes.c_size_t * 9)(72)  # PROCESS_MEMORY_COUNTERS: its size, ..., WorkingSetSize the third
        ctypes.windll.kernel32.K32GetProcessMemoryInfo(ctypes.c_void_p(-1), counters, 72)  # type: ignore[attr-defined]
        return counters[2] / 2**20
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine() -> dict[str, str | int]:
    """Processor, cores, instruction sets and versions, for a result's file."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    import onnxruntime

    return {
        "processor": processor,
        "cores": _native.cpu_count(),
        "instruction_sets": " ".join(isas()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "secondeye": __version__,
        "onnxruntime": onnxruntime.__version__,
    }
