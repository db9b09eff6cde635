"""A user's own model as the subject of a command: options that are for gradlab's own nets do not go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TypeVar

import typer

from gradlab_core import backends
from gradlab_core.cli.target import Built, running

T = TypeVar("T")


def measured(name: str, built: Built, measure: Callable[[ModuleType], T]) -> T:
    """What `measure` finds with the twin of the model's framework; what the model raises becomes one line."""
    twin = backends.load(built.framework)
    with running(f"{name}: its model failed on its batch", built.file):
        return measure(twin)


def loose(context: typer.Context, target: str | None, others: Iterable[str]) -> list[str]:
    """What is wrong with options, by the names of their parameters, that do not go with a target."""
    if target is None:
        return []
    names = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in others}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    return [f"{names[name]} is for gradlab's own nets; came {target} too" for name in given]
