"""Norms of what a step reads and writes, and of the update really applied, θ_new − θ, rounding included; no branch.

A branch asks for what it measures as an array of its own. For proposed updates, which need not exist as arrays, and
for parameters, which are written over in place, that is one more copy of the parameters. So here the squares are scaled
by a power of two beforehand: for a small array the one near its largest element; for a large one, where looking is a
pass over memory, the one near its norm at the record before. Of a large array alone, and only where its size changed by
a factor of 1e15 since the last record (at the first one: lies outside of what `FIRST_RMS` says), digits are lost, down
to 0 or up to Inf; the record after is right again.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_jax._norms import alike, is_large, joined, row_squares, side_by_side, stacked_norms, wide

_SAMPLE = 4096  # elements of a large array that say whether anything was proposed


def applied(param: jax.Array, update: jax.Array) -> jax.Array:
    """What `optax.apply_updates` changes in a parameter, in the precision in which norms are taken."""
    new = (param + update).astype(param.dtype)
    if param.dtype in (jnp.bfloat16, jnp.float16):
        # XLA may keep more digits than the type has; what is stored has not got them.
        kind = jnp.finfo(param.dtype)
        new = lax.reduce_precision(new, kind.nexp, kind.nmant)
    return wide(new) - wide(param)


def norms_near(arrays: list[jax.Array], before: jax.Array) -> jax.Array:
    """‖·‖₂ of each array as one vector, given what they were at the record before."""
    large = [i for i, x in enumerate(arrays) if is_large(x)]
    small = [i for i, x in enumerate(arrays) if not is_large(x)]
    found = [_near(wide(arrays[i]), before[i]) for i in large]
    return joined([[i] for i in large] + [small], [*found, stacked_norms([arrays[i] for i in small])])


def applied_norms(params: list[jax.Array], updates: list[jax.Array], before: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(‖applied‖₂, largest |proposed element|)` of each parameter, given the norms applied at the record before (NaN:
    there is none). Of a large array the second is that of a sample."""
    groups = alike(params)
    norms, largest = [], []
    for group in groups:
        first = group[0]
        if is_large(params[first]):
            norms.append(_near(applied(params[first], updates[first]), before[first]))
            largest.append(jnp.abs(wide(_sample(updates[first]))).max()[None])
            continue
        old, step = (side_by_side([tree[i] for i in group]) for tree in (params, updates))
        size = jnp.abs(wide(step).reshape(len(group), -1)).max(axis=1, initial=0.0)
        scales = _power_of_two_near(1 / size)
        norms.append(jnp.sqrt(row_squares(applied(old, step), scales)) / scales)
        largest.append(size)
    return joined(groups, norms), joined(groups, largest)


def _near(x: jax.Array, before: jax.Array) -> jax.Array:
    scale = _power_of_two_near(x.size**0.5 / before.astype(x.dtype))
    return (jnp.sqrt(jnp.sum(jnp.square(x * scale))) / scale)[None]


def _sample(x: jax.Array) -> jax.Array:
    if x.size <= _SAMPLE:
        return x
    line = x.reshape(-1)
    return lax.slice(line, (0,), (line.size,), (line.size // _SAMPLE,))


def _power_of_two_near(x: jax.Array) -> jax.Array:
    """A power of two within a factor of two of x; 1 for NaN. Where x is 0 or Inf, as the norm before was out of range,
    half of the range away, so that the next try is in it."""
    limit = 60 if x.dtype == jnp.float32 else 500
    exponent = jnp.clip(jnp.frexp(jnp.where(jnp.isfinite(x), x, 1.0))[1], -limit, limit)
    exponent = jnp.where(jnp.isposinf(x), limit, jnp.where(x == 0, -limit, exponent))
    return jnp.ldexp(jnp.ones_like(x), exponent)
