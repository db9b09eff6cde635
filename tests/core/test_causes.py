"""Causes from numbers alone: what a candidate would have if a hypothesis were true, against what it has."""

from __future__ import annotations

import numpy as np
import pytest

from gradlab_core.parity import Key
from gradlab_core.parity.causes.cause import Cause, Target, search, to
from gradlab_core.parity.causes.explain import explain
from gradlab_core.parity.causes.faults import find_faults
from gradlab_core.parity.causes.norms import norm
from gradlab_core.parity.causes.pointwise import FUNCTIONS
from gradlab_core.parity.causes.residual import shape_of
from gradlab_core.parity.causes.sources import readings
from gradlab_core.parity.local import Local

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 4))
W, B = RNG.standard_normal((4, 4)), RNG.standard_normal(4)


def local(truth, value, *, before=None, batch=None, step=0, earlier=(), start=None):
    limits = {key: 1e-9 * max(float(np.linalg.norm(array)), 1e-6) for key, array in truth.items()}
    before = before or {}
    return Local(step, batch or (X, np.zeros(5)), start or before, before, truth, value, tuple(earlier), limits)


def layer(value, *, before, truth=None):
    """The codes of what explains one layer on the input X; the likeliest first."""
    key = Key("activation", "fc")
    found = explain(local({key: X @ W.T + B if truth is None else truth}, {key: value}, before=before), key)
    return [tuple(cause.code for cause in e.causes) for e in found]


LINEAR = {"fc.weight": W, "fc.bias": B}


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        (X @ W + B, ("square-kernel",)),
        (X @ W.T, ("bias",)),
        (X @ W.T + 2 * B, ("bias",)),
        (3 * (X @ W.T + B), ("factor",)),
        (X @ W, ("square-kernel", "bias")),
        (2 * (X @ W + B), ("square-kernel", "factor")),
        ((X @ W.T + B)[:, [2, 3, 0, 1]], ("gate-order",)),
    ],
)
def test_linear(value, codes):
    assert layer(value, before=LINEAR)[0] == codes


def test_what_nothing_explains_is_said_so_with_its_place():
    value = X @ W.T + B
    value[:, 2:] += RNG.standard_normal((5, 2))
    key = Key("activation", "fc")
    (fault,) = find_faults([local({key: X @ W.T + B}, {key: value}, before=LINEAR)])
    assert fault.explanations == ()
    assert fault.words == (
        "step 0, activation fc: nothing that is known explains it; differs from position 2 of axis 1 on"
    )


def test_a_reference_that_is_no_known_layer_is_explained_by_general_means_only():
    truth = np.sin(X @ W.T)
    assert layer(-truth, before=LINEAR, truth=truth) == [("factor",)]
    assert layer(np.cos(truth), before=LINEAR, truth=truth) == []
    assert layer(truth[:, [3, 1, 0, 2]], before=LINEAR, truth=truth) == [("permuted",)]


def test_every_activation_is_told_from_every_other():
    x = 3 * RNG.standard_normal((6, 7))
    key = Key("activation", "act")
    for name, function in FUNCTIONS.items():
        for other, another in FUNCTIONS.items():
            if "nothing" not in (name, other) and name != other:
                found = explain(local({key: function(x)}, {key: another(x)}, batch=(x, None)), key)
                assert f"it applies {other}, the reference {name}" in [e.causes[0].words for e in found]


@pytest.mark.parametrize("axes", [(-1,), (1, 2, 3), (0, 2, 3)])
@pytest.mark.parametrize("ours", [1e-5, 1e-3])
def test_another_epsilon_is_found_without_the_input(axes, ours):
    x = RNG.standard_normal((4, 6, 3, 5)) * RNG.uniform(0.3, 3, (4, 6, 1, 1))
    center, var = x - x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    key, weights = Key("activation", "n"), {"weight": RNG.uniform(0.5, 2, 6), "bias": RNG.standard_normal(6)}
    if axes == (-1,):
        weights = {"weight": RNG.uniform(0.5, 2, 5), "bias": RNG.standard_normal(5)}
    shape = (1, 1, 1, 5) if axes == (-1,) else (1, 6, 1, 1)
    truth, value = (
        center / np.sqrt(var + e) * weights["weight"].reshape(shape) + weights["bias"].reshape(shape)
        for e in (ours, 1e-6)
    )
    before = {f"n.{name}": array for name, array in weights.items()}
    if axes == (-1,):  # a layer whose channels are last says so by not having four axes
        truth, value = truth.reshape(4, -1, 5), value.reshape(4, -1, 5)
    (found,) = explain(local({key: truth}, {key: value}, before=before), key)
    assert found.causes[0].code == "norm-eps"
    assert f"{1e-6 / ours:g} ×" in found.causes[0].words


def test_a_weight_with_a_zero_tells_nothing_and_fails_at_nothing():
    key = Key("activation", "n")
    target = Target(X, 2 * X, 1e-9)
    before = {"n.weight": np.array([1.0, 0.0, 1.0, 1.0])}
    assert list(norm(local({key: X}, {key: 2 * X}, before=before), key, {"weight": before["n.weight"]}, target)) == []


