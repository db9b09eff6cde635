"""A port as one writes it down first, what is wrong with it, and the port mended: docs/porting.md goes through it."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import gradlab_jax
import gradlab_torch
from gradlab_core.parity import compare, moved


class Original(nn.Module):
    """The PyTorch net."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(4, 8)
        self.fc, self.head = nn.Linear(8 * 6 * 6, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.norm(self.conv(x))).flatten(1)
        return self.head(nn.functional.gelu(self.fc(x)))


class Port(nnx.Module):
    """The same in Flax, with Flax's defaults."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv, self.norm = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs), nnx.GroupNorm(8, num_groups=4, rngs=rngs)
        self.fc, self.head = nnx.Linear(8 * 6 * 6, 16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        x = nnx.gelu(self.norm(self.conv(x)))
        return self.head(nnx.gelu(self.fc(x.reshape(len(x), -1))))


class Mended(Port):
    """The port after the report was read."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding=((1, 1), (1, 1)), rngs=rngs)
        self.norm = nnx.GroupNorm(8, num_groups=4, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        gelu = partial(nnx.gelu, approximate=False)
        x = jnp.moveaxis(gelu(self.norm(self.conv(x))), -1, 1)
        return self.head(gelu(self.fc(x.reshape(len(x), -1))))


rng = np.random.default_rng(0)
batch = rng.standard_normal((8, 3, 12, 12)).astype(np.float32), rng.integers(0, 4, 8)
torch.manual_seed(0)
original = Original()
gradlab_torch.from_canonical(original, moved(gradlab_torch.to_canonical(original)))  # no zero biases to hide behind
reference = gradlab_torch.Subject(original)

for port in (Port, Mended):
    print(compare(reference, gradlab_jax.Subject(port(nnx.Rngs(0))), batch, steps=2))
