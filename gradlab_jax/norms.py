"""L2 norms of pytrees, right over the whole range of the type; pure, for `jit`, `vmap`, `scan` and sharded arrays.

Plain sums of squares in float32 overflow at 1e19 and underflow at 1e-20. Here the plain sum is taken at full memory
speed, and only when it says that range was lost does one `lax.cond` run a second pass, rescaled by a power of two.
"""

from __future__ import annotations

from collections import OrderedDict

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_core.errors import GradlabError
from gradlab_jax._tree import Tree, map_leaves, module_of, named_leaves

_SMALL = 1 << 16  # elements; smaller arrays share one branch, so that the program stays short


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
    return _norm(_present(tree))


def leaf_norms(tree: Tree) -> dict[str, jax.Array | None]:
    """`{path: ‖·‖₂}` of every array, in definition order; None where the leaf is None (a missing gradient).

    >>> {k: v if v is None else float(v) for k, v in leaf_norms({"w": jnp.ones(4), "b": None}).items()}
    {'w': 2.0, 'b': None}
    """
    leaves = list(named_leaves(tree))
    sizes = iter(stacked_norms([x for _, x in leaves if x is not None]))
    # An OrderedDict, since JAX sorts the keys of a plain one when it leaves a jitted function.
    return OrderedDict((path, None if x is None else next(sizes)) for path, x in leaves)


def layer_norms(tree: Tree) -> dict[str, jax.Array | None]:
    """`{module path: ‖·‖₂ of all its arrays}`; None where all of a module's leaves are None.

    >>> tree = {"fc": {"weight": jnp.array([3.0]), "bias": jnp.array([4.0])}}
    >>> float(layer_norms(tree)["fc"])
    5.0
    """
    groups: OrderedDict[str, list[jax.Array]] = OrderedDict()
    for path, size in leaf_norms(tree).items():
        groups.setdefault(module_of(path), []).extend([] if size is None else [size])
    return OrderedDict((module, _norm([jnp.stack(sizes)]) if sizes else None) for module, sizes in groups.items())


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


def _wide(x: jax.Array) -> jax.Array:
    """The array as real numbers of at least float32."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    return x if x.dtype in (jnp.float32, jnp.float64) else x.astype(jnp.float32)


def _norm(arrays: list[jax.Array]) -> jax.Array:
    """‖·‖₂ of several arrays taken as one vector: one plain pass, one branch."""
    wide = [_wide(x) for x in arrays]
    dtype = jnp.result_type(*wide) if wide else jnp.float32
    total = sum((_squares(x.astype(dtype), 1.0) for x in wide), jnp.zeros((), dtype))
    count = sum(x.size for x in wide)

    def rescaled(arrays: list[jax.Array]) -> jax.Array:
        scale = _scale(total)
        return jnp.sqrt(sum((_squares(x.astype(dtype), scale) for x in arrays), jnp.zeros((), dtype))) / scale

    return lax.cond(_kept(total, count), lambda _: jnp.sqrt(total), rescaled, wide)


def stacked_norms(arrays: list[jax.Array]) -> jax.Array:
    """‖·‖₂ of each array as one vector. A large array has a branch of its own; the small ones share one, since a bias
    that is all zero asks for the second pass at every step and must not drag the large ones along."""
    wide = [_wide(x) for x in arrays]
    dtype = jnp.result_type(*wide) if wide else jnp.float32
    norms: dict[int, jax.Array] = {i: _norm([x]) for i, x in enumerate(wide) if x.size >= _SMALL}
    small = [i for i in range(len(wide)) if i not in norms]
    if small:
        totals = jnp.stack([_squares(wide[i].astype(dtype), 1.0) for i in small])
        kept = _kept(totals, jnp.array([wide[i].size for i in small], dtype))

        def rescaled(arrays: list[jax.Array]) -> jax.Array:
            scales = jnp.where(kept, 1, _scale(totals))  # what is in range stays there
            squares = [_squares(x.astype(dtype), scales[k]) for k, x in enumerate(arrays)]
            return jnp.sqrt(jnp.stack(squares)) / scales

        sizes = lax.cond(jnp.all(kept), lambda _: jnp.sqrt(totals), rescaled, [wide[i] for i in small])
        norms.update({i: sizes[k] for k, i in enumerate(small)})
    return jnp.stack([norms[i].astype(dtype) for i in range(len(wide))]) if wide else jnp.zeros(0)


def _squares(x: jax.Array, scale: float | jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x * scale))


def _kept(total: jax.Array, count: int | jax.Array) -> jax.Array:
    """Whether a plain sum of `count` squares lost nothing: no overflow, and large beside all that can underflow."""
    floor = 2.0**-100 if total.dtype == jnp.float32 else 2.0**-960
    return jnp.isfinite(total) & (total >= count * floor)


def _scale(total: jax.Array) -> jax.Array:
    """A power of two that brings the squares back into range: down when they overflowed, up when they underflowed."""
    down, up = (2.0**-70, 2.0**90) if total.dtype == jnp.float32 else (2.0**-540, 2.0**600)
    return jnp.where(total > 1, down, up).astype(total.dtype)
