"""The default loss."""

from __future__ import annotations

import jax
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy of logits (N, classes) against integer labels (N,).

    >>> round(float(cross_entropy(jax.numpy.zeros((4, 2)), jax.numpy.array([0, 1, 0, 1]))), 4)  # ln 2
    0.6931
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
