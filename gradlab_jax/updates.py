"""How large the applied update is beside the parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gradlab_core.checks import check_same_paths
from gradlab_core.errors import refuse
from gradlab_jax._tree import Tree
from gradlab_jax.norms import global_norm, layer_norms, leaf_norms


def update_ratio(params: Tree, updates: Tree) -> jax.Array:
    """‖Δθ‖/‖θ‖ over all tensors, Δθ = θ_new − θ_old as really applied; 0/0 is 0, otherwise over 0 is Inf.

    >>> round(float(update_ratio([jnp.array([3.0, 4.0])], [jnp.array([0.0, 0.005])])), 6)
    0.001
    """
    return ratio(global_norm(updates), global_norm(params))


def update_ratios(params: Tree, updates: Tree) -> dict[str, jax.Array]:
    """`{path: ‖Δθ‖/‖θ‖}` per tensor, in definition order.

    >>> {k: float(v) for k, v in update_ratios({"w": jnp.array([4.0])}, {"w": jnp.array([1.0])}).items()}
    {'w': 0.25}
    """
    applied, sizes = _all(leaf_norms(updates)), _all(leaf_norms(params))
    check_same_paths(sizes, applied)
    return OrderedDict((path, ratio(applied[path], sizes[path])) for path in sizes)


def step_ratio(params: Tree, grads: Tree, learning_rate: float | jax.Array) -> jax.Array:
    """η‖g‖/‖θ‖, what the update ratio would be under plain SGD.

    >>> print(f"{float(step_ratio([jnp.array([69.77])], [jnp.array([0.33])], 0.001)):.3g}")
    4.73e-06
    """
    return ratio(learning_rate * global_norm(grads), global_norm(params))


def trust_ratios(params: Tree, grads: Tree) -> dict[str, jax.Array | None]:
    """`{module path: ‖θ‖/‖g‖}` per layer; None where no gradient path leads to it.

    Source: You, Gitman & Ginsburg 2017 (LARS).

    >>> params, grads = {"fc": {"weight": jnp.array([6.0])}}, {"fc": {"weight": jnp.array([2.0])}}
    >>> {k: float(v) for k, v in trust_ratios(params, grads).items()}
    {'fc': 3.0}
    """
    sizes, slopes = _all(layer_norms(params)), layer_norms(grads)
    check_same_paths(sizes, slopes)
    return OrderedDict((p, None if (slope := slopes[p]) is None else ratio(size, slope)) for p, size in sizes.items())


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator/denominator of two norms: 0/0 is 0, anything else over 0 is Inf, NaN stays NaN."""
    empty = (numerator == 0) & (denominator == 0)
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _all(norms: Mapping[str, jax.Array | None]) -> dict[str, jax.Array]:
    """Norms of parameters or updates, of which none may be missing."""
    missing = [path or "a leaf" for path, norm in norms.items() if norm is None]
    refuse("parameters and updates", [f"{path} is None; expected a tensor" for path in missing])
    return {path: n for path, n in norms.items() if n is not None}
