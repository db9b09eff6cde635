"""`gradlab parity`: do two models train the same? Judged at once, or from traces that were recorded one by one."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from gradlab_core.cli.parity.live import live
from gradlab_core.cli.parity.traces import compare, record


class _LiveByDefault(TyperGroup):
    """What does not begin with a verb is judged at once: `gradlab parity --steps 5`, `gradlab parity a:x b:y`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] and args[0] in self.commands else ["", *args])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # Without a name of its own, usage reads `gradlab parity [OPTIONS]`.
        return super().get_command(ctx, cmd_name or live.__name__)


app = typer.Typer(
    cls=_LiveByDefault,
    help="Prove that two models train the same, tensor by tensor, against a float64 oracle.",
    rich_markup_mode="markdown",
)
app.command(hidden=True)(live)
app.command()(record)
app.command()(compare)
