"""What the verbs of `gradlab parity` share: options, and how a judgement is given to the user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab_core.cli import output

if TYPE_CHECKING:
    from gradlab_core.parity import ParityReport

BatchOption = Annotated[
    str | None,
    typer.Option(help="MODULE:NAME of the batch (x, y), or of a function that returns it. Default: what came with the "
                 "first target."),
]  # fmt: skip
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="What products of float32 are made in: highest, tf32, bfloat16, float16; as-is sets nothing and measures "
        "what is used. Default: each subject's own, which is highest unless it says otherwise."
    ),
]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML page to this file.")]


def give(reports: Mapping[str, ParityReport], *, json: bool, html: Path | None = None, named: bool = False) -> None:
    """The reports by the names of their pairs, as was asked for; exit code 1 where one of them found something."""
    from gradlab_core.parity.advice import next_move
    from gradlab_core.records import codec

    if html is not None:
        from gradlab_core.report import write_html

        write_html(reports, html)
    if json:
        rows, faults = (
            [each for report in reports.values() for each in getattr(report, of)] for of in ("rows", "faults")
        )
        typer.echo(codec.document("parity", rows, faults=faults))
    else:
        for name, report in reports.items():
            advice = f"\n  what to do: {next_move(report)}" if report.failures else ""
            said = f"{name}: " if named else ""
            output.console().print(f"{said}{report}{advice}", markup=False, soft_wrap=True)
        if html is not None:
            output.console().print(f"report: {html}", markup=False, soft_wrap=True)
    if any(report.failures for report in reports.values()):
        raise typer.Exit(output.FOUND_SOMETHING)
