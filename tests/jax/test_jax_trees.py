"""Pytrees as JAX programs carry them: with random keys, and with a loss that no optimizer was told."""

from __future__ import annotations

import flax.linen as linen
import jax
import jax.numpy as jnp
import optax
import pytest
from flax.training.train_state import TrainState

import gradlab_jax as gl
from gradlab_core.errors import GradlabError


def test_random_keys_are_left_out():
    tree = {"w": jnp.array([3.0, 4.0]), "rng": jax.random.key(0)}
    assert float(jax.jit(gl.global_norm)(tree)) == 5.0
    assert list(gl.leaf_norms(tree)) == ["w"]
    assert list(gl.nonfinite_counts(tree)) == ["w"]
    clipped, norm = gl.clip_by_global_norm(tree, 1.0)
    assert float(norm) == 5.0
    assert clipped["rng"] is tree["rng"]


def test_the_loss_of_a_train_state_is_told_when_it_is_read():
    model = linen.Dense(2)
    x = jnp.ones((4, 3))
    state = TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(0), x), tx=gl.monitor(optax.sgd(0.1))
    )

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(lambda p: (state.apply_fn(p, x) ** 2).mean())(state.params)
        return state.apply_gradients(grads=grads), loss

    state, loss = step(state)
    assert gl.read_record(state).loss is None
    record = gl.read_record(state, loss=loss)
    assert record.loss == pytest.approx(float(loss))
    assert record.step == 0
    assert gl.read_record(state, loss=float("inf")).loss == float("inf")
    with pytest.raises(GradlabError, match="shape \\(2,\\); expected one number"):
        gl.read_record(state, loss=jnp.ones(2))
