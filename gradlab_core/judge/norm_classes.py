"""The class of each record of a run: one coarse word for its norms. Where the diagnosis says the same thing of the run,
its rules give the word, so that the norm report and the findings agree.

Source: the norm reports this project began with, whose three worked examples are those of `norm_class`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gradlab_core.definitions import reference
from gradlab_core.definitions.thresholds import (
    ANOMALY_SCORE,
    BURST_RATIO,
    NORM_CLASS_RELATIVE,
    NORM_CLASS_VANISHING,
    NORM_HIGH_ACCURACY,
    NORM_LOW_LOSS,
)
from gradlab_core.judge.diagnosis.history import History, is_finite
from gradlab_core.judge.diagnosis.progress import Progress, progress
from gradlab_core.judge.diagnosis.rules import gradients, rates
from gradlab_core.records import Finding, GradientState, StepRecord

STABLE, EXPLODING, VANISHING = CLASSES = ("stable", "exploding", "vanishing")


def norm_class(
    grad_norm: float,
    param_norm: float,
    *,
    loss: float | None = None,
    accuracy: float | None = None,
    learned: bool | None = None,
) -> str:
    """The class of one step by itself: `stable`, `exploding` or `vanishing`.

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
    if gradients.is_large(grad_norm, param_norm) and not learned:
        return EXPLODING
    if learned is None:
        learned = _is_done(loss) or (accuracy or 0.0) >= NORM_HIGH_ACCURACY
    return VANISHING if _is_small(grad_norm, param_norm) and not learned else STABLE


def norm_classes(run: Sequence[StepRecord]) -> list[str | None]:
    """The class of every record, given in the order of their steps; None where no parameter has a gradient path.

    A record is `exploding` if it holds a NaN or an Inf, or if its gradient norm is large as the rule
    `exploding-gradient` means it, and that rule or `learning-rate-too-high` raised an alarm at or before its step. In
    a run that does well a large norm explodes only where it is an anomaly and the step that followed replaced a good
    part of the net. `vanishing` comes from the rule `vanishing-gradient`, and from a norm of the whole net that is
    small while nothing has been learned: of that no rule speaks.

    The rules are asked directly, for `diagnose` leaves out a finding that another one explains.
    """
    history, idle = History(), list[bool]()
    state, looked = None, 0
    for record in run:
        history.add(record)
        is_small = _is_small(record.grad_norm, record.param_norm)
        # Looking at all losses so far costs more than all the rest: once in every hundredth part of the run.
        if is_small and history.count > 1.01 * looked:
            state, looked = progress(history), history.count
        idle.append(is_small and not _has_learned(state, record.loss))
    usual = gradients.usual_norm(history.selected)
    exploding = min(_first_step(gradients.exploding(history)), _first_step(rates.too_high(history)))
    vanishing = _first_step(gradients.vanishing(history))

    def word(record: StepRecord, is_idle: bool) -> str | None:
        if _has_no_path(record):
            return None
        if not is_finite(record):
            return EXPLODING
        is_large = gradients.is_large(record.grad_norm, record.param_norm, usual)
        if is_large and (record.step >= exploding or _is_outbreak(record)):
            return EXPLODING
        return VANISHING if is_idle or record.step >= vanishing else STABLE

    return [word(*pair) for pair in zip(run, idle, strict=True)]


def _first_step(findings: Iterator[Finding]) -> float:
    return min((finding.first_step for finding in findings), default=math.inf)


def _is_small(grad_norm: float, param_norm: float) -> bool:
    return grad_norm < NORM_CLASS_VANISHING and reference.ratio(grad_norm, param_norm) < NORM_CLASS_RELATIVE


def _has_learned(state: Progress | None, loss: float | None) -> bool:
    """Whether the run has learned up to here. Without a probe nobody knows the loss of a constant answer, and a net
    that started well has nothing to learn: then this one loss decides."""
    if state is not None and (state.useful or state.baseline is not None):
        return state.useful
    return _is_done(loss)


def _is_done(loss: float | None) -> bool:
    return loss is not None and loss < NORM_LOW_LOSS


def _is_outbreak(record: StepRecord) -> bool:
    return record.anomaly is not None and record.anomaly >= ANOMALY_SCORE and record.update_ratio > BURST_RATIO


def _has_no_path(record: StepRecord) -> bool:
    """No gradient at all is another thing than a gradient of norm 0."""
    if set(record.states.values()) == {GradientState.DISCONNECTED}:
        return True
    if record.grad_norm != 0:  # then some tensor has a gradient; tensors are not looked at where they need not be
        return False
    grads = [norms.grad for norms in record.tensors.values()]
    return bool(grads) and all(grad is None for grad in grads)
