"""A model that is cut is left as it was, of whatever library it is, and bad input is refused."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gradlab_jax as gl
from gradlab_core.errors import GradlabError

X, Y = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32), jnp.array([0, 1, 0, 1])


@jax.custom_vjp
def twice(x):
    return 2 * x


twice.defvjp(lambda x: (2 * x, None), lambda _, slope: (slope,))


class Mine(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.a, self.norm, self.b = (
            nnx.Linear(3, 3, rngs=rngs),
            nnx.BatchNorm(3, rngs=rngs),
            nnx.Linear(3, 2, rngs=rngs),
        )

    def __call__(self, x):
        return self.b(jax.jit(twice)(jax.nn.gelu(self.norm(self.a(x)), approximate=False)))


def test_the_model_stays_as_it_was_and_what_is_compiled_inside_is_cut():
    model = Mine()
    before, call = jax.tree.map(np.asarray, nnx.state(model)), nnx.Linear.__call__
    assert gl.check_derivatives(model, X, Y).wrong == ("twice",)
    layers = [row.layer for row in gl.chain_rule(model, X, Y).layers]
    assert layers == ["a", "norm", "gelu", "twice", "b"]
    assert jax.tree.all(jax.tree.map(np.array_equal, before, nnx.state(model)))
    assert nnx.Linear.__call__ is call


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2, dtype=jnp.float32)(twice(nn.tanh(nn.Dense(3)(x))))


def test_of_linen_and_of_functions():
    module = Linen()
    bound = module.bind(module.init(jax.random.key(0), X))
    check = gl.check_derivatives(bound, X, Y)
    assert check.wrong == ("twice",)
    assert set(check.layers("float32")) == {"loss", "Dense_0"}  # the type that it is told to compute in
    params = {
        "a": {"weight": jnp.arange(9.0).reshape(3, 3) / 9},
        "b": {"weight": jnp.ones((3, 2)), "bias": jnp.ones(2)},
    }
    function = gl.Function(lambda p, x: twice(x @ p["a"]["weight"]) @ p["b"]["weight"] + p["b"]["bias"], params)
    check = gl.check_derivatives(function, X, Y)
    assert check.wrong == ("twice",)
    assert set(check.parameters) == {"a.weight", "b.weight", "b.bias"}


@pytest.mark.parametrize("measure", [gl.check_derivatives, gl.chain_rule])
def test_bad_input_is_refused(measure):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    for arguments, words in (
        ((model, [1.0], Y), "to_native"),
        ((model, X * float("nan"), Y), "NaN"),
        ((model, X, Y + 5), "label"),
        ((lambda x: x, X, Y), "expected an nnx.Module"),
    ):
        with pytest.raises(GradlabError, match=words):
            measure(*arguments)
    with pytest.raises(GradlabError, match="one number"):
        measure(model, X, Y, loss=lambda out, y: out)
    with pytest.raises(GradlabError, match="mode is"):
        measure(model, X, Y, mode="test")
