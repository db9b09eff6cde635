"""Scenarios in which NaN or Inf arises."""

from __future__ import annotations

from gradlab_core.programs.scenarios.nets import DIGITS, changed, sgd
from gradlab_core.programs.scenarios.scenario import Scenario

_HALF = changed(DIGITS, loss="naive_cross_entropy", optimizer=sgd(0.5), steps=300)

NONFINITE = (
    Scenario(
        name="log-of-zero",
        family="nonfinite",
        about="A logarithm behind a ReLU: of a unit that is off it is −Inf.",
        codes=("nonfinite-loss",),
        program=changed(DIGITS, fault="log_zero", at="act2"),
        fix=DIGITS,
        remedy="the logarithm is gone",
    ),
    Scenario(
        name="division-by-zero",
        family="nonfinite",
        about="A normalisation without an ε, of a feature that is the same for all examples.",
        codes=("nonfinite-loss",),
        program=changed(DIGITS, fault="divide_by_zero", at="act1"),
        fix=DIGITS,
        remedy="the division is gone",
    ),
    Scenario(
        name="float16-overflow",
        family="nonfinite",
        about="In float16 the exponential of a logit above 11 overflows, once the net is sure enough of an answer.",
        codes=("nonfinite-loss",),
        program=changed(_HALF, dtype="float16"),
        fix=changed(_HALF, dtype="float16", loss="cross_entropy"),
        remedy="a cross-entropy that takes the largest logit out before the exponential",
    ),
)
