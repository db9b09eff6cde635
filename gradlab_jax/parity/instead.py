"""A value that another one takes the place of, forward and backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def instead(value: jax.Array, zero: jax.Array, other: jax.Array | None, slope: jax.Array | None) -> jax.Array:
    """`other`, or `value` if it is None. Back to `value` goes `slope`, or what comes if it is None; back to `zero` goes
    what comes: the gradient before it is replaced.

    >>> f = lambda v, z: 3.0 * instead(v, z, jnp.float32(5.0), jnp.float32(7.0))
    >>> value, (back, came) = jax.value_and_grad(f, argnums=(0, 1))(jnp.float32(1.0), jnp.float32(0.0))
    >>> float(value), float(back), float(came)
    (15.0, 7.0, 3.0)
    """
    if other is None and slope is None:
        return value + zero
    return _replaced(value, zero, value if other is None else other, slope)


@jax.custom_vjp
def _replaced(value: jax.Array, zero: jax.Array, other: jax.Array, slope: jax.Array | None) -> jax.Array:
    return other


def _forward(value: jax.Array, zero: jax.Array, other: jax.Array, slope: jax.Array | None) -> tuple[jax.Array, Any]:
    return other, slope


def _backward(slope: jax.Array | None, came: jax.Array) -> tuple[Any, ...]:
    zero = jnp.zeros_like(came)
    return (came, came, zero, None) if slope is None else (slope, came, zero, zero)


_replaced.defvjp(_forward, _backward)
