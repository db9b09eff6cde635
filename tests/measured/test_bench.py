"""The benchmarks: their arithmetic on a clock of our own, and small real runs. No time is ever a condition to pass."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench_analysis, bench_monitor, bench_norms, bench_step, environment, monitored, nets, table
from benchmarks.harness import Case, Row, measure
from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.records import codec

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"torch device": "abacus"}


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands here measure what it takes to compile: they do without what the other tests compiled."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)


class Clock:
    """Time passes only when a case says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def case(self, name: str, *seconds: float, **options: object) -> Case:
        """A case whose calls take `seconds` in turn, the last for ever."""
        left = list(seconds)

        def call() -> float:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return self.now

        return Case(name=name, framework="torch", prepare=lambda: call, **options)  # type: ignore[arg-type]


def timed(clock: Clock, *cases: Case, rounds: int = 3, only: tuple[str, ...] = ()) -> dict[str, Row]:
    rows = measure("fake", "a setting", cases, rounds=rounds, environment=ENVIRONMENT, only=only, clock=clock)
    return {row.case: row for row in rows}


def test_speedup_is_baseline_over_case() -> None:
    clock = Clock()
    rows = timed(clock, clock.case("slow", 3.0, baseline="slow"), clock.case("fast", 2.0, baseline="slow"))
    assert rows["fast"].speedup == pytest.approx(1.5)
    assert rows["slow"].speedup == pytest.approx(1.0)
    assert rows["fast"].device == "abacus"


def test_median_and_quartiles_are_of_the_rounds_alone() -> None:
    clock = Clock()
    row = timed(clock, clock.case("a", 100.0, 100.0, 1.0, 2.0, 3.0, 4.0, 5.0), rounds=5)["a"]
    assert row.seconds == pytest.approx((1.0, 2.0, 3.0, 4.0, 5.0))
    assert (row.lower_quartile, row.median, row.upper_quartile) == pytest.approx((2.0, 3.0, 4.0))


def test_compile_time_is_what_the_first_call_takes_beyond_the_median() -> None:
    clock = Clock()
    rows = timed(clock, clock.case("jit", 10.0, 1.0, compiles=True), clock.case("eager", 10.0, 1.0))
    assert rows["jit"].compile_seconds == pytest.approx(9.0)
    assert rows["jit"].median == pytest.approx(1.0)
    assert rows["eager"].compile_seconds is None


def test_rounds_are_interleaved_and_every_second_one_backwards() -> None:
    clock = Clock()
    timed(clock, *(clock.case(name, 1.0) for name in "abc"), rounds=2)
    assert "".join(clock.calls[-6:]) == "abccba"


def test_bandwidth_its_share_of_a_copy_and_error() -> None:
    clock = Clock()
    ours = clock.case("a", 0.5, reads=1000, copy="copy", error=lambda result: math.inf)
    row = timed(clock, ours, clock.case("copy", 0.8, reads=2000, copy="copy"))["a"]
    assert row.bytes_per_second == pytest.approx(2000.0)
    assert row.share_of_copy == pytest.approx(0.8)
    assert row.relative_error == math.inf
    assert timed(clock, ours)["a"].share_of_copy is None


def test_times_are_of_one_step_however_many_are_one_call() -> None:
    clock = Clock()
    row = timed(clock, clock.case("a", 50.0, 20.0, steps=10, compiles=True))["a"]
    assert row.median == pytest.approx(2.0)
    assert row.compile_seconds == pytest.approx(30.0)


@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_a_failing_case_says_why_and_stops_no_other(fails_at: int) -> None:
    clock, calls = Clock(), []

    def fail() -> None:
        calls.append(1)
        if len(calls) > fails_at:
            raise RuntimeError("no compiler\nlong story")

    bad = Case(name="bad", framework="torch", prepare=lambda: fail)
    rows = timed(clock, bad, clock.case("good", 1.0, baseline="bad"))
    assert rows["bad"].failure == "RuntimeError: no compiler"
    assert (rows["bad"].median, rows["bad"].seconds) == (None, ())
    assert (rows["good"].median, rows["good"].speedup) == (pytest.approx(1.0), None)


