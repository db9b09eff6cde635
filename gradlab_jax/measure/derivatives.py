"""Backpropagation held against differences, each step of a model by itself."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gradlab_core.definitions.cuts import LOSS, Cut
from gradlab_core.definitions.derivatives import Array
from gradlab_core.judge.derivatives import Source, check_steps
from gradlab_core.records import DerivativeCheck
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_jax.model.cuts import run_cut
from gradlab_jax.model.function import Plain
from gradlab_jax.model.gradients import Loss
from gradlab_jax.model.inputs import Inputs, checked_inputs, named
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import Tap
from gradlab_jax.model.weights import astype, linen_astype


def check_derivatives(
    model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> DerivativeCheck:
    """Whether backpropagation gives the derivatives of what is computed, in every parameter and in what goes into
    every layer; what is wrong is placed.

    The model is cut before and after every call of a module, of an activation and of a function with a derivative of
    its own (`jax.custom_vjp`, `jax.custom_jvp`), and each step is held by itself, in float64, against central
    differences with Richardson extrapolation along one random direction. So one wrong backward is one wrong layer, not
    all before it, and of several each is named. A kink, float32 inside, randomness and what is cut off are told apart
    (`status` of a row). It takes up to 12 runs for each parameter and each cut: a few examples and a small model of
    the same layers do.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C); several inputs by name in a mapping, by
            place in a tuple or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a model, a batch with NaN or Inf, labels out of range, or a loss that is not one number.

    >>> @jax.custom_vjp
    ... def twice(x):
    ...     return 2 * x
    >>> twice.defvjp(lambda x: (2 * x, None), lambda kept, slope: (slope,))  # the 2 is missing
    >>> class Layer(nnx.Linear):
    ...     def __call__(self, x):
    ...         return twice(super().__call__(x))
    >>> rngs = nnx.Rngs(0)
    >>> net = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), Layer(4, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs))
    >>> check_derivatives(net, jnp.ones((5, 3)), jnp.array([0, 1, 0, 1, 0])).wrong
    ('twice of 1',)
    """
    with jax.enable_x64(True):
        return check_steps(_Steps(*_wide(model, mode), _doubled(checked_inputs(x)), _doubled(as_labels(y)), loss), mode)


class _Place(NamedTuple):
    """A cut, the layout of its tensor, and its shape and type."""

    cut: Cut
    tap: Tap
    shape: Any


class _Steps:
    """A model in float64, cut into steps."""

    def __init__(self, f: Functional, params: Any, rest: Any, x: Any, y: Any, loss: Loss) -> None:
        self.f, self.rest, self.y, self.loss = f, rest, y, loss
        if loss is cross_entropy:
            check_model_labels(y, jax.eval_shape(f.apply, params, rest, x)[0])
        self.places = _places(f, loss, *_key(params, rest, x, y))
        nothing = [np.zeros(place.shape.shape, place.shape.dtype) for place in self.places]
        leaves = _values(f, loss, params, x, nothing, rest, y, True)[:-1]
        self.inputs = [n for n, (_, array) in enumerate(named(x)) if jnp.issubdtype(array.dtype, jnp.floating)]
        self.tree: Any = (params, x, leaves)
        moves = [_turned(axes) for axes in f.axes]
        for n in self.inputs:
            spatial = named(x)[n][1].ndim == 4 and not isinstance(f, Plain)
            image = Tap("", "input", 0, spatial)
            moves.append((image.canonical, image.native))
        self.moves: list[Any] = moves + [(place.tap.canonical, place.tap.native) for place in self.places]
        names = [f"input {name}" if name else "input" for name, _ in named(x)]
        named_tensors = [*f.names, *(names[n] for n in self.inputs), *(place.cut.label for place in self.places)]
        tensors = zip(named_tensors, self._of(self.tree), self.moves, strict=True)
        self.sources = [
            Source(name, _host(tensor, move[0]), parameter=i < len(params))
            for i, (name, tensor, move) in enumerate(tensors)
        ]
        self.targets = [*(place.cut for place in self.places), LOSS]

    def run(self, changed: Mapping[int, Array]) -> list[Array | None]:
        new = {i: self.moves[i][1](array) for i, array in changed.items()}
        values = _values(self.f, self.loss, *self._with(new), self.rest, self.y, False)
        return [_host(value, move) for value, move in zip(jax.device_get(values), self._ways(), strict=True)]

    def back(self, target: int, cotangent: Array) -> list[Array | None]:
        shapes = [*(place.shape for place in self.places), jax.ShapeDtypeStruct((1,), jnp.float64)]
        slopes = [np.zeros(shape.shape, shape.dtype) for shape in shapes]
        native = self.places[target].tap.native(cotangent) if target < len(self.places) else cotangent
        slopes[target] = np.asarray(native, shapes[target].dtype)
        grads = jax.device_get(_slopes(self.f, self.loss, *self.tree, self.rest, self.y, slopes))
        return [_host(grad, move[0]) for grad, move in zip(self._of(grads), self.moves, strict=True)]

    def _ways(self) -> list[Any]:
        return [*(place.tap.canonical for place in self.places), lambda value: value]

    def _of(self, tree: Any) -> list[Any]:
        """The tensors among parameters, batch and leaves that are moved, in the order of the sources."""
        params, x, leaves = tree
        batch = [array for _, array in named(x)]
        return [*params, *(batch[n] for n in self.inputs), *leaves]

    def _with(self, new: Mapping[int, Array]) -> Any:
        """Parameters, batch and leaves, with these in place of sources."""
        params, x, leaves = self.tree
        batch, structure = jax.tree.flatten(x)
        first = len(params) + len(self.inputs)

        def taken(i: int, old: Any) -> Any:
            return new[i].astype(old.dtype) if i in new else old

        for i, n in enumerate(self.inputs):
            batch[n] = taken(len(params) + i, batch[n])
        return (
            tuple(taken(i, p) for i, p in enumerate(params)),
            jax.tree.unflatten(structure, batch),
            [taken(first + i, leaf) for i, leaf in enumerate(leaves)],
        )


def _run(f: Functional, loss: Loss, params: Any, rest: Any, x: Any, y: Any, on_cut: Any) -> jax.Array:
    def value(out: Any) -> jax.Array:
        return jnp.asarray(check_loss(loss(check_logits(out), y)))

    return run_cut(f, params, rest, x, on_cut, value, once=True)[1].reshape(1)


def _key(*trees: Any) -> tuple[Any, tuple[Any, ...]]:
    leaves, structure = jax.tree.flatten(trees)
    return structure, tuple(jax.typeof(leaf) for leaf in leaves)


@functools.lru_cache(maxsize=128)
def _places(f: Functional, loss: Loss, structure: Any, avals: tuple[Any, ...]) -> tuple[_Place, ...]:
    """Where the model is cut, in execution order; traced once, nothing is computed."""
    places: list[_Place] = []

    def on_cut(cut: Cut, tap: Tap, value: jax.Array) -> jax.Array:
        places.append(_Place(cut, tap, jax.ShapeDtypeStruct(value.shape, value.dtype)))
        return value + jnp.zeros_like(value)  # a tensor of its own, as in the runs

    jax.eval_shape(
        lambda params, rest, x, y: _run(f, loss, params, rest, x, y, on_cut), *jax.tree.unflatten(structure, avals)
    )
    return tuple(places)


def _steps(f: Functional, loss: Loss, params: Any, x: Any, leaves: Any, rest: Any, y: Any, natural: Any) -> list[Any]:
    """What comes out of every step, each computed from the leaves; or as the model itself goes on, if `natural`."""
    values: list[jax.Array] = []

    def on_cut(cut: Cut, tap: Tap, value: jax.Array) -> jax.Array:
        values.append(value)
        leaf = leaves[len(values) - 1]
        # A tensor of its own: one leaf may be another one, and is not to be taken for it.
        return leaf + 0 if natural is None else jnp.where(natural, value, leaf)

    loss_value = _run(f, loss, params, rest, x, y, on_cut)
    return [*values, loss_value.astype(jnp.float64)]


_values = jax.jit(_steps, static_argnums=(0, 1))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _slopes(f: Functional, loss: Loss, params: Any, x: Any, leaves: Any, rest: Any, y: Any, slopes: Any) -> Any:
    _, back = jax.vjp(lambda p, x, leaves: _steps(f, loss, p, x, leaves, rest, y, None), params, x, leaves)
    return back(slopes)


def _wide(model: Any, mode: str) -> tuple[Functional, Any, Any]:
    """The model in float64, as `functional` gives it."""
    if isinstance(model, nnx.Module):
        model = astype(model, "float64")
    elif isinstance(model, nn.Module) and model.scope is not None:
        module, variables = linen_astype(*model.unbind(), "float64")
        model = module.bind(variables)
    f, params, rest = functional(model, mode)
    return f, _doubled(params), _doubled(rest)


def _doubled(tree: Any) -> Any:
    """On the host, where a change of type needs no program."""
    return jax.tree.map(lambda a: np.asarray(a, np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def _turned(axes: tuple[int, ...]) -> tuple[Any, Any]:
    """To canonical layout and back, of a parameter whose axes are canonical in that order."""
    back = tuple(np.argsort(axes))
    return (lambda a: a.transpose(axes)), (lambda a: a.transpose(back))


def _host(value: Any, canonical: Any) -> Array:
    """On the host, canonical and in float64."""
    return np.asarray(canonical(np.asarray(value)), np.float64)