def test_flattening_and_pooling_are_told():
    image = RNG.standard_normal((3, 2, 4, 4))
    weight = RNG.standard_normal((3, 32))
    key = Key("activation", "fc")
    for way, other, code in (
        ("flattened, channels first", "flattened, channels last", "flatten-order"),
        ("flattened, channels last", "flattened, channels first", "reading"),
    ):
        truth, value = (readings(image)[name](image) @ weight.T for name in (way, other))
        (found,) = explain(local({key: truth}, {key: value}, before={"fc.weight": weight}, batch=(image, None)), key)
        assert found.causes[0].code == code


def steps_of(rule, *, steps=3, momentum=0.9, decay=0.01, rate=0.1):
    """Locals of plain training on random gradients, the candidate by another rule from the same parameters."""
    p = start = RNG.standard_normal(7)
    v_ours, v_theirs, earlier = np.zeros(7), np.zeros(7), []
    for step in range(steps):
        g = RNG.standard_normal(7)
        v_ours = momentum * v_ours + g + decay * p
        new = p - rate * v_ours
        theirs, v_theirs = rule(p, g, v_theirs)
        truth = {
            Key("gradient", "w"): g, Key("learning_rate"): np.float64(rate), Key("optimizer", "w"): v_ours,
            Key("parameter", "w"): new,
        }  # fmt: skip
        value = {**truth, Key("optimizer", "w"): v_theirs, Key("parameter", "w"): theirs}
        yield local(truth, value, before={"w": p}, start={"w": start}, step=step, earlier=earlier)
        earlier.append(truth)
        p = new


def test_an_optimizer_is_told_by_all_steps():
    def nesterov(p, g, v):
        g = g + 0.01 * p
        v = 0.9 * v + g
        return p - 0.1 * (g + 0.9 * v), v

    (fault,) = find_faults(steps_of(nesterov))
    assert [c.code for c in fault.explanations[0].causes] == ["nesterov"]

    def two(p, g, v):
        v = 0.8 * v + g + 0.05 * p
        return p - 0.1 * v, v

    (fault,) = find_faults(steps_of(two))
    assert sorted(c.code for c in fault.explanations[0].causes) == ["momentum", "weight-decay"]
    assert fault.step == 0


def test_two_faults_far_apart_are_two():
    a, b = Key("activation", "a"), Key("activation", "b")
    before = {"a.weight": W, "b.weight": RNG.standard_normal((3, 4)), "b.bias": np.ones(3)}
    truth = {a: X @ W.T}
    truth[b] = truth[a] @ before["b.weight"].T + 1
    value = {a: X @ W, b: truth[a] @ before["b.weight"].T}
    faults = find_faults([local(truth, value, before=before)])
    assert [(f.key.path, f.explanations[0].causes[0].code) for f in faults] == [("a", "square-kernel"), ("b", "bias")]


def test_one_fault_of_many_layers_is_one():
    keys = [Key("activation", f"act{i}") for i in range(3)]
    xs = [RNG.standard_normal((4, 5)) for _ in keys]
    truth = {key: FUNCTIONS["gelu (erf)"](x) for key, x in zip(keys, xs, strict=True)}
    value = {key: FUNCTIONS["gelu (tanh)"](x) for key, x in zip(keys, xs, strict=True)}
    (fault,) = find_faults([local(truth, value, batch=(dict(zip("abc", xs, strict=True)), None))])
    assert fault.also == tuple(keys[1:])
    assert "gelu (tanh)" in fault.words


def test_nothing_differs_nothing_is_said():
    key = Key("activation", "fc")
    assert find_faults([local({key: X @ W.T + B}, {key: X @ W.T + B + 1e-13}, before=LINEAR)]) == ()


def test_shapes_nan_and_absence_are_said_and_not_explained():
    key = Key("activation", "fc")
    truth = X @ W.T + B
    for value, words in (
        (np.where(truth > 1, np.nan, truth), "elements are NaN or Inf"),
        (truth[:, :3], r"has shape (5, 3); expected (5, 4)"),
        (None, "one side has no such tensor"),
    ):
        (fault,) = find_faults([local({key: truth}, {key: value}, before=LINEAR)])
        assert words in fault.words
    assert (
        shape_of(
            np.zeros((2, 1, 4, 4)), np.pad(np.zeros((2, 1, 2, 2)), [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=1)
        )
        == "differs at the border only"
    )


def test_search_takes_the_simplest():
    double = Cause("double", "", ""), to(k=2.0)
    six = Cause("six", "", ""), to(k=6.0)
    add = Cause("add", "", ""), to(n=1.0)
    target = Target(np.array([1.0, 2.0]), np.array([3.0, 5.0]), 1e-12)

    def compute(s):
        return s["k"] * np.array([1.0, 2.0]) + s["n"]

    (found,) = search(compute, {"k": 1.0, "n": 0.0}, [six, double, add], target)
    assert [cause.code for cause in found.causes] == ["double", "add"]
