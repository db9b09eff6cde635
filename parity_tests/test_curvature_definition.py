"""Largest eigenvalue and trace as defined: of any symmetric matrix, given only its products."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.definitions import curvature
from gradlab_core.errors import GradlabError


def symmetric(values, seed):
    """A dense matrix with these eigenvalues in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2))[0]
    return (basis * values) @ basis.T


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    values=st.lists(st.floats(-10, 10).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1, max_size=30),
    seed=st.integers(0, 99),
)
def test_the_largest_eigenvalue_of_any_symmetric_matrix(values, seed):
    matrix = symmetric(values, seed)
    found = curvature.top_eigenvalue(matrix.__matmul__, len(values), iterations=50, seed=seed)
    scale = max(map(abs, values))
    assert found.converged
    assert found.residual <= curvature.TOLERANCE * scale * (1 + 1e-9)
    assert abs(found.value - max(values)) <= found.residual + 1e-12 * scale
    assert found.iterations <= len(values)


def test_too_few_iterations_say_so():
    matrix = symmetric(np.arange(100.0), 0)
    found = curvature.top_eigenvalue(matrix.__matmul__, 100, iterations=3, seed=0)
    assert (found.converged, found.iterations) == (False, 3)
    assert 99 - found.value > curvature.TOLERANCE * 99  # and rightly so
    assert found.value <= 99
    more = curvature.top_eigenvalue(matrix.__matmul__, 100, iterations=100, seed=0)
    assert more.converged
    assert more.value == pytest.approx(99, rel=1e-6)


def test_zero_and_what_is_not_finite():
    assert curvature.top_eigenvalue(np.zeros_like, 5, iterations=9, seed=0) == curvature.HessianEigenvalue(
        value=0.0, residual=0.0, iterations=1, converged=True
    )
    for bad in (math.nan, math.inf):
        found = curvature.top_eigenvalue(lambda v, bad=bad: v * bad, 5, iterations=9, seed=0)
        assert math.isnan(found.value)
        assert not found.converged
        assert all(map(math.isnan, curvature.trace(lambda v, bad=bad: v * bad, 5, samples=4, seed=0)))


def test_the_trace_is_unbiased_and_its_standard_error_true():
    matrix = symmetric(np.linspace(-3, 9, 40), 1)
    found = [curvature.trace(matrix.__matmul__, 40, samples=8, seed=seed) for seed in range(400)]
    estimates, errors = np.array(found).T
    true_error = np.std(estimates)
    assert abs(estimates.mean() - np.trace(matrix)) < 4 * true_error / math.sqrt(400)
    assert math.sqrt(np.mean(errors**2)) == pytest.approx(true_error, rel=0.15)  # 4 of its own standard errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curvature.top_eigenvalue(np.zeros_like, 5, iterations=0, seed=0), "iterations is 0"),
        (lambda: curvature.trace(np.zeros_like, 5, samples=1, seed=0), "samples is 1"),
        (lambda: curvature.trace(np.zeros_like, 5, samples=2.5, seed=0), "samples is 2.5"),
    ],
)
def test_bad_counts(call, message):
    with pytest.raises(GradlabError, match=f"{message}; expected a whole number"):
        call()
