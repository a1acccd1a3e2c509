# SPDX-License-Identifier: Apache-2.0
"""``secondeye models``: public depth models by name."""

from __future__ import annotations

from typing import Annotated

import typer

models_app = typer.Typer(
    help="Public depth models for --depth-model. The built-in one needs none of this.", no_args_is_help=True
)


@models_app.command("list")
def list_models() -> None:
    """List the public models, their licences, and whether they are here."""
    from rich.console import Console
    from rich.table import Table

    from secondeye.runtime.zoo import MODELS, local_path

    table = Table()
    for heading in ("name", "licence", "commercial use", "here", "what it is"):
        table.add_column(heading, no_wrap=heading == "name")  # it is what the other commands want
    for model in MODELS.values():
        here = "yes" if local_path(model.name) else "no"
        table.add_row(model.name, model.licence, "yes" if model.commercial else "no", here, model.summary)
    Console().print(table)


@models_app.command("get")
def get_model(
    name: Annotated[str, typer.Argument(help="A name from: secondeye models list")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Needed for weights that are not for commercial use.")
    ] = False,
) -> None:
    """Fetch a public model from the Hugging Face hub (needs internet and secondeye[models])."""
    from secondeye.runtime.zoo import MODELS, get

    if name in MODELS:
        typer.echo(f"{name}: licence {MODELS[name].licence}, from {MODELS[name].repository}", err=True)
    path = get(name, accept_licence=accept_licence)
    typer.echo(str(path))
    typer.echo(f"Use it with: secondeye convert photo.jpg --depth-model {name}", err=True)
