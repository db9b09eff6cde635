"""`gradlab diagnose`: recorded runs, the gallery, a user's own model; good input and bad."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.cli.diagnose import AS_IS, REPAIRED
from gradlab_core.cli.findings import ScenarioRun, is_bad
from gradlab_core.cli.target import framework_of
from gradlab_core.judge.examination import Examination, RangeTest
from gradlab_core.judge.norm_report import NormRow
from gradlab_core.programs.scenarios import SCENARIOS, Scenario
from gradlab_core.records import Finding, Severity, StepRecord, codec
from gradlab_core.sinks import JsonlSink, load_records
from tests.cli.test_cli import gradlab, refused
from tests.recorded import CUT, eventful, step

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def diagnose(console: Run) -> Run:
    return functools.partial(console, "diagnose")


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def recorded(name: str, records: list[StepRecord]) -> None:
    with JsonlSink(name) as sink:
        for record in records:
            sink(record)


def healthy() -> list[StepRecord]:
    return [step(i, grad_norm=1.5) for i in range(30)]


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


# A user's own model.

TORCH = """
    import torch
    print("this is no JSON")

    class Cut(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1, self.fc2 = torch.nn.Linear(8, 16), torch.nn.Linear(16, 3)

        def forward(self, x):
            hidden = self.fc1(x).relu().detach()
            return self.fc2(hidden)

    def batch():
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
        return x, x[:, :3].argmax(1)

    def build():
        return Cut(), *batch()

    def mapping():
        x, y = batch()
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        return {"model": net, "x": x, "y": y, "optimizer": "adam", "learning_rate": 0.01,
                "loss": lambda out, y: torch.nn.functional.cross_entropy(out, y)}

    def wrong_batch():
        return Cut(), torch.randn(64, 9), batch()[1]

    def wrong_rate():
        return {**mapping(), "learning_rate": -1.0}

    def raises():
        sizes = {}
        return sizes["hidden"]

    def leaves():
        raise SystemExit(3)

    def needs(width): ...
    def nothing(): ...
    def two(): return Cut(), batch()
    def half(): return {"model": Cut(), "batch": 3}
    def other(): return 3, "x", None
    number = 5
"""
JAX = """
    import jax
    from flax import nnx

    def build():
        rngs = nnx.Rngs(0)
        net = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 2, rngs=rngs))
        x = jax.random.normal(jax.random.key(1), (16, 4))
        return net, x, (x[:, 0] > 0).astype(int)
"""


def module(name: str, text: str) -> str:
    """A module in the present folder, under a name that no other test has imported."""
    path = Path(f"{name}_{abs(hash(str(Path.cwd())))}.py")
    path.write_text(textwrap.dedent(text))
    return path.stem


def test_a_torch_model_before_its_training(diagnose: Run) -> None:
    name = module("mine", TORCH)
    done = diagnose(f"{name}:build", "--out", "page.html")
    assert done.returncode == 1, done.stderr
    assert "Range test, rates from 1e-06 to" in done.stdout
    assert "disconnected-parameter where fc1." in words(done)
    assert "Range test of the learning rate" in Path("page.html").read_text()
    done = diagnose(f"{name}:build", "--json")
    found = codec.parse(done.stdout, "finding", Finding)
    assert ("disconnected-parameter", {"fc1.weight", "fc1.bias"}) in [(f.code, set(f.paths)) for f in found]


def test_a_mapping_hands_on_loss_optimizer_and_rate(diagnose: Run) -> None:
    done = diagnose(f"{module('mapped', TORCH)}:mapping")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps were recorded at 0.01" in words(done)


def test_a_jax_model_goes_to_the_jax_twin(diagnose: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradlab_jax

    asked: list[Any] = []
    test = RangeTest(rates=(0.1, 1.0), losses=(1.0, 0.5), suggested=None, diverges_at=1.0)

    def examine(model: Any, x: Any, y: Any) -> Examination:
        asked.append((type(model).__name__, x.shape, y.shape))
        return Examination(records=tuple(healthy()), findings=(), range_test=test, learning_rate=0.1)

    monkeypatch.setattr(gradlab_jax, "examine", examine)
    done = diagnose(f"{module('flaxen', JAX)}:build", "--out", "page.html")
    assert (done.returncode, asked) == (0, [("Sequential", (16, 4), (16,))])
    assert "the loss never fell, so no learning rate is suggested; the loss blew up at 1." in words(done)


BAD_TARGETS = {
    "no_such_module:build": ["there is no module no_such_module", "as mypackage.train:build"],
    "MODULE.deeper:build": ["there is no module MODULE.deeper"],
    "MODULE:buidl": ["MODULE has no buidl", "its functions are batch, build, mapping"],
    "MODULE:number": ["MODULE:number is int", "expected a function"],
    "MODULE:needs": ["cannot be called without arguments", "'width'", "expected def needs()"],
    "MODULE:raises": ["MODULE:raises failed: KeyError: 'hidden'", "MODULE.py, line 36", 'return sizes["hidden"]'],
    "MODULE:leaves": ["failed: SystemExit: 3", "MODULE.py, line 39"],
    "MODULE:nothing": ["returned None; expected a tuple (model, x, y), or a mapping"],
    "MODULE:two": ["returned a tuple of 2"],
    "MODULE:half": ["it has no 'x'; it has no 'y'; it has batch, which is unknown"],
    "MODULE:other": ["3 problems", "its model is int; expected a torch.nn.Module or", "its x is str", "its y is None"],
    "MODULE:wrong_batch": ["its model failed on its batch: RuntimeError", "64x9", "MODULE.py, line 12"],
    "MODULE:wrong_rate": ["learning_rate is -1.0"],
    "MODULE:": ["names no function"],
    ":build": ["names no function"],
    "mod ule:build": ["names no function"],
}


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_a_target_that_cannot_be_used(diagnose: Run, target: str) -> None:
    name = module("bad", TORCH)
    done = diagnose(target.replace("MODULE", name))
    refused(done, *(part.replace("MODULE", name) for part in BAD_TARGETS[target]))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "import no_such_library",
            ["importing MODULE failed: ModuleNotFoundError", "no_such_library", "MODULE.py, line 1"],
        ),
        ("def build(:", ["importing MODULE failed: SyntaxError", "MODULE.py, line 1"]),
        ("\n1 / 0", ["importing MODULE failed: ZeroDivisionError", "MODULE.py, line 2: 1 / 0"]),
    ],
)
def test_a_module_that_cannot_be_imported(diagnose: Run, text: str, parts: list[str]) -> None:
    name = module("broken", text)
    refused(diagnose(f"{name}:build"), *(part.replace("MODULE", name) for part in parts))


def test_an_error_of_our_own_keeps_its_traceback(diagnose: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradlab_torch
    from gradlab_core.definitions import reference

    monkeypatch.setattr(gradlab_torch, "examine", lambda model, x, y: reference.norm(object()))
    with pytest.raises(TypeError):
        diagnose(f"{module('ours', TORCH)}:build")


def test_frameworks_are_told_by_their_classes() -> None:
    import flax.linen as nn
    import torch
    from flax import nnx

    class Mine(torch.nn.Sequential): ...

    class Theirs(nnx.Module): ...

    class Linen(nn.Module): ...

    models: list[Any] = [Mine(), Theirs(), Linen(), torch.zeros(1), 3, torch.nn.Linear]
    assert [framework_of(model) for model in models] == ["torch", "jax", None, None, None, None]


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
