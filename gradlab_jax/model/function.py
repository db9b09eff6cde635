"""Programs that are no Flax modules: any pure function of its parameters, and the modules of Equinox, which are trees
of arrays that JAX knows."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_jax.model.inputs import arguments


@dataclasses.dataclass(frozen=True, eq=False)
class Function:
    """A model that is a pure function: Haiku's, or one written by hand.

    Args:
        apply: `apply(params, *inputs, **inputs)` → output; with a state `apply(params, state, *inputs, **inputs)` →
            (output, new state). It knows no train and eval mode: hand in the function of the mode that is meant.
        params: a tree, of which the floating arrays are the parameters, in the order in which its dicts were written.
            They are named by the way to them, `layers.0.weight`. Whole numbers and what is no array stay as they are.
        state: a tree, of which the floating arrays are running statistics.

    Raises:
        GradlabError: an `apply` that cannot be called, no floating array in `params`, two arrays of one name.

    >>> net = Function(lambda params, x: x @ params["fc"]["kernel"], {"fc": {"kernel": jnp.ones((3, 2))}})
    >>> list(named_trees(net)[0].names)
    ['fc.kernel']
    """

    apply: Callable[..., Any]
    params: Any
    state: Any = None

    def __post_init__(self) -> None:
        if not callable(self.apply):
            raise GradlabError(f"apply is a {type(self.apply).__name__}; expected a function apply(params, *inputs)")
        params, state = named_trees(self)
        if not params.names:
            raise GradlabError("params hold no floating array; expected at least one to train")
        counts = Counter([*params.names, *(state.names if state else ())])
        if twice := [name for name, count in counts.items() if count > 1]:
            raise GradlabError(f"{', '.join(twice)}: each is the name of several arrays; expected a name for each")


@dataclasses.dataclass(frozen=True)
class Tree:
    """A tree without its arrays: where they belong, by name, and all the rest."""

    structure: Any
    floats: tuple[tuple[str, int], ...]  # name and place among the leaves, in the order of definition
    others: tuple[tuple[str, int], ...]
    kept: tuple[tuple[int, Any], ...]
    shapes: tuple[tuple[int, tuple[int, ...]], ...]  # of the leaves that have another shape than PyTorch's

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.floats)

    def filled(self, arrays: Mapping[str, Any]) -> Any:
        """The tree with these arrays, by name."""
        leaves: dict[int, Any] = dict(self.kept)
        leaves |= {place: arrays[name] for name, place in (*self.floats, *self.others)}
        leaves |= {place: leaves[place].reshape(shape) for place, shape in self.shapes}
        return jax.tree.unflatten(self.structure, [leaves[i] for i in range(self.structure.num_leaves)])

    def arrays(self, tree: Any) -> dict[str, jax.Array]:
        """`{name: array}` of a tree of this structure."""
        leaves = jax.tree.leaves(tree)
        arrays = {place: _as_jax(leaves[place]) for _, place in (*self.floats, *self.others)}
        arrays |= {place: arrays[place].reshape(-1) for place, _ in self.shapes}
        return {name: arrays[place] for name, place in (*self.floats, *self.others)}


@dataclasses.dataclass(frozen=True)
class Plain:
    """A `Function` without its arrays, as `functional` gives it."""

    program: Callable[..., Any]
    params: Tree
    state: Tree | None
    axes: tuple[tuple[int, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.params.names

    def __hash__(self) -> int:
        """What a tree keeps may have no hash, and can be compared."""
        return hash((self.names, self.axes))

    def apply(self, params: tuple[jax.Array, ...], rest: Any, x: Any) -> tuple[Any, Any]:
        places, names = arguments(x)
        given, state = self.trees(params, rest)
        if self.state is None:
            return self.program(given, *places, **names), rest
        out = self.program(given, state, *places, **names)
        if not isinstance(out, tuple) or len(out) != 2:
            raise GradlabError(
                f"apply returned a {type(out).__name__}; expected (output, new state), since the Function has a state"
            )
        return out[0], {**rest, "state": self._updated(rest["state"], out[1])}

    def trees(self, params: tuple[jax.Array, ...], rest: Any) -> tuple[Any, Any]:
        """`(params, state)` in the user's form."""
        filled = self.params.filled({**dict(zip(self.names, params, strict=True)), **rest["params"]})
        return filled, None if self.state is None else self.state.filled(rest["state"])

    def _updated(self, old: Mapping[str, jax.Array], tree: Any) -> dict[str, jax.Array]:
        assert self.state is not None
        if jax.tree.structure(tree) != self.state.structure:
            raise GradlabError(
                f"apply returned a state of the structure {jax.tree.structure(tree)}; expected that of the one it "
                f"got, {self.state.structure}"
            )
        new = self.state.arrays(tree)
        if wrong := [f"{n} is {new[n].shape}, and was {old[n].shape}" for n in old if new[n].shape != old[n].shape]:
            raise GradlabError(f"apply returned a state of other shapes: {'; '.join(wrong)}")
        return new


