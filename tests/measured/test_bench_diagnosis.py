"""The accuracy benchmark of the diagnosis, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import bench_diagnosis
from benchmarks.diagnosis import judge, overhead, score, store, tables, truth
from benchmarks.diagnosis.draw import draw
from gradlab_core.cli import bench
from gradlab_core.errors import GradlabError
from gradlab_core.records import codec
from tests.measured.handmade import SPEC, drawn


def test_runs_are_made_once_judged_again_and_scored(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    told: list[str] = []
    options = {"runs": tmp_path, "programs": 3, "framework": "torch", "jobs": 1}
    judged, rows = bench_diagnosis.run(**options, on_run=told.append)  # type: ignore[arg-type]
    names = {d.name for d in draw(3, seed=0, frameworks=("torch",))}
    assert set(told) == names
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.json.gz" for n in names} | {bench_diagnosis.MANIFEST}
    assert [j.why for j in judged if "failed" in j.why] == []
    run = store.load(tmp_path, judged[0].drawn.name)
    assert run.spec == judged[0].drawn.spec
    assert len(run.records) > 1
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.gz")}
    again, _ = bench_diagnosis.run(**options)  # type: ignore[arg-type]
    assert again == judged
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.gz")} == made
    list(tables.missed(judged))

    command = ["diagnosis", "--runs", str(tmp_path), "--programs", "3", "-f", "torch", "--split", "held-out"]
    printed = CliRunner().invoke(bench.app, [*command, "--json"])
    assert printed.exit_code == 0, printed.output
    assert codec.parse(printed.stdout, "diagnosis-benchmark", score.Row) == [r for r in rows if r.part == "held-out"]
    shown = CliRunner().invoke(bench.app, [*command, "--misses"])
    assert "held-out: all tools on the same runs" in shown.stdout
    assert "tuning: " not in shown.stdout


def test_a_program_that_fails_is_dropped_with_its_pair_and_says_why(tmp_path: Path) -> None:
    pair = [drawn(), drawn("dead", codes=("dead-relu",))]
    store.save(tmp_path, store.Run(name=pair[0].name, framework="torch", spec=SPEC, error="ValueError: no"))
    judged = judge.judge(tmp_path, pair)
    assert [(j.status, j.why) for j in judged] == [(truth.DROPPED, "the program failed: ValueError: no")] * 2


def test_a_process_that_ends_takes_one_run_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_CHILD", "import sys; sys.stdin.read(); sys.exit(3)")
    runs = draw(1, seed=0, frameworks=("torch",))
    store.complete(tmp_path, runs, jobs=1)
    assert [store.load(tmp_path, d.name).error for d in runs] == ["its process ended with code 3"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"framework": "mxnet"}, "framework is 'mxnet'"), ({"jobs": 0}, "jobs is 0"), ({"programs": 0}, "programs is 0")],
)
def test_bad_values_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(GradlabError, match=message):
        bench_diagnosis.run(runs=tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(GradlabError, match="split is 'test'"):
        bench_diagnosis.chosen("test")


def test_the_cost_of_judging_is_measured_on_a_run_that_raises_no_alarm() -> None:
    found = overhead.overhead(steps=40, layers=3)
    assert found.seconds > 0
    assert 0 < found.live_bytes_tenth < found.live_bytes
    assert judge.diagnose(overhead.synthetic(200, 2)) == []
