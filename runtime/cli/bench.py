# SPDX-License-Identifier: Apache-2.0
"""``secondeye bench``: the latency benchmark by a short name."""

from __future__ import annotations

import typer


def bench(context: typer.Context) -> None:
    """Measure live sessions on this machine: per stage, end to end, over time (options: secondeye bench -h)."""
    from secondeye.benchmarks.latency import command  # benchmarks stand above the runtime; only this command reaches up

    app = command(context.args)
    code = app(args=context.args, prog_name="secondeye bench", standalone_mode=False)
    if isinstance(code, int) and code:  # Ctrl-C's
        raise typer.Exit(code)
