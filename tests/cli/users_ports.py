"""A user's module, for tests of `gradlab parity`: subjects and batches, good and bad."""

from __future__ import annotations

import flax.nnx as nnx
import jax.numpy as jnp
import numpy as np
import torch

import gradlab_jax
import gradlab_torch

RNG = np.random.default_rng(0)
BATCH = RNG.standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 0, 1])
MODEL = torch.nn.Linear(3, 2)
SUBJECT = gradlab_torch.Subject(MODEL)
THREE = BATCH, 1, 2


def batch():
    return BATCH


def short_labels():
    return BATCH[0], BATCH[1][:2]


def constant():
    return np.ones((4, 3), np.float32), BATCH[1]


def with_batch():
    return SUBJECT, BATCH


class Port(nnx.Linear):
    """The same, with an error of one part in a thousand if it is asked for."""

    def __init__(self, features: int = 3, factor: float = 1.0):
        super().__init__(features, 2, rngs=nnx.Rngs(0))
        self.factor = factor

    def __call__(self, inputs):
        return super().__call__(inputs) * self.factor


def port():
    return gradlab_jax.Subject(Port())


def wrong_port():
    return gradlab_jax.Subject(Port(factor=1.001))


def nan_port():
    return gradlab_jax.Subject(Port(factor=float("nan")))


def wider_port():
    return gradlab_jax.Subject(Port(4))


def failing_port():
    def loss(logits, labels):
        raise RuntimeError("no such luck")

    return gradlab_jax.Subject(Port(), loss=loss)


def misshapen_loss():
    return gradlab_jax.Subject(Port(), loss=lambda logits, labels: jnp.square(logits - jnp.ones((7, 7))).mean())


def needs_argument(which):
    return which
