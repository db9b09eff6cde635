"""The norm report: what the norms of a run are, step by step, and the coarse word that they deserve.

Source: the norm reports this project began with. What is wrong, where and why is for `gradlab_core.judge.diagnosis` to
say, whose rules the word follows.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from gradlab_core.definitions import reference
from gradlab_core.definitions.thresholds import (
    ANOMALY_DECAY,
    EXPLODING_NORM,
    NORM_CLASS_RELATIVE,
    NORM_CLASS_VANISHING,
)
from gradlab_core.errors import refuse
from gradlab_core.judge.norm_classes import norm_class as norm_class
from gradlab_core.judge.norm_classes import norm_classes
from gradlab_core.judge.norm_notes import notes
from gradlab_core.records import RecordedRun, StepRecord

DEFINITIONS = (
    ("‖g‖", "The L2 norm of the gradients of all parameters together, as the optimizer got them: after clipping."),
    ("‖θ‖", "The L2 norm of all parameters that the optimizer moves, before the step."),
    ("η‖g‖", "Learning rate times gradient norm: how long the step would be under plain SGD."),
    ("‖Δθ‖", "The update that was really applied, θ after the step minus θ before it, whatever the optimizer."),
    ("η‖g‖/‖θ‖", "The step ratio: by what part of their own length plain SGD would move the parameters."),
    ("‖Δθ‖/‖θ‖", "The applied ratio: by what part of their own length they were moved."),
    (
        "Moving average of ‖g‖",
        f"m ← (1 − w)·m + w·‖g‖ with w = {1 - ANOMALY_DECAY:g}, and 1/k for the k-th of the first records, so that "
        "these weigh alike. NaN and Inf do not enter.",
    ),
    (
        "Class",
        f"exploding: a NaN or an Inf, or ‖g‖ ≥ {EXPLODING_NORM:g} where the diagnosis sees an exploding gradient or "
        f"too high a learning rate. vanishing: the diagnosis sees a vanishing gradient, or "
        f"‖g‖ < {NORM_CLASS_VANISHING:g} and ‖g‖/‖θ‖ < {NORM_CLASS_RELATIVE:g} while nothing has been learned: at "
        "convergence a small gradient is as it should be. stable: neither. A coarse word for the whole net; the "
        "diagnosis is the finer one.",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormRow:
    """The norms of one step. None stands for what is not known.

    Attributes:
        estimated_update: η‖g‖, None without a learning rate.
        update_norm: ‖Δθ‖ as applied.
        step_ratio: η‖g‖/‖θ‖, None without a learning rate.
        update_ratio: ‖Δθ‖/‖θ‖ as applied.
        moving_average: of ‖g‖ up to this step, itself included; None before the first finite norm.
        norm_class: `stable`, `exploding` or `vanishing`, None where no parameter has a gradient path.
    """

    step: int
    loss: float | None
    learning_rate: float | None
    grad_norm: float
    param_norm: float
    estimated_update: float | None
    update_norm: float
    step_ratio: float | None
    update_ratio: float
    moving_average: float | None
    norm_class: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stretch:
    """Neighbouring records of one class."""

    norm_class: str | None
    first_step: int
    last_step: int
    records: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormReport:
    """`rows` of the chosen steps, `stretches` over all of them, `notes` in words."""

    rows: tuple[NormRow, ...]
    stretches: tuple[Stretch, ...]
    notes: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...] = DEFINITIONS


def moving_average(norms: Iterable[float]) -> list[float | None]:
    """The exponential moving average up to and with each norm; NaN and Inf leave it as it is.

    >>> moving_average([1.0, 3.0, float("inf"), 2.0])
    [1.0, 2.0, 2.0, 2.0]
    """
    mean, count, averages = 0.0, 0, list[float | None]()
    for norm in norms:
        if math.isfinite(norm):
            count += 1
            mean += max(1.0 - ANOMALY_DECAY, 1.0 / count) * (norm - mean)
        averages.append(mean if count else None)
    return averages


def norm_report(records: Iterable[StepRecord], *, steps: Iterable[int] = ()) -> NormReport:
    """The report of a run.

    Args:
        records: of the run, in any order.
        steps: to be among the rows, besides the first, the last, three in between, and the first of every class.

    Raises:
        GradlabError: there is no record, or one of `steps` was not recorded.
    """
    run = RecordedRun(records)
    place = {record.step: i for i, record in enumerate(run)}
    asked = list(steps)
    known = f"recorded are {len(run):,} steps from {run[0].step} to {run[-1].step}" if run else ""
    problems = [] if run else ["no record; expected at least one"]
    problems += [f"step {step} is not recorded; {known}" for step in asked if run and step not in place]
    refuse("norm report", problems)
    classes = norm_classes(run)
    averages = moving_average(record.grad_norm for record in run)
    shown = {round(i * (len(run) - 1) / 4) for i in range(5)} | {place[step] for step in asked}
    shown |= {classes.index(word) for word in dict.fromkeys(classes)}
    return NormReport(
        rows=tuple(_row(run[i], averages[i], classes[i]) for i in sorted(shown)),
        stretches=tuple(_stretches(run, classes)),
        notes=tuple(notes(run, classes)),
    )


def _row(record: StepRecord, average: float | None, word: str | None) -> NormRow:
    rate = record.learning_rate
    return NormRow(
        step=record.step,
        loss=record.loss,
        learning_rate=rate,
        grad_norm=record.grad_norm,
        param_norm=record.param_norm,
        estimated_update=None if rate is None else rate * record.grad_norm,
        update_norm=record.update_norm,
        step_ratio=None if rate is None else reference.ratio(rate * record.grad_norm, record.param_norm),
        update_ratio=record.update_ratio,
        moving_average=average,
        norm_class=word,
    )


def _stretches(run: Sequence[StepRecord], classes: Sequence[str | None]) -> Iterator[Stretch]:
    for word, pairs in itertools.groupby(zip(run, classes, strict=True), key=lambda pair: pair[1]):
        steps = [record.step for record, _ in pairs]
        yield Stretch(norm_class=word, first_step=steps[0], last_step=steps[-1], records=len(steps))
