# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed or interrupted in the middle."""

import contextlib
import signal
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


@contextlib.contextmanager
def handlers_kept():
    """What a command sets for signals is for its process; here it is undone."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
