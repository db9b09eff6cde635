"""The activations of the lab: values, derivatives, regions and curves, each against something independent."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradlab_core.definitions import kinds
from gradlab_core.errors import GradlabError
from gradlab_core.lab import regions
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value
from gradlab_core.records.codec import decode, encode

NAMES = tuple(ACTIVATIONS)


def test_every_tracked_activation_has_a_definition():
    assert set(NAMES) == {*kinds.ACTIVATIONS, "identity"}


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_is_that_of_the_value(name):
    x = np.linspace(-9, 9, 1001) + 1e-3  # beside the kinks
    step = 1e-5
    slope = (activation_value(name, x + step) - activation_value(name, x - step)) / (2 * step)
    np.testing.assert_allclose(activation_gradient(name, x), slope, atol=2e-9)  # step²·f'''/6 and rounding/step


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overflows_and_small_derivatives_keep_their_digits(name):
    far = np.array([1e2, 1e4, 1e100, 1e300])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for x in (far, -far):
            assert np.isfinite(activation_value(name, x)).all()
            assert np.isfinite(activation_gradient(name, x)).all()
    right, left = activation_gradient(name, 1e300), activation_gradient(name, -1e300)
    assert right in (0.0, 1.0, pytest.approx(1.0507009873554805))
    assert left in (0.0, 1.0, 0.01)
    assert activation_gradient(name, np.zeros((2, 0, 3))).shape == (2, 0, 3)


def test_tails():
    for name, x, expected in (
        ("sigmoid", 50.0, math.exp(-50)),
        ("tanh", -50.0, 4 * math.exp(-100)),
        ("gelu", -30.0, -30 * math.exp(-450) / math.sqrt(2 * math.pi)),
        ("elu", -300.0, math.exp(-300)),
        ("silu", -60.0, -59 * math.exp(-60)),
        ("mish", -60.0, -59 * math.exp(-60)),
        ("log_sigmoid", 200.0, math.exp(-200)),
        ("softsign", 1e8, 1e-16),
    ):
        assert float(activation_gradient(name, x)) == pytest.approx(expected, rel=2e-3 if name == "gelu" else 1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_between_breaks_the_derivative_is_monotone(name):
    for a, b in itertools.pairwise([-40.0, *ACTIVATIONS[name].breaks, 40.0]):
        slopes = np.diff(activation_gradient(name, np.linspace(a, b, 20_001)[1:-1]))
        assert (slopes >= -4e-16).all() or (slopes <= 4e-16).all()
    for kink in ACTIVATIONS[name].kinks:
        left, right = activation_gradient(name, [kink - 1e-9, kink + 1e-9])
        assert abs(left - right) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_regions_are_where_the_derivative_says(name):
    x = np.linspace(-15, 15, 3001) + 1.234e-3
    slope = np.abs(activation_gradient(name, x))
    for region, wanted in (
        (regions.vanishing_region(name), slope < 0.01),
        (regions.vanishing_region(name, 0.3), slope < 0.3),
        (regions.goldilocks_region(name), (slope >= 0.5) & (slope <= 2)),
        (regions.goldilocks_region(name, 0.05, 1.02), (slope >= 0.05) & (slope <= 1.02)),
    ):
        inside = np.zeros(len(x), bool)
        for a, b in region:
            assert a < b
            inside |= (x > a) & (x < b)
        assert (inside == wanted).all()
        assert all(before[1] < after[0] for before, after in itertools.pairwise(region))


def test_regions_by_hand():
    edge = math.log((0.98 + math.sqrt(0.96)) / 0.02)  # σ(1 − σ) = 0.01
    assert np.ravel(regions.vanishing_region("sigmoid")) == pytest.approx([-math.inf, -edge, edge, math.inf])
    assert np.ravel(regions.vanishing_region("elu")) == pytest.approx([-math.inf, math.log(0.01)])
    assert np.ravel(regions.vanishing_region("softsign", 1e-40)) == pytest.approx([-math.inf, -1e20, 1e20, math.inf])
    assert np.ravel(regions.vanishing_region("hard_silu")) == pytest.approx([-math.inf, -3, -1.53, -1.47])
    assert regions.vanishing_region("leaky_relu") == ()
    assert regions.vanishing_region("identity", 2.0) == ((-math.inf, math.inf),)


def normal_share(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def test_goldilocks_share():
    half = math.acosh(math.sqrt(2))  # sech² = ½
    share = regions.goldilocks_share("tanh", mean=0.5, std=2.0)
    assert share == pytest.approx(normal_share((half - 0.5) / 2) - normal_share((-half - 0.5) / 2), rel=1e-12)
    assert regions.goldilocks_share("relu", mean=-40.0) == pytest.approx(normal_share(-40.0), rel=1e-12)
    assert regions.goldilocks_share("sigmoid") == 0  # its derivative is at most a quarter
    assert regions.goldilocks_share("identity", std=1e6) == pytest.approx(1)
    assert [regions.goldilocks_share("relu", mean=m, std=0.0) for m in (-1.0, 1.0)] == [0.0, 1.0]
    x = np.random.default_rng(0).normal(0.3, 1.5, 200_000)
    for name in NAMES:
        slope = np.abs(activation_gradient(name, x))
        drawn = ((slope >= 0.2) & (slope <= 1.05)).mean()
        share = regions.goldilocks_share(name, mean=0.3, std=1.5, low=0.2, high=1.05)
        assert drawn == pytest.approx(share, abs=5 * math.sqrt(0.25 / len(x)))


def test_curves_are_the_published_plot():
    curve = regions.activation_curve("tanh")
    assert (curve.x[0], curve.x[-1], len(curve.x)) == (-8.0, 8.0, 321)
    assert max(curve.gradient) == curve.gradient[160] == 1.0
    assert decode(regions.ActivationCurve, encode(curve)) == curve


def test_what_is_wrong_with_an_activation_is_said():
    for call in (
        lambda: activation_gradient("relu7", 0.0),
        lambda: regions.vanishing_region("gellu"),
        lambda: regions.goldilocks_share("swish"),
    ):
        with pytest.raises(GradlabError, match="expected one of relu, relu6"):
            call()
    with pytest.raises(GradlabError, match="below is 0"):
        regions.vanishing_region("relu", 0)
    with pytest.raises(GradlabError, match="expected 0 ≤ low ≤ high"):
        regions.goldilocks_region("relu", 2, 1)
    with pytest.raises(GradlabError, match=r"2 problems\n.*mean is nan.*\n.*std is -1"):
        regions.goldilocks_share("relu", mean=math.nan, std=-1)
    with pytest.raises(GradlabError, match=r"2 problems\n.*points is 1.*\n.*start is 3"):
        regions.activation_curve("relu", start=3, stop=2, points=1)
