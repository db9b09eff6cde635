"""How modules mark, while Python traces a model, the scope of their call and, if they are layers, their output; where
the model is to be cut, both ends of every call."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from gradlab_core.definitions import kinds
from gradlab_jax.model.modules import PATH

_MARK, _END, _SCOPE = "gradlab|", "gradlab-end|", "gradlab:"
_PATCHING = threading.RLock()  # classes are patched while a model is traced: one trace at a time
_active = threading.local()

_CONV = (nnx.Conv, nnx.ConvTranspose, nn.Conv, nn.ConvTranspose, nn.ConvLocal)
_FEATURES_LAST_NORM = (nnx.LayerNorm, nnx.RMSNorm, nn.LayerNorm, nn.RMSNorm)
_CHANNEL_NORM = (nnx.BatchNorm, nnx.GroupNorm, nnx.InstanceNorm, nn.BatchNorm, nn.GroupNorm, nn.InstanceNorm)
_LINEAR = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nn.Dense, nn.DenseGeneral, nn.Einsum)
_EMBEDDING = (nnx.Embed, nn.Embed)


class Mark(NamedTuple):
    """Of the output of one layer; `spatial`: PyTorch would hold it as (N, C, spatial…)."""

    path: str
    kind: str
    spatial: bool


def mark_of(eqn: Any) -> Mark | None:
    """What an equation marks, None if nothing."""
    if eqn.primitive.name != "name" or not eqn.params["name"].startswith(_MARK):
        return None
    _, path, kind, spatial = eqn.params["name"].split("|")
    return Mark(path, kind, spatial == "1")


class EndMark(NamedTuple):
    """Of a tensor that goes into the call of a module, or comes out; calls are numbered as they begin."""

    path: str
    kind: str
    number: int
    end: str
    spatial: bool | None  # as in `Mark`; None of what is no layer


def end_of(eqn: Any) -> EndMark | None:
    """Which end of a call an equation marks, None if none."""
    if eqn.primitive.name != "name" or not eqn.params["name"].startswith(_END):
        return None
    _, path, kind, number, end, spatial = eqn.params["name"].split("|")
    return EndMark(path, kind, int(number), end, spatial == "1" if spatial else None)


def ended(tree: Any, path: str, kind: str) -> Any:
    """The same tree, its floating arrays marked as what comes out of the one call of that path and kind."""
    return _named(tree, f"{_END}{path}|{kind}|-1|output|")


@contextlib.contextmanager
def marked(*, ends: bool = False) -> Iterator[None]:
    """While this holds, every module marks its scope and, if it is a layer, its output; with `ends` every module marks
    what goes in and what comes out."""

    def linen(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return _mark_once(context.module, ".".join(context.module.path), call, args, kwargs)

    before = getattr(_active, "numbers", None)
    _active.numbers = itertools.count() if ends else None
    try:
        with _PATCHING, _patched_nnx(), nn.intercept_methods(linen):
            yield
    finally:
        _active.numbers = before


def scope_of(eqn: Any, outer: str) -> str:
    """The path of the module in whose call an equation was traced."""
    scopes = [part for part in str(eqn.source_info.name_stack).split("/") if part.startswith(_SCOPE)]
    return scopes[-1][len(_SCOPE) :] if scopes else outer


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


def _mark_once(module: Any, path: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The outermost call: super().__call__ is the same one."""
    inside: list[int] = _active.__dict__.setdefault("modules", [])
    if inside and inside[-1] == id(module):
        return call(*args, **kwargs)
    inside.append(id(module))
    try:
        return _mark(module, path, call, args, kwargs)
    finally:
        inside.pop()


def _mark(module: Any, path: str, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    layer = _classify(module)
    numbers = getattr(_active, "numbers", None)
    if numbers is not None:
        kind, spatial = (layer[0], int(layer[1])) if layer else (type(module).__name__, "")
        name = f"{_END}{path}|{kind}|{next(numbers)}|"
        args, kwargs = _named((args, kwargs), f"{name}input|{spatial}")
    with jax.named_scope(_SCOPE + path):
        out = call(*args, **kwargs)
    if numbers is not None:
        return _named(out, f"{name}output|{spatial}")
    if layer is None or not isinstance(out, jax.Array):
        return out
    return checkpoint_name(out, f"{_MARK}{path}|{layer[0]}|{int(layer[1])}")


def _named(tree: Any, name: str) -> Any:
    """The same tree, its floating arrays marked."""

    def change(leaf: Any) -> Any:
        floating = isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
        return checkpoint_name(leaf, name) if floating else leaf

    return jax.tree.map(change, tree)


@contextlib.contextmanager
def _patched_nnx() -> Iterator[None]:
    """`nnx.Module` subclasses look `__call__` up on their class, so that is where it is wrapped, and put back."""
    classes: list[Any] = [c for c in _subclasses(nnx.Module) if "__call__" in vars(c)]
    originals = [(c, vars(c)["__call__"]) for c in classes]

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            path = getattr(self, PATH, None)
            if path is None:
                return original(self, *args, **kwargs)
            return _mark_once(self, path, functools.partial(original, self), args, kwargs)

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
