"""The layers of a program that has no modules, found by the parameters that it uses.

A convolution or product whose operand is made of `fc.weight` alone is the layer `fc`, and so is what follows it at once
with the other parameters of `fc`: the bias. A normalisation is a product with a parameter where something is divided.
A parameter that is only added or multiplied, as embedded positions are, makes no layer. Where several weights lie in
one place, as in `[w1, b1, w2, b2]`, a layer is called as its weight.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from jax.extend import core

from gradlab_core.definitions import kinds
from gradlab_jax.model import activation_patterns as patterns
from gradlab_jax.model.jaxpr import BATCH_FIRST, CALLS, CUSTOM_RULES, called, opened, scan_of

Place = tuple[int, ...]
"""Where an equation stands: its number, after those of the equations that it is inside of."""


class Images(NamedTuple):
    """Which axis of the arrays of so many axes is that of the channels: the last, or else the second."""

    axes: int
    last: bool


class Layer(NamedTuple):
    path: str
    kind: str
    images: Images | None  # of a convolution
    weight: str
    axes: tuple[int, ...] | None  # the order that makes a kernel or a matrix canonical
    begins: tuple[Place, int] | None = None  # the equation that its input goes into, as which operand


def find_layers(
    jaxpr: core.Jaxpr, names: tuple[str, ...], others: int, *, closes_over_data: bool = False
) -> dict[Place, Layer]:
    """`{place of the equation that gives a layer's output: layer}` of a program that takes the parameters of these
    names, then so many arrays that are no data, then its inputs. `closes_over_data`: the arrays that it closes over are
    inputs too."""
    finder = _Finder([], closes_over_data)
    avals: list[Any] = [v.aval for v in jaxpr.invars]
    params = [_Value(weight=name, size=a.size, axes=a.ndim) for name, a in zip(names, avals, strict=False)]
    data = [_Value()] * (len(jaxpr.invars) - len(names) - others)
    finder.program(jaxpr, [*params, *[_CONSTANT] * others, *data], ())
    calls = [call for call in finder.calls if call.kind]
    weights: dict[str, set[str]] = {}
    for call in calls:
        weights.setdefault(_owner(call.weight), set()).add(call.weight)
    alone = {owner for owner, used in weights.items() if len(used) == 1}
    return {
        call.place: Layer(
            owner if (owner := _owner(call.weight)) in alone else call.weight,
            call.kind or "",
            call.images,
            call.weight,
            call.axes,
            call.begins,
        )
        for call in calls
    }


_MOVES = frozenset(
    "broadcast_in_dim reshape squeeze expand_dims transpose convert_element_type copy copy_p name reduce_precision "
    "optimization_barrier sharding_constraint".split()
)
_ARITHMETIC = frozenset("add add_any sub mul div".split())
_PRODUCTS = {"dot_general": kinds.LINEAR, "conv_general_dilated": kinds.CONV, "gather": kinds.EMBEDDING}


class _Value(NamedTuple):
    """What is known of a value: the weight that it is made of and its size, or else the call that it comes from."""

    weight: str | None = None
    size: int = 0
    axes: int = 0
    constant: bool = False
    turned: bool = False  # a matrix, transposed
    call: int | None = None
    divided: bool = False  # by something computed, a few elementwise steps before


_CONSTANT = _Value(constant=True)


@dataclasses.dataclass
class _Call:
    weight: str
    kind: str | None  # None: a product with a parameter, where nothing has been divided yet
    place: Place
    images: Images | None = None
    axes: tuple[int, ...] | None = None
    begins: tuple[Place, int] | None = None


def _owner(weight: str) -> str:
    return weight.rpartition(".")[0]


@dataclasses.dataclass
class _Finder:
    calls: list[_Call]
    closes_over_data: bool

    def program(self, jaxpr: core.Jaxpr, inputs: list[_Value], place: Place) -> list[_Value]:
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        constants: list[Any] = jaxpr.constvars
        known.update({v: _Value() if self.closes_over_data and v.aval.ndim else _CONSTANT for v in constants})

        def read(atom: Any) -> _Value:
            return _CONSTANT if isinstance(atom, core.Literal) else known[atom]

        activations = patterns.find(jaxpr)
        for index, eqn in enumerate(jaxpr.eqns):
            given = [read(v) for v in eqn.invars]
            values = [_Value()] if index in activations else self.equation(eqn, given, (*place, index))
            known.update(zip(eqn.outvars, values, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, inputs: list[_Value], place: Place) -> list[_Value]:
        name = eqn.primitive.name
        if name in CALLS or name in CUSTOM_RULES:
            if patterns.function_name(eqn) not in patterns.COMPOSITE:
                return self.program(opened(called(eqn))[0], inputs, place)
        elif name == "scan":
            loop = scan_of(eqn.params)
            consts, carried, columns = loop.split(inputs)
            turn = [*consts, *(_Value() for _ in carried), *columns]
            self.program(loop.body, turn, place)
        elif len(eqn.outvars) == 1:
            return [self.value(eqn, inputs, place)]
        return [_CONSTANT if all(value.constant for value in inputs) else _Value()] * len(eqn.outvars)

    def value(self, eqn: Any, inputs: list[_Value], place: Place) -> _Value:
        name, out = eqn.primitive.name, eqn.outvars[0].aval
        weights = [value for value in inputs if value.weight]
        data = [value for value in inputs if not value.weight and not value.constant]
        divides = name in ("rsqrt", "pow") or (name == "div" and not inputs[1].constant)
        divided = divides or (name in _MOVES | _ARITHMETIC and any(value.divided for value in inputs))
        if not weights:
            if not data:
                return _Value(constant=True, divided=divided)
            return _Value(call=self.carried(eqn, data, divided, place), divided=divided)
        weight = max(weights, key=lambda value: value.size)
        small = out.size <= weight.size and out.ndim <= weight.axes
        if not data or (name in _ARITHMETIC and small):  # also a scale times a deviation, one for each channel
            turns = name == "transpose" and weight.axes == 2 and eqn.params["permutation"] == (1, 0)
            return weight._replace(divided=divided, turned=weight.turned != turns)
        return _Value(call=self.met(eqn, weight, inputs.index(weight), data, divided, place), divided=divided)

    def carried(self, eqn: Any, data: list[_Value], divided: bool, place: Place) -> int | None:
        """The call that a value still comes from when no parameter is met."""
        name = eqn.primitive.name
        if name == "name" and eqn.params["name"] == BATCH_FIRST and data[0].call is not None:
            self.calls[data[0].call].place = place
        if name in _MOVES or (name in _ARITHMETIC and len(data) == 1):
            return data[0].call
        pending = [v.call for v in data if v.call is not None and self.calls[v.call].kind is None]
        if name in ("mul", "div") and divided and pending:
            self.calls[pending[0]].kind, self.calls[pending[0]].place = kinds.NORM, place
            return pending[0]
        return None

    def met(self, eqn: Any, weight: _Value, at: int, data: list[_Value], divided: bool, place: Place) -> int | None:
        """The call of which data meets a parameter, that operand: a new one, or the one that it comes from."""
        name, parameter = eqn.primitive.name, str(weight.weight)
        if name in _PRODUCTS:
            operand = next((i for i, v in enumerate(eqn.invars) if not isinstance(v, core.Literal) and i != at), 0)
            axes = _canonical(eqn, weight)
            self.calls.append(_Call(parameter, _PRODUCTS[name], place, _images(eqn), axes, (place, operand)))
            return len(self.calls) - 1
        if name not in _ARITHMETIC:
            return None
        for value in data:
            if value.call is not None and _owner(self.calls[value.call].weight) == _owner(parameter):
                self.calls[value.call].place = place
                return value.call
        if name != "mul":
            return None
        self.calls.append(_Call(parameter, kinds.NORM if divided else None, place))
        return len(self.calls) - 1


def _canonical(eqn: Any, weight: _Value) -> tuple[int, ...] | None:
    """The order of axes in which PyTorch has the weight of this product, (out, in, …); None where that is not plain."""
    if eqn.primitive.name == "conv_general_dilated":
        return tuple(eqn.params["dimension_numbers"].rhs_spec)
    if eqn.primitive.name != "dot_general" or weight.axes != 2:
        return None
    contracted, batched = eqn.params["dimension_numbers"]
    sides = [side for side, v in enumerate(eqn.invars) if v.aval.size == weight.size and v.aval.ndim == 2]
    if len(sides) != 1 or any(batched) or len(contracted[sides[0]]) != 1:
        return None
    return (1, 0) if (contracted[sides[0]][0] == 0) != weight.turned else (0, 1)


def _images(eqn: Any) -> Images | None:
    if eqn.primitive.name != "conv_general_dilated":
        return None
    axes = eqn.outvars[0].aval.ndim
    return Images(axes, eqn.params["dimension_numbers"].out_spec[1] == axes - 1)
