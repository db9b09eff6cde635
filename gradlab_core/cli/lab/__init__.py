"""`gradlab lab`: what initialisation, activation, depth and width do before the first step; a command a study."""

from __future__ import annotations

import typer

from gradlab_core.cli.lab.activations import activations

app = typer.Typer(
    help="The stability lab: what initialisation, activation, depth and width do to a signal and its gradient before "
    "the first step, by theory and by measurement. Without --framework in NumPy, by the definition.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(activations)
