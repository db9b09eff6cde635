"""The layers the models are made of, with PyTorch's semantics."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_jax.model.recurrent import Recurrent


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation that learns and remembers as PyTorch's does.

    Flax weighs the *old* running value by its momentum, keeps the biased variance and may compute it as E[x²] − E[x]²,
    which loses digits. Here momentum weighs the new value (0.1), the running variance is unbiased, and the variance is
    taken in two passes.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs) -> None:
        super().__init__(features, momentum=0.1, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
        """(N, spatial…, C) → the same."""
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            count = x.size // x.shape[-1]
            if count < 2:
                raise GradlabError(
                    f"batch normalisation of shape {x.shape} has one value per channel, so no variance; expected more "
                    "examples or pixels: train with a larger batch or image, or use mode='eval'"
                )
            mean, var = self._observe(x, count)
        scale, bias = self.scale[...], self.bias[...]  # type: ignore[index]
        return (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias

    def _observe(self, x: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axes)
        var = jnp.mean(jnp.square(x - mean), axes)
        unbiased = var * (count / (count - 1))
        for running, new in ((self.mean, mean), (self.var, unbiased)):
            new = jax.lax.stop_gradient(new)
            running.set_value((1 - self.momentum) * running.get_value() + self.momentum * new)
        return mean, var


class ReLU(nnx.Module):
    """max(x, 0) as a module, so that it has a path of its own."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(x)


def conv(
    features_in: int, features: int, size: int, *, stride: int = 1, padding: int = 0, bias: bool = False
) -> nnx.Conv:
    """A convolution with explicit padding: Flax's `SAME` pads an even image on one side only when the stride is 2."""
    return nnx.Conv(
        features_in,
        features,
        (size, size),
        strides=stride,
        padding=((padding, padding),) * 2,
        use_bias=bias,
        kernel_init=nnx.initializers.zeros,  # `build` draws the weights
        rngs=nnx.Rngs(0),
    )


def linear(features_in: int, features: int) -> nnx.Linear:
    return nnx.Linear(features_in, features, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))


def norm(features: int) -> BatchNorm:
    return BatchNorm(features, rngs=nnx.Rngs(0))


def layer_norm(features: int) -> nnx.LayerNorm:
    """With PyTorch's ε, and a variance in two passes: Flax's fast one is E[x²] − E[x]², which loses digits."""
    return nnx.LayerNorm(features, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),  # PyTorch's default; Flax's is the tanh form
    "silu": jax.nn.silu,
    "identity": lambda x: x,
}


class Activation(nnx.Module):
    """An activation as a module, so that it has a path of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.name](x)


def activation(name: str) -> Activation:
    return Activation(name)


def recurrent(cell: str, features: int, hidden: int) -> Recurrent:
    return Recurrent(cell, features, hidden)
