"""What the two monitors see of the same step is the same, and what the definitions say."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import gradlab_jax
import gradlab_torch
from gradlab_core.definitions import answers as definition
from gradlab_jax.measure import answers as jax_answers
from gradlab_torch.measure import answers as torch_answers
from parity_tests.monitored import assert_same

RNG = np.random.default_rng(0)
X, LABELS, TARGETS = RNG.standard_normal((24, 6)), RNG.integers(0, 4, 24), RNG.standard_normal((24, 4)) * 30 + 5
W1, B1, W2 = RNG.standard_normal((16, 6)) / 2, RNG.standard_normal(16), RNG.standard_normal((4, 16)) / 4

LOSSES = {
    "cross-entropy": (
        lambda z: torch.nn.functional.cross_entropy(z, torch.as_tensor(LABELS)),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(LABELS)).mean(),
    ),
    "summed": (
        lambda z: torch.nn.functional.cross_entropy(z, torch.as_tensor(LABELS), reduction="sum"),
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(LABELS)).sum(),
    ),
    "squared": (
        lambda z: torch.nn.functional.mse_loss(z, torch.as_tensor(TARGETS)),
        lambda z: jnp.mean((z - TARGETS) ** 2),
    ),
    "half squared": (
        lambda z: torch.nn.functional.mse_loss(z, torch.as_tensor(TARGETS)) / 2,
        lambda z: optax.l2_loss(z, jnp.asarray(TARGETS)).mean(),
    ),
    "binary": (
        lambda z: torch.nn.functional.binary_cross_entropy_with_logits(z, torch.as_tensor(TARGETS > 0).double()),
        lambda z: optax.sigmoid_binary_cross_entropy(z, jnp.asarray(TARGETS > 0, float)).mean(),
    ),
    "unknown": (lambda z: (z - torch.as_tensor(TARGETS)).abs().mean(), lambda z: jnp.abs(z - TARGETS).mean()),
}


def torch_probe(loss):
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4, bias=False)).double()
    for p, value in zip(net.parameters(), (W1, B1, W2), strict=True):
        p.data.copy_(torch.as_tensor(value))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with gradlab_torch.Monitor(net, optimizer) as monitor:
        value = loss(net(torch.as_tensor(X)))
        value.backward()
        monitor.observe(value)
        optimizer.step()
    return monitor.last.probe


def tree(loss):
    params = {"0": {"weight": jnp.asarray(W1), "bias": jnp.asarray(B1)}, "2": {"weight": jnp.asarray(W2)}}

    def loss_of(p, x):
        return loss(jnp.tanh(x @ p["0"]["weight"].T + p["0"]["bias"]) @ p["2"]["weight"].T)

    return params, loss_of


def module(loss):
    net = nnx.Sequential(
        nnx.Linear(6, 16, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(16, 4, use_bias=False, rngs=nnx.Rngs(0))
    )
    net.layers[0].kernel.set_value(jnp.asarray(W1.T))
    net.layers[0].bias.set_value(jnp.asarray(B1))
    net.layers[2].kernel.set_value(jnp.asarray(W2.T))
    return net, lambda net, x: loss(net(x))


PATHS = ("0.weight", "0.bias", "2.weight")


def jitted(loss):
    return nnx.jit(lambda *args: gradlab_jax.observed(loss)(*args)[1])


@pytest.mark.parametrize(("name", "kind"), [*((name, tree) for name in LOSSES), ("cross-entropy", module)])
def test_both_see_the_same(name, kind):
    mine = torch_probe(LOSSES[name][0])
    with jax.enable_x64(True):
        params, loss = kind(LOSSES[name][1])
        theirs = jitted(loss)(params, jnp.asarray(X)).probe(PATHS)
    # A function leaves no module behind in JAX: who called it is not known.
    theirs = dataclasses.replace(theirs, layers=tuple(dataclasses.replace(row, path="1") for row in theirs.layers))
    for mine_row, row in zip(mine.layers, theirs.layers, strict=True):
        assert_same(mine_row, row)
    assert_same(dataclasses.replace(mine, layers=()), dataclasses.replace(theirs, layers=()))
    known = {"summed": ("cross-entropy", "sum"), "unknown": None, "binary": ("binary-cross-entropy", "mean")}
    known |= {"squared": ("squared-error", "mean"), "half squared": ("squared-error", "mean")}
    expected = known.get(name, ("cross-entropy", "mean"))
    assert (mine.answers and (mine.answers.loss, mine.answers.reduction)) == expected
    if "squared" in name:
        assert (mine.target.mean, mine.target.max) == pytest.approx((TARGETS.mean(), TARGETS.max()))
    # Planted: another input is another probe.
    with jax.enable_x64(True), pytest.raises(AssertionError):
        assert_same(mine, jitted(loss)(params, jnp.asarray(X * 1.001)).probe(PATHS))


FIGURES = jax.jit(jax_answers.figures)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1, 2), (7, 5)]),  # each is compiled
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    loss=st.sampled_from(["softmax", "sigmoid", "none"]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_speaks_for_a_loss_is_the_definition(shape, scale, loss, masked, seed):
    rng, (rows, columns) = np.random.default_rng(seed), shape
    z = rng.standard_normal((rows, columns)) * scale
    if loss == "softmax":
        p = np.exp(z - z.max(1, keepdims=True))
        g = p / p.sum(1, keepdims=True) - np.eye(columns)[rng.integers(0, columns, rows)]
    elif loss == "sigmoid":
        g = 1 / (1 + np.exp(-z)) - (rng.random(z.shape) < 0.5)
    else:
        g = rng.standard_normal(z.shape)
    g = g / rows
    if masked and rows > 1:
        g[0] = 0
    expected = {"softmax": definition.softmax_figures(z, g), "sigmoid": definition.sigmoid_figures(z, g)}
    numbers = torch_answers.figures(torch.as_tensor(z), torch.as_tensor(g)).parts
    mine = {name: dict(zip(*map(list, numbers[f"answers {name}"]), strict=True)) for name in expected}
    with jax.enable_x64(True):
        theirs = FIGURES(jnp.asarray(z), jnp.asarray(g)).numbers
    for name, part in expected.items():
        for key, value in part.items():
            near = pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True)
            assert float(mine[name][key]) == near, (name, key)
            assert float(theirs[name][key]) == near, (name, key)
    if loss != "none":
        assert expected[loss]["unexplained"] < 1e-9
