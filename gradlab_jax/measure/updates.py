"""How large the applied update is beside the parameters, and which way gradients and updates go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gradlab_core.definitions.checks import check_same_paths
from gradlab_core.errors import refuse
from gradlab_jax.trees.leaves import Tree, named_leaves
from gradlab_jax.trees.norm_arithmetic import stacked_norms, wide
from gradlab_jax.trees.norms import global_norm, leaf_norms, module_norms


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
    sizes, slopes = _all(module_norms(params)), module_norms(grads)
    check_same_paths(sizes, slopes)
    return OrderedDict((p, None if (slope := slopes[p]) is None else ratio(size, slope)) for p, size in sizes.items())


def cosine_similarity(tree: Tree, other: Tree) -> jax.Array:
    """⟨a, b⟩/(‖a‖‖b‖) of all arrays taken as one vector: of successive gradients or updates, whether they agree.

    NaN if either is zero or not finite; a leaf that is None in either tree is left out of both.

    >>> round(float(cosine_similarity([jnp.array([3.0, 4.0])], [jnp.array([4.0, 3.0])])), 6)
    0.96
    """
    a, b = _pairs(tree, other)
    sizes = global_norm(a), global_norm(b)
    parts = [_dot(x, y, sizes[0], sizes[1]) for x, y in zip(a, b, strict=True)]
    return _known(sum(parts, jnp.zeros_like(sizes[0])), *sizes)


def cosine_similarities(tree: Tree, other: Tree) -> dict[str, jax.Array | None]:
    """`{path: ⟨a, b⟩/(‖a‖‖b‖)}` per array, in definition order; None where the leaf is None in either tree.

    >>> cosines = cosine_similarities({"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([-2.0, 0.0])})
    >>> {k: float(v) for k, v in cosines.items()}
    {'w': -1.0}
    """
    a, b = dict(named_leaves(tree)), dict(named_leaves(other))
    check_same_paths(a, b)
    both = [p for p, x in a.items() if x is not None and b[p] is not None]
    cosines = dict(zip(both, stacked_cosines(*_pairs(tree, other)), strict=True))
    return OrderedDict((p, cosines.get(p)) for p in a)


def distance(params: Tree, origin: Tree) -> jax.Array:
    """‖θ − θ₀‖ over all arrays, for example from the initialisation.

    >>> float(distance([jnp.array([3.0, 1.0])], [jnp.array([0.0, 5.0])]))
    5.0
    """
    return global_norm(_differences(params, origin))


def distances(params: Tree, origin: Tree) -> dict[str, jax.Array]:
    """`{path: ‖θ − θ₀‖}` per array, in definition order.

    >>> {k: float(v) for k, v in distances({"w": jnp.array([3.0])}, {"w": jnp.array([1.0])}).items()}
    {'w': 2.0}
    """
    return _all(leaf_norms(_differences(params, origin)))


def stacked_cosines(arrays: list[jax.Array], others: list[jax.Array]) -> jax.Array:
    """The cosine of each pair of arrays as one vector."""
    a, b = stacked_norms(arrays), stacked_norms(others)
    pairs = zip(arrays, others, strict=True)
    dots = [_dot(x, y, a[i], b[i]) for i, (x, y) in enumerate(pairs)]
    return _known(jnp.stack(dots), a, b) if dots else jnp.zeros(0)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator/denominator of two norms: 0/0 is 0, anything else over 0 is Inf, NaN stays NaN."""
    empty = (numerator == 0) & (denominator == 0)
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def _all(norms: Mapping[str, jax.Array | None]) -> dict[str, jax.Array]:
    """Norms of parameters or updates, of which none may be missing."""
    missing = [path or "a leaf" for path, norm in norms.items() if norm is None]
    refuse("parameters and updates", [f"{path} is None; expected a tensor" for path in missing])
    return {path: n for path, n in norms.items() if n is not None}


def _pairs(tree: Tree, other: Tree) -> tuple[list[jax.Array], list[jax.Array]]:
    """The leaves that are there in both trees."""
    a, b = dict(named_leaves(tree)), dict(named_leaves(other))
    check_same_paths(a, b)
    pairs = [(x, y) for p, x in a.items() if x is not None and (y := b[p]) is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _differences(params: Tree, origin: Tree) -> dict[str, jax.Array]:
    now, then = _all(dict(named_leaves(params))), _all(dict(named_leaves(origin)))
    check_same_paths(now, then)
    return OrderedDict((path, x - then[path]) for path, x in now.items())


def _dot(x: jax.Array, y: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """⟨x/a, y/b⟩ for the norms a and b, which keep the products in range."""
    return jnp.sum((wide(x).astype(a.dtype) / a) * (wide(y).astype(b.dtype) / b))


def _known(cosines: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """NaN where a norm is zero or not finite."""
    defined = (a > 0) & jnp.isfinite(a) & (b > 0) & jnp.isfinite(b)
    return jnp.where(defined, cosines, jnp.nan)
