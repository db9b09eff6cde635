"""The accuracy benchmark of the diagnosis: its drawing, its truth, its arithmetic, and the rules of other tools."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import bench_diagnosis
from benchmarks.diagnosis import faults, judge, others, overhead, parts, programs, score, store, tables, truth
from benchmarks.diagnosis.draw import SHARE, Drawn, draw, part
from gradlab_core.cli import bench
from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import CODES
from gradlab_core.programs.program import ProgramSpec, TaskSpec
from gradlab_core.programs.specs import ModelSpec
from gradlab_core.records import GradientState, LayerStats, Probe, Severity, StepRecord, TensorNorms, TensorStats, codec

TURNS = len(faults.FAULTS) + 2 * sum(family.hard for family in programs.FAMILIES.values())


# The drawing


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    first = draw(6, seed=3)
    assert first == draw(6, seed=3) == draw(60, seed=3)[: len(first)]
    assert first != draw(6, seed=4)
    assert len({d.name for d in draw(60, seed=3)}) == 120


def test_the_rounds_have_every_fault_every_hard_family_and_both_frameworks() -> None:
    drawn = draw(SHARE * TURNS, seed=0)
    assert {d.fault for d in drawn} == {None, *faults.FAULTS}
    assert {d.family for d in drawn if d.hard} == {n for n, f in programs.FAMILIES.items() if f.hard}
    for fault in faults.FAULTS:
        assert {d.framework for d in drawn if d.fault == fault} == {"torch", "jax"}


def test_a_pair_is_on_one_side_and_the_side_is_the_programs_alone() -> None:
    drawn = draw(TURNS, seed=1)
    sides: dict[int, set[str]] = {}
    for d in drawn:
        sides.setdefault(d.pair, set()).add(d.part)
        if d.fault is None:
            other = dataclasses.replace(d.spec, seed=d.spec.seed + 1, steps=7)
            assert part(d.family, other) == d.part
    assert all(len(side) == 1 for side in sides.values())
    assert 0.3 < sum(d.part == "tuning" for d in drawn) / len(drawn) < 0.7


def test_a_fault_is_the_only_difference_from_its_healthy_program() -> None:
    drawn = draw(2 * TURNS, seed=2)
    for healthy, faulty in zip(drawn[::2], drawn[1::2], strict=True):
        assert healthy.fault is None
        assert (faulty.pair, faulty.family, faulty.framework) == (healthy.pair, healthy.family, healthy.framework)
        assert faulty.spec != healthy.spec, faulty.fault
        assert (faulty.spec.seed, faulty.spec.steps) == (healthy.spec.seed, healthy.spec.steps)
        # What a healthy program has on purpose (a frozen trunk, biases below 0) no fault takes away.
        assert healthy.spec.fault in (None, faulty.spec.fault), faulty.fault
        assert healthy.spec.at in ("", faulty.spec.at)


def test_faults_say_codes_that_there_are_and_places_that_there_are() -> None:
    for fault in faults.FAULTS.values():
        assert set(fault.codes) | set(fault.follows) <= set(CODES)
        assert set(fault.families) <= set(programs.FAMILIES)
    for drawn in draw(2 * TURNS, seed=5):
        known = {*parts.weighted(drawn.spec.model), "extra"}
        known |= {p for places in parts.activations(drawn.spec.model).values() for p in places}
        assert set(drawn.where) <= known


@pytest.mark.parametrize(
    "model",
    [
        ModelSpec(kind="mlp", widths=(4, 4)),
        ModelSpec(kind="recurrent", cell="gru", features=8, hidden=4),
        ModelSpec(kind="transformer", features=8, hidden=4, heads=2, depth=1),
        ModelSpec(kind="tinynet", base=2, layers=(1, 1), block="preact"),
        ModelSpec(kind="tinynet", base=2, layers=(1, 1), block="postact"),
    ],
    ids=lambda model: f"{model.kind} {model.block}",
)
def test_places_are_those_of_the_nets(model: ModelSpec) -> None:
    torch = pytest.importorskip("torch")
    import gradlab_torch

    modules = dict(gradlab_torch.build(model, seed=0).named_modules())
    for layer in parts.weighted(model):
        assert any(len(p.shape) > 1 for p in modules[layer].parameters())
    for activation, places in parts.activations(model).items():
        assert isinstance(modules[activation], torch.nn.Module)
        assert not list(modules[activation].parameters())
        assert set(places) <= set(modules)


@pytest.mark.parametrize(("programs_", "seed"), [(0, 0), (1, -1)])
def test_a_drawing_of_nothing_is_refused(programs_: int, seed: int) -> None:
    with pytest.raises(GradlabError, match="expected a whole number"):
        draw(programs_, seed=seed)


# Records made by hand

SPEC = ProgramSpec(model=ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=4))
SHAPES = {"fc1.weight": (8, 4), "fc1.bias": (8,), "fc2.weight": (4, 8), "fc2.bias": (4,)}


def tensor_stats(std: float = 1.0) -> TensorStats:
    return TensorStats(shape=(32, 4), mean=0.0, std=std, min=-2 * std, max=2 * std, rms=std, zero_frac=0.0, nonfinite=0)


def layer(kind: str = "relu", **fields: object) -> LayerStats:
    stats: dict[str, object] = {
        "path": "act1", "kind": kind, "call": 0, "shape": (32, 8), "mode": "train", "mean": 0.4, "std": 0.6, "min": 0.0,
        "max": 2.0, "rms": 0.7, "zero_frac": 0.5, "nonfinite": 0, "saturated_frac": None, "dead_unit_frac": 0.0,
    }  # fmt: skip
    return LayerStats(**{**stats, **fields})  # type: ignore[arg-type]


def probe(*layers: LayerStats, classes: int = 4) -> Probe:
    return Probe(
        mode="train", batch=32, classes=classes, loss=1.4, input=tensor_stats(), output=tensor_stats(), target=None,
        layers=layers, shapes=SHAPES, copies={},
    )  # fmt: skip


def record(
    step: int, loss: float, *, grads: float | Mapping[str, float | None] = 0.1, ratio: float = 1e-3, **fields: object
) -> StepRecord:
    sizes = {path: grads if isinstance(grads, float) else grads.get(path, 0.1) for path in SHAPES}
    tensors = {p: TensorNorms(param=1.0, grad=g, update=ratio, ratio=ratio) for p, g in sizes.items()}
    body: dict[str, object] = {
        "step": step, "loss": loss, "learning_rate": 0.1, "param_norm": 2.0, "update_norm": 2 * ratio,
        "update_ratio": ratio, "grad_norm": math.sqrt(sum(g * g for g in sizes.values() if g is not None)),
        "tensors": tensors, "states": dict.fromkeys(SHAPES, GradientState.OK),
    }  # fmt: skip
    return StepRecord(**{**body, **fields})  # type: ignore[arg-type]


def healthy_run(steps: int = 120, **fields: object) -> list[StepRecord]:
    """A run that learns: what `fields` change, changes at every step."""
    first = {"probe": probe(layer())}
    noise = [0.1 * (1 + 0.05 * math.sin(i)) for i in range(steps)]
    return [
        record(i, 1.4 * 0.97**i, **{"grads": noise[i], **(first if i == 0 else {}), **fields}) for i in range(steps)
    ]  # type: ignore[arg-type]


def with_step(at: int, **fields: object) -> list[StepRecord]:
    """A run that learns, but for one step."""
    run = healthy_run()
    run[at] = record(at, **{"loss": run[at].loss, "probe": run[at].probe, **fields})  # type: ignore[arg-type]
    return run


def flat_run(loss: float = 1.4, **fields: object) -> list[StepRecord]:
    """A run whose loss stays."""
    return [dataclasses.replace(r, loss=loss) for r in healthy_run(**fields)]


# The rules of other tools

FIRST = {"fc1.weight": 1e-5}
NAN = with_step(50, loss=math.nan, grads=math.nan)
DEAD = {"probe": probe(layer(dead_unit_frac=1.0, zero_frac=1.0))}


@pytest.mark.parametrize("tool", others.TOOLS)
def test_no_tool_alarms_on_a_run_without_fault(tool: str) -> None:
    run = healthy_run(ratio=2e-3)
    if tool == "DeepDiagnosis":  # at its limits, no rate of 0.1 is in order before the ratio is 1e-4 to 1
        run = healthy_run(ratio=1e-2)
    assert others.TOOLS[tool](run) == set()


@pytest.mark.parametrize(
    ("tool", "run", "code"),
    [
        ("SageMaker Debugger", with_step(20, grads=1e-8), "vanishing-gradient"),
        ("SageMaker Debugger", NAN, "nonfinite-loss"),
        ("SageMaker Debugger", with_step(20, **DEAD), "dead-relu"),
        ("SageMaker Debugger", with_step(0, probe=probe(layer(), layer(std=3.0))), "poor-initialisation"),
        ("SageMaker Debugger", with_step(3, grads=1e-5), "poor-initialisation"),
        ("SageMaker Debugger", with_step(20, ratio=11.0), "learning-rate-too-high"),
        ("SageMaker Debugger", with_step(20, ratio=1e-9), "not-updating"),
        ("SageMaker Debugger", healthy_run(ratio=5e-6), "not-updating"),
        ("SageMaker Debugger", flat_run(), "loss-plateau"),
        ("AutoTrainer", flat_run(grads=FIRST), "vanishing-gradient"),
        ("AutoTrainer", flat_run(grads={"fc1.weight": 8.0}), "exploding-gradient"),
        ("AutoTrainer", flat_run(**DEAD), "dead-relu"),
        ("DeepDiagnosis", with_step(0, **DEAD), "dead-relu"),
        ("DeepDiagnosis", with_step(0, probe=probe(layer("sigmoid", saturated_frac=0.6))), "saturated-activation"),
        ("DeepDiagnosis", with_step(20, grads=1e-8), "vanishing-gradient"),
        ("DeepDiagnosis", NAN, "nonfinite-loss"),
        ("DeepDiagnosis", healthy_run(ratio=1e-5), "learning-rate-too-low"),
        ("DeepDiagnosis", healthy_run(ratio=2.0), "learning-rate-too-high"),
        ("torchmortem", flat_run(grads={"fc1.weight": 5e-4}), "vanishing-gradient"),
        ("torchmortem", with_step(50, grads=2e3), "exploding-gradient"),
        ("torchmortem", NAN, "nonfinite-loss"),
        ("torchmortem", healthy_run(ratio=5e-6), "learning-rate-too-low"),
        ("torchmortem", healthy_run(ratio=0.2), "learning-rate-too-high"),
        ("torchmortem", with_step(0, probe=probe(layer(zero_frac=0.6))), "dead-relu"),
        ("torchmortem", with_step(0, probe=probe(layer("tanh", saturated_frac=0.6))), "saturated-activation"),
        ("torchmortem", flat_run(), "loss-plateau"),
        ("TorchLens", with_step(50, grads=1e-8), "vanishing-gradient"),
        ("TorchLens", with_step(50, grads=2e4), "exploding-gradient"),
        ("TorchLens", NAN, "nonfinite-gradient"),
        ("DLCheck", with_step(50, grads=1e-8), "vanishing-gradient"),
        ("DLCheck", with_step(50, grads=1e6), "exploding-gradient"),
        ("DLCheck", with_step(0, **DEAD), "dead-relu"),
        ("torchdiag", with_step(50, grads=1e3), "exploding-gradient"),
        ("torchdiag", with_step(50, grads=1e-9), "vanishing-gradient"),
        ("torchdiag", NAN, "nonfinite-gradient"),
        ("torch-audit", with_step(50, grads=100.0), "exploding-gradient"),
        ("torch-audit", NAN, "exploding-gradient"),
        ("OLMo-core, MaxText (6σ)", with_step(100, loss=50.0), "exploding-gradient"),
        ("Megatron (10×)", with_step(110, loss=50.0), "exploding-gradient"),
        ("update ratio about 1e-3", healthy_run(ratio=1e-5), "learning-rate-too-low"),
        ("update ratio about 1e-3", healthy_run(ratio=0.1), "learning-rate-too-high"),
        ("source texts", with_step(50, grads=1e-5), "vanishing-gradient"),
        ("source texts", with_step(50, grads=100.0), "exploding-gradient"),
        ("source texts", NAN, "nonfinite-loss"),
        ("source texts", flat_run(math.log(2), probe=probe(classes=2)), "loss-plateau"),
    ],
)
def test_each_rule_fires_on_what_it_is_for(tool: str, run: list[StepRecord], code: str) -> None:
    assert code in others.TOOLS[tool](run)


def test_all_rules_have_codes_of_ours_and_take_odd_runs() -> None:
    empty = dataclasses.replace(record(0, 1.0), tensors={}, states={}, loss=None)
    cut = record(0, 1.0, grads=dict.fromkeys(SHAPES))
    for tool in others.TOOLS.values():
        for run in ([], [empty], [cut], NAN, healthy_run(probe=None)):
            assert tool(run) <= set(CODES)


def test_a_spike_that_is_a_nan_is_beyond_no_deviation() -> None:
    assert others.six_sigma(NAN) == set()


# The truth


def outcome_of(losses: list[float], **fields: object) -> truth.Outcome:
    return truth.outcome(dataclasses.replace(SPEC, **fields), [record(i, loss) for i, loss in enumerate(losses)])


FALLING = [1.4 * 0.97**i for i in range(100)]


def test_a_healthy_run_must_learn() -> None:
    assert truth.status(outcome_of(FALLING))[0] == truth.HEALTHY
    assert truth.status(outcome_of([1.4] * 100))[0] == truth.DROPPED
    assert truth.status(outcome_of([*FALLING, math.nan]))[0] == truth.DROPPED
    # From a bad start to the loss of a constant answer is a fall, and nothing learned.
    assert truth.status(outcome_of([9.0] * 5 + [math.log(4)] * 95))[0] == truth.DROPPED


def test_a_fault_hinders_if_much_of_the_gain_is_lost() -> None:
    healthy = outcome_of(FALLING)
    slow = outcome_of([1.4 * 0.998**i for i in range(100)])
    assert truth.status(healthy, slow)[0] == truth.HINDERS
    assert truth.status(healthy, outcome_of([*FALLING[:10], math.inf]))[0] == truth.HINDERS
    assert truth.status(healthy, healthy)[0] == truth.DROPPED
    assert truth.status(healthy, healthy, structural=True)[0] == truth.BY_CONSTRUCTION
    assert truth.status(slow, slow)[0] == truth.DROPPED


def test_losses_are_compared_in_one_unit() -> None:
    summed = outcome_of([32 * loss for loss in FALLING], loss="summed_cross_entropy")
    assert summed.end == pytest.approx(outcome_of(FALLING).end)
    scaled = outcome_of([100 * loss for loss in FALLING], loss="mse", task=TaskSpec(name="waves", target_scale=10.0))
    assert scaled.end == pytest.approx(outcome_of(FALLING).end * math.log(4))  # against a variance of 1, not ln 4


# The score


def drawn(
    fault: str | None = None, *, codes: tuple[str, ...] = (), where: tuple[str, ...] = (), **fields: object
) -> Drawn:
    body: dict[str, object] = {"pair": 0, "family": "relu", "hard": False, "framework": "torch", "part": "held-out"}
    return Drawn(**{**body, "spec": SPEC, "fault": fault, "codes": codes, "where": where, **fields})  # type: ignore[arg-type]


def finding(code: str, *paths: str, severity: Severity = Severity.WARNING) -> score.Said:
    return score.Said(code=code, severity=severity, paths=paths, first_step=0)


def faulty(*findings: score.Said, status: str = truth.HINDERS, **fields: object) -> score.Judged:
    truly = drawn("dead", codes=("dead-relu", "exploding-gradient"), where=("fc2",))
    return score.Judged(drawn=dataclasses.replace(truly, **fields), status=status, findings=findings)  # type: ignore[arg-type]


def healthy(*findings: score.Said, hard: bool = False) -> score.Judged:
    return score.Judged(drawn=drawn(hard=hard), status=truth.HEALTHY, findings=findings)


def shares(*judged: score.Judged) -> Callable[..., tuple[int, int]]:
    rows = {(r.tool, r.part, r.measure, r.subject): r for r in score.score(judged, ["loud"])}

    def share(measure: str, subject: str = "all", tool: str = score.OURS) -> tuple[int, int]:
        row = rows[tool, "held-out", measure, subject]
        return row.hits, row.total

    return share


def test_a_miss_and_a_false_alarm_are_counted() -> None:
    share = shares(
        faulty(finding("dead-relu", "fc2.bias")),
        faulty(),
        faulty(finding("loss-plateau")),
        faulty(finding("dead-relu", "fc2", severity=Severity.NOTE)),
        healthy(),
        healthy(finding("dead-relu", "fc1"), hard=True),
        healthy(finding("dead-relu", "fc1", severity=Severity.NOTE)),
    )
    assert share("recall") == (1, 4)
    assert share("any alarm") == (2, 4)
    assert share("false alarms") == (1, 3)
    assert share("false alarms, hard") == (1, 1)
    assert share("precision", "dead-relu") == (1, 2)
    assert share("recall of fault", "dead") == (1, 4)
    assert share("false alarms of family", "relu") == (1, 3)


def test_the_exact_code_is_told_from_its_family_and_the_place_must_be_right() -> None:
    share = shares(
        faulty(finding("exploding-gradient", "fc2.weight", "fc1.weight")),
        faulty(finding("dead-relu", "fc1.weight", "fc2.weight")),
        faulty(finding("dead-relu", "fc22.weight")),
        faulty(finding("dead-relu")),
    )
    assert share("recall of code", "dead-relu") == (4, 4)
    assert share("exact code", "dead-relu") == (3, 4)
    assert share("located") == share("located of code", "dead-relu") == (1, 4)


def test_by_construction_and_dropped_are_apart_and_so_are_the_parts() -> None:
    share = shares(
        faulty(finding("dead-relu"), status=truth.BY_CONSTRUCTION),
        faulty(finding("dead-relu"), status=truth.DROPPED),
        faulty(finding("dead-relu"), part="tuning"),
        faulty(),
    )
    assert share("recall, by construction") == (1, 1)
    assert share("recall") == (0, 1)


def test_other_tools_stand_in_the_same_rows() -> None:
    loud = {"loud": ("dead-relu",)}
    share = shares(
        dataclasses.replace(faulty(), others=loud),
        dataclasses.replace(healthy(), others=loud),
        dataclasses.replace(healthy(), others={"loud": ()}),
    )
    assert share("recall", tool="loud") == (1, 1)
    assert share("false alarms", tool="loud") == (1, 2)
    assert share("false alarms") == (0, 2)


def test_misses_are_of_the_tuning_part_alone() -> None:
    wrong = [faulty(part="tuning"), faulty(finding("dead-relu", "fc1"), part="tuning")]
    right = [faulty(finding("dead-relu", "fc2"), part="tuning"), faulty(), healthy(finding("dead-relu"))]
    assert score.misses([*wrong, *right]) == wrong


def test_a_share_of_nothing_has_no_interval() -> None:
    assert score.wilson(0, 0) is None
    low, high = score.wilson(0, 20) or (1.0, 0.0)
    assert low == 0.0
    assert high == pytest.approx(0.161, abs=1e-3)


# From end to end


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
