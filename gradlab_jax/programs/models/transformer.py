"""A transformer that classifies sequences: an encoder that normalises before each part, and the mean over time."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.definitions.checks import check_sequences
from gradlab_core.definitions.positions import positions
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.programs.models.layers import activation, layer_norm, linear

_EXPANSION = 4


class Block(nnx.Module):
    """Attention, then a dense part four times as wide; each normalises what it reads and adds to what is there."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm1 = layer_norm(width)
        self.q = linear(width, width)
        self.k = linear(width, width)
        self.v = linear(width, width)
        self.out = linear(width, width)
        self.norm2 = layer_norm(width)
        self.fc1 = linear(width, _EXPANSION * width)
        self.act1 = activation("gelu")
        self.fc2 = linear(_EXPANSION * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(self.act1(self.fc1(self.norm2(x))))

    def attend(self, x: jax.Array) -> jax.Array:
        """(N, T, width) → the same; every step takes from all steps."""
        split = (*x.shape[:2], self.heads, -1)
        q, k, v = (layer(x).reshape(split).swapaxes(1, 2) for layer in (self.q, self.k, self.v))
        shares = jax.nn.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), axis=-1)
        return self.out((shares @ v).swapaxes(1, 2).reshape(x.shape))


class Transformer(nnx.Module):
    """Sequences (N, T, features) → logits (N, classes). Source: Vaswani et al. 2017; normalisation before each part as
    in Xiong et al. 2020, GELU as in BERT."""

    def __init__(self, spec: ModelSpec) -> None:
        self.features = spec.features
        self.embed = linear(spec.features, spec.hidden)
        self.blocks = nnx.Sequential(*(Block(spec.hidden, spec.heads) for _ in range(spec.depth)))
        self.norm = layer_norm(spec.hidden)
        self.fc = linear(spec.hidden, spec.num_classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_sequences(x.shape, features=self.features)
        x = self.embed(x)
        x = x + jnp.asarray(positions(*x.shape[1:]), x.dtype)
        return self.fc(self.norm(self.blocks(x)).mean(axis=1))
