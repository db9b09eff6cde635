"""Where a model's layers give their outputs, found in the traced program.

Two kinds of layer are found in two ways. A layer that is a module (convolution, normalisation, linear) is marked while
Python traces the model, by an identity with a name. An activation is mostly called as a function, `nnx.relu(x)`, and
leaves no module behind: it is recognised in the program itself, and belongs to the module in whose name scope it
stands. Both come out in execution order, a layer called twice comes twice. A program without modules has its layers
found by their parameters; an activation is then taken to belong where the layer before it does.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from gradlab_core.definitions import kinds
from gradlab_jax.model import activation_patterns as patterns
from gradlab_jax.model.function import Plain
from gradlab_jax.model.function_layers import Images, Layer, Place, find_layers
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, batch_first, bind, called, inner_jaxprs, opened, scan_of
from gradlab_jax.model.marks import mark_of, marked, scope_of
from gradlab_jax.model.modules import Functional


@dataclasses.dataclass(frozen=True)
class Tap:
    """One call of one layer. `spatial`: PyTorch would hold this tensor as (N, C, spatial…), and so does the model
    itself if its channels are `second`."""

    path: str
    kind: str
    call: int
    spatial: bool
    second: bool = False

    def channel_axis(self, x: Any) -> int:
        return 1 if self.second and x.ndim > 2 else x.ndim - 1

    def canonical(self, x: Any) -> Any:
        """The tensor, or its shape-only stand-in's array, in canonical layout."""
        if not self.spatial or self.second or x.ndim < 3:
            return x
        return np.moveaxis(x, -1, 1) if isinstance(x, np.ndarray) else jax.numpy.moveaxis(x, -1, 1)

    def native(self, x: np.ndarray) -> np.ndarray:
        """A tensor in canonical layout as the model has it."""
        return np.moveaxis(x, 1, -1) if self.spatial and not self.second and x.ndim > 2 else x

    def canonical_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        moved = self.spatial and not self.second and len(shape) > 2
        return (shape[0], shape[-1], *shape[1:-1]) if moved else shape


OnTap = Callable[[Tap, jax.Array], tuple[jax.Array, Any]]
"""Gets a layer's output where it arises; returns what takes its place, and anything to hand out."""


def run_tapped(
    f: Functional, params: Any, rest: Any, x: Any, on_tap: OnTap, *, differentiable: bool = False
) -> tuple[jax.Array, Any, list[tuple[Tap, Any]]]:
    """`f.apply(params, rest, x)` with every layer's output handed through `on_tap`; and what `on_tap` handed out, in
    execution order. Pure and traceable: use it inside `jax.jit`, or with `differentiable` inside `jax.grad`, which
    leaves loops and custom derivative rules closed."""
    plain = isinstance(f, Plain)
    with batch_first() if plain else marked():
        closed, shape = jax.make_jaxpr(f.apply, return_shape=True)(params, rest, x)
    layers = find_layers(closed.jaxpr, f.names, len(jax.tree.leaves(rest))) if plain else {}
    interpreter = _Interpreter(on_tap, layers, Where.at_first(layers, plain=plain), deep=not differentiable)
    outputs = interpreter.run(closed.jaxpr, closed.consts, jax.tree.leaves((params, rest, x)), "")
    logits, state = jax.tree.unflatten(jax.tree.structure(shape), outputs)
    return logits, state, interpreter.handed_out


def run_tapped_loss(
    closed: core.ClosedJaxpr,
    args: Sequence[Any],
    layers: dict[Place, Layer],
    on_tap: OnTap,
    at: Mapping[Place, Callable[[jax.Array], jax.Array]],
) -> tuple[jax.Array, list[tuple[Tap, Any]]]:
    """The first result of a program, the output of every layer that a module has marked, and of these layers, handed
    through `on_tap`, and what arises at some places through the functions for them."""
    where = Where.at_first(layers, plain=bool(layers))
    interpreter = _Interpreter(on_tap, layers, where, deep=True, at=at)
    outputs = interpreter.run(closed.jaxpr, closed.consts, args, "")
    return outputs[0], interpreter.handed_out


