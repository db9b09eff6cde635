"""The net that a command looks at: one of gradlab's own with its options, or a user's model, which takes none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from gradlab_core.cli import output
from gradlab_core.cli.target import Built

if TYPE_CHECKING:
    from gradlab_core.lab.random_mlp import RandomMlp


def own(net: RandomMlp, framework: str | None, *, seed: int) -> Built:
    """A net of gradlab's own in place of a user's, in that framework or else in the first that is installed."""
    from gradlab_core.lab.studies.doctor import own_model

    chosen = output.chosen_framework(framework)
    return Built(chosen, own_model(chosen, net, seed=seed), {}, None)


def loose(context: typer.Context, target: str | None, others: Iterable[str]) -> list[str]:
    """The problems of options that do not go with a target, by the names of their parameters."""
    if target is None:
        return []
    names = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in others}
    typed = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    return [f"{names[name]} is for gradlab's own nets; came {target} too" for name in typed]
