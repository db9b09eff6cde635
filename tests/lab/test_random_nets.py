"""The float64 definitions on random nets, against theory: signals, Jacobians, repair, and the doctor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.lab import gaussian, jacobian
from gradlab_core.lab.doctor import judge_start
from gradlab_core.lab.meanfield import mean_field
from gradlab_core.lab.prediction import Link, predict_chain
from gradlab_core.lab.propagation import LayerSignal, Signal, SignalPropagation, is_random, same_values, signal
from gradlab_core.lab.random_mlp import RandomMlp, layer_variances
from gradlab_core.lab.repair import layer_step, repair_factor
from gradlab_core.lab.simulation import propagate
from gradlab_core.lab.theory_comparison import compare_with_theory, predict, predict_constant
from gradlab_core.records import codec

INITS = {"xavier_uniform": None, "kaiming_normal": None, "lecun_normal": None, "normal": 0.01}
NETS = range(32)


@pytest.mark.parametrize(
    ("activation", "init"),
    [("tanh", init) for init in INITS] + [("relu", "xavier_uniform"), ("relu", "kaiming_normal")],
)
def test_fifty_layers_against_theory(activation, init):
    """The mean over 32 nets of ln of a second moment: within 4 standard errors of theory's centre at each of 50
    layers, forward and back. The fault: weights 3 % larger than theory was told."""
    net = RandomMlp(widths=(100,) * 51, activation=activation, init=init, init_number=INITS[init])
    measured = propagate(net, seeds=NETS)
    rows = [r for r in compare_with_theory(net, seeds=NETS, measured=measured) if r.expected.spread]
    assert len(rows) == 50 + 49 + 49
    away = [abs(row.mean - row.expected.centre) / row.standard_error for row in rows]
    assert max(away) < 4
    ratios = [row.deviation / row.expected.spread for row in rows]
    assert 0.65 < min(ratios) < max(ratios) < 1.5
    if init != "xavier_uniform":
        return
    other = RandomMlp(widths=net.widths, activation=activation, init=init, init_number=1.03)
    wrong = [r for r in compare_with_theory(other, seeds=NETS, measured=measured) if r.expected.spread]
    assert max(abs(row.mean - row.expected.centre) / row.standard_error for row in wrong) > 6
    # And the limit of infinite width alone is farther off.
    assert max(abs(row.mean - row.expected.limit) / row.standard_error for row in rows) > 1.5 * max(away)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
def test_constant_weights_are_known_exactly(activation):
    net = RandomMlp(widths=(100, 80, *(60,) * 48, 20), activation=activation, init="constant", init_number=0.013)
    found, exact = propagate(net, seeds=range(6)), predict_constant(net, range(6))
    for name in ("preactivations", "activations", "gradients"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-9, atol=1e-9, err_msg=name)
    rows = compare_with_theory(net, seeds=range(6))
    assert rows[60].expected.spread == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("activation", "sigma_w"), [("relu", 1e-3), ("relu", 1e3), ("tanh", 1e-3), ("tanh", 1e3)])
def test_a_thousand_layers_overflow_nothing(activation, sigma_w):
    net = RandomMlp(widths=(40,) * 1001, activation=activation, sigma_w=sigma_w, sigma_b=0.0)
    found = propagate(net)
    for values in (found.preactivations, found.activations, found.gradients):
        assert not np.isnan(values).any()
        assert not np.isposinf(values).any()
    expected = [e for _, _, e in predict(net)]
    assert all(math.isfinite(number) for e in expected for number in (e.limit, e.centre, e.spread))
    last = expected[999]
    assert abs(found.preactivations[0, -1] - last.centre) < 4 * last.spread
    if activation == "relu":
        assert last.limit == pytest.approx(math.log(sigma_w**2) + 999 * math.log(sigma_w**2 / 2))
    else:
        assert np.isfinite(found.gradients).all()


def test_dead_and_biased_nets_say_what_they_are():
    dead = RandomMlp(widths=(3, 3, 3, 3), activation="relu", init="constant", init_number=-1.0)
    logs = [propagate(dead, seeds=[seed]).preactivations[0] for seed in range(6)]
    assert any(np.isneginf(row[1:]).all() for row in logs)  # exactly 0 where ReLU saw negatives only
    assert not np.isnan(logs).any()
    biased = propagate(RandomMlp(widths=(50,) * 101, activation="tanh", sigma_w=1e-3, sigma_b=2.0), seeds=range(20))
    assert abs(biased.preactivations[:, -1].mean() - math.log(4)) < 0.2


def test_gradients_meet_the_weights_of_the_forward_pass():
    """In a net as deep as wide: with weights taken to be independent on the way back, 5.8 standard errors off."""
    net = RandomMlp(widths=(50,) * 51, activation="tanh", init="lecun_normal")
    rows = [row for row in compare_with_theory(net, seeds=range(200)) if row.quantity == "gradient"][:-1]
    assert max(abs(row.mean - row.expected.centre) / row.standard_error for row in rows) < 3.5


def test_relu_knows_no_scale():
    """LeCun's and N(0, 0.01²) are Kaiming's numbers times a factor, and under ReLU so are all their signals."""
    nets = [RandomMlp(widths=(60,) * 51, activation="relu", init=init) for init in ("kaiming_normal", *list(INITS)[2:])]
    found = [propagate(net, seeds=range(3)).preactivations - [e.limit for _, _, e in predict(net)[:50]] for net in nets]
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)  # the weights are float32
    np.testing.assert_allclose(found[2], found[0], atol=1e-4)


def test_uneven_widths_and_initialisers():
    net = RandomMlp(widths=(50, 200), init="orthogonal", init_number=2.0)
    assert layer_variances(net, 50, 200) == (1.0, 0.0)
    assert layer_variances(RandomMlp(widths=(50, 200), init="torch_default"), 50, 200) == (1 / 3, 1 / 150)
    wide = RandomMlp(widths=(100, 300, 50, 200, 40), activation="gelu", sigma_w=1.3, sigma_b=0.4)
    for row in compare_with_theory(wide, seeds=range(100)):
        if row.expected.spread:
            assert abs(row.mean - row.expected.centre) < 4.5 * row.standard_error, (row.quantity, row.layer)


def test_chains_average_over_places():
    """A layer that sees two places, one of them empty: the activation is met at each place's own variance."""
    box = np.array([[0.5, 0.5], [0.0, 1.0]])
    layer = Link("conv", 1_000_000, lambda q: 2 * q @ box.T, lambda g: 2 * g @ box)
    forward, backward = predict_chain([layer, Link("tanh"), layer], np.array([[4.0, 0.0]]), 0.0)
    at = gaussian.moments("tanh", np.log([4.0, 1e-300]))
    assert forward[0].limit == pytest.approx(math.log(2.0))
    assert forward[1].limit == pytest.approx(math.log(math.exp(at.log_value[0]) / 2))
    assert math.exp(backward[1].limit) == pytest.approx(2 * (0.5 + 1.5) / 2)
    assert math.exp(backward[0].limit) == pytest.approx((1.0 * math.exp(at.log_slope[0]) + 3.0) / 2)


