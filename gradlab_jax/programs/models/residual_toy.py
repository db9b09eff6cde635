"""The smallest net with everything a port can get wrong: a convolution, a skip, a flatten, a square linear layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.definitions.checks import check_image_shape
from gradlab_core.programs.specs import ModelSpec
from gradlab_jax.programs.models.layers import conv, linear


class ResidualToy(nnx.Module):
    """Images (N, S, S, 3) → logits (N, classes). With skip=False the identity is left out. Its activations are
    function calls, as most people write them."""

    def __init__(self, spec: ModelSpec) -> None:
        self.skip, self.size = spec.skip, spec.image_size
        width = spec.base
        self.stem = conv(3, width, 3, padding=1, bias=True)
        self.conv = conv(width, width, 3, padding=1, bias=True)
        self.fc1 = linear(width * spec.image_size**2, width)
        self.fc2 = linear(width, width)
        self.head = linear(width, spec.num_classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_image_shape((len(x), x.shape[-1], *x.shape[1:-1]), size=self.size)
        x = nnx.relu(self.stem(x))
        out = self.conv(x)
        x = nnx.relu(out + x if self.skip else out)
        # In PyTorch's order, channels first: the columns of fc1 then mean the same in both twins.
        x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)
        return self.head(nnx.relu(self.fc2(jnp.tanh(self.fc1(x)))))
