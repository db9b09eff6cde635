"""A training step as Flax's own guides write it, without gradlab: `nnx.jit`, `nnx.value_and_grad`, `nnx.Optimizer`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def plain_step(
    model: nnx.Module, *, learning_rate: float, momentum: float, weight_decay: float
) -> Callable[[np.ndarray, np.ndarray], float]:
    """`step(x, y) -> loss`, x in NHWC; it trains the model in place and measures nothing else."""
    rule = optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(learning_rate, momentum))
    optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)

    @nnx.jit
    def train_step(model: nnx.Module, optimizer: nnx.Optimizer, x: jax.Array, y: jax.Array) -> jax.Array:
        def loss_of(model: nnx.Module) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    return lambda x, y: float(train_step(model, optimizer, jnp.asarray(x), jnp.asarray(y)))


def with_flax_norms(model: nnx.Module) -> nnx.Module:
    """The net with Flax's own batch normalisation, in place: a biased running variance, and E[x²] − E[x]²."""
    for _, module in list(nnx.iter_modules(model)):
        for name, child in list(vars(module).items()):
            if isinstance(child, nnx.BatchNorm):
                setattr(module, name, _flax_norm(child))
            elif isinstance(child, (list, nnx.List)):
                for index, layer in enumerate(child):
                    if isinstance(layer, nnx.BatchNorm):
                        child[index] = _flax_norm(layer)
    return model


def _flax_norm(layer: nnx.BatchNorm) -> nnx.BatchNorm:
    return nnx.BatchNorm(layer.num_features, momentum=0.9, epsilon=layer.epsilon, rngs=nnx.Rngs(0))
