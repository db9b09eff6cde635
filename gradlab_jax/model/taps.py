"""Where a model's layers give their outputs, found in the traced program.

Two kinds of layer are found in two ways. A layer that is a module (convolution, normalisation, linear) is marked while
Python traces the model, by an identity with a name. An activation is mostly called as a function, `nnx.relu(x)`, and
leaves no module behind: it is recognised in the program itself, and belongs to the module in whose name scope it
stands. Both come out in execution order, a layer called twice comes twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core

from gradlab_core.definitions import kinds
from gradlab_jax.model import activation_patterns as patterns
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, bind, called, inner_jaxprs, opened, scan_of
from gradlab_jax.model.modules import PATH, Functional

_MARK, _SCOPE = "gradlab|", "gradlab:"
_PATCHING = threading.RLock()  # classes are patched while a model is traced: one trace at a time
_active = threading.local()

_CONV = (nnx.Conv, nnx.ConvTranspose, nn.Conv, nn.ConvTranspose, nn.ConvLocal)
_FEATURES_LAST_NORM = (nnx.LayerNorm, nnx.RMSNorm, nn.LayerNorm, nn.RMSNorm)
_CHANNEL_NORM = (nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm)
_LINEAR = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nn.Dense, nn.DenseGeneral, nn.Einsum)
_EMBEDDING = (nnx.Embed, nn.Embed)


@dataclasses.dataclass(frozen=True)
class Tap:
    """One call of one layer. `spatial`: PyTorch would hold this tensor as (N, C, spatial…)."""

    path: str
    kind: str
    call: int
    spatial: bool

    def canonical(self, x: Any) -> Any:
        """The tensor, or its shape-only stand-in's array, in canonical layout."""
        if not self.spatial or x.ndim < 3:
            return x
        return np.moveaxis(x, -1, 1) if isinstance(x, np.ndarray) else jax.numpy.moveaxis(x, -1, 1)

    def canonical_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if not self.spatial or len(shape) < 3 else (shape[0], shape[-1], *shape[1:-1])


OnTap = Callable[[Tap, jax.Array], tuple[jax.Array, Any]]
"""Gets a layer's output where it arises; returns what takes its place, and anything to hand out."""


def run_tapped(
    f: Functional, params: Any, rest: Any, x: Any, on_tap: OnTap, *, differentiable: bool = False
) -> tuple[jax.Array, Any, list[tuple[Tap, Any]]]:
    """`f.apply(params, rest, x)` with every layer's output handed through `on_tap`; and what `on_tap` handed out, in
    execution order. Pure and traceable: use it inside `jax.jit`, or with `differentiable` inside `jax.grad`, which
    leaves loops and custom derivative rules closed."""
    with marked():
        closed, shape = jax.make_jaxpr(f.apply, return_shape=True)(params, rest, x)
    interpreter = _Interpreter(on_tap, deep=not differentiable)
    outputs = interpreter.run(closed.jaxpr, closed.consts, jax.tree.leaves((params, rest, x)), "")
    logits, state = jax.tree.unflatten(jax.tree.structure(shape), outputs)
    return logits, state, interpreter.handed_out


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


def _classify(module: Any) -> tuple[str, bool] | None:
    """`(kind, spatial)` of a module that is a layer."""
    if isinstance(module, _CONV):
        return kinds.CONV, True
    if isinstance(module, _CHANNEL_NORM):
        return kinds.NORM, True
    if isinstance(module, _FEATURES_LAST_NORM):
        return kinds.NORM, False
    if isinstance(module, _LINEAR):
        return kinds.LINEAR, False
    return (kinds.EMBEDDING, False) if isinstance(module, _EMBEDDING) else None


def _mark(module: Any, path: str, call: Callable[[], Any]) -> Any:
    with jax.named_scope(_SCOPE + path):
        out = call()
    layer = _classify(module)
    if layer is None or not isinstance(out, jax.Array):
        return out
    return checkpoint_name(out, f"{_MARK}{path}|{layer[0]}|{int(layer[1])}")


