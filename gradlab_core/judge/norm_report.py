"""The norm report: what the norms of a run are, step by step, and the coarse word that they deserve.

Source: the norm reports this project began with, whose three worked examples are those of `norm_class`. The word comes
from norms alone; what is wrong, where and why is for `gradlab_core.judge.diagnosis` to say.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from gradlab_core.definitions import reference
from gradlab_core.definitions.thresholds import (
    ANOMALY_DECAY,
    ANOMALY_SCORE,
    NORM_CLASS_EXPLODING,
    NORM_CLASS_RELATIVE,
    NORM_CLASS_VANISHING,
    NORM_HIGH_ACCURACY,
    NORM_LOW_LOSS,
)
from gradlab_core.errors import refuse
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.progress import Progress, progress
from gradlab_core.judge.norm_notes import notes
from gradlab_core.records import GradientState, StepRecord
from gradlab_core.records.ordering import in_order

STABLE, EXPLODING, VANISHING = CLASSES = ("stable", "exploding", "vanishing")

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
        f"exploding: a NaN or an Inf, or ‖g‖ ≥ {NORM_CLASS_EXPLODING:g} and ‖g‖/‖θ‖ ≥ {NORM_CLASS_RELATIVE[1]:g} while "
        f"the loss does not fall. vanishing: ‖g‖ < {NORM_CLASS_VANISHING:g} and ‖g‖/‖θ‖ < {NORM_CLASS_RELATIVE[0]:g} "
        "while nothing has been learned: at convergence a small gradient is as it should be. stable: neither. A coarse "
        "word from norms of the whole net; the diagnosis is the finer one.",
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
        norm_class: one of `CLASSES`, None where no parameter has a gradient path.
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


def norm_class(
    grad_norm: float,
    param_norm: float,
    *,
    loss: float | None = None,
    accuracy: float | None = None,
    learned: bool | None = None,
) -> str:
    """The class of one step: `stable`, `exploding` or `vanishing`.

    Args:
        grad_norm, param_norm: ‖g‖ and ‖θ‖ of the whole net.
        loss, accuracy: of that step, where known; accuracy between 0 and 1.
        learned: whether the loss has fallen as it should, where a history says so; it overrules what one loss and one
            accuracy can say. A gradient that is large or small while the net learns is neither exploding nor vanishing.

    >>> norm_class(0.33, 69.77)
    'stable'
    >>> norm_class(1783.42, 965.10, loss=float("nan"))
    'exploding'
    >>> norm_class(0.0008, 3.12, loss=0.693, accuracy=0.5)
    'vanishing'
    >>> norm_class(0.0008, 3.12, loss=0.002, accuracy=1.0)  # converged
    'stable'
    """
    if not all(math.isfinite(value) for value in (grad_norm, param_norm, 0.0 if loss is None else loss)):
        return EXPLODING
    relative, (low, high) = reference.ratio(grad_norm, param_norm), NORM_CLASS_RELATIVE
    if grad_norm >= NORM_CLASS_EXPLODING and relative >= high and not learned:
        return EXPLODING
    if learned is None:
        learned = (loss is not None and loss < NORM_LOW_LOSS) or (accuracy or 0.0) >= NORM_HIGH_ACCURACY
    return VANISHING if grad_norm < NORM_CLASS_VANISHING and relative < low and not learned else STABLE


def moving_average(norms: Iterable[float]) -> list[float | None]:
    """The exponential moving average up to and with each norm; NaN and Inf leave it as it is.

    >>> moving_average([1.0, 3.0, float("inf"), 2.0])
    [1.0, 2.0, 2.0, 2.0]
    """
    mean, count, found = 0.0, 0, list[float | None]()
    for norm in norms:
        if math.isfinite(norm):
            count += 1
            mean += max(1.0 - ANOMALY_DECAY, 1.0 / count) * (norm - mean)
        found.append(mean if count else None)
    return found


def norm_report(records: Iterable[StepRecord], *, steps: Iterable[int] = ()) -> NormReport:
    """The report of a run.

    Args:
        records: of the run, in any order.
        steps: to be among the rows, besides the first, the last, three in between, and the first of every class.

    Raises:
        GradlabError: there is no record, or one of `steps` was not recorded.
    """
    run = in_order(records)
    place = {record.step: i for i, record in enumerate(run)}
    asked = list(steps)
    known = f"recorded are {len(run):,} steps from {run[0].step} to {run[-1].step}" if run else ""
    problems = [] if run else ["no record; expected at least one"]
    problems += [f"step {step} is not recorded; {known}" for step in asked if run and step not in place]
    refuse("norm report", problems)
    classes = _classes(run)
    averages = moving_average(record.grad_norm for record in run)
    shown = {round(i * (len(run) - 1) / 4) for i in range(5)} | {place[step] for step in asked}
    shown |= {classes.index(word) for word in dict.fromkeys(classes)}
    stretches = _stretches(run, classes)
    return NormReport(
        rows=tuple(_row(run[i], averages[i], classes[i]) for i in sorted(shown)),
        stretches=tuple(stretches),
        notes=tuple(notes(run, classes)),
    )


def _classes(run: Sequence[StepRecord]) -> list[str | None]:
    """Of every record, with what the run had shown up to there."""
    history, found = History(), list[str | None]()
    state, looked = None, 0
    for record in run:
        history.add(record)
        extreme = not NORM_CLASS_VANISHING <= record.grad_norm < NORM_CLASS_EXPLODING
        # Looking at all losses so far costs more than all the rest: once in every hundredth part of the run.
        if extreme and history.count > 1.01 * looked:
            state, looked = progress(history), history.count
        learned = _learned(record, state) if extreme else None
        word = norm_class(record.grad_norm, record.param_norm, loss=record.loss, learned=learned)
        found.append(None if _no_path(record) else word)
    return found


def _learned(record: StepRecord, state: Progress | None) -> bool | None:
    """What the history says of an extreme gradient norm; None where it says nothing."""
    if state is None:
        return None
    if record.grad_norm >= NORM_CLASS_EXPLODING:
        sudden = record.anomaly is not None and record.anomaly >= ANOMALY_SCORE
        usual = record.loss is not None and record.loss <= state.recent + ANOMALY_SCORE * state.noise
        return state.useful and usual and not sudden
    # Without a probe nobody knows the loss of a constant answer, and a net that started well has nothing to learn.
    return state.useful or (None if state.baseline is None else False)


def _no_path(record: StepRecord) -> bool:
    """No gradient at all is another thing than a gradient of norm 0."""
    grads = [norms.grad for norms in record.tensors.values()]
    states = set(record.states.values())
    return (bool(grads) and all(grad is None for grad in grads)) or states == {GradientState.DISCONNECTED}


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


def _stretches(run: Sequence[StepRecord], classes: Sequence[str | None]) -> list[Stretch]:
    found: list[Stretch] = []
    for record, word in zip(run, classes, strict=True):
        if found and found[-1].norm_class == word:
            found[-1] = dataclasses.replace(found[-1], last_step=record.step, records=found[-1].records + 1)
        else:
            found.append(Stretch(norm_class=word, first_step=record.step, last_step=record.step, records=1))
    return found
