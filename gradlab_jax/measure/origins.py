"""Where a NaN or an Inf was born: the traced program of a step run one operation at a time."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

from gradlab_core.records import NonfiniteOrigin, Probe
from gradlab_jax.measure.probing import probe
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_labels
from gradlab_jax.model.gradients import Loss, loss_and_gradients
from gradlab_jax.model.inputs import Inputs, checked_inputs, named
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, bind, called, opened, scan_of
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.marks import marked
from gradlab_jax.model.modules import canonical_name, functional, named_variables


def nonfinite_origin(
    model: Any, x: Inputs, y: Any, *, loss: Loss = cross_entropy, mode: str = "train"
) -> NonfiniteOrigin | None:
    """The operation that turned finite numbers into a NaN or an Inf which then reached the loss or a gradient; None if
    the loss and all gradients are finite.

    Every output that is not finite inherits the origin of an input that is not, the earliest of several, or is an
    origin itself. The answer is the origin of the loss or, if that is finite, of the first gradient (in the order of
    the model) that is not. What comes in that way has the `operation` `input`, `target`, `parameter` or `buffer`, and
    as `path` that of the parameter or buffer, or of several inputs the name or number. In the backward pass `path` is
    the module whose operation is being differentiated, and `value` what its gradient held.

    One step, one operation at a time, each of which waits for the device: for a step that went wrong.
    Nothing is compiled as a whole: what a compiler would fuse, and so keep finite, is not finite here.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout (N, spatial…, C); several: a mapping or a list.
        y: integer labels (N,), or what `loss(logits, y)` takes.

    Raises:
        GradlabError: not a model, a batch that is no array or empty, or labels out of range.

    >>> class Log(nnx.Module):
    ...     def __call__(self, x):
    ...         return jnp.log(jax.nn.relu(x))
    >>> found = nonfinite_origin(nnx.Sequential(Log()), -jnp.ones((2, 3)), jnp.array([0, 1]))
    >>> found.phase, found.path, found.operation, found.value
    ('forward', '0', 'log', 'inf')
    """
    f, params, rest = functional(model, mode)
    x = checked_inputs(x, finite=False)
    labels = as_labels(y)
    batch = jax.tree.map(jnp.asarray, x)
    sources = [
        *(_source(p, "forward", path, "parameter") for path, p in zip(f.names, params, strict=True)),
        *(_source(b, "forward", path, "buffer") for path, b in _buffers(model, rest)),
        *(_source(array, "forward", name, "input") for name, array in named(batch)),
    ]
    target = _source(labels, "loss", None, "target")
    leaves = [value for value, _ in sources]
    with marked():
        closed, shapes = jax.make_jaxpr(f.apply, return_shape=True)(params, rest, batch)
    logits = check_logits(shapes[0])
    if loss is cross_entropy:
        check_model_labels(labels, logits)
    forward = _Run("forward", {})
    (out, *_) = forward.program(closed.jaxpr, closed.consts, sources, None, False)
    closed, shape = jax.make_jaxpr(loss, return_shape=True)(out[0], labels)
    check_loss(shape)
    after = _Run("loss", forward.born)
    (value,) = after.program(closed.jaxpr, closed.consts, [out, target], None, False)
    if _what(value[0]):
        return _answer(value, "loss")

    def gradients(leaves: list[Any], y: jax.Array) -> Any:
        p, r, b = jax.tree.unflatten(jax.tree.structure((params, rest, batch)), leaves)
        return loss_and_gradients(f, p, r, b, y, loss)[1]

    with marked():
        closed = jax.make_jaxpr(gradients)(leaves, labels)
    slopes = _Run("backward", after.born).program(closed.jaxpr, closed.consts, [*sources, target], None, False)
    bad = next((pair for pair in slopes if _what(pair[0])), None)
    return None if bad is None else _answer(bad, "backward")


def with_origin(known: Probe | None, model: Any, x: jax.Array, y: Any, *, loss: Loss) -> Probe:
    """A probe in `train` mode that says where a NaN or an Inf was born: the one there is, or a new one."""
    origin = nonfinite_origin(model, x, y, loss=loss)
    return dataclasses.replace(known or probe(model, x, y, loss=loss), origin=origin)


@dataclasses.dataclass
class _Origin:
    """Where something was born. `open`: it is the factor of a derivative that has not met the gradient yet. `order`:
    what was born earlier is lower."""

    phase: str
    path: str | None
    operation: str
    value: str
    open: bool = False
    order: int = dataclasses.field(default_factory=itertools.count().__next__)


Known = tuple[Any, _Origin | None]
"""A value and, if it is not finite, where it is from; a constant is from nowhere."""

# What these give out they were given, unless the type they turn it into is too small.
_MOVES = frozenset(
    "broadcast_in_dim convert_element_type reshape squeeze expand_dims transpose slice rev copy copy_p name".split()
)


class _Run:
    """Evaluates one program. `born` holds the origins of the programs before it, whose operations it may repeat."""

    def __init__(self, phase: str, before: dict[tuple[str | None, str], _Origin]) -> None:
        self.phase = phase
        self.born = dict(before)

    def program(
        self, jaxpr: core.Jaxpr, consts: Any, inputs: list[Known], scope: str | None, back: bool
    ) -> list[Known]:
        env: dict[Any, Known] = dict(zip(jaxpr.constvars, ((c, None) for c in consts), strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Known:
            return (atom.val, None) if isinstance(atom, core.Literal) else env[atom]

        for eqn in jaxpr.eqns:
            stack = str(eqn.source_info.name_stack)
            scopes = re.findall(r"gradlab:([^/()]*)", stack)
            outputs = self.equation(
                eqn, [read(v) for v in eqn.invars], scopes[-1] if scopes else scope, back or "transpose(" in stack
            )
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def equation(self, eqn: Any, inputs: list[Known], scope: str | None, back: bool) -> list[Known]:
        name, params = eqn.primitive.name, eqn.params
        inner = called(eqn)
        if name == "cond":
            inner, inputs = params["branches"][int(inputs[0][0])], inputs[1:]
        if name in CALLS or name in CUSTOM_RULES or name == "cond":
            return self.program(*opened(inner), inputs, scope, back)
        values = bind(eqn, [value for value, _ in inputs])
        held = [_what(value) for value in values]
        if not any(held):
            return [(value, None) for value in values]
        if name == "scan":
            return self.turns(params, inputs, scope, back)
        origin = self.origin(name, inputs, scope, back, "nan" if "nan" in held else "inf")
        return [(value, origin if what else None) for value, what in zip(values, held, strict=True)]

    def origin(self, name: str, inputs: list[Known], scope: str | None, back: bool, value: str) -> _Origin | None:
        inherited = _earliest(inputs)
        if inherited is not None:
            if inherited.open and back:
                inherited.value, inherited.open = value, False
            return inherited
        if name in _MOVES and any(_what(value) for value, _ in inputs):
            return None  # a constant: the −Inf of a mask is no fault of its own
        if not back and (scope, name) in self.born:
            return self.born[scope, name]  # the forward pass, run again for its derivative
        born = _Origin(self.phase, scope, name, value, self.phase == "backward" and not back)
        if self.phase != "backward":
            self.born.setdefault((scope, name), born)
        return born

    def turns(self, params: Any, inputs: list[Known], scope: str | None, back: bool) -> list[Known]:
        """A scan turn by turn, to find the operation inside; one that stays finite is run as a whole."""
        loop = scan_of(params)
        consts, carry, columns = loop.split(inputs)
        rows: list[list[Known]] = []
        for i in reversed(range(loop.length)) if loop.reverse else range(loop.length):
            now = [(value[i], origin if _what(value[i]) else None) for value, origin in columns]
            out = self.program(loop.body, loop.bound, [*consts, *carry, *now], scope, back)
            carry = out[: loop.carry]
            rows.append(out[loop.carry :])
        stacked = []
        for column in zip(*rows, strict=True):
            values = [value for value, _ in column]
            stacked.append((jnp.stack(values[::-1] if loop.reverse else values), _earliest(column)))
        return [*carry, *stacked]


def _earliest(known: Iterable[Known]) -> _Origin | None:
    return min((origin for _, origin in known if origin is not None), key=lambda origin: origin.order, default=None)


def _source(value: Any, phase: str, path: str | None, operation: str) -> Known:
    what = _what(value)
    return value, _Origin(phase, path, operation, what) if what else None


def _answer(known: Known, phase: str) -> NonfiniteOrigin:
    # A loss that nothing was computed for has none.
    origin = known[1] or _Origin(phase, None, "constant", _what(known[0]) or "nan")
    return NonfiniteOrigin(phase=origin.phase, path=origin.path, operation=origin.operation, value=origin.value)


def _buffers(model: Any, rest: Any) -> list[tuple[str, Any]]:
    """`(canonical path, value)` of what a model holds besides its parameters, in the order in which JAX flattens it."""
    buffers = jax.tree_util.tree_leaves_with_path(rest)
    keys = [tuple(k.key for k in path if isinstance(k, jax.tree_util.DictKey)) for path, _ in buffers]
    if isinstance(model, nnx.Module):
        where = {id(node): path for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable)}
        names = {where[id(v)]: path for path, _, v in named_variables(model)}
    elif isinstance(model, nn.Module):  # the first key is the collection
        names = {key: ".".join((*key[1:-1], canonical_name(key[-1]))) for key in keys}
    else:
        names = {key: key[-1] for key in keys}
    return [(names.get(key, ".".join(map(str, key))), value) for key, (_, value) in zip(keys, buffers, strict=True)]


def _what(value: Any) -> str | None:
    """`nan` if there is any, else `inf`; None if all is finite."""
    if not jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.inexact):
        return None
    array = np.asarray(value)
    if np.isfinite(array).all():
        return None
    return "nan" if np.isnan(array).any() else "inf"
