"""Losses, right ones and three that are wrong in the way users get them wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from gradlab_core.errors import GradlabError


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy of logits (N, classes) against integer labels (N,).

    >>> round(float(cross_entropy(jnp.zeros((4, 2)), jnp.array([0, 1, 0, 1]))), 4)  # ln 2
    0.6931
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def summed_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`cross_entropy` summed over the batch, not averaged: N times as large, and its gradient with it.

    >>> round(float(summed_cross_entropy(jnp.zeros((4, 2)), jnp.array([0, 1, 0, 1]))), 4)  # 4 ln 2
    2.7726
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def naive_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`cross_entropy` as the formula is written, −mean log(exp(z)/Σexp(z)): where exp overflows or underflows, its
    value or its gradient is NaN or Inf. `cross_entropy` takes the largest logit out first.

    >>> round(float(naive_cross_entropy(jnp.zeros((4, 2)), jnp.array([0, 1, 0, 1]))), 4)
    0.6931
    >>> float(naive_cross_entropy(jnp.array([[200.0, 0.0]]), jnp.array([0])))
    nan
    """
    powers = jnp.exp(logits)
    chances = powers / powers.sum(axis=-1, keepdims=True)
    return -jnp.log(jnp.take_along_axis(chances, labels[:, None], axis=-1)).mean()


def batch_softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """−log of the mean of a softmax that runs over the batch, not over the classes: ln N, whatever the logits are.

    >>> round(float(batch_softmax(jnp.arange(8.0).reshape(4, 2), jnp.array([0, 1, 0, 1]))), 4)  # ln 4
    1.3863
    """
    return -jnp.log(jax.nn.softmax(logits, axis=0).mean())


def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of the squared differences between outputs and targets, both (N, outputs).

    Raises:
        GradlabError: the shapes differ, which would broadcast: (N, 1) against (N,) compares every pair.

    >>> float(mse(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    1.0
    """
    if outputs.shape != targets.shape:
        raise GradlabError(
            f"mse got outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}; expected one shape"
        )
    return jnp.mean(jnp.square(outputs - targets))


BY_NAME = {
    "cross_entropy": cross_entropy,
    "summed_cross_entropy": summed_cross_entropy,
    "naive_cross_entropy": naive_cross_entropy,
    "batch_softmax": batch_softmax,
    "mse": mse,
}
"""The losses of a `ProgramSpec`."""