def plain(function: Function) -> tuple[Plain, tuple[jax.Array, ...], Any]:
    """A function in the form that `functional` gives every model: whatever it holds by name."""
    params, state = named_trees(function)
    arrays = params.arrays(function.params)
    values = tuple(arrays.pop(name) for name in params.names)
    rest = {"params": arrays, "state": {} if state is None else state.arrays(function.state)}
    return Plain(function.apply, params, state, tuple(tuple(range(v.ndim)) for v in values)), values, rest


def as_function(model: Any, mode: str = "train") -> Function | None:
    """The model as a function, if it is one or a module of Equinox; None of any other.

    Raises:
        GradlabError: a module of Equinox that wants a key or a state.
    """
    if isinstance(model, Function):
        return model
    if not is_equinox(model):
        return None
    equinox = _equinox()
    wanted = inspect.signature(type(model).__call__).parameters if callable(model) else {}
    needed = [p.name for p in wanted.values() if p.name in ("key", "state") and p.default is p.empty]
    leaves = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, equinox.nn.StateIndex))
    if any(isinstance(leaf, equinox.nn.StateIndex) for leaf in leaves):
        needed = ["state"]
    if needed:
        raise GradlabError(_wants(model, needed[0]))
    return Function(_over_the_batch, equinox.nn.inference_mode(model, mode == "eval"))


def is_equinox(model: Any) -> bool:
    """Whether that is a module of Equinox, which is not imported for it."""
    equinox = _equinox()
    return equinox is not None and isinstance(model, equinox.Module)


def _over_the_batch(module: Any, *places: Any, **names: Any) -> Any:
    """By Equinox's convention a module takes one example."""
    axes = jax.tree.map(lambda array: 0 if jnp.ndim(array) else None, (places, names))
    try:
        return jax.vmap(lambda given: module(*given[0], **given[1]), in_axes=(axes,))((places, names))
    except (RuntimeError, TypeError, ValueError) as error:
        if re.search(r"\bkey\b", str(error)):
            raise GradlabError(_wants(module, "key")) from error
        raise


def _wants(module: Any, what: str) -> str:
    pass_it = "Function(apply, module, state), apply(module, state, x) → (output, new state)"
    if what == "key":
        pass_it = "Function(apply, module), apply(module, x) → output"
    return (
        f"the Equinox module {type(module).__name__} wants a {what}, which nobody gives it here; expected one of the "
        f"example alone: write a function that gives it, over the batch, and pass gradlab_jax.{pass_it}"
    )


def _equinox() -> Any:
    """Whoever has such a module has imported it."""
    return sys.modules.get("equinox")


def named_trees(function: Function) -> tuple[Tree, Tree | None]:
    """Parameters and state without their arrays."""
    return _tree(function.params), None if function.state is None else _tree(function.state)


def _as_jax(array: Any) -> jax.Array:
    """An array of JAX's as it is; one of NumPy's, which may still be changed, copied to what JAX makes of it."""
    return array if isinstance(array, jax.Array) else jnp.array(array)


def _tree(tree: Any) -> Tree:
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    place = {keys: i for i, (keys, _) in enumerate(leaves)}
    walked = [(".".join(names), place[keys], turned) for keys, names, turned in _walk(tree, (), ())]
    # Haiku writes linear/~/x: with dots like everybody's, unless two would then be called the same.
    dotted = [name.replace("/", ".") for name, _, _ in walked]
    if len(set(dotted)) == len(dotted):
        walked = [(name, i, turned) for name, (_, i, turned) in zip(dotted, walked, strict=True)]
    floats: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    kept, shapes = [], []
    for name, i, turned in walked:
        leaf = leaves[i][1]
        if not isinstance(leaf, (jax.Array, np.ndarray)):
            kept.append((i, leaf))
            continue
        (floats if jnp.issubdtype(leaf.dtype, jnp.inexact) else others).append((name, i))
        if turned:
            shapes.append((i, leaf.shape))
    return Tree(structure, tuple(floats), tuple(others), tuple(kept), tuple(shapes))


def _walk(node: Any, keys: tuple[Any, ...], names: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...], bool]]:
    """`(keys, names on the way, whether PyTorch has it flat)` of every leaf. JAX sorts the keys of a dict; here they
    come as they were written."""
    children = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda inner: inner is not node)[0]
    if [key for key, _ in children] == [()]:
        yield keys, names, False
        return
    if isinstance(node, Mapping):
        order = {key: i for i, key in enumerate(node)}
        children.sort(key=lambda child: order[child[0][0].key])
    equinox = _equinox()
    # PyTorch's Sequential numbers its layers without a name in between, and the bias of its convolutions is a vector.
    numbered = equinox is not None and isinstance(node, equinox.nn.Sequential)
    conv = equinox is not None and isinstance(node, equinox.nn.Conv)
    for way, child in children:
        name = str(next(getattr(way[0], kind) for kind in ("key", "name", "idx") if hasattr(way[0], kind)))
        inner = names if numbered and name == "layers" else (*names, name)
        for keys_below, path, turned in _walk(child, (*keys, *way), inner):
            yield keys_below, path, turned or (conv and name == "bias")
