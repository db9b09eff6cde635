"""One small MLP in both frameworks, and a batch for it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 1])


class NnxMlp(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.a, self.b = nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.b(jnp.tanh(self.a(x)))


class TorchMlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(3, 5), torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def mlps():
    models = TorchMlp(), NnxMlp()
    gradlab_torch.from_canonical(models[0], gradlab_jax.to_canonical(models[1]))
    return models
