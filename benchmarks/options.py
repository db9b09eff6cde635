"""What makes a module a benchmark of `gradlab bench`, and the options that several of them share.

`bench_NAME.py` is the benchmark NAME: its docstring is the help, with an example, and its `command` is what runs. The
parameters of `command` that are annotated with a `typer.Option` are the options, with their defaults; a path among
them is a folder to write into. It is called with `on_call` too, which shows what is being measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import RenderableType

Framework = Annotated[
    str | None, typer.Option("--framework", "-f", help="torch, jax or both. Default: all that are installed.")
]
Rounds = Annotated[int, typer.Option(help="Timed calls of each case.")]
Only = Annotated[list[str] | None, typer.Option(help="Only cases whose name contains this; may be repeated.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of JAX's persistent compilation cache: a second run compiles faster. Off by default."),
]
Base = Annotated[int, typer.Option(help="Channels of TinyNet's first stage.")]
Batch = Annotated[int, typer.Option(help="Images in a batch.")]
Block = Annotated[str, typer.Option("--block", "-b", help="TinyNet's residual block.")]
Depth = Annotated[str, typer.Option(help="Blocks in each stage, as 2,2,2.")]


class Answer(NamedTuple):
    """What a `command` gives back: its rows, their kind in a JSON document, and what a console prints of them."""

    kind: str
    rows: Sequence[Any]
    shown: Iterable[RenderableType]


def answering(
    run: Callable[..., list[Any]], kind: str, report: Callable[[list[Any]], Iterable[RenderableType]]
) -> Callable[..., Answer]:
    """The `command` of a benchmark whose `run` has the options and gives rows."""

    @functools.wraps(run)
    def command(**asked: Any) -> Answer:
        rows = run(**asked)
        return Answer(kind, rows, report(rows))

    return command
