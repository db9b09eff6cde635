"""Names and order of the arrays in a pytree: definition order, dotted canonical paths.

JAX sorts the keys of dictionaries when it flattens them; here mappings and sequences are walked in their own order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_jax.model.modules import canonical_name, named_parameters

Tree = Any
"""Any pytree of arrays, or a Flax NNX module (its parameters)."""


def named_leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, jax.Array | None]]:
    """`(path, array)` of every leaf, in order; None where a leaf is missing. Random keys are left out."""
    if isinstance(tree, nnx.Module):
        for name, parameter in named_parameters(tree).items():
            yield _join(prefix, name), parameter
    elif isinstance(tree, nnx.Variable):
        yield prefix, tree.get_value()
    elif tree is None:
        yield prefix, None
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            # The gradient of a module is a state with Flax's names; here it gets those of its parameters.
            name = canonical_name(str(key)) if isinstance(tree, nnx.State) else str(key)
            yield from named_leaves(item, _join(prefix, name))
    elif isinstance(tree, (list, tuple)):
        for index, item in enumerate(tree):
            yield from named_leaves(item, _join(prefix, str(index)))
    else:
        for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            path = _join(prefix, jax.tree_util.keystr(keys, simple=True, separator="."))
            if not hasattr(leaf, "dtype") and not isinstance(leaf, (int, float, complex)):
                where = path or "the tree"
                raise GradlabError(f"{where} is a {type(leaf).__name__}; expected a pytree of arrays")
            if not _is_key(leaf):
                yield path, jnp.asarray(leaf)


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is a random key, as train states carry them: it has no size to measure."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def map_leaves(tree: Tree, function: Any) -> Tree:
    """The same pytree with `function` applied to every array; random keys stay as they are."""
    if isinstance(tree, nnx.Module):
        raise GradlabError("the tree is a module; expected a pytree of arrays")
    return jax.tree.map(lambda leaf: leaf if _is_key(leaf) else function(leaf), tree)


def module_of(path: str) -> str:
    """The path of the module that owns the array at `path`."""
    return path.rpartition(".")[0]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
