"""`gradlab report`: the report of runs that were recorded before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab_core.cli import output
from gradlab_core.errors import GradlabError


def report(
    runs: Annotated[Path, typer.Argument(help="A runs.json that `gradlab compare` wrote.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    json: output.JsonOption = False,
) -> None:
    """Draw the HTML report of recorded runs again.

    Example: `gradlab report gradlab-report/runs.json --out report.html`
    """
    from gradlab_core import codec
    from gradlab_core.comparison import Run, summarize
    from gradlab_core.report import write_html

    try:
        text = runs.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GradlabError(f"cannot read {runs}: {error}; expected a runs.json that gradlab compare wrote") from error
    found = codec.parse(text, "run", Run, str(runs))
    if not found:
        raise GradlabError(f"{runs} holds no run; expected at least one")
    write_html(found, out)
    if json:
        typer.echo(codec.document("comparison", summarize(found)))
    else:
        output.console().print(f"report: {out}", soft_wrap=True)
