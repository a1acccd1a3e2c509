# SPDX-License-Identifier: Apache-2.0
"""``secondeye layouts``."""

from __future__ import annotations


def layouts() -> None:
    """List the output layouts and the kinds of anaglyph."""
    from rich.console import Console
    from rich.table import Table

    from secondeye.runtime.layouts import LAYOUTS, SEPARATE
    from secondeye.runtime.ops import ANAGLYPHS

    table = Table(title="--layout", title_justify="left")
    for heading in ("name", "file name ends in", "size in views", "what it is"):
        table.add_column(heading)
    for one in LAYOUTS.values():
        table.add_row(one.name, one.suffix, f"{one.wide:g} x {one.tall:g}", one.summary)
    table.add_row(SEPARATE, "_L and _R", "two files", "each view in a file of its own")
    console = Console()
    console.print(table)
    console.print("\n--anaglyph: " + ", ".join(ANAGLYPHS))
    console.print("An output that ends in .jps or .mpo is a stereo photo of its own kind; it needs no --layout.")
