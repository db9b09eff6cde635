"""A sequence classifier: one recurrent layer, and a dense layer on its last state."""

from __future__ import annotations

import jax
from flax import nnx

from gradlab_core.definitions.checks import check_sequences
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.programs.models.layers import linear, recurrent


class RecurrentNet(nnx.Module):
    """Sequences (N, T, features) → logits (N, classes)."""

    def __init__(self, spec: ModelSpec) -> None:
        self.features = spec.features
        self.rnn = recurrent(spec.cell, spec.features, spec.hidden)
        self.fc = linear(spec.hidden, spec.num_classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_sequences(x.shape, features=self.features)
        return self.fc(self.rnn(x)[:, -1])
