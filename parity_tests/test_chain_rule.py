"""The factors of the chain rule: the same in both twins, as by hand, and a product that is the whole."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch
from parity_tests.alike import LOGIC, TWINS, close
from parity_tests.conftest import SPECS, batch_for, pair


def chains(models, x, y, **keywords):
    """Of both twins in float64."""
    with jax.enable_x64(True):
        return [
            twin.chain_rule(twin.astype(model, "float64"), twin.to_native(x.astype(np.float64)), labels, **keywords)
            for twin, model, labels in zip(TWINS.values(), models, (torch.from_numpy(y), jnp.asarray(y)), strict=True)
        ]


@pytest.mark.parametrize("name", ["residual_toy", "transformer", "mlp", "lstm"])
def test_both_twins_agree_and_the_factors_make_the_whole(name):
    spec = SPECS[name]
    ours, theirs = chains(pair(spec), *batch_for(spec))
    for row, other in zip(ours.layers, theirs.layers, strict=True):  # what is no known layer is called as its class
        close(dataclasses.replace(row, kind=""), dataclasses.replace(other, kind=""))
    close(dataclasses.replace(ours, layers=()), dataclasses.replace(theirs, layers=()))
    assert ours.log_whole == pytest.approx(
        math.fsum(row.log_factor + row.log_after for row in ours.layers), rel=LOGIC, abs=LOGIC
    )
    apart = [row.layer for row in ours.layers if abs(row.log_after) > 1e-6]
    if name in ("mlp", "lstm"):
        assert apart == []
        assert ours.log_product == pytest.approx(ours.log_whole, abs=LOGIC)
    else:
        assert apart
        assert ours.log_product != pytest.approx(ours.log_whole, abs=1e-3)


def test_the_factor_of_a_residual_is_told_apart_from_those_of_its_layers():
    """y = x + W x: what comes to x is the sum of both paths, of which W's own is one."""
    spec = SPECS["residual_toy"]
    (ours, _) = chains(pair(spec), *batch_for(spec))
    assert [row.layer for row in ours.layers if abs(row.log_after) > 1e-6] == ["relu"]


def test_two_dense_layers_by_hand():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 2)).double()
    weight, upper = (np.asarray(net[i].weight.detach()) for i in (0, 1))
    x, y = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 1, 0, 1])
    logits = x @ weight.T @ upper.T + np.asarray(net[1].bias.detach())
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    at_logits = (shares - np.eye(2)[y]) / 4
    sizes = [np.linalg.norm(g) for g in (at_logits @ upper @ weight, at_logits @ upper, at_logits)]
    chain = gradlab_torch.chain_rule(net, torch.from_numpy(x), torch.from_numpy(y))
    assert [math.exp(row.log_factor) for row in chain.layers] == pytest.approx(
        [sizes[0] / sizes[1], sizes[1] / sizes[2]]
    )
    assert math.exp(chain.log_whole) == pytest.approx(sizes[0] / sizes[2])
    assert chain.start == "0"


class TorchCut(torch.nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.words, self.a, self.b, self.cut = (
            torch.nn.Embedding(5, 3),
            torch.nn.Linear(3, 3),
            torch.nn.Linear(3, 2),
            cut,
        )

    def forward(self, x):
        h = self.a(self.words(x).mean(1))
        return self.b(h.detach() if self.cut else h)


class NnxCut(nnx.Module):
    def __init__(self, cut):
        rngs = nnx.Rngs(0)
        self.words, self.a, self.b = (
            nnx.Embed(5, 3, rngs=rngs),
            nnx.Linear(3, 3, rngs=rngs),
            nnx.Linear(3, 2, rngs=rngs),
        )
        self.cut = cut

    def __call__(self, x):
        h = self.a(self.words(x).mean(1))
        return self.b(jax.lax.stop_gradient(h) if self.cut else h)


@pytest.mark.parametrize("cut", [False, True])
def test_tokens_have_no_gradient_and_a_cut_lets_none_through(cut):
    models, (x, y) = (TorchCut(cut), NnxCut(cut)), (np.array([[0, 1], [2, 3]]), np.array([0, 1]))
    gradlab_torch.from_canonical(models[0], gradlab_jax.to_canonical(models[1]))
    ours = gradlab_torch.chain_rule(models[0], torch.from_numpy(x), torch.from_numpy(y))
    theirs = gradlab_jax.chain_rule(models[1], jnp.asarray(x), jnp.asarray(y))
    for chain in (ours, theirs):
        words, a, b = chain.layers
        assert words.log_factor is None
        assert (a.log_factor is None) == cut
        assert [row.reached for row in chain.layers] == [not cut, not cut, True]
        assert chain.start == ("b" if cut else "a")
        assert b.log_factor is not None


def test_a_function_with_a_derivative_of_its_own_is_a_layer_and_a_bare_function_has_layers():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x / 2

        @staticmethod
        def backward(ctx, slope):
            return slope / 2

    @jax.custom_vjp
    def half(x):
        return x / 2

    half.defvjp(lambda x: (x / 2, None), lambda _, slope: (slope / 2,))
    x, y = np.ones((2, 3), np.float32), np.array([0, 1])

    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(torch.nn.Tanh()), torch.nn.Linear(3, 2))
    net[1][0].forward = Half.apply
    rows = gradlab_torch.chain_rule(net, torch.from_numpy(x), torch.from_numpy(y)).layers
    assert [row.layer for row in rows] == ["0", "1.0", "2"]  # under another name it is a part of its module
    params = {"a": {"weight": jnp.arange(9.0).reshape(3, 3)}, "b": {"weight": jnp.eye(3)[:, :2], "bias": jnp.ones(2)}}
    function = gradlab_jax.Function(lambda p, x: half(x @ p["a"]["weight"]) @ p["b"]["weight"] + p["b"]["bias"], params)
    rows = gradlab_jax.chain_rule(function, x, y).layers
    assert [row.layer for row in rows] == ["a", "half", "b"]
    assert rows[1].log_factor == pytest.approx(math.log(0.5))
    assert [row.log_after for row in rows] == pytest.approx([0, 0, 0], abs=1e-6)