def test_only_keeps_cases_and_refuses_a_name_that_is_none() -> None:
    clock = Clock()
    cases = clock.case("torch eager", 1.0), clock.case("torch.compile", 1.0)
    assert list(timed(clock, *cases, only=("eager",))) == ["torch eager"]
    with pytest.raises(GradlabError, match="no case named jax; expected part of: torch eager; "):
        timed(clock, *cases, only=("jax",))
    nested = clock.case("monitor", 1.0), clock.case("monitor, without read", 1.0)
    assert list(timed(clock, *nested, only=("monitor",))) == ["monitor"]
    assert list(timed(clock, *nested, only=("moni",))) == ["monitor", "monitor, without read"]


@pytest.mark.parametrize(
    ("bench", "options", "message"),
    [
        (bench_norms, {"elements": 0}, "elements is 0"),
        (bench_norms, {"elements": 10, "tensors": 3}, "expected a multiple of tensors, 3"),
        (bench_norms, {"scale": math.nan}, "scale is nan"),
        (bench_norms, {"framework": "mxnet"}, "framework is 'mxnet'; expected one of torch, jax, both"),
        (bench_step, {"block": "v3"}, "block is 'v3'"),
        (bench_step, {"batch": 1}, "batch is 1"),
        (bench_analysis, {"base": 0}, "base is 0"),
    ],
)
def test_bad_values_are_refused(bench: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(GradlabError, match=message):
        bench.run(**options)  # type: ignore[attr-defined]


def test_rounds_below_one_are_refused() -> None:
    with pytest.raises(GradlabError, match="rounds is 0"):
        timed(Clock(), Clock().case("a", 1.0), rounds=0)


def test_a_missing_framework_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(MissingDependency, match=r"pip install 'gradlab-parity\[jax\]'"):
        environment.frameworks("jax")


def test_a_compilation_cache_needs_jax_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match="without JAX"):
        environment.environment(("torch",), tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(GradlabError, match="is a file; expected a folder"):
        environment.environment(("jax",), file)


def test_norms_rows_are_complete_and_ours_is_right_where_peers_overflow() -> None:
    rows = bench_norms.run(elements=4096, tensors=4, scale=1e25, rounds=2)
    assert {row.framework for row in rows} == {"torch", "jax"}
    for row in rows:
        assert row.failure is None
        assert len(row.seconds) == 2
        assert row.baseline in {r.case for r in rows if r.setting == row.setting}
        assert {"python", "torch", "jax", "torch threads", "cores"} <= set(row.environment)
    ours = [row for row in rows if row.case.startswith("gradlab")]
    assert len(ours) == 6
    assert all(row.relative_error is not None and row.relative_error < 1e-6 for row in ours)
    assert {row.relative_error for row in rows if row.case == "optax.tree.norm, jit"} == {math.inf}


def test_step_and_analysis_rows_of_both_frameworks() -> None:
    without_compile = ("published", "torch eager", "gradlab", "plain Flax")
    small = {"base": 2, "batch": 4, "depth": "1", "rounds": 1}
    steps = bench_step.run(**small, only=without_compile)
    analyses = bench_analysis.run(**small)
    assert [row.failure for row in steps + analyses] == [None] * (len(steps) + len(analyses))
    assert {r.case: r.baseline for r in steps if r.case.startswith("gradlab")} == {
        "gradlab_torch, all norms": "published loop",
        "gradlab_jax, all norms": "plain Flax",
    }
    assert all(row.compile_seconds is not None for row in steps if row.framework == "jax")
    assert len(analyses) == 4
    assert all(row.speedup is not None for row in analyses)
    list(table.tables(steps + analyses))


def test_monitor_rows_of_both_frameworks() -> None:
    sizes = monitored.Sizes(base=2, batch=4, width=8, depth=3, small_batch=4)
    kept = ("bare", "Monitor", "it records", "item()", "by hand", "optax")
    rows = bench_monitor.run(net=("deep",), **vars(sizes), optimizer="adam", rounds=1, only=kept)
    assert [(row.case, row.failure) for row in rows if row.failure] == []
    assert {row.setting for row in rows} == {f"{sizes.setting('deep')}, adam"}
    assert len(rows) == 9
    assert all(row.speedup is not None for row in rows)
    with pytest.raises(GradlabError, match="narrow, lion: expected nets tinynet, wide, deep, gpt2 and"):
        bench_monitor.run(net=("narrow",), optimizer="lion")
    with pytest.raises(GradlabError, match="steps is 0"):
        bench_monitor.run(steps=0)


def test_published_analysis_agrees_with_ours() -> None:
    """A benchmark of different work would compare nothing."""
    torch = pytest.importorskip("torch")
    import gradlab_torch
    from benchmarks import published

    work = nets.Workload(base=4, batch=8, block="postact", layers=(1, 1))
    x, y = torch.from_numpy(work.images), torch.from_numpy(work.labels)
    noise = torch.from_numpy(gradlab_torch.default_noise(work.images.shape, seed=2))
    ours = gradlab_torch.analyze(gradlab_torch.build(work.spec, seed=0), x, y, noise, name="net")
    theirs = published.analysis(gradlab_torch.build(work.spec, seed=0), x, y, noise)
    assert [row["path"] for row in theirs["layers"]] == [row.path for row in ours.layers]
    assert [row["std"] for row in theirs["layers"]] == pytest.approx([row.std for row in ours.layers], rel=1e-4)
    assert theirs["flow"] == pytest.approx(dict(ours.flow.layers), rel=1e-3)
    assert theirs["loss"] == pytest.approx(ours.flow.loss, rel=1e-5)
    assert theirs["sensitivity"] == pytest.approx(ours.sensitivity, rel=1e-2)


def test_all_steps_learn_the_same() -> None:
    """Published loop, plain Flax and both twins give the same loss after three steps."""
    pytest.importorskip("torch")
    import gradlab_jax
    import gradlab_torch
    from benchmarks.plain_flax import plain_step, with_flax_norms
    from benchmarks.published import PublishedLoop
    from gradlab_jax.programs.training import _Stepper as JaxStepper
    from gradlab_torch.programs.training import _Stepper as TorchStepper

    work = nets.Workload(base=2, batch=4, block="postact", layers=(1,))
    x, y, rate = work.images, work.labels, nets.TRAINING.learning_rate
    rule = {"learning_rate": rate, "momentum": nets.TRAINING.momentum, "weight_decay": nets.TRAINING.weight_decay}
    loop = PublishedLoop(gradlab_torch.build(work.spec, seed=0), **rule)
    plain = plain_step(with_flax_norms(gradlab_jax.build(work.spec, seed=0)), **rule)
    twins = [
        TorchStepper(gradlab_torch.build(work.spec, seed=0), nets.TRAINING, gradlab_torch.cross_entropy),
        JaxStepper(gradlab_jax.build(work.spec, seed=0), nets.TRAINING, gradlab_jax.cross_entropy),
    ]
    for _ in range(3):
        losses = [loop.step(x, y)[0], plain(x.transpose(0, 2, 3, 1), y), *(t.step(x, y, rate).loss for t in twins)]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-3)


def gradlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from gradlab_core.cli.main import run; run()"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, "bench", *arguments], capture_output=True, text=True, env=environ, timeout=120
    )


def test_json_is_one_document_and_nothing_else(tmp_path: Path) -> None:
    out, cache = tmp_path / "rows.json", tmp_path / "cache"
    ran = gradlab(
        *("norms", "--framework", "jax", "--elements", "64", "--tensors", "2", "--rounds", "1"),
        *("--scale", "1e30", "--json", "--out", str(out), "--compilation-cache", str(cache)),
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["kind"] == "benchmark"
    assert out.read_text(encoding="utf-8") == ran.stdout
    rows = codec.parse(ran.stdout, "benchmark", Row)
    assert {row.benchmark for row in rows} == {"norms"}
    assert rows[0].environment["jax compilation cache"].startswith("cold")
    assert any(cache.iterdir())
    assert [field.name for field in dataclasses.fields(Row)] == list(json.loads(ran.stdout)["rows"][0])


def test_bad_input_is_a_message_and_exit_code_2(tmp_path: Path) -> None:
    ran = gradlab("norms", "--elements", "0")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "elements is 0" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_table_and_the_help(tmp_path: Path) -> None:
    ran = gradlab("norms", "--framework", "torch", "--elements", "64", "--tensors", "2", "--rounds", "1")
    assert ran.returncode == 0, ran.stderr
    assert "gradlab_torch.leaf_norms" in ran.stdout
    assert "torch threads" in ran.stdout
    assert "gradlab bench step --base 16" in gradlab("step", "--help").stdout


def test_the_command_line_imports_no_framework() -> None:
    code = "import sys, gradlab_core.cli.bench; sys.exit(any(m in sys.modules for m in ('jax', 'torch', 'numpy')))"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environ, timeout=60).returncode == 0
