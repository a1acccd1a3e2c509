# SPDX-License-Identifier: Apache-2.0
"""What a result was measured on."""

from __future__ import annotations

import platform
from pathlib import Path

from rich.console import Console

from secondeye import __version__, _native
from secondeye.runtime.ops import isas


def console() -> Console:
    """Where tables go: as wide as they need where nobody set a width."""
    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 140))


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
