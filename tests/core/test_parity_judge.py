"""The judge on made-up traces: what must fail fails, also where a number is infinite, missing or hidden by noise."""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.parity import Key, compare, judge
from gradlab_core.parity.arithmetic import ARITHMETICS

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 6)).astype(np.float32), np.zeros(4, np.int64)
ACTIVATION, GRADIENT = RNG.standard_normal((4, 5)), RNG.standard_normal((50, 10))


class Stub:
    """A subject that gives one activation and one gradient: the truth, with its own rounding in float32."""

    framework = "stub"
    seed = 1

    def __init__(self, gradient=GRADIENT, change=lambda gradient, dtype: gradient, rounding=1e-7, dtype="float64"):
        self.gradient, self.change, self.rounding, self.dtype = gradient, change, rounding, dtype

    def cast(self, dtype):
        return Stub(self.gradient, self.change, self.rounding, dtype)

    def at(self, precision):
        return self

    def arithmetic(self):
        return ARITHMETICS["highest"]

    def perturbed(self, arithmetic, seed):
        made = self.cast("float32")
        made.seed = seed + 2
        return made

    def state(self):
        return {"w": np.ones(2)}

    def load(self, arrays):
        pass

    def step(self, x, y, epoch):
        noise = self.rounding if self.dtype == "float32" else 0.0
        gradient = self.gradient
        if gradient is not None:
            gradient = gradient + noise * np.random.default_rng(self.seed).standard_normal(gradient.shape)
        return {
            Key("activation", "fc"): ACTIVATION * (1 + noise * np.random.default_rng(self.seed).standard_normal()),
            Key("gradient", "w"): self.change(gradient, self.dtype),
        }


def judged(**candidate):
    reference = {k: v for k, v in candidate.items() if k in ("gradient", "rounding")}
    return compare(Stub(**reference), Stub(**candidate), (X, Y), steps=1)


def test_equal_subjects_pass():
    assert not judged().failures