def test_signals():
    for scale in (1e-300, 1.0, 1e300):
        found = signal(np.array([1.0, -1.0, 3.0, 1.0]) * scale)
        assert found.mean == pytest.approx(scale)
        assert found.log_second_moment == pytest.approx(math.log(3) + 2 * math.log(scale))
        assert found.log_variance == pytest.approx(math.log(2) + 2 * math.log(scale))
    assert signal([0.0, 0.0]).log_second_moment == -math.inf
    assert signal([1.0, math.inf]).log_second_moment == math.inf
    assert math.isnan(signal([1.0, math.nan, math.inf]).log_second_moment)
    assert signal([1.0, math.nan, math.inf]).nonfinite == 2
    assert not is_random(np.full(9, 0.1))
    assert not is_random(1 + np.random.default_rng(0).standard_normal((50, 50)))
    assert same_values([math.nan, 1.0], [math.nan, 1.0])
    assert not same_values([1.0, 1.0], [1.0, 1.01])
    layer = LayerSignal(
        path="a", kind="linear", call=0, shape=(2,), output=found, gradient=None, expected=None, expected_gradient=None
    )
    record = SignalPropagation(mode="train", input=signal([0.0]), layers=(layer,))
    assert codec.decode(SignalPropagation, codec.encode(record)) == record  # −inf and None survive


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (9, 9)])
def test_singular_values_from_products(shape):
    rng = np.random.default_rng(0)
    for values in (np.geomspace(5, 1e-8, min(shape)), np.ones(min(shape)), [3.0, 3.0, *[0.0] * (min(shape) - 2)]):
        left, right = (np.linalg.qr(rng.standard_normal((n, min(shape))))[0] for n in shape)
        matrix = left * values @ right.T
        found = jacobian.spectrum(matrix.__matmul__, matrix.T.__matmul__, shape, k=4, method="lanczos")
        exact = jacobian.spectrum(matrix.__matmul__, matrix.T.__matmul__, shape)
        assert found.converged
        np.testing.assert_allclose(exact.values, np.sort(values)[::-1], atol=1e-12)
        # From one start a value that comes twice is met once: all of one value are one direction to Lanczos.
        assert set(np.round(found.values, 6)) <= {*np.round(exact.values, 6), 0.0}
        assert found.values[0] == pytest.approx(exact.values[0], rel=1e-9)
        assert abs(found.mean_squared - exact.mean_squared) <= 4 * found.mean_squared_error + 1e-12
        assert exact.near_one == np.mean((np.array(values) >= 0.5) & (np.array(values) <= 2))
    bad = jacobian.spectrum(lambda v: v * math.nan, lambda u: u * math.nan, (3, 3), method="lanczos", k=2)
    assert all(map(math.isnan, (*bad.values, bad.mean_squared)))
    assert not bad.converged
    with pytest.raises(GradlabError, match="use method='lanczos'"):
        jacobian.spectrum(np.array, np.array, (100_000, 100_000))


