"""`gradlab lab`: what initialisation, activation, depth and width do before the first step. Each study is a command."""

from __future__ import annotations

import typer

from gradlab_core.cli.lab.activations import activations
from gradlab_core.cli.lab.chain import chain
from gradlab_core.cli.lab.doctor import doctor
from gradlab_core.cli.lab.everything import everything
from gradlab_core.cli.lab.init import init
from gradlab_core.cli.lab.products import products
from gradlab_core.cli.lab.propagate import propagate
from gradlab_core.cli.lab.symmetry import symmetry

app = typer.Typer(
    help="The stability lab: what initialisation, activation, depth and width do to a signal and its gradient before "
    "the first step, by theory and by measurement. Without --framework in NumPy, by the definition.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command()(activations)
app.command()(products)
app.command()(symmetry)
app.command()(init)
app.command()(propagate)
app.command()(doctor)
app.command()(chain)
app.command("all")(everything)
