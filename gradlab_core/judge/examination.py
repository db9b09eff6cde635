"""A model before its training: which learning rates would do, and what its first steps show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gradlab_core import fields
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.definitions.thresholds import (
    COPIED_SHARE,
    LEARNED_OF_START,
    RANGE_BELOW_BEST,
    RANGE_DIVERGED,
    RATE_FAR_BELOW,
)
from gradlab_core.errors import refuse
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.judge.diagnosis.making import finding
from gradlab_core.programs.program import OPTIMIZERS
from gradlab_core.records import Finding, Severity, StepRecord
from gradlab_core.text import number

RATES = tuple(float(rate) for rate in np.geomspace(1e-6, 10.0, 43))
"""The learning rates of a range test, six to a decade: one step with each, from the smallest up."""

STEPS = 24
"""Steps that are recorded after it, on a fresh copy of the model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangeTest:
    """Loss against a learning rate that grows from step to step, on one batch (Smith 2017).

    Attributes:
        rates, losses: the rate of each step and the loss before it; the test ends when the loss blows up.
        suggested: a tenth of the rate whose step led to the lowest loss; None if it never fell.
        diverges_at: the rate at which the loss blew up; None if none did.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float | None
    diverges_at: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examination:
    """What `examine` found; `learning_rate` is that of the recorded steps."""

    records: tuple[StepRecord, ...]
    findings: tuple[Finding, ...]
    range_test: RangeTest
    learning_rate: float


def check_examination(optimizer: str | None, learning_rate: float | None) -> str:
    """The name of the optimizer, or an error that lists every problem.

    >>> check_examination(None, 0.1)
    'sgd'
    """
    problems: list[str] = []
    if optimizer is not None:
        fields.one_of(problems, "optimizer", optimizer, OPTIMIZERS)
    if learning_rate is not None:
        fields.real(problems, "learning_rate", learning_rate, 0.0)
    refuse("examine", problems)
    return optimizer or "sgd"


def is_probed(step: int) -> bool:
    """Whether a recorded step of an examination carries a probe: the first, one in the middle, the last."""
    return step in (0, STEPS // 2, STEPS - 1)


def has_blown_up(losses: Sequence[float]) -> bool:
    """Whether a range test is over.

    >>> has_blown_up([2.3, 0.4, 2.5]), has_blown_up([2.3, 0.4, 9.9]), has_blown_up([math.nan])
    (False, True, True)
    """
    return not math.isfinite(losses[-1]) or losses[-1] > RANGE_DIVERGED * abs(losses[0])


def range_test(rates: Sequence[float], losses: Sequence[float]) -> RangeTest:
    """Read a range test: `losses[i]` was there before the step with `rates[i]`.

    >>> found = range_test([0.1, 1.0, 10.0, 100.0], [2.0, 1.0, 0.5, 99.0])
    >>> found.suggested, found.diverges_at
    (0.1, 10.0)
    """
    over = has_blown_up(losses)
    held = losses[:-1] if over else losses
    suggested = None
    if len(held) > 1:
        best = int(np.argmin(held))
        if held[0] - held[best] > LEARNED_OF_START * abs(held[0]):
            suggested = rates[best - 1] * RANGE_BELOW_BEST
    return RangeTest(
        rates=tuple(rates),
        losses=tuple(losses),
        suggested=suggested,
        # The loss that blew up came out of the step before.
        diverges_at=rates[len(losses) - 2] if over and len(losses) > 1 else None,
    )


def examination(
    records: Sequence[StepRecord], range_test: RangeTest, ties: SymmetryDefect | None, *, rate: float, given: bool
) -> Examination:
    """The examination from the measurements of a twin. `ties`: the ties of units after the recorded steps, None if the
    weights have no canonical layout. `given`: whether the user chose the rate."""
    findings = _with_ties(diagnose(records), ties)
    codes = {f.code for f in findings}
    if given and not codes & {"learning-rate-too-high", "learning-rate-too-low"}:
        findings += _of_rate(range_test, rate)
    return Examination(records=tuple(records), findings=tuple(findings), range_test=range_test, learning_rate=rate)


def _with_ties(findings: list[Finding], ties: SymmetryDefect | None) -> list[Finding]:
    """Add the ties of units to the findings: records show only equal rows, weights also show units that are tied
    through others, and how many distinct ones are left."""
    tied = [] if ties is None else [row for row in ties.layers if 1 - row.distinct / row.units >= COPIED_SHARE]
    if ties is None or not tied:
        return findings
    evidence = {"hidden units": float(ties.units), "distinct": float(ties.distinct)}
    if any(each.code == "symmetric-units" for each in findings):
        return [
            dataclasses.replace(each, evidence={**each.evidence, **evidence})
            if each.code == "symmetric-units"
            else each
            for each in findings
        ]
    seen = (
        f"Of {ties.units:,} hidden units {ties.distinct:,} are distinct, and no step of training will part the others."
    )
    paths = [row.path for row in tied]
    return [finding("symmetric-units", Severity.CRITICAL, step=0, paths=paths, seen=seen, evidence=evidence), *findings]


def _of_rate(test: RangeTest, rate: float) -> list[Finding]:
    evidence = {"learning rate": rate}
    if test.diverges_at is not None:
        evidence["loss blows up at"] = test.diverges_at
    if test.suggested is not None:
        evidence["suggested"] = test.suggested
    if test.diverges_at is not None and rate >= test.diverges_at:
        seen = f"In the range test the loss blew up at a rate of {number(test.diverges_at)}; given is {number(rate)}."
        return [finding("learning-rate-too-high", Severity.WARNING, step=0, seen=seen, evidence=evidence)]
    if test.suggested is not None and 0 < rate < RATE_FAR_BELOW * test.suggested:
        seen = f"In the range test the loss fell fastest near {number(test.suggested)}; given is {number(rate)}."
        return [finding("learning-rate-too-low", Severity.NOTE, step=0, seen=seen, evidence=evidence)]
    return []