def test_repair_factors():
    rng = np.random.default_rng(0)
    for scale in (1e-200, 1e-3, 1.0, 1e200):
        part, bias = scale * rng.standard_normal((20, 6)), 0.3 * rng.standard_normal(6)
        factor = repair_factor(part, bias, 2.0)
        assert np.var(part * factor + bias) == pytest.approx(2.0, rel=1e-12)
    for part, bias in (
        (np.zeros(4), 0.0),
        (np.full(4, 7.0), 0.0),
        ([1.0, math.nan], 0.0),
        ([1.0, -1.0, 1.0, -1.0], [9.0, 9.0, -9.0, -9.0]),
    ):
        assert repair_factor(part, bias, 1.0) is None
    still = layer_step("a", 0.0, 1.0, 0.1, 0.001)
    assert (still.plain, still.lars) == (math.inf, 0.0)
    assert layer_step("a", 1.0, None, 0.1, 0.001).lars is None


def test_what_the_doctor_says():
    def at(variance, nonfinite=0):
        log = math.log(variance or 1e-999)
        return Signal(mean=0.0, log_second_moment=log, log_variance=log, nonfinite=nonfinite)

    def say(variance, weight, calls=(("a", "linear", 0),), nonfinite=0, inputs=1.0):
        signals = (
            [at(variance, nonfinite)] * len(calls)
            if variance
            else [Signal(mean=0.0, log_second_moment=-math.inf, log_variance=-math.inf, nonfinite=0)]
        )
        return judge_start(calls, signals, at(inputs), {"a.weight": weight}, target=1.0)[0]

    drawn = np.random.default_rng(0).standard_normal((50, 50)) / math.sqrt(50)
    assert say(1.1, drawn).level == "good"
    assert "its gain is 2.99 and not the 1 that keeps" in say(9.0, 3 * drawn).advice
    assert "multiply its weights by 0.334" in say(9.0, 3 * drawn).advice
    assert "for what comes before it" in say(100.0, drawn, inputs=100.0).advice
    pooled = say(0.01, drawn, inputs=1.0).advice  # a gain of 1 takes no hundredth of a signal
    assert "what it reads is not the output that ran last" in pooled
    assert "multiply its weights by 10" in pooled
    assert "copies of one another" in say(1.0, np.full((4, 4), 0.5)).advice
    assert "does not vary" in say(0.0, drawn).advice
    assert "2 elements" in say(1.0, drawn, nonfinite=2).advice
    normalised = say(1e-2, drawn, calls=(("a", "linear", 0), ("n", "norm", 0)))
    assert (normalised.level, normalised.normalised) == ("good", True)
    tanh = judge_start(
        [("t", "tanh", 0), ("a", "linear", 0)], [at(0.4), at(0.4)], at(1.0), {"a.weight": drawn}, target=1.0
    )
    assert (tanh[0].wanted_gain, tanh[0].critical_gain) == pytest.approx((1.59254, 1.46741), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomMlp(widths=(0, 2), activation="relu7", sigma_w=-1.0), "3 problems"),
        (lambda: RandomMlp(widths=(3,), sigma_w=1.0), "one layer at least"),
        (lambda: RandomMlp(widths=(3, 3)), "neither init nor sigma_w"),
        (lambda: RandomMlp(widths=(3, 3), init="constant"), "constant needs one"),
        (lambda: propagate(RandomMlp(widths=(3, 3), sigma_w=1.0), seeds=[-1]), "seed is -1"),
        (lambda: propagate(RandomMlp(widths=(3, 3), sigma_w=1.0), seeds=[]), "no seed"),
        (lambda: compare_with_theory(RandomMlp(widths=(3, 3), sigma_w=1.0), seeds=[0]), "at least 2"),
        (lambda: mean_field("tanh", sigma_w=math.nan, sigma_b=-1.0), "2 problems"),
        (lambda: mean_field("tanh", sigma_w=1.0, start=0.0), "start is 0.0"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(GradlabError, match=message):
        call()
