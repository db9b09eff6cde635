"""Norms of what a step reads and writes, and of the update really applied, θ_new − θ, rounding included; no branch.

A branch asks for what it measures as an array of its own. For proposed updates, which need not exist as arrays, and
for parameters, which are written over in place, that is one more copy of the parameters. So here the squares are scaled
by a power of two beforehand: for a small array the one near its largest element; for a large one, where looking is a
pass over memory, the one near its norm at the record before. Of a large array alone, and only where its size changed by
a factor of 1e15 since the last record (at the first one: lies outside of what `FIRST_RMS` says), digits are lost, down
to 0 or up to Inf; the record after is right again.

On a GPU the kernel that writes the new parameters measures them as well. XLA puts one sum there; for a second one it
makes a kernel of its own, which reads the old parameters again, and copies all of them before they are written over. So
parameter and update are summed together, as the two parts of complex numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_jax.trees.norm_arithmetic import (
    alike,
    is_large,
    joined,
    kind_of,
    row_squares,
    side_by_side,
    stacked_norms,
    stacked_sums,
    wide,
)

_SAMPLE = 4096  # elements of a large array that say whether anything was proposed
_LOST = 2.0**-100  # nothing beside the scaled squares of what was not lost


def step_norms(
    params: list[jax.Array], grads: list[jax.Array], updates: list[jax.Array], before: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """A value for each array: ‖·‖₂ of `param`, `grad` and applied `update`, and `proposed`, above 0 where anything was
    (of a large array, but on a GPU: in a sample of it).

    Args:
        before: the three norms at the record before; NaN where there is none.
    """
    norms: dict[str, list[jax.Array]] = {"param": [], "update": [], "proposed": []}
    large = _large_alike(params)
    for group in large:
        scales = [_scales(params[group[0]], before[quantity], group) for quantity in ("param", "update")]
        totals = lax.platform_dependent(
            *([tree[i] for i in group] for tree in (params, updates)),
            *scales,
            cuda=_in_one_sum,
            rocm=_in_one_sum,
            default=_apart,
        )
        norms["param"].append(jnp.sqrt(totals[0]) / jnp.stack(scales[0]))
        norms["update"].append(jnp.sqrt(totals[1]) / jnp.stack(scales[1]))
        norms["proposed"].append(totals[2])
    small = [group for group in alike(params) if not is_large(params[group[0]])]
    norms["param"] += [stacked_norms([params[i] for group in small for i in group])]
    for group in small:
        old, step = (side_by_side([tree[i] for i in group]) for tree in (params, updates))
        largest = jnp.abs(wide(step).reshape(len(group), -1)).max(axis=1, initial=0.0)
        near = _power_of_two_near(1 / largest)
        norms["update"].append(jnp.sqrt(row_squares(applied(old, step), near)) / near)
        norms["proposed"].append(largest)
    return {"grad": norms_near(grads, before["grad"]), **{q: joined(large + small, v) for q, v in norms.items()}}


def norms_near(arrays: list[jax.Array], before: jax.Array) -> jax.Array:
    """‖·‖₂ of each array as one vector, given what they were at the record before."""
    large = _large_alike(arrays)
    small = [i for i, x in enumerate(arrays) if not is_large(x)]
    norms = []
    for group in large:
        scales = _scales(arrays[group[0]], before, group)
        norms.append(jnp.sqrt(_sums(_scaled_squares([arrays[i] for i in group], scales))) / jnp.stack(scales))
    return joined([*large, small], [*norms, stacked_norms([arrays[i] for i in small])])


def applied(param: jax.Array, update: jax.Array) -> jax.Array:
    """What `optax.apply_updates` changes in a parameter, in the precision in which norms are taken."""
    new = (param + update).astype(param.dtype)
    if param.dtype in (jnp.bfloat16, jnp.float16):
        # XLA may keep more digits than the type has; what is stored has not got them.
        kind = jnp.finfo(param.dtype)
        new = lax.reduce_precision(new, kind.nexp, kind.nmant)
    return wide(new) - wide(param)


def _large_alike(arrays: list[jax.Array]) -> list[list[int]]:
    """The large arrays, together those that have one shape, type and place."""
    groups: dict[object, list[int]] = {}
    for i, x in enumerate(arrays):
        if is_large(x):
            groups.setdefault(kind_of(x), []).append(i)
    return list(groups.values())


def _scales(example: jax.Array, before: jax.Array, group: list[int]) -> list[jax.Array]:
    """One number each, and no vector: of kernels that read one vector XLA makes one, which cannot write in place."""
    norms = [before[i].astype(wide(example).dtype) for i in group]
    return [_power_of_two_near(example.size**0.5 / norm) for norm in norms]


def _apart(
    params: list[jax.Array], updates: list[jax.Array], param_scales: list[jax.Array], update_scales: list[jax.Array]
) -> tuple[jax.Array, ...]:
    """Sums of scaled squares of parameters and of applied updates, and what was proposed."""
    moves = [applied(p, u) for p, u in zip(params, updates, strict=True)]
    proposed = jnp.stack([jnp.abs(wide(_sample(u))).max() for u in updates])
    return _sums(_scaled_squares(params, param_scales)), _sums(_scaled_squares(moves, update_scales)), proposed


def _in_one_sum(
    params: list[jax.Array], updates: list[jax.Array], param_scales: list[jax.Array], update_scales: list[jax.Array]
) -> tuple[jax.Array, ...]:
    """The same in one sum. A proposed element that moved nothing counts a little below zero: where all are like that,
    so is the sum."""
    moves = [applied(p, u) for p, u in zip(params, updates, strict=True)]
    moved = [
        jnp.where((move == 0) & (wide(u) != 0), -_LOST, square)
        for move, u, square in zip(moves, updates, _scaled_squares(moves, update_scales), strict=True)
    ]
    sums = _sums([lax.complex(p, m) for p, m in zip(_scaled_squares(params, param_scales), moved, strict=True)])
    return sums.real, jnp.maximum(sums.imag, 0), (sums.imag != 0).astype(sums.real.dtype)


def _scaled_squares(arrays: list[jax.Array], scales: list[jax.Array]) -> list[jax.Array]:
    return [jnp.square(wide(x) * scale) for x, scale in zip(arrays, scales, strict=True)]


def _sums(arrays: list[jax.Array]) -> jax.Array:
    sums: jax.Array = lax.platform_dependent(
        arrays, cpu=lambda arrays: jnp.stack([jnp.sum(x) for x in arrays]), default=stacked_sums
    )
    return sums


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