@contextlib.contextmanager
def marked() -> Iterator[None]:
    """While this holds, every module marks its scope and, if it is a layer, its output."""

    def linen(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return _mark(context.module, ".".join(context.module.path), lambda: call(*args, **kwargs))

    with _PATCHING, _patched_nnx(), nn.intercept_methods(linen):
        yield


@contextlib.contextmanager
def _patched_nnx() -> Iterator[None]:
    """`nnx.Module` subclasses look `__call__` up on their class, so that is where it is wrapped, and put back."""
    classes: list[Any] = [c for c in _subclasses(nnx.Module) if "__call__" in vars(c)]
    originals = [(c, vars(c)["__call__"]) for c in classes]

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = getattr(self, PATH, None)
            inside: list[int] = _active.__dict__.setdefault("modules", [])
            if path is None or (inside and inside[-1] == id(self)):  # super().__call__ is the same call
                return original(self, *args, **kwargs)
            inside.append(id(self))
            try:
                return _mark(self, path, lambda: original(self, *args, **kwargs))
            finally:
                inside.pop()

        return call

    try:
        for cls, original in originals:
            cls.__call__ = wrap(original)
        yield
    finally:
        for cls, original in originals:
            cls.__call__ = original


def _subclasses(cls: type) -> set[type]:
    below: list[type] = cls.__subclasses__()
    return {cls}.union(*(_subclasses(c) for c in below))


class _Interpreter:
    """Evaluates a program equation by equation and hands every layer's output through `on_tap`."""

    def __init__(self, on_tap: OnTap, *, deep: bool, spatial: bool = True) -> None:
        self.on_tap = on_tap
        self.deep = deep
        self.calls: dict[str, int] = {}
        self.spatial = spatial  # until a layer with parameters says otherwise, the layout is the image's
        self.handed_out: list[tuple[Tap, Any]] = []

    def run(self, jaxpr: core.Jaxpr, consts: Any, args: Any, scope: str) -> list[Any]:
        env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else env[atom]

        activations = patterns.find(jaxpr)
        for index, eqn in enumerate(jaxpr.eqns):
            kind = activations.get(index)
            outputs = self.evaluate(eqn, [read(v) for v in eqn.invars], _scope_of(eqn, scope), descend=kind is None)
            if _is_mark(eqn):
                _, path, kind, spatial = eqn.params["name"].split("|")
                self.spatial = spatial == "1"
                outputs = [self.tap(path, kind, outputs[0])]
            elif kind is not None:
                outputs = [self.tap(_scope_of(eqn, scope), kind, outputs[0])]
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def tap(self, path: str, kind: str, value: jax.Array) -> jax.Array:
        call = self.calls.get(path, 0)
        self.calls[path] = call + 1
        tap = Tap(path, kind, call, self.spatial)
        value, handed = self.on_tap(tap, value)
        self.handed_out.append((tap, handed))
        return value

    def evaluate(self, eqn: Any, inputs: list[Any], scope: str, *, descend: bool) -> list[Any]:
        name = eqn.primitive.name
        if descend and any(map(_has_layers, _inside(eqn))):
            if name in CALLS or (self.deep and name in CUSTOM_RULES):
                return self.run(*opened(called(eqn)), inputs, scope)
            if self.deep and name == "scan":
                return self.scan(eqn.params, inputs, scope)
            if self.deep:
                warnings.warn(
                    f"layers inside a `{name}` of {scope or 'the model'} are not measured: how often they run is known "
                    "only at run time",
                    stacklevel=2,
                )
        return bind(eqn, inputs)

    def scan(self, params: Any, inputs: list[Any], scope: str) -> list[Any]:
        """A loop of known length: what the taps of one turn hand out leaves the loop stacked, a row a turn."""
        loop = scan_of(params)
        consts, carried, columns = loop.split(inputs)
        seen: list[Tap] = []
        spatial = self.spatial

        def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], tuple[list[Any], list[Any]]]:
            inner = _Interpreter(self.on_tap, deep=True, spatial=spatial)
            out = inner.run(loop.body, loop.bound, [*consts, *carry, *xs], scope)
            seen[:] = [tap for tap, _ in inner.handed_out]
            self.spatial = inner.spatial
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


def _is_mark(eqn: Any) -> bool:
    return bool(eqn.primitive.name == "name" and eqn.params["name"].startswith(_MARK))


def _inside(eqn: Any) -> list[core.Jaxpr]:
    """The programs inside an equation in which layers may be found."""
    return [] if patterns.function_name(eqn) in patterns.COMPOSITE else list(inner_jaxprs(eqn))


def _has_layers(jaxpr: core.Jaxpr) -> bool:
    return bool(patterns.find(jaxpr)) or any(_is_mark(eqn) or any(map(_has_layers, _inside(eqn))) for eqn in jaxpr.eqns)


def _scope_of(eqn: Any, outer: str) -> str:
    """The path of the module in whose call an equation was traced."""
    scopes = [part for part in str(eqn.source_info.name_stack).split("/") if part.startswith(_SCOPE)]
    return scopes[-1][len(_SCOPE) :] if scopes else outer
