# SPDX-License-Identifier: Apache-2.0
"""The one bar that every long command shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def progress_bar(
    *,
    counted: bool = True,
    told: bool = False,
    remaining: bool = False,
    console: Console | None = None,
    disable: bool = False,
    transient: bool = False,
) -> Progress:
    """A bar on standard error: what is done, how much of it, how long it took.

    Args:
        counted: there is a number to count to; otherwise something turns.
        told: with a word more, each task's field of that name.
        remaining: with the time that is left.
        console: in place of standard error's.
        disable: show nothing.
        transient: gone when it is over.
    """
    from rich import progress as rich
    from rich.console import Console

    text = rich.TextColumn("{task.description}")
    columns: list[rich.ProgressColumn] = (
        [text, rich.BarColumn(), rich.MofNCompleteColumn()] if counted else [rich.SpinnerColumn(), text]
    )
    if told:
        columns.append(rich.TextColumn("{task.fields[told]}"))
    columns.append(rich.TimeElapsedColumn())
    if remaining:
        columns.append(rich.TimeRemainingColumn())
    return rich.Progress(*columns, console=console or Console(stderr=True), disable=disable, transient=transient)
