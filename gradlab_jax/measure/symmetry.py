"""Units that are copies of one another, without comparing every row with every other; pure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gradlab_core.definitions.thresholds import COPY_TOLERANCE
from gradlab_jax.trees.norm_arithmetic import row_norms, wide

_DIRECTIONS, _NEIGHBOURS = 8, 8
_NEAR = 10 * COPY_TOLERANCE
"""Rows whose projections differ by more are no copies: no projection on a normal draw makes a difference ten times as
large."""


def copied_shares(weights: list[jax.Array]) -> jax.Array:
    """`gradlab_core.definitions.symmetry.copied_share` of each weight in canonical layout, O(n log n).

    Rows are projected on a few random directions. The nearest row is looked for among the neighbours in the order of
    the first two projections, by all of them, and only with that one is a row compared in full. Projections of copies
    differ by 1e-4 as the rows do, those of others by about 1: a few neighbours are plenty.

    Rows of one length are measured together, and all are sorted together: for each weight alone that would take long to
    compile.
    """
    matrices = [wide(w.reshape(len(w), -1)) if w.size else jnp.zeros((0, 1)) for w in weights]
    widths = sorted({m.shape[1] for m in matrices})
    groups = [[i for i, m in enumerate(matrices) if m.shape[1] == width] for width in widths]
    owner = np.concatenate([np.full(len(matrices[i]), i) for group in groups for i in group])
    stacks = [jnp.concatenate([matrices[i] for i in group]) for group in groups]
    sizes = jnp.concatenate([row_norms(rows) for rows in stacks])
    partner, has_partner, is_near = _nearest(
        jnp.concatenate([_projected(rows) for rows in stacks]), sizes, jnp.array(owner)
    )
    largest = jnp.maximum(sizes, sizes[partner])

    def compared() -> jax.Array:
        apart, end = [], 0
        for rows in stacks:
            end += len(rows)
            mine = slice(end - len(rows), end)
            difference = rows - rows[jnp.where(has_partner[mine], partner[mine] - (end - len(rows)), 0)]
            apart.append(jnp.sum(jnp.square(difference / largest[mine, None]), axis=1))
        return (jnp.sqrt(jnp.concatenate(apart)) <= COPY_TOLERANCE) & has_partner

    # No two rows are near of all weights that start at random.
    copied = lax.cond(jnp.any(is_near), compared, lambda: jnp.zeros_like(has_partner))
    copies, units = (jnp.zeros(len(weights)).at[owner].add(flags) for flags in (copied, _is_unit(sizes)))
    return jnp.where(units > 1, copies / units, 0.0)


def _nearest(projected: jax.Array, sizes: jax.Array, owner: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each row, which of the same owner is nearest to it, whether there is one, and whether it may be a copy."""
    row = jnp.arange(len(owner))
    shifts = np.array([*range(-_NEIGHBOURS, 0), *range(1, _NEIGHBOURS + 1)])
    candidates = []
    for k in range(2):
        # Rows of zeros would lie between the others.
        key = jnp.where(_is_unit(sizes), projected[:, k], jnp.inf)
        order = lax.sort((owner, key, row), num_keys=2)[2]
        place = jnp.zeros_like(row).at[order].set(row)
        candidates.append(order[jnp.clip(place[:, None] + shifts, 0, len(row) - 1)])
    near = jnp.concatenate(candidates, axis=1)
    # Not squared: of small weights that would be 0.
    apart = jnp.max(jnp.abs(projected[near] - projected[:, None]), axis=2) / jnp.maximum(sizes[near], sizes[:, None])
    possible = (owner[near] == owner[:, None]) & (near != row[:, None]) & ~jnp.isnan(apart)
    column = jnp.argmin(jnp.where(possible, apart, jnp.inf), axis=1)
    has_partner = possible[row, column] & _is_unit(sizes)
    return near[row, column], has_partner, has_partner & (apart[row, column] <= _NEAR)


def _projected(rows: jax.Array) -> jax.Array:
    # A constant: drawn inside, it would take longer to compile than all the rest.
    draw = np.random.default_rng(0).standard_normal((rows.shape[1], _DIRECTIONS))
    return jnp.matmul(rows, draw.astype(rows.dtype), precision=lax.Precision.HIGHEST)


def _is_unit(sizes: jax.Array) -> jax.Array:
    return (sizes > 0) & jnp.isfinite(sizes)
