"""Products of random matrices: singular values, exponents and bounds, each against something independent."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.lab import bounds, graded, lyapunov, products
from gradlab_core.records.codec import decode, encode

# Products of matrices.


def exact_log_singular_values(matrices):
    """Of a product of integer matrices, from the coefficients of the characteristic polynomial of PᵀP, which are whole
    numbers that Newton's identities give; their roots in arithmetic of 600 digits."""
    from decimal import Decimal, localcontext

    size = len(matrices[0])
    product = [[int(i == j) for j in range(size)] for i in range(size)]
    for a in matrices:
        product = [[sum(int(a[i][k]) * product[k][j] for k in range(size)) for j in range(size)] for i in range(size)]
    gram = [[sum(product[k][i] * product[k][j] for k in range(size)) for j in range(size)] for i in range(size)]
    power, traces = [row[:] for row in gram], []
    for _ in range(size):
        traces.append(sum(power[i][i] for i in range(size)))
        power = [[sum(power[i][k] * gram[k][j] for k in range(size)) for j in range(size)] for i in range(size)]
    e = [1]
    for k in range(1, size + 1):
        e.append(sum((-1) ** (i - 1) * e[k - i] * traces[i - 1] for i in range(1, k + 1)) // k)
    with localcontext() as context:
        context.prec = 600
        coefficients = [Decimal((-1) ** k * e[k]) for k in range(size + 1)]
        roots = []
        for _ in range(size):  # the largest root by Newton's method from above, then divided out
            x = -coefficients[1] + 1
            for _ in range(2000):
                value, slope = Decimal(0), Decimal(0)
                for c in coefficients:
                    slope = slope * x + value
                    value = value * x + c
                step = value / slope if value else Decimal(0)
                x -= step
                if abs(step) <= abs(x) * Decimal(10) ** -590:
                    break
            roots.append(x)
            deflated = [coefficients[0]]
            for c in coefficients[1:-1]:
                deflated.append(c + x * deflated[-1])
            coefficients = deflated
        return [float(root.ln() / 2) for root in roots]


@pytest.mark.parametrize(("size", "count"), [(2, 60), (3, 60), (4, 40)])
def test_singular_values_are_right_to_the_last_one(size, count):
    """They end up more orders of magnitude apart than float64 has digits: no SVD of the product finds them."""
    matrices = np.random.default_rng(size).integers(-99, 100, (count, size, size))
    assert abs(np.linalg.det(matrices)).min() > 0.5  # no factor is singular
    found = graded.log_singular_values(matrices)[-1]
    expected = exact_log_singular_values(matrices.tolist())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    assert expected[0] - expected[-1] > 30
    # The short cuts fail: the product itself, and the diagonals of a QR chain.
    product = np.linalg.multi_dot(matrices[::-1].astype(float))
    assert abs(np.log(np.linalg.svd(product, compute_uv=False)) - expected).max() > 1
    basis, diagonal = np.eye(size), np.zeros(size)
    for factor in matrices:
        basis, r = np.linalg.qr(factor @ basis)
        diagonal += np.log(np.abs(np.diagonal(r)))
    assert abs(np.sort(diagonal)[::-1] - expected).max() > 0.01


def test_each_row_is_the_product_so_far():
    for init, size in itertools.product(products.ENSEMBLES, (1, 2, 5, 8)):
        matrices = products.draw_matrices(3, size, 0.7, seed=size, init=init)
        rows, product = graded.log_singular_values(matrices), np.eye(size)
        growth = products.as_growth(rows, sigma=0.7, seed=size, init=init)
        for k, factor in enumerate(matrices):
            product = factor @ product
            values = np.linalg.svd(product, compute_uv=False)
            np.testing.assert_allclose(np.exp(rows[k]), values, rtol=1e-9)
            assert math.exp(growth.log_frobenius[k]) == pytest.approx(np.linalg.norm(product))
            assert growth.log_spectral[k] == rows[k][0]


def test_a_hundred_gaussian_matrices_explode():
    orders = [products.matrix_product_growth(100, 4, 1.0, seed).log_frobenius[-1] / math.log(10) for seed in range(5)]
    assert all(20 < order < 30 for order in orders)


@pytest.mark.parametrize("sigma", [1e-3, 1e3])
def test_a_thousand_factors_neither_overflow_nor_underflow(sigma):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        growth = products.matrix_product_growth(1000, 4, sigma, seed=0)
    unit = products.matrix_product_growth(1000, 4, 1.0, seed=0)
    shift = np.arange(1, 1001)[:, np.newaxis] * math.log(sigma)
    np.testing.assert_allclose(growth.log_singular_values, unit.log_singular_values + shift, rtol=0, atol=1e-9)
    assert abs(growth.log_frobenius[-1]) > 5000
    assert decode(products.ProductGrowth, encode(growth)) == growth


def test_extreme_and_singular_factors():
    growth = graded.log_singular_values([np.diag([1e300, 1e-5, 0.0])] * 4)
    np.testing.assert_allclose(growth[-1][:2], 4 * np.log([1e300, 1e-5]), rtol=1e-12)
    assert growth[-1][2] == -math.inf
    nothing = products.as_growth(graded.log_singular_values(np.zeros((2, 2, 2))), sigma=1.0, seed=0, init="gaussian")
    assert nothing.log_frobenius == (-math.inf, -math.inf)


def test_all_pairs_are_turned_once():
    for size in range(1, 9):
        table = graded.rounds(size)
        pairs = [frozenset(pair) for part in table for pair in part.T.tolist()]
        assert sorted(map(sorted, pairs)) == sorted(map(list, itertools.combinations(range(size), 2)))
        assert all(len(set(part.ravel().tolist())) == part.size for part in table)


def test_what_is_wrong_with_a_product_is_said():
    with pytest.raises(GradlabError) as caught:
        products.matrix_product_growth(0, 2.5, -1.0, -1, init="cauchy")  # type: ignore[arg-type]
    for word in ("5 problems", "n is 0", "size is 2.5", "sigma is -1.0", "seed is -1", "init is 'cauchy'"):
        assert word in str(caught.value)
    with pytest.raises(GradlabError, match="sigma is 0; expected a positive number"):
        products.draw_matrices(1, 1, 0, 0)
    with pytest.raises(GradlabError, match=r"2 problems\n.*shape \(2, 3\).*\n.*a NaN or an Inf"):
        graded.log_singular_values(np.full((2, 3), np.nan))


# Lyapunov exponents.


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_exponents_are_those_of_theory(size):
    found = lyapunov.lyapunov_exponents(400, size, 0.3, range(12))
    for measured, error, predicted, expected in zip(
        found.measured, found.standard_errors, found.predicted, found.predicted_errors, strict=True
    ):
        assert abs(measured - predicted) < 5 * expected
        assert 0.3 < error / expected < 2  # twelve seeds tell a standard deviation to about a fifth
    assert sum(found.predicted) == pytest.approx(sum(found.measured), abs=5 * math.hypot(*found.predicted_errors))
    # And the bound is sharp enough to tell: a theory off by one degree of freedom would not pass.
    wrong = lyapunov.predicted_exponents(size + 1, 0.3)
    assert abs(found.measured[0] - wrong[0]) > 5 * found.predicted_errors[0]


def test_the_critical_sigma():
    for size in (2, 4, 32):
        critical = lyapunov.critical_sigma(size)
        assert lyapunov.predicted_exponents(size, critical)[0] == pytest.approx(0, abs=1e-12)
        assert critical > 1 / math.sqrt(size)  # a typical product at 1/√size vanishes
    assert lyapunov.critical_sigma(1000) * math.sqrt(1000) == pytest.approx(1, abs=1e-3)
    at = [lyapunov.lyapunov_exponents(300, 4, s, range(8)).measured[0] for s in (0.9 * 0.5724, 0.5724, 1.1 * 0.5724)]
    assert at[0] < -0.05
    assert abs(at[1]) < 0.04
    assert at[2] > 0.05
    assert lyapunov.critical_sigma(5, init="orthogonal") == 1.0
    assert lyapunov.critical_sigma(5, init="uniform") is None


def test_exponents_of_other_ensembles():
    found = lyapunov.lyapunov_exponents(50, 3, 2.0, range(3), init="orthogonal")
    assert found.measured == pytest.approx([math.log(2)] * 3)
    assert found.predicted == pytest.approx([math.log(2)] * 3)
    uniform = lyapunov.lyapunov_exponents(50, 3, 2.0, range(3), init="uniform")
    assert uniform.predicted is None
    assert uniform.predicted_errors is None
    assert decode(lyapunov.LyapunovExponents, encode(uniform)) == uniform
    with pytest.raises(GradlabError, match="expected at least two different ones"):
        lyapunov.lyapunov_exponents(5, 3, 2.0, [1, 1])


def test_long_products_grow_as_their_exponents_say():
    growth = products.matrix_product_growth(1000, 3, 1.0, seed=1)
    errors = lyapunov.predicted_errors(3, 1000, 1)
    for found, predicted, error in zip(growth.exponents, lyapunov.predicted_exponents(3, 1.0), errors, strict=True):
        assert abs(found - predicted) < 5 * error + 5e-3  # the singular values of a finite product repel one another


# Bounds.


def test_products_keep_to_the_bounds():
    for seed, init in itertools.product(range(10), products.ENSEMBLES):
        found = bounds.product_bounds(products.draw_matrices(30, 4, 1.0, seed, init=init))
        assert found.holds
        assert min(found.log_slack) > -found.rounding
        assert abs(found.log_slack[-1]) <= found.rounding < 1e-9
        assert (found.log_slack[0] > 1) == (init != "orthogonal")
    same = bounds.product_bounds([np.diag([4.0, 2.0, 1.0])] * 5)  # aligned: the bounds are reached
    assert same.log_slack == pytest.approx([0, 0, 0], abs=same.rounding)


def test_a_product_that_breaks_a_bound_is_found():
    factors = np.array([3.0, 1.0, -2.0])
    assert bounds.judged(factors, factors, 1e-9).holds
    for broken in ([3.1, 0.9, -2.0], [3.0, 1.1, -2.1], [2.9, 1.0, -2.1], [2.0, 1.5, -1.6]):
        assert not bounds.judged(np.array(broken), factors, 1e-9).holds


def test_a_singular_factor_says_less():
    found = bounds.product_bounds(np.ones((3, 2, 2)))
    assert found.holds
    assert math.isnan(found.log_slack[1])
    assert math.isnan(found.log_condition)
    assert bounds.product_bounds(np.zeros((3, 2, 2))).holds
