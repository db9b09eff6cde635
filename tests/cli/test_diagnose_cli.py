"""`gradlab diagnose`: recorded runs and the gallery; good input and bad."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from gradlab_core.cli.diagnose import AS_IS, REPAIRED
from gradlab_core.cli.findings import ScenarioRun, is_bad
from gradlab_core.judge.norm_report import NormRow
from gradlab_core.programs.scenarios import SCENARIOS, Scenario
from gradlab_core.records import Finding, Severity, StepRecord, codec
from gradlab_core.sinks import JsonlSink, load_records
from tests.cli.conftest import Run, words
from tests.cli.test_cli import gradlab, refused
from tests.recorded import CUT, eventful, healthy


def recorded(name: str, records: list[StepRecord]) -> None:
    with JsonlSink(name) as sink:
        for record in records:
            sink(record)


# A recorded run.


def test_a_faulty_run_is_explained(diagnose: Run) -> None:
    recorded("run.jsonl", eventful())
    done = diagnose("run.jsonl", "--out", "page.html")
    assert done.returncode == 1, done.stderr
    for part in (
        "run.jsonl: 60 records, loss 2.3 → 0.3333",
        "1. critical The loss is NaN or Inf nonfinite-loss where conv1.weight",
        f"warning Parameters get no gradient disconnected-parameter where {CUT} since step 0",
        "evidence parameters without gradient 1",
        "to do 1. look between these layers and the loss",
        "report: page.html",
    ):
        assert part in words(done)
    assert "disconnected-parameter" in Path("page.html").read_text()


def test_findings_as_json_are_those_of_diagnose(diagnose: Run) -> None:
    recorded("run.jsonl", eventful())
    done = diagnose("run.jsonl", "--json")
    assert done.returncode == 1
    found = codec.parse(done.stdout, "finding", Finding)
    assert [f.code for f in found if CUT in f.paths] == ["disconnected-parameter"]
    from gradlab_core.judge.diagnosis import diagnose as judge

    assert repr(found) == repr(judge(eventful()))


def test_a_healthy_run(diagnose: Run) -> None:
    recorded("run.jsonl", healthy())
    done = diagnose("run.jsonl")
    assert done.returncode == 0, done.stdout
    assert "Nothing found." in done.stdout
    assert json.loads(diagnose("run.jsonl", "--json").stdout)["rows"] == []


def test_a_note_is_not_bad() -> None:
    note = Finding(code="x", severity=Severity.NOTE, paths=(), first_step=0, evidence={}, remedies=(), explanation="")
    assert not is_bad([note])
    assert is_bad([note, dataclasses.replace(note, severity=Severity.WARNING)])
    assert not is_bad([])


def test_the_norm_report_and_trends(diagnose: Run) -> None:
    recorded("run.jsonl", healthy())
    done = diagnose("run.jsonl", "--step", "3")
    assert done.returncode == 0, done.stderr
    for part in (
        "Norm report step 0 3 7 14 22 29",
        "moving average of ‖g‖ 1.5",
        "Trends",
        "fc.bias 2 → 2 ",
        "• Stable at",
    ):
        assert part in words(done)
    rows = codec.parse(diagnose("run.jsonl", "--norms", "--json").stdout, "norms", NormRow)
    assert [row.step for row in rows] == [0, 7, 14, 22, 29]
    refused(diagnose("run.jsonl", "--step", "77"), "step 77 is not recorded", "from 0 to 29")


# The gallery.


def test_the_gallery_is_listed(diagnose: Run) -> None:
    done = diagnose("--list")
    assert done.returncode == 0
    for scenario in SCENARIOS.values():
        assert re.search(rf"^\s+{re.escape(scenario.name)}\s", done.stdout, re.MULTILINE)
        assert scenario.family in done.stdout
    listed = codec.parse(diagnose("--list", "--json").stdout, "scenario", Scenario)
    assert listed == list(SCENARIOS.values())


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Scenario:
    """A scenario of the gallery, short and without probes."""
    long = SCENARIOS["unused-branch"]
    assert long.fix is not None
    short = [dataclasses.replace(program, steps=30, probe_every=0) for program in (long.program, long.fix)]
    scenario = dataclasses.replace(long, name="tiny", program=short[0], fix=short[1])
    monkeypatch.setitem(SCENARIOS, "tiny", scenario)
    return scenario


def test_a_scenario_before_and_after(diagnose: Run, tiny: Scenario) -> None:
    done = diagnose("--scenario", "tiny", "--fix", "--out", "page.html", "--sink", "jsonl:repaired.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr  # that of the repaired program
    for part in (
        f"Repaired: {tiny.remedy}.",
        "disconnected-parameter, since step 0 none loss, first → last",
        "steps 30 30",
        "Found in the program as it is: 1.",
    ):
        assert part in words(done)
    assert len(re.findall(r"\d → \d", done.stdout)) == 2
    records = load_records("repaired.jsonl")
    assert "extra.weight" not in records[0].tensors
    page = Path("page.html").read_text()
    for part in ("tiny, as it is", "tiny, repaired", 'data-chart="together"', "Nothing found"):
        assert part in page
    done = diagnose("--scenario", "tiny", "--fix", "--json")
    rows = codec.parse(done.stdout, "scenario-run", ScenarioRun)
    assert [(row.program, row.framework, row.steps) for row in rows] == [(p, "torch", 30) for p in (AS_IS, REPAIRED)]
    assert [[f.code for f in row.findings] for row in rows] == [["disconnected-parameter"], []]
    assert rows[1].first_loss == records[0].loss
    assert rows[1].last_loss == records[-1].loss


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_scenario_as_it_is(diagnose: Run, tiny: Scenario, framework: str) -> None:
    done = diagnose("--scenario", tiny.name, "-f", framework, "--sink", "jsonl:run.jsonl", "--json")
    found = codec.parse(done.stdout, "finding", Finding)
    assert [(f.code, set(f.paths)) for f in found] == [("disconnected-parameter", {"extra.weight", "extra.bias"})]
    # An exit code that the file gives too: nothing but its records is judged.
    assert (done.returncode, diagnose("run.jsonl").returncode) == (int(is_bad(found)),) * 2


# Bad input, and the script itself.


BAD = {
    "nothing": ([], ["came nothing; expected one of run.jsonl, MODULE:FUNCTION, --scenario NAME, --list"]),
    "two": (
        ["run.jsonl", "--list", "--scenario", "detached"],
        ["came run.jsonl and --scenario and --list; expected one"],
    ),
    "missing file": (["nothing.jsonl"], ["cannot read nothing.jsonl"]),
    "empty run": (["empty.jsonl"], ["empty.jsonl holds no record"]),
    "a foreign file": (["foreign.json"], ["foreign.json"]),
    "unknown scenario": (["--scenario", "detatched"], ["'detatched' is not known", "did you mean detached", "--list"]),
    "healthy fix": (["--scenario", "healthy-mlp", "--fix"], ["healthy", "nothing to fix"]),
    "framework": (["--scenario", "detached", "-f", "keras"], ["keras", "torch, jax"]),
    "loose options": (
        ["run.jsonl", "--fix", "-f", "jax"],
        ["2 problems", "--fix is for --scenario", "--framework is for"],
    ),
    "list with out": (["--list", "--out", "x.html", "--norms"], ["2 problems", "--out has nothing to show", "--norms"]),
    "norms of two": (["--scenario", "detached", "--fix", "--norms"], ["--norms and --step show one run"]),
    "bad sink": (["--scenario", "detached", "--sink", "josnl:x"], ["josnl:x"]),
    "unwritable": (["run.jsonl", "--out", "foreign.json/page.html"], ["cannot write into foreign.json"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(diagnose: Run, case: str) -> None:
    arguments, parts = BAD[case]
    recorded("run.jsonl", healthy())
    recorded("empty.jsonl", [])
    Path("foreign.json").write_text("{}")
    refused(diagnose(*arguments), *parts)
    assert sorted(path.name for path in Path().iterdir()) == ["empty.jsonl", "foreign.json", "run.jsonl"]


def test_the_script_finds_modules_in_the_present_folder(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("def build():\n    return 3\n")
    refused(gradlab("diagnose", "package.train:build", cwd=tmp_path), "package.train:build returned int")
    done = gradlab("diagnose", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Example" in done.stdout
