"""Disconnected is not zero: the two are told apart in both twins, through every kind of program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0])


class TorchNet(torch.nn.Module):
    def __init__(self, use):
        super().__init__()
        self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.use = use

    def forward(self, x):
        return self.use(self.a, self.b, x)


class NnxNet(nnx.Module):
    def __init__(self, use):
        rngs = nnx.Rngs(0)
        self.a, self.b = nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs)
        self.use = use

    def __call__(self, x):
        return self.use(self.a, self.b, x)


@jax.custom_vjp
def swallow(x):
    return x


swallow.defvjp(lambda x: (x, None), lambda _, g: (jnp.zeros_like(g),))


class Swallow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return torch.zeros_like(slope)


# What becomes of layer b: (PyTorch, JAX, its state).
CASES = {
    "used": (lambda a, b, x: a(x) + b(x), lambda a, b, x: a(x) + b(x), "ok"),
    "unused": (lambda a, b, x: a(x), lambda a, b, x: a(x), "disconnected"),
    "stopped": (
        lambda a, b, x: a(x) + b(x).detach(),
        lambda a, b, x: a(x) + jax.lax.stop_gradient(b(x)),
        "disconnected",
    ),
    "computed and dropped": (lambda a, b, x: (b(x), a(x))[1], lambda a, b, x: (b(x), a(x))[1], "disconnected"),
    "integer cast": (
        lambda a, b, x: a(x) + b(x).int().float(),
        lambda a, b, x: a(x) + b(x).astype(jnp.int32).astype(jnp.float32),
        "disconnected",
    ),
    "argmax": (
        lambda a, b, x: a(x) + b(x).argmax(1, keepdim=True).float(),
        lambda a, b, x: a(x) + b(x).argmax(1, keepdims=True).astype(jnp.float32),
        "disconnected",
    ),
    "times zero": (lambda a, b, x: a(x) + 0.0 * b(x), lambda a, b, x: a(x) + 0.0 * b(x), "zero"),
    "times a zero array": (
        lambda a, b, x: a(x) + torch.zeros(4, 3) * b(x),
        lambda a, b, x: a(x) + jnp.zeros((4, 3)) * b(x),
        "zero",
    ),
    "untaken where": (
        lambda a, b, x: torch.where(x.sum() < 1e9, a(x), b(x)),
        lambda a, b, x: jnp.where(x.sum() < 1e9, a(x), b(x)),
        "zero",
    ),
    "dead relu": (
        lambda a, b, x: a(x) + torch.relu(b(x) - 1e6),
        lambda a, b, x: a(x) + nnx.relu(b(x) - 1e6),
        "zero",
    ),
    "tiny": (lambda a, b, x: a(x) + 1e-12 * b(x), lambda a, b, x: a(x) + 1e-12 * b(x), "tiny"),
    "not finite": (lambda a, b, x: a(x) + b(x) * torch.inf, lambda a, b, x: a(x) + b(x) * jnp.inf, "nonfinite"),
    "inside jit": (
        lambda a, b, x: a(x) + b(x).detach(),
        lambda a, b, x: jax.jit(lambda u, v: u + jax.lax.stop_gradient(v))(a(x), b(x)),
        "disconnected",
    ),
    "inside remat": (
        lambda a, b, x: a(x) + b(x).detach(),
        lambda a, b, x: jax.checkpoint(lambda u, v: jnp.sin(u) + jax.lax.stop_gradient(v))(a(x), b(x)),
        "disconnected",
    ),
    "inside scan": (
        lambda a, b, x: a(x) + b(x).detach(),
        lambda a, b, x: jax.lax.scan(
            lambda c, _: (jnp.sin(c) + jax.lax.stop_gradient(b(x)), None), a(x), None, length=3
        )[0],
        "disconnected",
    ),
    "used inside scan": (
        lambda a, b, x: a(x) + b(x),
        lambda a, b, x: jax.lax.scan(lambda c, _: (jnp.sin(c) + b(x), None), a(x), None, length=3)[0],
        "ok",
    ),
    "carried idly through scan": (
        lambda a, b, x: a(x),
        lambda a, b, x: jax.lax.scan(lambda c, _: ((jnp.sin(c[0]), c[1]), None), (a(x), b(x)), None, length=3)[0][0],
        "disconnected",
    ),
    "in no branch of cond": (
        lambda a, b, x: a(x),
        lambda a, b, x: jax.lax.cond(x.sum() > 0, lambda u, v: u, lambda u, v: 2 * u, a(x), b(x)),
        "disconnected",
    ),
    "in one branch of cond": (
        lambda a, b, x: a(x) + b(x),
        lambda a, b, x: jax.lax.cond(x.sum() < 1e9, lambda u, v: u + v, lambda u, v: u, a(x), b(x)),
        "ok",
    ),
    # What a rule of the user's returns are numbers, also when they are zeros.
    "custom rule that returns zeros": (
        lambda a, b, x: a(x) + Swallow.apply(b(x)),
        lambda a, b, x: a(x) + swallow(b(x)),
        "zero",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_states(case):
    torch_use, jax_use, expected = CASES[case]
    torch_states = gradlab_torch.check_gradients(TorchNet(torch_use), torch.from_numpy(X), Y)
    jax_states = gradlab_jax.check_gradients(NnxNet(jax_use), jnp.asarray(X), Y)
    assert torch_states["b.weight"] == expected
    assert jax_states["b.weight"] == expected
    if expected != "nonfinite":
        assert torch_states["a.weight"] == jax_states["a.weight"] == "ok"


def test_a_disconnected_layer_is_neither_zero_nor_skipped():
    use = CASES["unused"]
    flows = (
        gradlab_torch.gradient_flow(TorchNet(use[0]), torch.from_numpy(X), Y),
        gradlab_jax.gradient_flow(NnxNet(use[1]), jnp.asarray(X), Y),
    )
    for flow in flows:
        assert flow.disconnected == ("b.weight", "b.bias")
        assert flow.layers["b.weight"] is None
        assert list(flow.layers) == ["a.weight", "a.bias", "b.weight", "b.bias"]


def test_frozen_is_not_disconnected():
    net = TorchNet(CASES["used"][0])
    net.b.weight.requires_grad_(False)
    states = gradlab_torch.check_gradients(net, torch.from_numpy(X), Y)
    assert (states["b.weight"], states["b.bias"]) == ("frozen", "ok")


def test_gradients_of_the_model_stay_untouched():
    net = TorchNet(CASES["used"][0])
    net.a.weight.grad = torch.full((3, 3), 7.0)
    gradlab_torch.gradient_flow(net, torch.from_numpy(X), Y)
    assert (net.a.weight.grad == 7.0).all()
    assert net.b.weight.grad is None
