"""The laws of the initialisers and the statistics that test them, against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from gradlab_core.definitions.initializers import INITIALIZERS, initial_arrays
from gradlab_core.lab.laws import Law, SampleLayer, bias_law, density, fit_probability, weight_law
from gradlab_core.lab.random_mlp import RandomMlp
from gradlab_core.lab.samples import histogram, sample
from gradlab_core.lab.studies.starts import study_starts
from gradlab_core.lab.theory_comparison import compare_with_theory

NORMAL = Law(kind="normal", mean=0.0, std=0.1)
UNIFORM = weight_law("xavier_uniform", SampleLayer(kind="dense", inputs=100, outputs=100), 0.1)

# The laws.


def test_laws_are_those_of_the_text():
    dense = SampleLayer(kind="dense", inputs=80, outputs=120)
    sigma = {
        "constant": 0.0,
        "normal": 0.01,
        "xavier_uniform": 0.1,
        "xavier_normal": 0.1,
        "kaiming_uniform": math.sqrt(2 / 80),
        "kaiming_normal": math.sqrt(2 / 80),
        "lecun_normal": math.sqrt(1 / 80),
        "orthogonal": math.sqrt(1 / 120),
        "torch_default": math.sqrt(1 / 240),
    }
    assert set(sigma) == set(INITIALIZERS)
    for name, expected in sigma.items():
        assert weight_law(name, dense, 0.1).std == pytest.approx(expected), name
        assert bias_law(name, dense).std == (pytest.approx(expected) if name == "torch_default" else 0)
    assert weight_law("xavier_uniform", dense, 0.1).high == pytest.approx(math.sqrt(6 / 200))
    assert weight_law("torch_default", dense, 0.1).high == pytest.approx(1 / math.sqrt(80))
    assert weight_law("constant", dense, 0.1).mean == float(np.float32(0.1))


@pytest.mark.parametrize(
    "law",
    [
        NORMAL,
        UNIFORM,
        *(Law(kind="sphere", mean=0.0, std=n**-0.5, low=-1.0, high=1.0, dimension=n) for n in (3, 7, 99)),
    ],
    ids=lambda law: f"{law.kind} {law.dimension}",
)
def test_densities_integrate_to_one_and_have_the_variance_they_say(law):
    reach = min(12 * law.std, law.high or math.inf)

    def moment(power):
        return integrate.quad(lambda x: x**power * density(law, np.array([x]))[0], -reach, reach, limit=200)[0]

    assert moment(0) == pytest.approx(1, abs=1e-7)
    assert moment(2) == pytest.approx(law.std**2, rel=1e-6)


def test_the_test_of_the_distribution_is_that_of_kolmogorov_and_smirnov():
    values = np.random.default_rng(0).normal(0.02, 0.11, 500)
    assert fit_probability(NORMAL, values) == pytest.approx(stats.kstest(values, "norm", (0, 0.1)).pvalue, rel=0.1)
    uniform = values[abs(values) < UNIFORM.high]
    theirs = stats.kstest(uniform, "uniform", (UNIFORM.low, 2 * UNIFORM.high)).pvalue
    assert fit_probability(UNIFORM, uniform) == pytest.approx(theirs, rel=0.1)


# What was drawn.


def test_standard_errors_are_those_of_many_samples():
    """The distances are standard normal, by their standard deviation over 400 samples of each law."""
    rng = np.random.default_rng(1)
    for law, draw in (
        (NORMAL, lambda: rng.normal(0, 0.1, 300)),
        (UNIFORM, lambda: rng.uniform(UNIFORM.low, UNIFORM.high, 300)),
    ):
        found = [sample(law, draw()) for _ in range(400)]
        for off in ("mean_off", "std_off"):
            assert np.std([getattr(one, off) for one in found]) == pytest.approx(1, abs=0.15)
        assert not any(one.wrong for one in found)
    layer = SampleLayer(kind="dense", inputs=6, outputs=9)
    law = weight_law("orthogonal", layer, 0.1)
    found = [sample(law, initial_arrays("orthogonal", layer.tensors, seed=s)["weight"]) for s in range(400)]
    assert np.std([one.mean_off for one in found]) == pytest.approx(1, abs=0.15)
    assert {one.std_off for one in found} == {0}  # the sum of squares is not random


@pytest.mark.parametrize(
    ("law", "change", "wrong"),
    [
        (NORMAL, lambda w: w * 1.03, {"std"}),
        (NORMAL, lambda w: w + 0.01, {"mean", "distribution"}),
        (NORMAL, lambda w: np.sign(w) * 0.1, {"distribution"}),  # mean and standard deviation are right
        (UNIFORM, lambda w: w * 1.001, {"bounds"}),
        (UNIFORM, lambda w: np.where(np.arange(w.size) == 7, np.nan, w), {"nonfinite"}),
        (NORMAL, lambda w: np.where(np.arange(w.size) == 7, np.inf, w), {"nonfinite"}),
        (NORMAL, lambda w: w * np.nan, {"nonfinite"}),
        (Law(kind="constant", mean=0.5, std=0.0, low=0.5, high=0.5), lambda w: w * 0 + 0.6, {"mean", "std", "bounds"}),
    ],
)
def test_planted_faults_are_found(law, change, wrong):
    rng = np.random.default_rng(2)
    right = {
        "normal": rng.normal(0, 0.1, 20_000),
        "uniform": rng.uniform(UNIFORM.low, UNIFORM.high, 20_000),
        "constant": np.full(20_000, 0.5),
    }[law.kind]
    assert sample(law, right).wrong == ()
    assert set(sample(law, change(right)).wrong) == wrong


def test_histograms_hold_everything_that_is_finite():
    w = np.random.default_rng(3).normal(0, 0.1, 1000)
    w[:3] = np.nan, np.inf, 2.0
    bars = histogram("normal", NORMAL, w)
    assert bars.edges[-1] == 2.0
    assert np.sum(np.diff(bars.edges) * bars.drawn) == pytest.approx(1)
    assert max(bars.expected) == pytest.approx(1 / (0.1 * math.sqrt(2 * math.pi)))
    same = histogram("constant", Law(kind="constant", mean=1.0, std=0.0, low=1.0, high=1.0), np.ones(4))
    assert (same.edges, same.drawn, same.x) == ((), (), ())


# The study.


def test_starts_are_those_of_theory():
    names = ["xavier_uniform", "lecun_normal", "kaiming_normal", "constant"]
    starts = study_starts(names, depth=12, width=40, activation="relu", value=0.1, seeds=range(12))
    assert [start.names for start in starts] == [("xavier_uniform", "lecun_normal"), ("kaiming_normal",), ("constant",)]
    net = RandomMlp(widths=(40,) * 13, activation="relu", init="lecun_normal")
    rows = compare_with_theory(net, seeds=range(60))
    for quantity, values in (("preactivation", starts[0].signal), ("gradient", starts[0].gradient)):
        for row, value in zip((row for row in rows if row.quantity == quantity), values, strict=True):
            assert abs(row.mean - value) < 5 * row.standard_error + 1e-12, row
    constant = starts[2]
    assert constant.nets == 12
    dead = constant.dead_signal[1]  # ReLU, with an input whose mean is negative
    assert 0 < dead < 12
    assert constant.dead_signal == (0, *[dead] * 11)
    assert all(map(math.isfinite, (*constant.signal, *constant.gradient)))
    # Alive, every layer multiplies signal and gradient by 40·0.1.
    np.testing.assert_allclose(np.diff(constant.signal[1:]), 2 * math.log(4), rtol=1e-6)
    np.testing.assert_allclose(-np.diff(constant.gradient[:-1]), 2 * math.log(4), rtol=1e-6)
