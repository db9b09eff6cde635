"""The same call of both twins, records that are equal in every number, and a net of convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import gradlab_jax
import gradlab_torch

LOGIC = 1e-9
ZEROS = {"kernel_init": nnx.initializers.zeros, "rngs": nnx.Rngs(0)}  # what else Flax draws it compiles
TWINS = {"torch": gradlab_torch, "jax": gradlab_jax}


def both(function, models, x, *args, **kwargs):
    """The same call of both twins in float64."""
    with jax.enable_x64(True):
        return [
            getattr(twin, function)(
                twin.astype(model, "float64"), twin.to_native(x.astype(np.float64)), *args, **kwargs
            )
            for twin, model in zip(TWINS.values(), models, strict=True)
        ]


def close(a, b):
    """Two records, equal in every number."""
    if a is None or isinstance(a, (str, bool)):
        assert a == b
    elif isinstance(a, (int, float)):
        assert a == pytest.approx(b, rel=LOGIC, abs=LOGIC, nan_ok=True)
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            close(one, other)
    elif isinstance(a, dict):
        close(list(a.items()), list(b.items()))
    else:
        close(vars(a), vars(b))


def convolutions():
    """Zero padding, a stride, PyTorch's flatten and a dense layer."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 5)
    )
    flax = nnx.Sequential(
        nnx.Conv(3, 16, (3, 3), strides=2, padding=((1, 1), (1, 1)), **ZEROS),
        nnx.relu,
        lambda x: jnp.moveaxis(x, -1, 1).reshape(len(x), -1),
        nnx.Linear(256, 5, **ZEROS),
    )
    gradlab_torch.initialize(net, "kaiming_normal", seed=0)
    gradlab_jax.from_canonical(flax, gradlab_torch.to_canonical(net))
    return [net, flax], np.random.default_rng(0).standard_normal((6, 3, 8, 8))
