"""Mean, variance and second moment of a tensor, for any range of numbers; pure."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.lab.propagation import Signal, from_scaled
from gradlab_jax.trees.norm_arithmetic import wide


def measured(x: jax.Array) -> tuple[jax.Array, ...]:
    """What `as_signals` makes a record of: mean, root mean square and standard deviation of the tensor divided by a
    power of two near its largest element, the exponent, and how many elements are not finite."""
    values = wide(x)
    peak = jnp.max(jnp.abs(values))  # NaN if there is one
    exponent = jnp.where(jnp.isfinite(peak), jnp.frexp(peak)[1], 0)
    limit = 120 if values.dtype == jnp.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = jnp.clip(exponent, -limit, limit)
    scaled = jnp.ldexp(values, -exponent)
    mean = jnp.mean(scaled)
    spread = jnp.sqrt(jnp.mean(jnp.square(scaled - mean)))
    rms = jnp.sqrt(jnp.mean(jnp.square(scaled)))
    return mean, rms, spread, exponent, values.size - jnp.sum(jnp.isfinite(values))


def as_signals(rows: list[Any]) -> list[Signal]:
    """The records; the one transfer to the host."""
    return [from_scaled(*(number.item() for number in row)) for row in jax.device_get(rows)]