def unmarked_layers(jaxpr: core.Jaxpr, names: tuple[str, ...]) -> dict[Place, Layer]:
    """The layers of a program whose first inputs are the parameters of these names: none where modules have marked
    theirs, else those that the parameters make."""
    return {} if _is_marked(jaxpr) else find_layers(jaxpr, names, 0, closes_over_data=True)


def _is_marked(jaxpr: core.Jaxpr) -> bool:
    return any(mark_of(eqn) or any(map(_is_marked, inner_jaxprs(eqn))) for eqn in jaxpr.eqns)


@functools.lru_cache(maxsize=128)
def _taps(f: Functional, structure: Any, avals: tuple[Any, ...]) -> tuple[Tap, ...]:
    handed: list[tuple[Tap, Any]] = []

    def trace(params: Any, rest: Any, x: jax.Array) -> None:
        handed.extend(run_tapped(f, params, rest, x, lambda tap, value: (value, None))[2])

    jax.eval_shape(trace, *jax.tree.unflatten(structure, avals))
    return tuple(tap for tap, _ in handed)


def taps(f: Functional, params: Any, rest: Any, x: Any) -> tuple[Tap, ...]:
    """The taps of a model in execution order; traced once per model and shape, nothing is computed."""
    leaves, structure = jax.tree.flatten((params, rest, x))
    return _taps(f, structure, tuple(jax.typeof(leaf) for leaf in leaves))


def outputs(f: Functional, params: Any, rest: Any, x: Any) -> tuple[list[Tap], list[jax.ShapeDtypeStruct]]:
    """The taps of a `differentiable` run in execution order, which sees no layer inside of a loop, and the shapes of
    their outputs; nothing is computed."""
    seen: list[Tap] = []

    def trace(params: Any, rest: Any, x: jax.Array) -> list[jax.Array]:
        handed = run_tapped(f, params, rest, x, lambda tap, value: (value, value), differentiable=True)[2]
        seen.extend(tap for tap, _ in handed)
        return [value for _, value in handed]

    return seen, jax.eval_shape(trace, params, rest, x)


@dataclasses.dataclass
class Where:
    """What the layers so far say of those after them: the layout of images and, without modules, the path."""

    spatial: bool
    images: Images | None = None  # the program's own word, which holds for arrays of so many axes
    module: str = ""

    @classmethod
    def at_first(cls, layers: dict[Place, Layer], *, plain: bool) -> Where:
        """Until a layer says otherwise the layout is the image's: Flax's, or that of the first convolution."""
        images = next((layer.images for _, layer in sorted(layers.items()) if layer.images), None)
        return cls(spatial=not plain or images is not None, images=images)

    def after(self, layer: Layer) -> Where:
        spatial = self.spatial if layer.kind == kinds.NORM else layer.images is not None
        return Where(spatial, layer.images or self.images, layer.path.rpartition(".")[0])

    def tap(self, path: str, kind: str, call: int, value: jax.Array) -> Tap:
        spatial = self.spatial and (self.images is None or self.images.axes == value.ndim)
        return Tap(path, kind, call, spatial, spatial and self.images is not None and not self.images.last)


