"""Dense layers with an activation between: the net of the textbooks, on which rules of initialisation are proved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.definitions.checks import check_features
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.programs.models.layers import activation, linear


class Mlp(nnx.Module):
    """Examples (N, features) → logits (N, classes); layers fc1, act1, fc2, … Images (N, H, W, C) are flattened."""

    def __init__(self, spec: ModelSpec) -> None:
        self.features, self.depth = spec.features, len(spec.widths) + 1
        sizes = (spec.features, *spec.widths, spec.num_classes)
        for layer in range(1, self.depth + 1):
            setattr(self, f"fc{layer}", linear(sizes[layer - 1], sizes[layer]))
            if layer < self.depth:
                setattr(self, f"act{layer}", activation(spec.activation))

    def __call__(self, x: jax.Array) -> jax.Array:
        # In PyTorch's order, channels first: the columns of fc1 then mean the same in both twins.
        x = jnp.moveaxis(x, -1, 1) if x.ndim == 4 else x
        check_features(x.shape, features=self.features)
        x = x.reshape(len(x), -1)
        for layer in range(1, self.depth):
            x = getattr(self, f"act{layer}")(getattr(self, f"fc{layer}")(x))
        out: jax.Array = getattr(self, f"fc{self.depth}")(x)
        return out
