# SPDX-License-Identifier: Apache-2.0
"""The ``secondeye`` command."""

from __future__ import annotations

import atexit
import signal
from typing import Annotated

import typer

from secondeye import __version__
from secondeye.runtime.cli._guard import guarded
from secondeye.runtime.cli.bench import bench
from secondeye.runtime.cli.build_engine import build_engine
from secondeye.runtime.cli.cache import cache
from secondeye.runtime.cli.convert import convert
from secondeye.runtime.cli.doctor import doctor
from secondeye.runtime.cli.inspect import inspect
from secondeye.runtime.cli.layouts import layouts
from secondeye.runtime.cli.live import live, serve
from secondeye.runtime.cli.models import models_app
from secondeye.runtime.cli.sample import sample
from secondeye.runtime.cli.segment import segment

app = typer.Typer(
    name="secondeye",
    help="Give a flat picture its second eye: 2D-to-3D stereo conversion.\n\n"
    "Start with: secondeye convert photo.jpg -o photo_3d.png",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(convert)
app.command()(sample)
app.command()(live)
app.command()(serve)
app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})(bench)
app.command()(segment)
app.command()(inspect)
app.command()(layouts)
app.command()(doctor)
app.command("build-engine")(build_engine)
app.command()(cache)
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secondeye {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    try:
        guarded(app)
    finally:  # a second Ctrl-C would find nothing to stop but the libraries' own endings, and print their tracebacks
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
