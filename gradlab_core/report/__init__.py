"""The report: one HTML file, readable without a network and without a manual."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from gradlab_core import codec
from gradlab_core.comparison import Run
from gradlab_core.errors import GradlabError

__all__ = ["write_html"]


def write_html(runs: Sequence[Run], path: str | PathLike[str]) -> None:
    """Write the report of `runs` to `path`: a whole file or nothing.

    The file holds everything it needs, plotly.js included (about 5 MB), and makes no network request.

    Raises:
        GradlabError: there is no run, or the file cannot be written.
        MissingDependency: plotly or jinja2 is not installed.
    """
    if not runs:
        raise GradlabError("write_html: no runs; expected at least one")
    from gradlab_core.report.page import render

    codec.write_text(Path(path), render(runs))
