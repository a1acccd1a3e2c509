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
    from rich.table import Column
    from rich.text import Text

    class Words(rich.TextColumn):
        """What is cut short where the terminal is narrow, in place of the numbers."""

        def __init__(self, text: str) -> None:
            super().__init__(text, markup=False, table_column=Column())

        def render(self, task: rich.Task) -> Text:
            text = super().render(task)
            text.no_wrap, text.overflow = True, "ellipsis"
            return text

    def whole() -> Column:
        return Column(no_wrap=True)

    text = Words("{task.description}")
    bar = rich.BarColumn(12 if told else 40)
    columns: list[rich.ProgressColumn] = (
        [text, bar, rich.MofNCompleteColumn(table_column=whole())] if counted else [rich.SpinnerColumn(), text]
    )
    if told:
        columns.append(Words("{task.fields[told]}"))
    columns.append(rich.TimeElapsedColumn(table_column=whole()))
    if remaining:
        columns.append(rich.TimeRemainingColumn(table_column=whole()))
    return rich.Progress(*columns, console=console or Console(stderr=True), disable=disable, transient=transient)
