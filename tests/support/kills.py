# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed or interrupted in the middle."""

import subprocess
from pathlib import Path
from typing import Any


def kill_with_a_segment(command: list[Any], film: Path) -> None:
    """Start a conversion into a film, and kill it once a segment is written down (or it has ended by itself)."""
    process = subprocess.Popen(command)
    while process.poll() is None and not list(film.parent.glob(f"{film.name}.parts/[0-9]*.json")):
        pass
    process.kill()
    process.wait()