class _Interpreter:
    """Evaluates a program equation by equation and hands every layer's output through `on_tap`."""

    def __init__(
        self,
        on_tap: OnTap,
        layers: dict[Place, Layer],
        where: Where,
        *,
        deep: bool,
        at: Mapping[Place, Callable[[jax.Array], jax.Array]] | None = None,
    ) -> None:
        self.on_tap, self.at = on_tap, at or {}
        self.layers = layers  # of a program without modules
        self.where = where
        self.deep = deep
        self.calls: dict[str, int] = {}
        self.handed_out: list[tuple[Tap, Any]] = []

    def run(self, jaxpr: core.Jaxpr, consts: Any, args: Any, scope: str, place: Place = ()) -> list[Any]:
        env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else env[atom]

        activations = patterns.find(jaxpr)
        for index, eqn in enumerate(jaxpr.eqns):
            kind, here, module = activations.get(index), (*place, index), scope_of(eqn, scope)
            outputs = self.evaluate(eqn, [read(v) for v in eqn.invars], module, here, descend=kind is None)
            if (mark := mark_of(eqn)) is not None:
                self.where = Where(mark.spatial)
                outputs = [self.tap(mark.path, mark.kind, outputs[0])]
            elif here in self.layers:
                layer = self.layers[here]
                self.where = self.where.after(layer)
                outputs = [self.tap(layer.path, layer.kind, outputs[0])]
            elif kind is not None:
                outputs = [self.tap(module or self.where.module, kind, outputs[0])]
            if here in self.at:
                outputs = [self.at[here](outputs[0]), *outputs[1:]]
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def tap(self, path: str, kind: str, value: jax.Array) -> jax.Array:
        call = self.calls.get(path, 0)
        self.calls[path] = call + 1
        tap = self.where.tap(path, kind, call, value)
        value, handed = self.on_tap(tap, value)
        self.handed_out.append((tap, handed))
        return value

    def evaluate(self, eqn: Any, inputs: list[Any], scope: str, place: Place, *, descend: bool) -> list[Any]:
        name = eqn.primitive.name
        inside = any(other[: len(place)] == place and other != place for other in [*self.layers, *self.at])
        if descend and (inside or any(map(_has_layers, _inside(eqn)))):
            if name in CALLS or (self.deep and name in CUSTOM_RULES):
                return self.run(*opened(called(eqn)), inputs, scope, place)
            if self.deep and name == "scan":
                return self.scan(eqn.params, inputs, scope, place)
            if self.deep:
                warnings.warn(
                    f"layers inside a `{name}` of {scope or 'the model'} are not measured: how often they run is known "
                    "only at run time",
                    stacklevel=2,
                )
        return bind(eqn, inputs)

    def scan(self, params: Any, inputs: list[Any], scope: str, place: Place) -> list[Any]:
        """A loop of known length: what the taps of one turn hand out leaves the loop stacked, a row a turn."""
        loop = scan_of(params)
        consts, carried, columns = loop.split(inputs)
        seen: list[Tap] = []
        before = self.where

        def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], tuple[list[Any], list[Any]]]:
            inner = _Interpreter(self.on_tap, self.layers, before, deep=True)
            out = inner.run(loop.body, loop.bound, [*consts, *carry, *xs], scope, place)
            seen[:] = [tap for tap, _ in inner.handed_out]
            self.where = inner.where
            return out[: loop.carry], (out[loop.carry :], [handed for _, handed in inner.handed_out])

        carry, (stacked, handed) = jax.lax.scan(
            turn, carried, columns, length=loop.length, reverse=loop.reverse, unroll=loop.unroll
        )
        for i in reversed(range(loop.length)) if loop.reverse else range(loop.length):
            for tap, values in zip(seen, handed, strict=True):
                call = self.calls.get(tap.path, 0)
                self.calls[tap.path] = call + 1
                self.handed_out.append(
                    (dataclasses.replace(tap, call=call), jax.tree.map(operator.itemgetter(i), values))
                )
        return [*carry, *stacked]


def _inside(eqn: Any) -> list[core.Jaxpr]:
    """The programs inside an equation in which layers may be found."""
    return [] if patterns.function_name(eqn) in patterns.COMPOSITE else list(inner_jaxprs(eqn))


def _has_layers(jaxpr: core.Jaxpr) -> bool:
    return bool(patterns.find(jaxpr)) or any(mark_of(eqn) or any(map(_has_layers, _inside(eqn))) for eqn in jaxpr.eqns)
