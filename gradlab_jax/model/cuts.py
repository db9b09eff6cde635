"""A model run with a hand on every tensor that goes into a call of a layer or comes out of one.

Cut are the calls of all modules, of activations that are called as functions, and of functions with a derivative of
their own (`jax.custom_vjp`, `jax.custom_jvp`), also those of the loss. Loops and branches stay closed, as does what is
inside of a function with a derivative of its own. A program without modules is cut where its layers are found.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from gradlab_core.definitions.cuts import LOGITS, Cut, End, Sort
from gradlab_jax.model import activation_patterns as patterns
from gradlab_jax.model.function import Plain
from gradlab_jax.model.function_layers import Layer, Place, find_layers
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, batch_first, bind, called, opened
from gradlab_jax.model.marks import EndMark, end_of, ended, marked, scope_of
from gradlab_jax.model.modules import Functional
from gradlab_jax.model.taps import Tap, Where

OnCut = Callable[[Cut, Tap, jax.Array], jax.Array]
"""Gets a tensor where the model is cut; returns what the model goes on with."""


def run_cut(
    f: Functional, params: Any, rest: Any, x: Any, on_cut: OnCut, loss: Callable[[Any], jax.Array], *, once: bool
) -> tuple[Any, jax.Array]:
    """`(out, loss)`, cut; pure and traceable. With `once` a tensor that a cut gave is not cut again where it goes in,
    nor is the batch."""
    plain = isinstance(f, Plain)

    def whole(params: Any, rest: Any, x: Any) -> tuple[Any, jax.Array]:
        out = ended(f.apply(params, rest, x)[0], LOGITS.path, LOGITS.kind)
        return out, loss(out)

    with batch_first() if plain else marked(ends=True):
        closed, shape = jax.make_jaxpr(whole, return_shape=True)(params, rest, x)
    layers = find_layers(closed.jaxpr, f.names, len(jax.tree.leaves(rest))) if plain else {}
    # Until a layer says otherwise the layout is the image's, if there are any.
    images = any(jnp.ndim(leaf) == 4 for leaf in jax.tree.leaves(x))
    where = Where.at_first(layers, plain=True) if plain else Where(images)
    cutter = _Cutter(on_cut, layers, where, once=once)
    cutter.own = list(params)
    cutter.handed = jax.tree.leaves(x)
    outputs = cutter.run(closed.jaxpr, closed.consts, jax.tree.leaves((params, rest, x)), "")
    out, value = jax.tree.unflatten(jax.tree.structure(shape), outputs)
    return out, value


@dataclasses.dataclass
class _Call:
    """One call that is under way."""

    path: str
    kind: str
    sort: Sort
    number: int
    caller: str
    places: Counter[End] = dataclasses.field(default_factory=Counter)

    def cut(self, end: End) -> Cut:
        place = self.places[end]
        self.places[end] += 1
        return Cut(self.path, self.kind, self.number, end, place, self.caller, self.sort)


class _Cutter:
    """Evaluates a program equation by equation."""

    def __init__(self, on_cut: OnCut, layers: dict[Place, Layer], where: Where, *, once: bool) -> None:
        self.on_cut, self.layers, self.where, self.once = on_cut, layers, where, once
        self.own: list[Any] = []
        self.handed: list[Any] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self.marked: dict[int, _Call] = {}
        self.begun = {layer.begins[0]: layer for layer in layers.values() if layer.begins}
        self.pending: dict[str, _Call] = {}

    def run(self, jaxpr: core.Jaxpr, consts: Any, args: Any, scope: str, place: Place = ()) -> list[Any]:
        env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else env[atom]

        activations = patterns.find(jaxpr)
        for index, eqn in enumerate(jaxpr.eqns):
            inputs = [read(v) for v in eqn.invars]
            here, path = (*place, index), scope_of(eqn, scope)
            if (mark := end_of(eqn)) is not None:
                outputs = [self.end(mark, inputs[0], path)]
            elif index in activations:
                path = path or self.where.module
                call = self.begin(path, activations[index], "activation", path)
                source = patterns.source(jaxpr, index)
                changed = self.changed(call, "input", env[source])
                outputs = [self.changed(call, "output", _again(jaxpr, index, source, changed, read))]
            elif eqn.primitive.name in CUSTOM_RULES:
                call = self.begin(path, _name(eqn), "function", path)
                outputs = bind(eqn, [self.changed(call, "input", value) for value in inputs])
                outputs = [self.changed(call, "output", value) for value in outputs]
            elif eqn.primitive.name == "copy":  # GELU ends with one
                outputs = inputs
            elif eqn.primitive.name in CALLS:
                outputs = self.run(*opened(called(eqn)), inputs, path, here)
            else:
                outputs = self.plain(eqn, inputs, here)
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def end(self, mark: EndMark, value: Any, caller: str) -> Any:
        """A tensor at an end of the call of a module."""
        if mark.number not in self.marked:
            sort: Sort = "module" if mark.spatial is None else "layer"
            self.marked[mark.number] = self.begin(mark.path, mark.kind, sort, caller)
        if mark.end == "output" and mark.spatial is not None:
            self.where = Where(mark.spatial)
        return self.changed(self.marked[mark.number], "input" if mark.end == "input" else "output", value)

    def plain(self, eqn: Any, inputs: list[Any], here: Place) -> list[Any]:
        """Any other equation; in a program without modules a layer may begin or end with it."""
        if (layer := self.begun.get(here)) is not None and layer.begins is not None:
            call = self.pending[layer.path] = self.begin(layer.path, layer.kind, "layer", "")
            operand = layer.begins[1]
            inputs = [self.changed(call, "input", v) if i == operand else v for i, v in enumerate(inputs)]
        outputs = bind(eqn, inputs)
        if (layer := self.layers.get(here)) is not None:
            self.where = self.where.after(layer)
            begun = self.pending.pop(layer.path) if layer.path in self.pending else None
            call = begun or self.begin(layer.path, layer.kind, "layer", "")
            outputs = [self.changed(call, "output", outputs[0])]
        return outputs

    def begin(self, path: str, kind: str, sort: Sort, caller: str) -> _Call:
        number = self.calls[path, kind]
        self.calls[path, kind] += 1
        return _Call(path, kind, sort, number, caller)

    def changed(self, call: _Call, end: End, value: Any) -> Any:
        known = any(value is own for own in self.own) or (self.once and any(value is old for old in self.handed))
        if known or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            return value
        tap = self.where.tap(call.path, call.kind, call.number, value)
        made = self.on_cut(call.cut(end), tap, jnp.asarray(value))
        self.handed.append(made)
        return made


def _again(jaxpr: core.Jaxpr, index: int, source: Any, value: Any, read: Callable[[Any], Any]) -> Any:
    """The output of the equation at `index`, computed anew from another value of that variable."""
    new: dict[Any, Any] = {source: value}
    first = max((i + 1 for i, eqn in enumerate(jaxpr.eqns) if source in eqn.outvars), default=0)
    for eqn in jaxpr.eqns[first : index + 1]:
        variables = [v for v in eqn.invars if not isinstance(v, core.Literal)]
        if any(v in new for v in variables):
            values = bind(eqn, [new[v] if v in variables and v in new else read(v) for v in eqn.invars])
            new.update(zip(eqn.outvars, values, strict=True))
    return new[jaxpr.eqns[index].outvars[0]]


def _name(eqn: Any) -> str:
    """What the user calls a function with a derivative of its own."""
    program = called(eqn)
    info = str(getattr(getattr(program, "jaxpr", program).debug_info, "func_src_info", "") or "")
    return info.partition(" ")[0] or eqn.primitive.name
