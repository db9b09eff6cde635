"""Norms of what a step reads and writes, and of the update really applied, θ_new − θ, rounding included; no branch.

A branch asks for what it measures as an array of its own. For proposed updates, which need not exist as arrays, and
for parameters, which are written over in place, that is one more copy of the parameters. So here the squares are scaled
by a power of two beforehand: for a small array the one near its largest element; for a large one, where looking is a
pass over memory, the one near its norm at the record before. Of a large array alone, and only where its size changed by
a factor of 1e15 since the last record (at the first one: lies outside of what `FIRST_RMS` says), digits are lost, down
to 0 or up to Inf; the record after is right again.

On a GPU the kernel that writes the new parameters measures them as well. XLA puts one sum there; for a second one it
makes a kernel of its own, which reads the old parameters again, and copies all of them before they are written over. So
all is summed together, as the parts of complex numbers in one reduction.

What the step promised comes in the same pass: ⟨g, Δθ⟩ and ⟨θ, Δθ⟩, of tensors scaled as for their norms, so that
products of what is tiny or huge stay in range. They are handed on as a number and a power of two, since float32 need
not hold the product of two float32. An element that is 2⁶⁰ below the size of its tensor may count as 0 in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    sums_together,
    wide,
)

PRODUCTS = ("grad_update", "param_update")
POWERS = tuple(f"{product}_power" for product in PRODUCTS)
_SAMPLE = 4096  # elements of a large array that say whether anything was proposed
_LOST = 2.0**-100  # nothing beside the scaled squares of what was not lost


def step_norms(
    params: list[jax.Array], grads: list[jax.Array], updates: list[jax.Array], before: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """A value for each array: ‖·‖₂ of `param`, `grad` and applied `update`, and `proposed`, above 0 where anything was
    (of a large array, but on a GPU: in a sample of it); and `grad_update` and `param_update`, the inner products of the
    update with gradient and parameter, as that number times two to the power in `grad_update_power` and so on.

    Args:
        before: the three norms at the record before; NaN where there is none.
    """
    trees = {"param": params, "grad": grads, "update": updates}
    measured: dict[str, list[jax.Array]] = {name: [] for name in ("param", "update", "proposed", *PRODUCTS, *POWERS)}
    large = _large_alike(params)
    for group in large:
        scales = {of: _scales(tree[group[0]], before[of], group) for of, tree in trees.items()}
        members = [[tree[i] for i in group] for tree in trees.values()]
        totals = lax.platform_dependent(*members, *scales.values(), cuda=_in_one_sum, rocm=_in_one_sum, default=_apart)
        stacked = {of: jnp.stack(some) for of, some in scales.items()}
        measured["param"].append(jnp.sqrt(totals[0]) / stacked["param"])
        measured["update"].append(jnp.sqrt(totals[1]) / stacked["update"])
        measured["proposed"].append(totals[2])
        _add_products(measured, totals[3:], stacked)
    small = [group for group in alike(params) if not is_large(params[group[0]])]
    measured["param"] += [stacked_norms([params[i] for group in small for i in group])]
    for group in small:
        old, slope, step = (side_by_side([tree[i] for i in group]) for tree in trees.values())
        rows = {"param": wide(old), "grad": wide(slope), "update": applied(old, step)}
        largest = {"param": _largest(rows["param"]), "grad": _largest(rows["grad"]), "update": _largest(wide(step))}
        near = {of: _power_of_two_near(1 / size) for of, size in largest.items()}
        measured["update"].append(jnp.sqrt(row_squares(rows["update"], near["update"])) / near["update"])
        measured["proposed"].append(largest["update"])
        scaled = {of: x * jnp.expand_dims(near[of], range(1, x.ndim)) for of, x in rows.items()}
        sums = [(scaled[of] * scaled["update"]).reshape(len(group), -1).sum(axis=1) for of in ("grad", "param")]
        _add_products(measured, sums, near)
    return {"grad": norms_near(grads, before["grad"]), **{q: joined(large + small, v) for q, v in measured.items()}}


def _add_products(
    measured: dict[str, list[jax.Array]], sums: Sequence[jax.Array], scales: Mapping[str, jax.Array]
) -> None:
    for product, total, of in zip(PRODUCTS, sums, ("grad", "param"), strict=True):
        measured[product].append(total)
        powers = [jnp.frexp(scales[name])[1] - 1 for name in (of, "update")]
        measured[f"{product}_power"].append(-sum(powers[1:], powers[0]).astype(total.dtype))


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


Arrays = list[jax.Array]


def _apart(
    params: Arrays, grads: Arrays, updates: Arrays, param_scales: Arrays, grad_scales: Arrays, update_scales: Arrays
) -> tuple[jax.Array, ...]:
    """Sums of scaled squares of parameters and of applied updates, what was proposed, and sums of scaled products of
    the applied updates with gradients and parameters."""
    proposed = jnp.stack([jnp.abs(wide(_sample(u))).max() for u in updates])
    moves = [applied(p, u) for p, u in zip(params, updates, strict=True)]
    squares = _scaled_squares(moves, update_scales)
    of_grads, of_params = (
        _products(arrays, scales, moves, update_scales)
        for arrays, scales in ((grads, grad_scales), (params, param_scales))
    )
    sums = sums_together(_scaled_squares(params, param_scales), squares, of_grads, of_params)
    return *sums[:2], proposed, *sums[2:]


def _in_one_sum(
    params: Arrays, grads: Arrays, updates: Arrays, param_scales: Arrays, grad_scales: Arrays, update_scales: Arrays
) -> tuple[jax.Array, ...]:
    """The same in one sum. A proposed element that moved nothing counts a little below zero: where all are like that,
    so is the sum."""
    steps = [applied(p, u) for p, u in zip(params, updates, strict=True)]
    moved = [
        jnp.where((step == 0) & (wide(u) != 0), -_LOST, square)
        for step, u, square in zip(steps, updates, _scaled_squares(steps, update_scales), strict=True)
    ]
    squares = zip(_scaled_squares(params, param_scales), moved, strict=True)
    of_grads = _products(grads, grad_scales, steps, update_scales)
    products = zip(of_grads, _products(params, param_scales, steps, update_scales), strict=True)
    sums, along = sums_together([lax.complex(*pair) for pair in squares], [lax.complex(*pair) for pair in products])
    any_proposed = (sums.imag != 0).astype(sums.real.dtype)
    return sums.real, jnp.maximum(sums.imag, 0), any_proposed, along.real, along.imag


def _products(arrays: Arrays, scales: Arrays, moves: Arrays, update_scales: Arrays) -> Arrays:
    """Scaled on one side alone, and not as for the squares: what two sums have in common XLA would write to memory."""
    both = [scale * other for scale, other in zip(scales, update_scales, strict=True)]
    return [wide(x) * (move * scale) for x, scale, move in zip(arrays, both, moves, strict=True)]


def _scaled_squares(arrays: list[jax.Array], scales: list[jax.Array]) -> list[jax.Array]:
    return [jnp.square(wide(x) * scale) for x, scale in zip(arrays, scales, strict=True)]


def _sums(arrays: list[jax.Array]) -> jax.Array:
    sums: jax.Array = lax.platform_dependent(
        arrays, cpu=lambda arrays: jnp.stack([jnp.sum(x) for x in arrays]), default=stacked_sums
    )
    return sums


def _largest(rows: jax.Array) -> jax.Array:
    return jnp.abs(rows).reshape(len(rows), -1).max(axis=1, initial=0.0)


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
