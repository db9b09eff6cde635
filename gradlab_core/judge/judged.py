"""A run with everything that is said of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.examination import RangeTest
from gradlab_core.judge.norm_report import NormReport, norm_report
from gradlab_core.judge.trends import Trends, trends
from gradlab_core.records import Finding, RecordedRun, StepRecord


class JudgedRun:
    """The records of a run and what is said of them. Each judgement is made when it is first asked for, and once: a
    page, a table and a document that show the same run show the same one.

    Args:
        records: of the run, in any order; at least one for the norm report and the trends.
        findings: where `diagnose` would miss some, as those of an examination; else the run is diagnosed.
        range_test: of the learning rate, if one was made.
        steps: that the rows of the norm report must include.
    """

    def __init__(
        self,
        records: Iterable[StepRecord],
        *,
        findings: Sequence[Finding] | None = None,
        range_test: RangeTest | None = None,
        steps: Sequence[int] = (),
    ) -> None:
        self.records = RecordedRun(records)
        self.range_test = range_test
        self._findings, self._steps = findings, steps

    @cached_property
    def findings(self) -> Sequence[Finding]:
        return diagnose(self.records) if self._findings is None else self._findings

    @cached_property
    def norms(self) -> NormReport:
        return norm_report(self.records, steps=self._steps)

    @cached_property
    def trends(self) -> Trends:
        return trends(self.records)


def judged_runs(
    runs: Mapping[str, Iterable[StepRecord]],
    findings: Mapping[str, Sequence[Finding]] | None = None,
    range_tests: Mapping[str, RangeTest] | None = None,
) -> dict[str, JudgedRun]:
    """Runs by their name, with the findings and range tests that are known of them."""
    return {
        name: JudgedRun(records, findings=(findings or {}).get(name), range_test=(range_tests or {}).get(name))
        for name, records in runs.items()
    }
