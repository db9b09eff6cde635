"""L2 norms of pytrees, right over the whole range of the type; pure, for `jit`, `vmap`, `scan` and sharded arrays."""

from __future__ import annotations

from collections import OrderedDict

import jax
import jax.numpy as jnp

from gradlab_core.errors import GradlabError
from gradlab_jax.trees.leaves import Tree, map_leaves, module_of, named_leaves
from gradlab_jax.trees.norm_arithmetic import joint_norm, stacked_norms


def global_norm(tree: Tree) -> jax.Array:
    """‖·‖₂ of all arrays of a pytree taken as one vector.

    Args:
        tree: any pytree of arrays of any shape, or an NNX module (its parameters); None leaves are skipped.

    Returns:
        A scalar: float64 if any leaf is float64, else float32. Any NaN gives NaN, any ±Inf and no NaN gives Inf, an
        empty tree gives 0.

    >>> float(global_norm({"a": jnp.array([3e30]), "b": jnp.array([4e30])}) / 1e30)
    5.0
    """
    return joint_norm(_present(tree))


def leaf_norms(tree: Tree) -> dict[str, jax.Array | None]:
    """`{path: ‖·‖₂}` of every array, in definition order; None where the leaf is None (a missing gradient).

    >>> {k: v if v is None else float(v) for k, v in leaf_norms({"w": jnp.ones(4), "b": None}).items()}
    {'w': 2.0, 'b': None}
    """
    leaves = list(named_leaves(tree))
    sizes = iter(stacked_norms([x for _, x in leaves if x is not None]))
    # An OrderedDict, since JAX sorts the keys of a plain one when it leaves a jitted function.
    return OrderedDict((path, None if x is None else next(sizes)) for path, x in leaves)


def module_norms(tree: Tree) -> dict[str, jax.Array | None]:
    """`{module path: ‖·‖₂ of all its arrays}`; None where all of a module's leaves are None.

    >>> tree = {"fc": {"weight": jnp.array([3.0]), "bias": jnp.array([4.0])}}
    >>> float(module_norms(tree)["fc"])
    5.0
    """
    groups: OrderedDict[str, list[jax.Array]] = OrderedDict()
    for path, size in leaf_norms(tree).items():
        groups.setdefault(module_of(path), []).extend([] if size is None else [size])
    return OrderedDict((module, joint_norm([jnp.stack(sizes)]) if sizes else None) for module, sizes in groups.items())


def nonfinite_counts(tree: Tree) -> dict[str, jax.Array | None]:
    """`{path: number of NaN and ±Inf elements}` as integer scalars; None where the leaf is None.

    >>> int(nonfinite_counts([jnp.array([1.0, float("nan")])])["0"])
    1
    """
    return OrderedDict((p, None if x is None else x.size - jnp.isfinite(x).sum()) for p, x in named_leaves(tree))


def clip_by_global_norm(tree: Tree, max_norm: float | jax.Array) -> tuple[Tree, jax.Array]:
    """`(tree · min(1, max_norm/‖tree‖), ‖tree‖)`.

    A norm that is not finite changes nothing: scaling would turn Inf into NaN and finite elements into 0, and hide
    where the trouble is.

    >>> clipped, size = clip_by_global_norm([jnp.array([3.0, 4.0])], 1.0)
    >>> float(size), round(float(global_norm(clipped)), 6)
    (5.0, 1.0)
    """
    if not isinstance(max_norm, jax.Array) and not max_norm >= 0:
        raise GradlabError(f"max_norm is {max_norm!r}; expected a number of at least 0")
    size = global_norm(tree)
    factor = jnp.where(jnp.isfinite(size) & (size > max_norm), max_norm / size, jnp.ones_like(size))
    return map_leaves(tree, lambda x: (x * factor).astype(x.dtype)), size


def _present(tree: Tree) -> list[jax.Array]:
    return [x for _, x in named_leaves(tree) if x is not None]
