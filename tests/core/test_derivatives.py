"""Derivatives from differences, and what is said of a backward: on functions whose derivatives are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from gradlab_core.definitions.chain_rule import chain_rule
from gradlab_core.definitions.cuts import LOGITS, LOSS, Cut
from gradlab_core.definitions.derivatives import STEPS, difference
from gradlab_core.judge.derivatives import Source, check_steps
from gradlab_core.records import ChainRule, DerivativeCheck, codec

RNG = np.random.default_rng(0)


def measured(f, x, u, c, *, rounded=lambda values: values):
    """The `Difference` of ⟨c, f⟩ at x along u."""
    here = rounded(f(x))
    central, bend = [], []
    for step in STEPS:
        plus, minus = (rounded(f(x + way * u)) for way in (step, -step))
        central.append([np.sum(c * (plus - minus))])
        bend.append([np.sum(np.abs(c * (plus + minus - 2 * here)))])
    return difference(np.array(central), np.array(bend), np.array([np.sum(np.abs(c * here))]))


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.sin, np.cos),
        (np.exp, np.exp),
        (lambda x: x**3, lambda x: 3 * x**2),
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    ],
)
def test_smooth_functions_are_differentiated_to_nine_digits(f, slope):
    x, u, c = RNG.standard_normal((3, 50))
    told = measured(f, x, u, c)
    assert told.value[0] == pytest.approx(np.sum(c * slope(x) * u), rel=1e-9)
    assert told.error[0] < 1e-9 * np.sum(np.abs(c * slope(x) * u))
    assert not told.single[0]


def test_a_kink_near_by_is_not_crossed_by_the_small_steps_and_one_at_the_place_bounds_both_sides():
    u, c = np.ones(3), np.array([1.0, 2.0, 4.0])
    near = measured(lambda x: np.maximum(x, 0), np.array([1e-3, 1e-5, -1e-4]), u, c)
    assert near.value[0] == pytest.approx(3.0, abs=1e-8)
    at = measured(lambda x: np.maximum(x, 0), np.array([0.0, 1.0, -1.0]), u, c)
    assert at.value[0] == pytest.approx(2.5)
    assert at.kink[0] == pytest.approx(0.5)
    assert not at.single[0]


def test_float32_is_seen_and_its_error_told():
    x, u, c = RNG.standard_normal((3, 200))
    told = measured(np.sin, x, u, c, rounded=lambda v: v.astype(np.float32).astype(np.float64))
    assert told.single[0]
    truth = np.sum(c * np.cos(x) * u)
    assert abs(told.value[0] - truth) < 4 * told.error[0]
    assert told.error[0] < 0.01 * np.sum(np.abs(c * u))


def test_rounding_that_is_the_same_on_both_sides_is_seen_too():
    x = np.full(3, 0.75)
    told = measured(lambda v: v.astype(np.float32).astype(np.float64), x, np.array([1.0, 0.3, 0.7]), np.ones(3))
    assert told.single[0]
    assert abs(told.value[0] - 2.0) < 4 * told.error[0] < 0.1


@dataclasses.dataclass
class Steps:
    """One step y = f(x, w) and the loss Σ y², with a backward that may be wrong."""

    f: Callable[[np.ndarray, np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray | None]]

    def __post_init__(self):
        x, w = np.random.default_rng(1).standard_normal((2, 6))
        self.targets = [Cut("layer", "Mine", sort="module"), LOSS]
        self.sources = [Source("w", w, parameter=True), Source("unused", w, parameter=True), Source("input", x)]
        self.sources.append(Source("output of layer", self.f(x, w)))

    def run(self, changed):
        w, _, x, y = (changed.get(i, source.value) for i, source in enumerate(self.sources))
        return [self.f(x, w), np.sum(np.square(y)).reshape(1)]

    def back(self, target, cotangent):
        w, _, x, y = (source.value for source in self.sources)
        if target == 1:
            return [None, None, None, 2 * y * cotangent]
        to_x, to_w = self.backward(x, w, cotangent)
        return [to_w, None, to_x, None]


CASES = {
    "right": (lambda x, w, c: [c * w, c * x], "right", "right"),
    "sign": (lambda x, w, c: [-c * w, c * x], "wrong", "right"),
    "twice": (lambda x, w, c: [c * w, 2 * c * x], "right", "wrong"),
    "a little": (lambda x, w, c: [c * w * (1 + 1e-5), c * x], "wrong", "right"),
    "nothing": (lambda x, w, c: [c * w, None], "right", "disconnected"),
    "zeros": (lambda x, w, c: [0 * c, c * x], "disconnected", "right"),
    "not a number": (lambda x, w, c: [c * np.nan, c * x], "nonfinite", "right"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_backward(name):
    backward, of_x, of_w = CASES[name]
    check = check_steps(Steps(lambda x, w: x * w, backward), "train")
    assert {row.of: row.status for row in check.rows if row.layer == "layer"} == {"w": of_w, "input": of_x}
    assert check.rows[0].layer == "loss"
    assert check.parameters == {"w": of_w, "unused": "disconnected"}
    assert check.ok == ("wrong" not in (of_x, of_w))
    assert check.wrong == (() if check.ok else ("layer",))
    assert codec.parse(codec.document("derivatives", [check]), "derivatives", DerivativeCheck)[0] == check or name == (
        "not a number"
    )
    assert all(status in str(check) for status in (of_x, of_w) if status != "right")


def test_a_step_that_differs_from_run_to_run_is_random():
    drawn = np.random.default_rng(2)
    check = check_steps(Steps(lambda x, w: x * w * drawn.standard_normal(6), lambda x, w, c: [-c * w, c]), "eval")
    assert {row.status for row in check.rows} == {"random", "right"}
    assert check.mode == "eval"


def test_a_straight_through_estimate_is_not_the_derivative_of_rounding():
    check = check_steps(Steps(lambda x, w: np.round(x) * w, lambda x, w, c: [c * w, c * np.round(x)]), "train")
    assert check.wrong == ("layer",)


def test_what_is_inside_of_a_layer_or_around_others_is_no_layer_of_the_chain():
    def ends(path, kind, sort, caller):
        return [Cut(path, kind, end=end, caller=caller, sort=sort) for end in ("input", "output")]

    (model, fc), (inner, act) = (
        (ends("", "Mine", "module", ""), ends("fc", "linear", "layer", "")),
        (ends("fc", "Scaled", "function", "fc"), ends("block", "Act", "module", "")),
    )
    cuts = [model[0], fc[0], *inner, fc[1], *act, model[1], LOGITS, *ends("", "Loss", "function", "")]
    norms = dict.fromkeys(cuts, 1.0) | {fc[0]: 6.0, fc[1]: 3.0, act[0]: 2.0, act[1]: 2.0, LOGITS: 0.5}
    chain = chain_rule(cuts, norms, "train")
    assert [row.layer for row in chain.layers] == ["fc", "block"]
    assert np.exp([chain.log_product, chain.log_whole]).tolist() == pytest.approx([2.0, 12.0])
    assert [np.exp(row.log_after) for row in chain.layers] == pytest.approx([1.5, 4.0])
    assert codec.decode(ChainRule, codec.encode(chain)) == chain
    assert chain_rule([LOGITS], {}, "train").log_whole is None
