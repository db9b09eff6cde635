"""The report: one HTML file, readable without a network and without a manual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from gradlab_core.compare.comparison import Run
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.judge.bands import BandSet, band_set
from gradlab_core.judge.examination import RangeTest
from gradlab_core.judge.judged import judged_runs
from gradlab_core.parity import ParityReport
from gradlab_core.records import Finding, StepRecord, codec

__all__ = ["write_html"]

Shown = (
    Sequence[Run]
    | Sequence[StepRecord]
    | Mapping[str, Sequence[StepRecord]]
    | ParityReport
    | Mapping[str, ParityReport]
)


def write_html(
    runs: Shown,
    path: str | PathLike[str],
    *,
    findings: Mapping[str, Sequence[Finding]] | None = None,
    range_tests: Mapping[str, RangeTest] | None = None,
    bands: str | None = None,
) -> None:
    """Write the report of `runs` to `path`: a whole file or nothing.

    Args:
        runs: what `gradlab compare` found; or the records of one run; or those of several, by the name of the run; or
            one parity report, or several by the names of their pairs.
        findings: of runs by their name, where `diagnose` on their records would miss some; the others are diagnosed.
        range_tests: of runs by their name, where `examine` made one.
        bands: a band set by name, as `tinynet-cifar10`, that judges the figures of a comparison. Without one they are
            judged only by bands of their own set-up; records of a run have none.

    The file holds everything it needs and makes no network request; where there are charts, plotly.js is in it too
    (about 5 MB).

    Raises:
        GradlabError: there is no run, a run has no record, a band set is not known, or the file cannot be written.
        MissingDependency: plotly or jinja2 is not installed.
    """
    if not runs:
        raise GradlabError("write_html: no runs; expected at least one")
    codec.write_text(Path(path), _page(runs, findings, range_tests, None if bands is None else band_set(bands)))


def _page(
    runs: Shown,
    findings: Mapping[str, Sequence[Finding]] | None,
    range_tests: Mapping[str, RangeTest] | None,
    bands: BandSet | None,
) -> str:
    from gradlab_core.compare.pages import page
    from gradlab_core.show.parity import page as parity
    from gradlab_core.show.run import page as recorded

    if isinstance(runs, ParityReport):
        return parity.render({"Reference and candidate": runs})
    if isinstance(runs, Mapping):
        reports = {name: each for name, each in runs.items() if isinstance(each, ParityReport)}
        recordings = {name: each for name, each in runs.items() if not isinstance(each, ParityReport)}
        if not recordings:
            return parity.render(reports)
        problems = [f"{name!r} is a parity report beside recorded runs; expected one or the other" for name in reports]
        empty = [name for name, records in recordings.items() if not records]
        refuse("write_html", problems + [f"the run {n!r} holds no record; expected at least one" for n in empty])
        return recorded.render(judged_runs(recordings, findings, range_tests))
    compared = [run for run in runs if isinstance(run, Run)]
    records = [run for run in runs if isinstance(run, StepRecord)]
    if len(compared) == len(runs):
        return page.render(compared, bands)
    if len(records) == len(runs):
        return recorded.render(judged_runs({"Recorded run": records}))
    kinds = sorted({type(run).__name__ for run in runs})
    raise GradlabError(f"write_html: got {', '.join(kinds)}; expected only Run, or only StepRecord")
