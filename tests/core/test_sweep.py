"""Many runs: which files are runs, what is found in each, and which hyperparameter goes with which finding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.swept_runs import made_up, write_sweep
from gradlab_core.errors import GradlabError
from gradlab_core.judge.sweep import SweptRun, sweep, varying
from gradlab_core.judge.sweep_links import grouped, links
from gradlab_core.records import Finding, Severity
from gradlab_core.sinks import ColumnSink, JsonlSink, load_run
from gradlab_core.sinks.folder import recorded_files
from tests.recorded import healthy, step


def found(code: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(code=code, severity=severity, paths=(), first_step=0, evidence={}, remedies=(), explanation="")


def swept(name: str, *codes: str, **config: Any) -> SweptRun:
    return SweptRun(
        name=name, config=config, records=1, first_loss=1.0, last_loss=0.5, findings=tuple(map(found, codes)),
        verdict="warning" if codes else "fine",
    )  # fmt: skip


def test_runs_are_called_as_their_folders_or_their_files(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match="holds no recorded run"):
        recorded_files(tmp_path)
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        ColumnSink(tmp_path / name / "run.gradlab").close()
    (tmp_path / "notes.txt").write_text("not a run")
    assert list(recorded_files(tmp_path)) == ["a", "b/c"]
    JsonlSink(tmp_path / "d.jsonl").close()
    assert list(recorded_files(tmp_path)) == ["a/run", "b/c/run", "d"]
    ColumnSink(tmp_path / "d.gradlab").close()
    assert list(recorded_files(tmp_path)) == ["a/run.gradlab", "b/c/run.gradlab", "d.gradlab", "d.jsonl"]


def test_each_run_is_judged_and_a_bad_file_stops_no_other(tmp_path: Path) -> None:
    with ColumnSink(tmp_path / "good.gradlab", config={"rate": 0.1, "net": {"depth": 3}}) as sink:
        for record in healthy():
            sink(record)
    with ColumnSink(tmp_path / "nan.gradlab") as sink:
        sink(step(0, loss=math.nan))
    ColumnSink(tmp_path / "none.gradlab").close()
    (tmp_path / "torn.jsonl").write_bytes(b'{"schema_version": 1, "kind": "step-log"}\nx\n')
    told: list[str] = []
    for jobs in (1, 2):
        runs = sweep(recorded_files(tmp_path), jobs=jobs, on_run=lambda run: told.append(run.name))
        assert [run.verdict for run in runs] == ["fine", "critical", "unreadable", "unreadable"]
        assert runs[0].config == {"rate": 0.1, "net.depth": 3}
        assert "nonfinite-loss" in runs[1].alarms
        assert "holds no record" in str(runs[2].problem)
        assert "line 2" in str(runs[3].problem)
    assert told == ["good", "nan", "none", "torn"] * 2


def test_what_goes_with_a_finding_is_told_and_what_does_not_is_not() -> None:
    runs = [
        swept(str(i), *(["dead-relu"] if rate > 0.05 else []), rate=rate, seed=i, net="mlp")
        for i in range(40)
        for rate in [0.1 if i % 4 == 0 else 0.01]
    ]
    assert varying(runs) == ["rate", "seed"]
    (link,) = links(runs)
    assert (link.code, link.parameter, link.p < 1e-6) == ("dead-relu", "rate", True)
    assert [(group.label, group.found, group.runs) for group in link.groups] == [("0.01", 0, 30), ("0.1", 10, 10)]
    assert links(runs[:3]) == []  # too few to tell
    assert links([]) == []
    noted = SweptRun(
        name="n", config={}, records=1, first_loss=None, last_loss=None, findings=(found("x", Severity.NOTE),),
        verdict="fine",
    )  # fmt: skip
    assert noted.alarms == {}


def test_values_are_grouped_in_their_order() -> None:
    assert sorted(grouped([True, "adam", None, 0.1, math.nan, 0.01])) == [
        (0.01, "0.01"), (0.1, "0.1"), (math.inf, "True"), (math.inf, "adam"), (math.inf, "nan"),
        (math.inf, "not given"),
    ]  # fmt: skip
    assert len({label for _, label in grouped([2.0**i for i in range(40)])}) == 4


def test_the_sweep_of_the_benchmark_has_its_faults(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs=12, steps=80, tensors=8)
    files = recorded_files(tmp_path)
    runs = sweep(files, jobs=1)
    assert {len(load_run(file)) for file in files.values()} == {80}
    for run in runs:
        sigmoid, rate = run.config["activation"] == "sigmoid", run.config["learning_rate"]
        code = "vanishing-gradient" if sigmoid else "learning-rate-too-high" if rate >= 1 else None
        code = code or ("learning-rate-too-low" if rate < 1e-5 else None)
        assert list(run.alarms) == ([code] if code else []), run
    assert len(list(made_up("healthy", 3, 4, 0))) == 3
