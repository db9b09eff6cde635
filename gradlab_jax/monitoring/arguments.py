"""The arguments of a loss function as a list of arrays, the parameters by name, and back."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.errors import GradlabError
from gradlab_jax.model.modules import PATH, canonical_axes, kernel_axes, named_modules, named_variables
from gradlab_jax.monitoring.measurements import leaves_of
from gradlab_jax.trees.leaves import named_leaves


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Those of one call.

    Attributes:
        arrays: the parameters first, in the order of `names`, then all others.
        names: of the parameters, which are the floating arrays of the first argument, as a monitor names them.
        axes: the order of axes that makes each parameter canonical.
        states: how many arrays after the parameters modules hold: statistics and random states, which are no data.
        rebuilt: `(args, kwargs)` of such a list of arrays; modules are made anew, so nothing that happens to them
            reaches the user's.
    """

    arrays: list[jax.Array]
    names: tuple[str, ...]
    axes: tuple[tuple[int, ...], ...]
    states: int
    rebuilt: Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def taken_apart(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """The arguments, taken apart.

    Raises:
        GradlabError: no first argument, or one without a floating array.
    """
    leaves, structure = jax.tree.flatten((args, dict(kwargs)), is_leaf=_is_node)
    nodes = {i: leaf for i, leaf in enumerate(leaves) if _is_node(leaf)}
    graph, state = nnx.split(tuple(nodes.values())) if nodes else (None, {})
    held, state_structure = jax.tree.flatten(state)
    plain = {i: leaf for i, leaf in enumerate(leaves) if i not in nodes and _is_array(leaf)}
    arrays = [*held, *plain.values()]
    if not args:
        raise GradlabError("the loss function was called without arguments; expected the parameters as the first")
    if _is_node(args[0]):
        places, axes = _of_module(args[0], jax.tree.unflatten(state_structure, range(len(held))))
    else:
        given, kernels = _of_tree(args[0])
        places = {name: len(held) + i for name, i in given.items()}
        axes = {name: kernel_axes(arrays[places[name]].ndim) for name in kernels}
    # What is no floating array, as a random key or a count, is no parameter.
    places = {name: i for name, i in places.items() if jnp.issubdtype(arrays[i].dtype, jnp.inexact)}
    if not places:
        raise GradlabError(
            f"the first argument of the loss function, a {type(args[0]).__name__}, holds no floating array; expected "
            "the parameters, or a module"
        )
    first = set(places.values())
    order = [*places.values(), *(i for i in range(len(arrays)) if i not in first)]

    def rebuilt(ordered: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = dict(zip(order, ordered, strict=True))
        values = [given[i] for i in range(len(arrays))]
        filled = dict(enumerate(leaves)) | dict(zip(plain, values[len(held) :], strict=True))
        if graph is not None:
            made = nnx.merge(graph, jax.tree.unflatten(state_structure, values[: len(held)]), copy=True)
            filled |= dict(zip(nodes, made, strict=True))
            for module in made:
                for path, inner in named_modules(module) if isinstance(module, nnx.Module) else ():
                    setattr(inner, PATH, path)
        return jax.tree.unflatten(structure, [filled[i] for i in range(len(leaves))])

    return Arguments(
        arrays=[jnp.asarray(arrays[i]) for i in order],
        names=tuple(places),
        axes=tuple(axes.get(name, tuple(range(arrays[i].ndim))) for name, i in places.items()),
        states=sum(i < len(held) for i in order[len(places) :]),
        rebuilt=rebuilt,
    )


def _of_module(module: Any, places: Any) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """`{canonical path: place}` of a module's parameters, and the order of axes that makes each canonical; `places` is
    the state of several nodes, this one the first, with numbers in place of arrays."""
    numbers = {key: v.get_value() if isinstance(v, nnx.Variable) else v for key, v in nnx.to_flat_state(places)}
    keys = {id(node): key for key, node in nnx.iter_graph(module) if isinstance(node, nnx.Variable)}
    place_of, axes = {}, {}
    for path, owner, variable in named_variables(module):
        if isinstance(variable, nnx.Param):
            place_of[path] = numbers[(0, *keys[id(variable)])]
            axes[path] = canonical_axes(owner, variable.get_value().ndim)
    return place_of, axes


def _of_tree(tree: Any) -> tuple[dict[str, int], list[str]]:
    """`{path: place among the arrays}` of a tree's arrays, named as a monitor names them, and which of them are
    kernels by their own name, as Flax calls what it has the other way round than PyTorch."""
    leaves, structure = jax.tree.flatten(tree)
    count = itertools.count()
    numbered = jax.tree.unflatten(structure, [next(count) if _is_array(leaf) else None for leaf in leaves])
    with jax.ensure_compile_time_eval():  # the numbers stay numbers while a step is traced
        places = {name: int(place) for name, place in leaves_of(numbered, {}).items()}
        own = [path for path, place in named_leaves(numbered) if place is not None]
    return places, [name for name, path in zip(places, own, strict=True) if path.rpartition(".")[2] == "kernel"]


def _is_node(leaf: Any) -> bool:
    return isinstance(leaf, (nnx.Module, nnx.Rngs))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))