FAULTS = {
    "another shape": lambda g, dtype: g[:-1],
    "NaN": lambda g, dtype: g * np.nan,
    "Inf": lambda g, dtype: g * np.inf,
    "one NaN": lambda g, dtype: np.where(np.arange(10) == 3, np.nan, g),
    "missing": lambda g, dtype: None,
    "transposed": lambda g, dtype: g.reshape(10, 50).T,
    "another definition, by one part in ten million": lambda g, dtype: g * (1 + 1e-7),
    "worse in float32 only": lambda g, dtype: g * (1.001 if dtype == "float32" else 1.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_fail(fault):
    report = judged(change=FAULTS[fault])
    assert [row.quantity for row in report.failures] == ["gradient"]
    assert "gradient w" in str(report)


def test_a_number_where_the_truth_is_zero_fails():
    zero = np.zeros((3, 2))
    assert not judged(gradient=zero, rounding=0.0).failures
    assert judged(gradient=zero, rounding=0.0, change=lambda g, dtype: g + 1e-3).failures


def test_no_gradient_path_on_both_sides_is_agreement_and_so_is_exact_zero():
    assert not judged(gradient=None).failures
    assert not judged(gradient=np.zeros(3), rounding=0.0, change=lambda g, dtype: None).failures


def test_noise_is_no_licence():
    """A gradient that is zero but for rounding: noise of the same size passes, anything larger does not."""
    tiny = 1e-17 * RNG.standard_normal(20)
    options = {"gradient": tiny, "rounding": 1e-9}
    report = judged(**options, change=lambda g, dtype: g + 1e-18)
    assert not report.failures
    assert len(report.unresolved) == 1
    assert judged(**options, change=lambda g, dtype: g + 1e-3).failures
    assert judged(**options, change=lambda g, dtype: g + (1e-3 if dtype == "float32" else 0)).failures


def test_a_unit_far_from_zero_is_no_switched_unit():
    """A ReLU output that is 0 where it should be 1 is a fault; it must not excuse the gradients."""

    class Dead(Stub):
        def cast(self, dtype):
            return Dead(dtype=dtype)

        def step(self, x, y, epoch):
            trace = super().step(x, y, epoch)
            if self.dtype == "float32":
                trace[Key("activation", "fc")] = np.where(ACTIVATION > 1, 0.0, trace[Key("activation", "fc")])
                trace[Key("gradient", "w")] = trace[Key("gradient", "w")] * 1.1
            return trace

    failed = {row.quantity for row in compare(Stub(), Dead(), (X, Y), steps=1).failures}
    assert failed == {"activation", "gradient"}


class Chaos:
    """x → 4x(1 − x) of many numbers, an iteration a step: each doubles an error, and after 24 float32 has no digit."""

    framework = "chaos"

    def __init__(self, rule, unit=0.0, seed=0, dtype="float64"):
        self.rule, self.unit, self.seed, self.dtype = rule, unit, seed, dtype

    def cast(self, dtype):
        return Chaos(self.rule, dtype=dtype)

    def at(self, precision):
        return self

    def arithmetic(self):
        return ARITHMETICS["highest"]

    def perturbed(self, arithmetic, seed):
        return Chaos(self.rule, arithmetic.unit, seed)

    def state(self):
        return {"x": np.random.default_rng(3).uniform(0.1, 0.9, 200)}

    def load(self, arrays):
        self.value, self.draws = arrays["x"].astype(self.dtype), np.random.default_rng(self.seed)

    def step(self, x, y, epoch):
        self.value = self.rule(self.value)
        if self.unit:
            self.value = np.clip(self.value * (1 + self.unit * self.draws.standard_normal(200)), 0.0, 1.0)
        return {Key("parameter", "x"): self.value.copy()}


def test_what_float32_cannot_follow_is_judged_by_an_arithmetic_between():
    """A spread in float32 stops at the size of the tensor; scaled down it forbids what float64 does to it."""
    reference, candidate = Chaos(lambda x: 4 * x * (1 - x)), Chaos(lambda x: 4 * x - (2 * x) ** 2)
    assert not compare(reference, candidate, (X, Y), steps=24).failures
    report = compare(reference, candidate, (X, Y), steps=44)
    assert not report.failures
    assert report.rows[-1].logic_error > 1e-6, "float64 has lost digits too, or this shows nothing"
    assert report.rows[-1].logic_tolerance < 1


@pytest.mark.parametrize(("since", "off"), [(0, 1e-6), (30, 0.01), (40, 0.5)])
def test_another_definition_is_found_in_chaos_too(since, off):
    """Also where it begins after float32 has lost its last digit."""
    right = Chaos(lambda x: 4 * x * (1 - x))

    class Late(Chaos):
        def cast(self, dtype):
            return Late(self.rule, dtype=dtype)

        def step(self, x, y, epoch):
            if epoch == since:
                self.value = self.value * self.value.dtype.type(1 - off)
            return super().step(x, y, epoch)

    report = compare(right, Late(right.rule), (X, Y), steps=44)
    assert report.first_divergence.step == since


def test_a_saturated_tensor_behind_one_that_needs_more_draws_is_given_the_finer_arithmetic(monkeypatch):
    """Whichever of the two comes first, the other is looked at too."""
    rounding = dict.fromkeys(("logic_error", "reference_error", "reference_expected", "candidate_expected"), 0.0) | {
        "logic_tolerance": 1e-9,
        "reference_tolerance": 1.0,
        "candidate_tolerance": 1.0,
        "candidate_error": 2.0,
    }
    saturated = rounding | {"candidate_error": 0.5, "reference_expected": 0.6, "logic_error": 1e-6}
    fine = saturated | {"logic_error": 0.0}
    where = {"step": 0, "quantity": "gradient", "path": "w", "call": 0, "missing": None}
    verdicts = iter([(judge.ParityRow(**where, **numbers),) for numbers in (rounding, saturated, fine)])
    drawn = []
    monkeypatch.setattr(judge, "judged_rows", lambda *args: next(verdicts))
    monkeypatch.setattr(judge, "draw_more", lambda *args: drawn.append([arithmetic.name for arithmetic in args[-1]]))
    assert not judged().failures
    assert drawn == [["highest"], [judge.BETWEEN.name]]
