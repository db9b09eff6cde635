"""Trends: slopes with honest errors, groups against each other, words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from gradlab_core.errors import GradlabError
from gradlab_core.judge.trend_words import first_to_last, rate, sentences
from gradlab_core.judge.trends import FALLS, RISES, STEADY, UNKNOWN, Trend, trend, trends
from gradlab_core.records import StepRecord, TensorNorms
from tests.recorded import step

Norm = Callable[[int], float | None]


def run(count: int = 200, *, ratio: float = 1e-3, **grads: Norm | tuple[Norm, Norm]) -> list[StepRecord]:
    """Records whose tensors have the gradient norm that the function of the step gives; with a second function that is
    the parameter norm."""
    records = []
    for i in range(count):
        tensors = {}
        for name, functions in grads.items():
            grad, param = functions if isinstance(functions, tuple) else (functions, lambda i: 1.0)
            size = param(i)
            assert size is not None
            path = name.replace("__", ".")
            tensors[path] = TensorNorms(param=size, grad=grad(i), update=ratio * size, ratio=ratio)
        records.append(step(i, tensors=tensors, states={}))
    return records


def of(found: tuple[Trend, ...], path: str, quantity: str) -> Trend:
    return next(t for t in found if (t.path, t.quantity) == (path, quantity))


def series(values) -> list[tuple[int, float]]:
    return list(enumerate(np.exp(values).tolist()))


def correlated(rng, count: int, rho: float) -> np.ndarray:
    y = np.zeros(count)
    for i in range(1, count):
        y[i] = rho * y[i - 1] + 0.1 * rng.standard_normal()
    return y


# Slopes and their errors.


def test_the_slope_is_that_of_a_line_through_the_logarithms():
    rng = np.random.default_rng(0)
    steps = np.sort(rng.choice(2000, 150, replace=False))
    values = -0.003 * steps + 0.2 * rng.standard_normal(150)
    found = trend("w", "grad", list(zip(steps.tolist(), np.exp(values).tolist(), strict=True)))
    expected, covariance = np.polyfit(steps, values, 1, cov=True)
    assert found.slope == pytest.approx(100 * expected[0], rel=1e-9)
    assert found.error == pytest.approx(100 * math.sqrt(covariance[0, 0]), rel=0.3)  # ours allows for correlation
    assert (found.direction, found.points) == (FALLS, 150)


def test_the_error_is_the_usual_one_enlarged_where_neighbours_are_alike():
    steps = np.arange(20.0)
    zigzag = 0.01 * steps + 1e-3 * (-1.0) ** steps  # neighbours are not alike: nothing is added
    found = trend("w", "grad", series(zigzag))
    assert found.error == pytest.approx(100 * stats.linregress(steps, zigzag).stderr)
    wave = 0.01 * steps + 1e-3 * np.sin(steps / 3)
    line = stats.linregress(steps, wave)
    rest = wave - line.intercept - line.slope * steps
    rho = (rest[1:] @ rest[:-1]) / (rest @ rest)
    assert rho > 0.5
    assert trend("w", "grad", series(wave)).error == pytest.approx(100 * line.stderr * math.sqrt((1 + rho) / (1 - rho)))


def test_the_change_counts_from_the_first_step_recorded():
    """A run that went on from step 1,000: half a per cent in 100 steps is not a trend, two per cent is."""
    steps = range(1000, 1101, 10)
    for change, direction in ((0.005, STEADY), (0.02, RISES)):
        values = [(step, math.exp(change * (step - 1000) / 100)) for step in steps]
        assert trend("w", "grad", values).direction == direction


def test_five_numbers_are_enough_for_a_slope():
    assert trend("w", "grad", [(i, 2.0**i) for i in range(5)]).direction == RISES
    assert trend("w", "grad", [(i, 2.0**i) for i in range(4)]).direction == UNKNOWN
    assert trend("w", "grad", [(i, 0.0) for i in range(5)]).direction == STEADY
    assert trend("w", "grad", [(i, 0.0) for i in range(4)]).direction == UNKNOWN


@pytest.mark.parametrize(("rho", "most"), [(0.0, 0.02), (0.5, 0.02), (0.8, 0.06)])
def test_noise_seldom_has_a_trend(rho, most):
    rng = np.random.default_rng(1)
    found = [trend("w", "grad", series(correlated(rng, 200, rho))).direction for _ in range(500)]
    assert np.mean([direction != STEADY for direction in found]) <= most
    # The check can fail: the usual standard error would find trends in correlated noise time and again.
    if rho == 0.8:
        naive = [abs(np.polyfit(range(200), y, 1)[0]) for y in (correlated(rng, 200, rho) for _ in range(100))]
        usual = 0.1 / math.sqrt(1 - rho**2) / math.sqrt(200**3 / 12)
        assert np.mean(np.array(naive) > 3 * usual) > 0.2


def test_a_trend_under_noise_is_found():
    rng = np.random.default_rng(2)
    found = [trend("w", "grad", series(0.01 * np.arange(200) + correlated(rng, 200, 0.5))) for _ in range(100)]
    assert np.mean([t.direction == RISES for t in found]) == 1.0
    assert np.mean([abs((t.slope or 0.0) - 1.0) < 2 * (t.error or 0.0) for t in found]) > 0.85


@pytest.mark.parametrize(
    ("values", "direction"),
    [
        (1 - np.exp(-np.arange(200) / 60), RISES),  # saturates, as parameter norms do
        (np.sin(np.pi * np.arange(200) / 199), STEADY),  # comes back to where it was
        (np.zeros(200), STEADY),
        (np.full(200, -math.inf), STEADY),  # 0 throughout
        (1e-5 * np.arange(200), STEADY),  # beyond all doubt, and 0.2 %
        (-np.sqrt(np.arange(200.0)), FALLS),
    ],
)
def test_shapes(values, direction):
    assert trend("w", "param", series(values)).direction == direction


def test_what_is_no_positive_number_does_not_enter():
    values: list[float | None] = [0.0, None, math.nan, math.inf, *(1.1**i for i in range(6))]
    found = trend("w", "grad", list(enumerate(values)))
    assert (found.first, found.last, found.points) == (0.0, pytest.approx(1.1**5), 6)
    assert found.slope == pytest.approx(100 * math.log(1.1))
    few = trend("w", "grad", list(enumerate(values[:-2])))
    assert (few.slope, few.error, few.direction, few.points) == (None, None, UNKNOWN, 4)
    assert first_to_last(trend("w", "grad", [(0, None), (1, math.nan)])) == "no gradient path → NaN"
    assert first_to_last(trend("w", "ratio", [(0, math.inf), (1, 0.0)])) == "Inf → 0"


# Groups.


def test_weights_against_biases_and_early_against_late_layers():
    records = run(
        fc1__weight=(lambda i: 0.5 * 0.97**i, lambda i: 0.1497 + (0.2277 - 0.1497) * i / 199),
        fc1__bias=lambda i: 0.4,
        fc2__weight=lambda i: 0.5,
        fc2__bias=lambda i: 0.3,
        fc3__weight=(lambda i: 0.3, lambda i: 0.4),
    )
    found = trends(records)
    assert found.members == {
        "weights": ("fc1.weight", "fc2.weight", "fc3.weight"),
        "biases": ("fc1.bias", "fc2.bias"),
        "early": ("fc1.weight",),
        "late": ("fc3.weight",),
    }
    biases = of(found.groups, "biases", "grad")
    assert (biases.first, biases.last, biases.direction) == (pytest.approx(0.5), pytest.approx(0.5), STEADY)
    contrast = of(found.contrasts, "early / late", "grad")
    assert contrast.direction == FALLS
    assert contrast.slope == pytest.approx(100 * math.log(0.97))
    assert of(found.groups, "early", "ratio").first == pytest.approx(1e-3)
    words = sentences(found)
    assert "Parameter norm: rises in fc1.weight 0.1497 → 0.2277 (+2" in words[0]
    assert "Gradient norm: falls in fc1.weight 0.5 → 0.001166" in words[1]
    assert any(
        s.startswith("Early against late layers, gradient norm: early (fc1.weight) 0.5 → 0.001166, late (fc3.weight) ")
        and s.endswith("less and less of the gradient reaches the early layers.")
        for s in words
    )
    assert any(
        s.startswith("Weights against biases, gradient norm: weights 0.7681 → 0.5831, biases 0.5") for s in words
    )


def test_a_group_keeps_nan_inf_and_missing_apart():
    records = run(
        6,
        a__weight=lambda i: [math.nan, math.inf, None, 3.0, None, 0.0][i],
        b__weight=lambda i: [math.inf, 1.0, None, 4.0, 2.0, 0.0][i],
    )
    found = trends(records)
    grads = [of(trends(records[i : i + 1]).groups, "weights", "grad").first for i in range(6)]
    assert repr(grads) == repr([math.nan, math.inf, None, 5.0, 2.0, 0.0])
    assert of(found.contrasts, "early / late", "grad").points == 1


def test_the_ends_of_a_net_are_a_third_each_and_biases_are_told_by_the_end_of_their_name():
    names = [f"block__layer{i}__weight" for i in range(7)]
    found = trends(run(6, **dict.fromkeys([*names, "block__layer0__bias"], lambda i: 1.0)))
    weights = tuple(name.replace("__", ".") for name in names)
    assert found.members == {
        "weights": weights, "biases": ("block.layer0.bias",), "early": weights[:3], "late": weights[-3:],
    }  # fmt: skip
    assert of(found.groups, "weights", "param").first == pytest.approx(math.sqrt(7))


def test_one_group_over_another_where_a_norm_is_0():
    def contrast(weight: float, bias: float) -> float | None:
        found = trends(run(6, a__weight=lambda i: weight, a__bias=lambda i: bias))
        return of(found.contrasts, "weights / biases", "grad").first

    assert contrast(3.0, 2.0) == 1.5
    assert contrast(3.0, 0.0) == math.inf
    assert contrast(0.0, 2.0) == 0.0
    assert math.isnan(contrast(0.0, 0.0) or 0.0)
    assert contrast(2.0, 2.0) == 1.0


def test_a_net_without_biases_or_with_one_weight_has_nothing_to_compare():
    found = trends(run(10, w__weight=lambda i: 1.0))
    assert (found.contrasts, list(found.members)) == ((), ["weights"])
    assert sentences(found)[0] == "Parameter norm: is steady in the only tensor."


def test_a_tensor_that_comes_late_begins_there():
    records = run(10, a__weight=lambda i: 1.0) + [
        StepRecord(**vars(r) | {"step": r.step + 10}) for r in run(10, a__weight=lambda i: 1.0, b__weight=lambda i: 2.0)
    ]
    found = of(trends(records).tensors, "b.weight", "grad")
    assert (found.first_step, found.last_step) == (10, 19)


def test_long_runs_are_thinned_and_quick():
    records = run(500, **{f"l{i}__weight": lambda i: 0.99**i for i in range(100)})
    records += [StepRecord(**vars(r) | {"step": r.step + 500 * k}) for k in range(1, 20) for r in records[:500]]
    start = time.perf_counter()
    found = trends(records)
    assert time.perf_counter() - start < 4
    assert found.tensors[0].points <= 1001
    assert (found.tensors[0].first_step, found.tensors[0].last_step) == (0, 9999)


# Words.


def test_rates_in_words():
    def said(slope: float, error: float) -> str:
        return rate(Trend(path="w", quantity="param", first_step=0, last_step=9, first=1.0, last=1.0, slope=slope,
                          error=error, direction=RISES, points=10))  # fmt: skip

    assert said(math.log(1.042), 0.003) == "+4.2 ± 0.3 % per 100 steps"
    assert said(math.log(0.9), 0.02) == "−10.0 ± 1.8 % per 100 steps"
    assert said(math.log(3.0), math.log(1.1)) == "× 3 (2.7 to 3.3) per 100 steps"
    assert said(math.log(0.99995), 1e-6) == "0 % per 100 steps"
    assert said(2000.0, 1.0).startswith("× 1")  # no overflow
    assert rate(trend("w", "param", [(0, 1.0), (1, 2.0)])) == ""


def test_no_record():
    with pytest.raises(GradlabError, match="no record"):
        trends([])
