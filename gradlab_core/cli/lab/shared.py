"""What all commands of `gradlab lab` share: options, and the way a study is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradlab_core.cli import output

if TYPE_CHECKING:
    from gradlab_core.lab.pages.section import Section

FrameworkOption = Annotated[
    list[str] | None, typer.Option("--framework", "-f", help="Measure in torch or jax too; repeat for both.")
]
OutOption = Annotated[Path | None, typer.Option(help="Write an HTML page with the charts to this file.")]


def measured(target: str, study: Callable[..., Any], *, json: bool) -> Any:
    """A study of the model that a target builds, on its batch and with its loss."""
    from gradlab_core.cli.target import build, running

    with output.progress(json) as bar:
        bar.add_task("measuring", total=None)
        built = build(target)
        loss = {name: value for name, value in built.keywords.items() if name == "loss"}
        with running(f"{target}: its model failed on its batch", built.file):
            return study(built.framework, *built.positional, **loss)


def give(
    kind: str,
    rows: Sequence[Any],
    sections: Sequence[Section],
    out: Path | None,
    json: bool,
    *,
    judged: Sequence[Section] | None = None,
    tables: bool = True,
) -> None:
    """Show a study as the options ask: its rows as JSON, or its sections on the terminal, with or without `tables`, and
    on the page. The exit code is 1 if the verdict of a section is bad; only `judged` count if they are given."""
    from gradlab_core.lab.pages.page import write_lab
    from gradlab_core.records import codec

    if out is not None:
        write_lab(sections, out)
    if json:
        typer.echo(codec.document(kind, rows))
    else:
        for section in sections:
            _print(section, tables=tables)
        if out is not None:
            output.console().print(f"report: {out}", soft_wrap=True, markup=False)
    if any(section.level == "bad" for section in (sections if judged is None else judged)):
        raise typer.Exit(output.FOUND_SOMETHING)


def _print(section: Section, *, tables: bool) -> None:
    """Print the verdict and the tables of a section."""
    from gradlab_core.cli.tables import sheet_table

    console = output.console()
    console.rule(section.title, align="left", style="dim")
    for sentence in section.said:
        console.print(sentence, markup=False)
    for sheet in section.sheets if tables else ():
        console.print(sheet_table(sheet))
