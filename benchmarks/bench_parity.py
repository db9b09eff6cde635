"""How often the parity judge is right: false alarms on healthy pairs, planted faults found.

Example: `gradlab bench parity --pairs 40`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import RenderableType
from rich.table import Table

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.parity import Key, ParityReport, Subject, compare, moved
from gradlab_core.programs.specs import ModelSpec, TrainSpec

from .options import answering

PAIRS = 1000
STEPS = 8
SEEDS_A_NET = 20
"""Pairs of other weights and batches that one drawn net gives: what is slow is that JAX compiles each net anew."""
TIMES = (2.0, 4.0, 10.0)
"""Planted faults, in units of the rounding expected of the tensor that they are planted in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of question: how many pairs were asked, and in how many the judge raised an alarm.

    `worst` is the largest error over its limit; `named` in how many the report said which arithmetic is at work.
    """

    case: str
    pairs: int = 0
    alarms: int = 0
    named: int = 0
    worst: float = 0.0
    first: str = ""

    def and_(self, report: ParityReport, *, alarm: bool) -> Row:
        """With one more pair."""
        ratios = [
            error / limit
            for row in report.rows
            for error, limit in (
                (row.logic_error, row.logic_tolerance),
                (row.reference_error, row.reference_tolerance),
                (row.candidate_error, row.candidate_tolerance),
            )
            if error and limit
        ]
        where = report.failures[0].name if report.failures else ""
        return dataclasses.replace(
            self,
            pairs=self.pairs + 1,
            alarms=self.alarms + alarm,
            named=self.named + bool(report.notes),
            worst=max([self.worst, *ratios]),
            first=self.first or where,
        )


def run(
    *,
    pairs: Annotated[int, typer.Option(help="Healthy pairs to draw.")] = PAIRS,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    planted: Annotated[bool, typer.Option(help="Plant faults in one pair of five.")] = True,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Judge so many healthy pairs, PyTorch against JAX, over eight steps; in one of five plant faults.

    Raises:
        GradlabError: a number of pairs below 1, or a framework that is missing.
    """
    if pairs < 1:
        raise GradlabError(f"pairs is {pairs}; expected at least 1")
    twins = backends.load("torch"), backends.load("jax")
    rng = np.random.default_rng(seed)
    rows: dict[str, Row] = {}

    def note(case: str, report: ParityReport, alarm: bool) -> None:
        rows[case] = rows.get(case, Row(case=case)).and_(report, alarm=alarm)

    for i in range(pairs):
        if i % SEEDS_A_NET == 0:
            kind, spec, training = _net(rng)
        on_call(f"pair {i + 1} of {pairs}: {kind}")
        sides, batch = _pair(twins, spec, training, rng)
        healthy = compare(*sides, batch, steps=STEPS)
        note(f"healthy {kind}", healthy, bool(healthy.failures))
        if planted and i % 5 == 0:
            for case, report, alarm in _faults(sides, batch, healthy, rng):
                note(case, report, alarm)
    return sorted(rows.values(), key=lambda row: (not row.case.startswith("healthy"), row.case))


def _faults(
    sides: tuple[Any, Any], batch: Any, healthy: ParityReport, rng: np.random.Generator
) -> Iterator[tuple[str, ParityReport, bool]]:
    """Cases with a fault, and cases in which the arithmetic of one side is another one."""
    reference, candidate = sides
    rows = [row for row in healthy.rows if row.candidate_expected and row.quantity != "learning_rate"]
    for times in TIMES:
        row = rows[rng.integers(len(rows))]
        report = compare(
            reference, Disturbed(candidate, row.step, row.key, times * row.candidate_expected), batch, steps=STEPS
        )
        caught = any((r.step, r.key) == (row.step, row.key) for r in report.failures)
        yield f"planted {times:g} × the expected rounding", report, caught
    for precision in ("tf32", "bfloat16"):
        other = candidate.at(precision)
        report = compare(reference, other, batch, steps=2)
        yield f"candidate in {precision}", report, bool(report.failures)
        report = compare(reference, Disturbed(other, 0, Key("logits"), 0.5, everywhere=True), batch, steps=1)
        yield f"candidate in {precision}, and a fault", report, bool(report.failures)


