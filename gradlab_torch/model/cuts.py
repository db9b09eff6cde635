"""A model run with a hand on every tensor that goes into a call of a layer or comes out of one.

Cut are the calls of all modules, of activations that are called as functions, and of functions with a derivative of
their own (`torch.autograd.Function`), also those of the loss. What runs with gradients switched off is not cut: nothing
comes back through it. A function of which somebody kept the `apply` under another name is a part of the module around
it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gradlab_core.definitions.cuts import LOGITS, Cut, End, Sort
from gradlab_torch.model import activation_patterns as patterns
from gradlab_torch.model.inputs import Inputs, call
from gradlab_torch.model.modules import own_randomness
from gradlab_torch.model.taps import classify

OnCut = Callable[[Cut, torch.Tensor], torch.Tensor]
"""Gets a tensor where the model is cut; returns what the model goes on with."""


def run_cut(
    model: nn.Module, x: Inputs, on_cut: OnCut, loss: Callable[[Any], torch.Tensor], *, once: bool
) -> tuple[Any, torch.Tensor]:
    """`(out, loss)` of a private copy, cut. With `once` a tensor that a cut gave is not cut again where it goes in, nor
    is the batch."""
    cutter = _Cutter(on_cut, once=once)
    handles = []
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(cutter.enter(path), with_kwargs=True))
            handles.append(module.register_forward_hook(cutter.leave))
        with own_randomness(model), _functions(cutter), cutter:
            mapped(x, cutter.given)
            out = cutter.out_of(cutter.begin("", LOGITS.kind, LOGITS.sort), call(model, x))
            return out, loss(out)
    finally:
        for handle in handles:
            handle.remove()


def mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The same tuples, lists and dicts, each tensor in them changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change) for item in value)
    return {name: mapped(item, change) for name, item in value.items()} if type(value) is dict else value


class _Call:
    """One call that is under way."""

    def __init__(self, path: str, kind: str, sort: Sort, number: int, caller: str) -> None:
        self.path, self.kind, self.sort, self.number, self.caller = path, kind, sort, number, caller
        self.places: Counter[End] = Counter()
        self.inputs: list[tuple[torch.Tensor, torch.Tensor, int]] = []  # as it was, as it went in, its version

    def cut(self, end: End) -> Cut:
        place = self.places[end]
        self.places[end] += 1
        return Cut(self.path, self.kind, self.number, end, place, self.caller, self.sort)


class _Cutter(TorchFunctionMode):
    def __init__(self, on_cut: OnCut, *, once: bool) -> None:
        super().__init__()
        self.on_cut, self.once = on_cut, once
        self.thread = threading.get_ident()
        self.running: list[_Call] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self.handed: dict[int, tuple[torch.Tensor, int]] = {}

    @property
    def path(self) -> str:
        return self.running[-1].path if self.running else ""

    def here(self) -> bool:
        """Whether this is the run that is cut, in a place that gradients come through."""
        return torch.is_grad_enabled() and threading.get_ident() == self.thread

    def given(self, value: torch.Tensor) -> torch.Tensor:
        self.handed[id(value)] = value, value._version
        return value

    def begin(self, path: str, kind: str, sort: Sort) -> _Call:
        number = self.calls[path, kind]
        self.calls[path, kind] += 1
        return _Call(path, kind, sort, number, self.path)

    def enter(self, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            layer = classify(module)
            kind = layer[0] if layer else type(module).__name__
            call = self.begin(path, kind, "layer" if layer else "module")
            self.running.append(call)
            return self.into(call, (args, kwargs))

        return hook

    def leave(self, module: nn.Module, args: Any, out: Any) -> Any:
        return self.out_of(self.running.pop(), out)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = patterns.find(function, args, kwargs or {})
        if kind is None or not self.here() or not args:
            return function(*args, **(kwargs or {}))
        call = self.begin(self.path, kind, "activation")
        return self.out_of(call, function(*self.into(call, args[:1]), *args[1:], **(kwargs or {})))

    def function(self, name: str, apply: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call of a function with a derivative of its own."""
        call = self.begin(self.path, name, "function")
        args, kwargs = self.into(call, (args, kwargs))
        return self.out_of(call, apply(*args, **kwargs))

    def into(self, call: _Call, values: Any) -> Any:
        def change(value: torch.Tensor) -> torch.Tensor:
            changed = self.changed(call, "input", value)
            if changed is not value:
                call.inputs.append((value, changed, changed._version))
            return changed

        return mapped(values, change)

    def out_of(self, call: _Call, values: Any) -> Any:
        for original, given, version in call.inputs:
            if given._version != version:  # computed in place: whoever still holds the original sees it
                with torch._C.DisableTorchFunction():
                    original.copy_(given)
        return mapped(values, lambda value: self.changed(call, "output", value))

    def changed(self, call: _Call, end: End, value: torch.Tensor) -> torch.Tensor:
        kept, version = self.handed.get(id(value), (None, 0))
        known = kept is value and value._version == version
        own = isinstance(value, nn.Parameter) or (known and self.once)
        if own or not value.is_floating_point() or not self.here():
            return value
        with torch._C.DisableTorchFunction():  # what is done with it here is no call of the model's
            return self.given(self.on_cut(call.cut(end), value))


@contextlib.contextmanager
def _functions(cutter: _Cutter) -> Iterator[None]:
    """While this holds, functions with a derivative of their own are cut. PyTorch's own are its business."""
    home: Any = torch.autograd.Function
    original = vars(home)["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        run = original.__get__(None, cls)
        if not cutter.here() or str(cls.__module__).startswith("torch."):
            return run(*args, **kwargs)
        return cutter.function(cls.__name__, run, args, kwargs)

    home.apply = classmethod(apply)
    try:
        yield
    finally:
        home.apply = original
