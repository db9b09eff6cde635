"""Wrong backwards in JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_jax.model.modules import named_modules


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def wrong(fault: str, y: jax.Array, shift: jax.Array) -> jax.Array:
    """A function whose backward has that fault."""
    if fault == "transposed":
        return jnp.roll(y, 1, -1)
    if fault == "detached":
        return y * jax.nn.sigmoid(y)
    return y + shift


def _forward(fault: str, y: jax.Array, shift: jax.Array) -> Any:
    return wrong(fault, y, shift), (y, shift)


def _backward(fault: str, kept: Any, slope: jax.Array) -> Any:
    y, shift = kept
    nothing = jnp.zeros_like(shift)
    if fault == "transposed":
        return jnp.roll(slope, 1, -1), nothing
    if fault == "detached":
        return slope * jax.nn.sigmoid(y), nothing
    factor = {"sign": -1.0, "twice": 2.0}.get(fault, 1.0)
    summed = slope[0] if fault == "broadcast" else slope
    return factor * slope, factor * summed.sum().reshape(1)


wrong.defvjp(_forward, _backward)


class Planted(nnx.Module):
    """A layer with that fault after it."""

    def __init__(self, layer: nnx.Module, fault: str) -> None:
        self.layer, self.fault = layer, fault
        self.shift = nnx.Param(jnp.full((1,), 0.1))

    def __call__(self, x: jax.Array) -> jax.Array:
        layer: Any = self.layer
        return wrong(self.fault, layer(x), self.shift.get_value())


def plant(model: nnx.Module, fault: str, rng: np.random.Generator) -> str:
    """Plant it after a drawn layer; gives the path of the layer."""
    kinds = (nnx.Linear, nnx.Conv, nnx.LayerNorm, nnx.BatchNorm)
    modules = dict(named_modules(model))
    paths = [path for path, module in modules.items() if isinstance(module, kinds) and _follows(path)]
    path = str(rng.choice(paths))
    parent, _, name = path.rpartition(".")
    owner: Any = modules[parent]
    setattr(owner, name, Planted(getattr(owner, name), fault))
    return path


def _follows(path: str) -> bool:
    """An attribute of a module of its own, in both frameworks."""
    return not path.rpartition(".")[2].isdigit()