class Disturbed:
    """A subject one of whose tensors carries a random error of that relative size: in float32, or everywhere."""

    def __init__(self, subject: Any, at: int, key: Key, size: float, *, everywhere: bool = False) -> None:
        self.subject, self.where, self.size, self.everywhere = subject, (at, key), size, everywhere
        self.framework = subject.framework
        self.dtype = "float32"

    def cast(self, dtype: str) -> Disturbed:
        made = Disturbed(self.subject.cast(dtype), *self.where, self.size, everywhere=self.everywhere)
        made.dtype = dtype
        return made

    def at(self, precision: str) -> Disturbed:
        return Disturbed(self.subject.at(precision), *self.where, self.size, everywhere=self.everywhere)

    def arithmetic(self) -> Any:
        return self.subject.arithmetic()

    def perturbed(self, arithmetic: Any, seed: int) -> Subject:
        made: Subject = self.subject.perturbed(arithmetic, seed)
        return made

    def state(self) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = self.subject.state()
        return weights

    def load(self, arrays: Mapping[str, Any]) -> None:
        self.subject.load(arrays)

    def step(self, x: np.ndarray, y: np.ndarray, epoch: int) -> dict[Key, np.ndarray | None]:
        trace = dict(self.subject.step(x, y, epoch))
        at, key = self.where
        value = trace.get(key)
        if epoch == at and value is not None and (self.everywhere or self.dtype == "float32"):
            noise = np.random.default_rng(0).standard_normal(np.shape(value))
            length = np.linalg.norm(np.asarray(value, np.float64)) * self.size
            trace[key] = value + noise * (length / max(np.linalg.norm(noise), 1e-300))
        return trace


def _net(rng: np.random.Generator) -> tuple[str, ModelSpec, TrainSpec]:
    kind = str(rng.choice(["mlp", "rnn_tanh", "lstm", "gru", "transformer", "plain", "postact", "preact"]))
    some = {"num_classes": int(rng.integers(2, 6))}
    if kind == "mlp":
        widths = tuple(int(w) for w in rng.integers(3, 40, rng.integers(1, 4)))
        activation = str(rng.choice(["relu", "tanh", "gelu", "silu"]))
        spec = ModelSpec(kind="mlp", features=int(rng.integers(3, 40)), widths=widths, activation=activation, **some)
    elif kind in ("rnn_tanh", "lstm", "gru"):
        sizes = {"features": int(rng.integers(2, 12)), "hidden": int(rng.integers(2, 24))}
        spec = ModelSpec(kind="recurrent", cell=kind, **sizes, **some)
    elif kind == "transformer":
        heads = int(rng.choice([1, 2]))
        sizes = {"features": int(rng.integers(2, 8)), "hidden": heads * int(rng.integers(2, 9)), "depth": 1}
        spec = ModelSpec(kind="transformer", heads=heads, **sizes, **some)
    else:
        layers = (1,) * int(rng.integers(1, 3))
        spec = ModelSpec(block=kind, base=int(rng.integers(2, 9)), layers=layers, **some)
    rate, momentum = float(10 ** rng.uniform(-3, -1)), float(rng.uniform(0, 0.95))
    return kind, spec, TrainSpec(learning_rate=rate, momentum=momentum, weight_decay=1e-3)


def _pair(twins: tuple[Any, Any], spec: ModelSpec, training: TrainSpec, rng: np.random.Generator) -> tuple[Any, Any]:
    models = [twin.build(spec, seed=0) for twin in twins]
    seed = int(rng.integers(2**31))
    weights = moved(twins[0].to_canonical(twins[0].build(spec, seed=seed)), seed=seed)
    for twin, model in zip(twins, models, strict=True):
        twin.from_canonical(model, weights)
    sides = tuple(twin.Subject(model, optimizer=training) for twin, model in zip(twins, models, strict=True))
    shape = {"mlp": (spec.features,), "recurrent": (6, spec.features), "transformer": (6, spec.features)}.get(
        spec.kind, (3, 12, 12)
    )
    x = rng.standard_normal((8, *shape)).astype(np.float32)
    return sides, (x, rng.integers(0, spec.num_classes, 8))


def report(rows: list[Row]) -> Iterator[RenderableType]:
    """What a console prints."""
    table = Table(title="The parity judge, judged", title_justify="left")
    for column in ("case", "pairs", "alarms", "rate", "arithmetic named", "largest error / limit", "first alarm"):
        table.add_column(column, justify="left" if column in ("case", "first alarm") else "right")
    healthy = [row for row in rows if row.case.startswith("healthy")]
    total = Row(
        case="healthy, all",
        pairs=sum(row.pairs for row in healthy),
        alarms=sum(row.alarms for row in healthy),
        worst=max((row.worst for row in healthy), default=0.0),
    )
    for row in [*healthy, total, *(row for row in rows if row not in healthy)]:
        rate = f"{row.alarms / row.pairs:.3f}" if row.pairs else ""
        table.add_row(row.case, str(row.pairs), str(row.alarms), rate, str(row.named), f"{row.worst:.2g}", row.first)
    yield table


command = answering(run, "parity-benchmark", report)

if __name__ == "__main__":
    from .script import main

    main("parity")
