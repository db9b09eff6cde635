"""A run is sorted once and judged once, whoever shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradlab_core.judge import judged
from gradlab_core.judge.judged import JudgedRun, judged_runs
from gradlab_core.records import Finding, RecordedRun, Severity
from tests.recorded import eventful, healthy, step

ROOT = Path(__file__).parents[2]


def test_records_are_sorted_where_they_come_in_and_not_again() -> None:
    continued = [step(i, loss=9.0) for i in range(10)] + [step(i, loss=1.0) for i in (8, 7)]
    run = RecordedRun(continued)
    assert [record.step for record in run] == list(range(10))
    assert [record.loss for record in run[6:]] == [9.0, 1.0, 1.0, 9.0]
    assert run.repeated == 2
    assert RecordedRun(run) is run
    assert JudgedRun(run).records is run
    assert RecordedRun(iter(continued)) == run


def test_each_judgement_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(name: str) -> Any:
        real = getattr(judged, name)
        return lambda *args, **more: [asked.append(name), real(*args, **more)][1]

    for name in ("diagnose", "norm_report", "trends"):
        monkeypatch.setattr(judged, name, counted(name))
    run = JudgedRun(eventful())
    assert asked == []
    for _ in range(2):
        assert run.findings
        assert run.norms.rows
        assert run.trends.tensors
    assert asked == ["diagnose", "norm_report", "trends"]


def test_what_is_known_of_a_run_is_taken() -> None:
    known = Finding(
        code="dead-relu", severity=Severity.WARNING, paths=(), first_step=0, evidence={}, remedies=(), explanation=""
    )
    runs = judged_runs({"a": healthy(), "b": eventful(), "c": eventful()}, {"a": [known], "b": []})
    assert (runs["a"].findings, runs["b"].findings) == ([known], [])
    assert "disconnected-parameter" in [finding.code for finding in runs["c"].findings]
    assert 3 in [row.step for row in JudgedRun(healthy(), steps=[3]).norms.rows]


def test_the_norm_report_has_one_caller() -> None:
    """Whatever shows a norm report takes that of the run; a page and a table that compute their own can differ."""
    files = [*ROOT.glob("gradlab_*/**/*.py")]
    assert files
    callers = [path for path in files if " norm_report(" in path.read_text("utf-8").replace("def norm_report(", "")]
    assert [path.name for path in callers] == ["judged.py"]
