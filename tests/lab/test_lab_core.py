"""The lab's definitions: activations, products of matrices, tied units, each against something independent of it."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from gradlab_core.definitions import kinds
from gradlab_core.definitions.symmetry_defect import SymmetryDefect, symmetry_defect
from gradlab_core.errors import GradlabError
from gradlab_core.lab import bounds, graded, lyapunov, products, regions
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value
from gradlab_core.lab.tie import tie_over_steps
from gradlab_core.records.codec import decode, encode

NAMES = tuple(ACTIVATIONS)

# Activations.


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


# Tied units.


def net(*widths, seed=0, bias=True):
    rng = np.random.default_rng(seed)
    params = {}
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        params[f"fc{i}.weight"] = rng.standard_normal((b, a))
        if bias:
            params[f"fc{i}.bias"] = rng.standard_normal(b)
    return params


def duplicated(params, layer, source, target):
    """Unit `target` of a hidden layer made a copy of `source`, in what it takes and in what it gives."""
    params = {path: array.copy() for path, array in params.items()}
    for name in ("weight", "bias"):
        params[f"fc{layer}.{name}"][target] = params[f"fc{layer}.{name}"][source]
    params[f"fc{layer + 1}.weight"][:, target] = params[f"fc{layer + 1}.weight"][:, source]
    return params


def groups(params):
    return [layer.groups for layer in symmetry_defect(params).layers]


def test_copies_are_found_wherever_they_stand():
    params = duplicated(duplicated(net(5, 7, 6, 3), 0, 1, 4), 1, 5, 0)
    found = symmetry_defect(params)
    assert [layer.groups for layer in found.layers] == [((1, 4),), ((0, 5),)]
    assert (found.units, found.distinct, found.defect) == (13, 11, pytest.approx(2 / 13))
    assert [layer.closest for layer in found.layers] == [0.0, 0.0]
    order = np.random.default_rng(1).permutation(7)
    params["fc0.weight"], params["fc0.bias"] = params["fc0.weight"][order], params["fc0.bias"][order]
    params["fc1.weight"] = params["fc1.weight"][:, order]
    assert groups(params)[0] == (tuple(sorted(int(np.flatnonzero(order == u)[0]) for u in (1, 4))),)
    assert decode(SymmetryDefect, encode(found)) == found


@pytest.mark.parametrize("path", ["fc0.weight", "fc0.bias", "fc1.weight"])
def test_a_difference_anywhere_tells_units_apart(path):
    params = duplicated(net(5, 7, 3), 0, 1, 4)
    params[path][(..., 4) if path == "fc1.weight" else 4] += 1e-2
    found = symmetry_defect(params)
    assert found.layers[0].groups == ()
    assert 1e-4 < found.layers[0].closest < 0.05
    assert symmetry_defect(net(5, 7, 3)).layers[0].closest > 0.3


def test_rounding_does_not_tell_units_apart():
    params = duplicated(net(5, 7, 3), 0, 1, 4)
    noisy = {
        path: array * (1 + 1e-6 * np.random.default_rng(2).standard_normal(array.shape))
        for path, array in params.items()
    }
    assert groups(noisy) == [((1, 4),)]
    assert 0 < symmetry_defect(noisy).layers[0].closest < 1e-5


def test_units_that_are_tied_through_others():
    """Two units read two copies with weights that change places: they are the same function, and stay so."""
    params = {
        "a.weight": np.array([[1.0, 2.0], [1.0, 2.0]]),
        "b.weight": np.array([[3.0, 4.0], [4.0, 3.0]]),
        "c.weight": np.array([[5.0, 5.0]]),
    }
    assert groups(params) == [((0, 1),), ((0, 1),)]
    params["c.weight"] = np.array([[5.0, 6.0]])  # now b's gradients differ, and through them a's
    assert groups(params) == [(), ()]
    params["c.weight"], params["a.weight"][1, 0] = np.array([[5.0, 5.0]]), 1.1
    assert groups(params) == [(), ()]


def test_a_random_net_has_no_tie_and_a_constant_one_nothing_else():
    healthy = symmetry_defect(net(4, 30, 30, 30, 2))
    assert (healthy.defect, healthy.unread) == (0, ())
    constant = symmetry_defect({path: np.full_like(array, 0.3) for path, array in net(4, 30, 30, 30, 2).items()})
    assert [layer.distinct for layer in constant.layers] == [1, 1, 1]
    assert constant.defect == pytest.approx(87 / 90)
    centred = {p: a - a.mean(axis=1, keepdims=True) if a.ndim == 2 else 0 * a for p, a in net(4, 30, 30, 2).items()}
    assert symmetry_defect(centred).defect == 0  # sums that are 0 make no tie


def test_convolutions_flattened_grouped_and_normalised():
    rng = np.random.default_rng(3)
    params = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)),
        "norm.weight": np.ones(4),
        "norm.running_mean": rng.standard_normal(4),
        "depthwise.weight": rng.standard_normal((8, 1, 3, 3)),
        "fc.weight": rng.standard_normal((5, 8 * 6)),
        "out.weight": rng.standard_normal((2, 5)),
    }
    assert groups(params) == [(), (), ()]
    params["conv.weight"][3] = params["conv.weight"][0]
    params["depthwise.weight"][6:] = params["depthwise.weight"][:2]
    pixels = params["fc.weight"].reshape(5, 8, 6)
    pixels[:, 6:] = pixels[:, :2]
    assert groups(params) == [((0, 3),), ((0, 6), (1, 7)), ()]
    params["norm.weight"][3] = 2.0
    assert groups(params) == [(), (), ()]


def test_recurrent_units():
    rng = np.random.default_rng(4)
    shapes = {"rnn.weight_ih_l0": (12, 3), "rnn.weight_hh_l0": (12, 4), "rnn.bias_ih_l0": (12,), "fc.weight": (2, 4)}
    params = {path: rng.standard_normal(shape) for path, shape in shapes.items()}
    assert groups(params) == [()]
    for path in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"):
        gates = params[path].reshape(3, 4, -1)
        gates[:, 2] = gates[:, 0]
    params["rnn.weight_hh_l0"][:, 2] = params["rnn.weight_hh_l0"][:, 0]
    params["fc.weight"][:, 2] = params["fc.weight"][:, 0]
    assert groups(params) == [((0, 2),)]
    params["rnn.weight_hh_l0"][0, 1] += 1
    assert groups(params) == [()]


def test_what_cannot_be_read_is_said():
    params = net(4, 6, 3) | {"side.weight": np.ones((7, 5)), "last.weight": np.ones((2, 7))}
    found = symmetry_defect(params)
    assert found.unread == ("fc1.weight",)
    assert [layer.path for layer in found.layers] == ["fc0.weight", "side.weight"]
    twice = {"a.weight": np.ones((4, 3)), "b.weight": np.ones((5, 8))}  # eight inputs are not four units, seen twice
    assert symmetry_defect(twice).unread == ("a.weight",)
    nothing = symmetry_defect({"fc.weight": np.ones((2, 3))})
    assert (nothing.defect, nothing.units, nothing.layers) == (None, 0, ())
    single = symmetry_defect({"a.weight": np.ones((1, 3)), "b.weight": np.ones((2, 1))})
    assert (single.defect, single.layers[0].closest) == (0, None)
    broken = duplicated(net(5, 7, 3), 0, 1, 4)
    broken["fc0.weight"][4, 0] = np.nan
    assert groups(broken) == [()]
    with pytest.raises(GradlabError, match="a list; expected a mapping"):
        symmetry_defect([np.ones((2, 2))])  # type: ignore[arg-type]
    with pytest.raises(GradlabError, match=r"2 problems\n.*a is a str.*\n.*b is a ndarray of complex128"):
        symmetry_defect({"a": "x", "b": np.ones(2, complex)})


def test_sgd_keeps_a_tie_and_dropout_breaks_it():
    kept, broken = (tie_over_steps(steps=60, every=20, dropout=p) for p in (0.0, 0.3))
    assert [s.distinct for s in kept] == [1, 1, 1, 1]
    assert max(s.closest for s in kept) < 1e-12
    assert [s.distinct for s in broken] == [1, 8, 8, 8]
    assert broken[0].defect == 7 / 8
    assert broken[-1].closest > 0.01
    free = tie_over_steps(steps=200, start="normal")
    assert [s.step for s in free] == list(range(0, 201, 20))
    assert all(s.distinct == 8 for s in free)
    # One unit, however often it is there, learns less.
    assert free[-1].loss < 0.5 * tie_over_steps(steps=200)[-1].loss
    with pytest.raises(GradlabError, match="3 problems"):
        tie_over_steps(steps=-1, dropout=1.0, start="zero")


def test_the_tie_is_exact_in_the_gradient():
    """The demonstration's gradient, written out by hand, is the derivative of its loss."""
    from gradlab_core.lab import tie

    rng = np.random.default_rng(5)
    params = {"fc1.weight": rng.standard_normal((3, 4)), "fc1.bias": rng.standard_normal(3)}
    params["fc2.weight"] = rng.standard_normal((1, 3))
    x, y, mask = rng.standard_normal((6, 4)), rng.standard_normal((6, 1)), rng.integers(0, 2, (6, 3)) * 2.0

    def loss(p):
        h = np.tanh(x @ p["fc1.weight"].T + p["fc1.bias"]) * mask
        return statistics.fmean(np.square(h @ p["fc2.weight"].T - y).ravel().tolist()) / 2

    grads = tie._gradients(params, x, y, mask)
    for path, array in params.items():
        for index in np.ndindex(array.shape):
            moved = [{**params, path: array.copy()} for _ in range(2)]
            for p, step in zip(moved, (1e-6, -1e-6), strict=True):
                p[path][index] += step
            assert (loss(moved[0]) - loss(moved[1])) / 2e-6 == pytest.approx(grads[path][index], abs=1e-8)
