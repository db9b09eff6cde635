"""The update that an optimizer really applied, θ_new − θ, from the update it proposed; rounding included.

One pass finds the largest proposed element, a second sums the squares of what was applied, scaled by a power of two
near it. So there is no branch, which would ask for the updates as an array of its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gradlab_jax._norms import alike, joined, row_squares, side_by_side, wide


def applied(param: jax.Array, update: jax.Array) -> jax.Array:
    """What `optax.apply_updates` changes in a parameter, in the precision in which norms are taken."""
    return wide((param + update).astype(param.dtype)) - wide(param)


def applied_norms(params: list[jax.Array], updates: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """`(‖applied‖₂, largest |proposed element|)` of each parameter."""
    groups = alike(params)
    norms, largest = [], []
    for group in groups:
        old, step = (side_by_side([tree[i] for i in group]) for tree in (params, updates))
        size = jnp.abs(wide(step)).max(axis=tuple(range(1, step.ndim)), initial=0.0)
        scales = _power_of_two_below(1 / size)
        norms.append(jnp.sqrt(row_squares(applied(old, step), scales)) / scales)
        largest.append(size)
    return joined(groups, norms), joined(groups, largest)


def _power_of_two_below(x: jax.Array) -> jax.Array:
    """A power of two within a factor of two of x and inside the type; 1 where x is NaN, Inf or so."""
    limit = 100 if x.dtype == jnp.float32 else 1000
    exponent = jnp.clip(jnp.frexp(jnp.where(jnp.isfinite(x), x, 1.0))[1], -limit, limit)
    return jnp.ldexp(jnp.ones_like(x), exponent)
