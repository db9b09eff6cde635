"""Signal propagation in theory: expectations, limits, lengths and the edge of chaos, against closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.lab import activations, gaussian
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value
from gradlab_core.lab.edge import edge_of_chaos
from gradlab_core.lab.meanfield import correlation_map, log_chi, log_variance_map, mean_field, variance_limit

QS = (1e-12, 0.3, 7.0, 1e5)


def brute_force(name, q, slopes):
    """E[φ²] by the rule of trapezoids, pieces between breaks, 40,000 nodes that are dense where inputs are small."""
    function = activation_gradient if slopes else activation_value
    root = math.sqrt(q)
    inner = np.concatenate([-np.geomspace(14, 1e-4 / root, 8000), np.geomspace(1e-4 / root, 14, 8000)])
    places = np.unique(np.concatenate([inner, np.linspace(-14, 14, 24001)]))
    breaks = [b / root for b in (0.0, *ACTIVATIONS[name].breaks) if abs(b / root) < 14]
    edges = [-14.0, *sorted(set(breaks)), 14.0]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        z = np.concatenate([[low], places[(places > low) & (places < high)], [high]])
        inside = np.clip(z, low + 1e-13 * (1 + abs(low)), high - 1e-13 * (1 + abs(high)))  # the limits at the kinks
        values = function(name, root * inside) ** 2 * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        total += float(np.sum((values[1:] + values[:-1]) * np.diff(z)) / 2)
    return total


def test_expectations_of_all_activations():
    for name in ACTIVATIONS:
        found = gaussian.moments(name, np.log(QS))
        for i, q in enumerate(QS):
            assert math.exp(found.log_value[i]) == pytest.approx(brute_force(name, q, False), rel=3e-6), (name, q)
            assert math.exp(found.log_slope[i]) == pytest.approx(brute_force(name, q, True), rel=3e-6), (name, q)


def test_expectations_to_the_last_digit():
    q = np.array(QS)
    relu = gaussian.moments("relu", np.log(q))
    np.testing.assert_allclose(np.exp(relu.log_value), q / 2, rtol=1e-14)
    np.testing.assert_allclose(np.exp(relu.log_slope), 0.5, rtol=1e-14)
    np.testing.assert_allclose(relu.value_spread, 5, rtol=1e-12)  # E[relu⁴]/E[relu²]² − 1 = (3/2)/(1/4) − 1
    z, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    for name in ("tanh", "sigmoid", "gelu", "softplus"):  # smooth: there one Gauss–Hermite rule is exact
        hermite = weights @ activation_value(name, math.sqrt(0.3) * z) ** 2
        assert math.exp(gaussian.moments(name, math.log(0.3)).log_value) == pytest.approx(hermite, rel=1e-12)
    hermite = weights @ activation_gradient("hard_tanh", z) ** 2  # across a kink it is not
    exact = math.erf(1 / math.sqrt(2))
    assert abs(hermite / exact - 1) > 1e-3
    assert math.exp(gaussian.moments("hard_tanh", 0.0).log_slope) == pytest.approx(exact, rel=1e-13)


def test_what_the_searches_rest_on():
    """The variance map rises; so does what is left for weights on the edge of chaos; far out all is a power law."""
    log_q = np.arange(-30.0, 50.0, 0.5)
    ends = np.array([-81.0, -80.001, -79.999, -79.0, 79.0, 79.999, 80.001, 81.0])
    for name in ACTIVATIONS:
        found = gaussian.moments(name, log_q)
        assert np.diff(found.log_value).min() > -1e-12, name
        left = 1 - np.exp(found.log_value - found.log_slope - log_q)  # times q, sign and all
        clear = np.abs(left) > 1e-12
        assert np.diff(left[clear] > 0).sum() <= 1, name
        beyond = gaussian.moments(name, ends)
        for values in (beyond.log_value, beyond.log_slope):
            slopes = np.diff(values) / np.diff(ends)
            np.testing.assert_allclose(slopes[:3], slopes[0], atol=1e-9, err_msg=name)
            np.testing.assert_allclose(slopes[4:], slopes[-1], atol=1e-9, err_msg=name)


def test_correlations(monkeypatch):
    monkeypatch.setitem(activations.ACTIVATIONS, "same", ACTIVATIONS["relu"])  # without the closed forms
    for c in (-1.0, -0.4, 0.0, 0.9, 1 - 1e-6, 1.0):
        for q in (0.01, 100.0):
            for slopes in (False, True):
                exact = gaussian.correlated("relu", q, c, slopes=slopes)
                assert gaussian.correlated("same", q, c, slopes=slopes) == pytest.approx(exact, rel=1e-12, abs=1e-15)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 100_000))
    for name in ("tanh", "selu", "sigmoid"):
        drawn = activation_value(name, 1.5 * a) * activation_value(name, 1.5 * (0.6 * a + 0.8 * b))
        error = drawn.std() / math.sqrt(len(drawn))
        assert abs(gaussian.correlated(name, 2.25, 0.6) - drawn.mean()) < 4 * error, name


def test_limits_against_walking_there():
    for name, sigma_w, sigma_b, start in (
        ("tanh", 1.5, 0.2, 1.0),
        ("sigmoid", 3.0, 0.0, 5.0),
        ("gelu", 1.5, 0.1, 0.5),
        ("selu", 1.0, 0.0, 0.1),
        ("relu6", 4.0, 1.0, 1e-3),
    ):
        log_q = math.log(start)
        for _ in range(300):
            log_q = float(log_variance_map(name, log_q, sigma_w=sigma_w, sigma_b=sigma_b))
        found = variance_limit(name, sigma_w=sigma_w, sigma_b=sigma_b, start=start)
        assert found == pytest.approx(math.exp(log_q), rel=1e-9), name
    assert variance_limit("gelu", sigma_w=2.0, sigma_b=0.1, start=0.01) == math.inf  # its other basin
    assert variance_limit("tanh", sigma_w=1.0, sigma_b=0.0) == 0.0
    assert variance_limit("relu", sigma_w=2**0.5, sigma_b=0.0, start=3.0) == 3.0
    assert variance_limit("tanh", sigma_w=0.5, sigma_b=1e-9) == pytest.approx(1e-18 / 0.75, rel=1e-9)


def test_lengths_are_the_rates_at_which_things_settle():
    settings = {"sigma_w": 1.6, "sigma_b": 0.3}
    found = mean_field("tanh", **settings)
    assert found.phase == "chaotic"
    assert found.gradient_length < 0
    q, rates = found.q * 1.01, []
    for _ in range(8):
        after = math.exp(log_variance_map("tanh", math.log(q), **settings))
        rates.append((after - found.q) / (q - found.q))
        q = after
    assert rates[-1] == pytest.approx(math.exp(-1 / found.variance_length), rel=1e-3)
    c, rates = found.correlation + 0.05, []
    for _ in range(15):
        after = correlation_map("tanh", c, **settings, q=found.q)
        rates.append((after - found.correlation) / (c - found.correlation))
        c = after
    assert rates[-1] == pytest.approx(math.exp(-1 / found.correlation_length), rel=1e-2)
    ordered = mean_field("tanh", sigma_w=0.9, sigma_b=0.3)
    assert (ordered.phase, ordered.correlation) == ("ordered", 1.0)
    assert ordered.correlation_length == pytest.approx(-1 / math.log(ordered.chi), rel=1e-12)
    assert mean_field("relu", sigma_w=1.5).q == math.inf
    assert mean_field("relu", sigma_w=1.5).correlation is None  # missing, not 0


def test_the_edge_of_chaos():
    assert edge_of_chaos("tanh", math.sqrt(0.05)).sigma_w ** 2 == pytest.approx(
        1.76, abs=5e-3
    )  # Schoenholz et al. 2017
    for name in set(ACTIVATIONS) - {"softplus", "log_sigmoid"}:
        for sigma_b in (0.0, 0.1, 1.0):
            found = edge_of_chaos(name, sigma_b)
            log_q = math.log(found.q) if found.q and found.q < math.inf else 0.0 if found.q != 0 else -200.0
            assert abs(float(log_chi(name, log_q, sigma_w=found.sigma_w))) < 1e-9, name
            if found.q and found.q < math.inf:
                after = float(log_variance_map(name, log_q, sigma_w=found.sigma_w, sigma_b=sigma_b))
                assert after == pytest.approx(log_q, abs=1e-9), name
                away = variance_limit(name, sigma_w=found.sigma_w, sigma_b=sigma_b, start=found.q * 1.05)
                assert found.stable == (away < found.q * 1.04), name
    assert not edge_of_chaos("gelu", 0.1).stable
    assert (edge_of_chaos("relu").q, edge_of_chaos("relu", 0.1).q) == (None, math.inf)
    with pytest.raises(GradlabError, match="softplus with σ_b = 0: χ = 1 at no variance"):
        edge_of_chaos("softplus")
