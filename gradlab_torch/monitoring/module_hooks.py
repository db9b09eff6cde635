"""Forward hooks on every module there is, for as long as a look lasts."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules import module as hooks


class ModuleHooks:
    """Calls the methods `before(module, args)` and `after(module, args, kwargs, out)` of one object, the latter also
    where the module raises, and then without `kwargs`. PyTorch's registry lives as long as the process, and must not
    keep a monitor alive that nobody closed: the hooks go with the object."""

    def __init__(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        pre = hooks.register_module_forward_pre_hook(_weakly(before))
        post = hooks.register_module_forward_hook(_weakly(after), with_kwargs=True, always_call=True)
        self.key = -1
        while any(self.key in held for held in _registries()):
            self.key -= 1
        # PyTorch counts its keys on and on. torch.compile guards what it compiled by them, and would compile a function
        # inside of a model anew at every look.
        for held in _registries():
            for handle in (pre, post):
                if handle.id in held:
                    held[self.key] = held.pop(handle.id)
        self.remove = weakref.finalize(getattr(before, "__self__", self), _remove, self.key)
        self.remove.atexit = False


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    held = weakref.WeakMethod(method)

    def call(*args: Any) -> None:
        if torch.compiler.is_compiling():  # which cannot trace a weak reference
            return
        alive = held()
        if alive is not None:
            alive(*args)

    return call


def _remove(key: int) -> None:
    # One by one: PyTorch's own handle forgets a mark (2.13), and then takes the hook for one that is still there.
    for held in _registries():
        held.pop(key, None)


def _registries() -> list[dict[int, Any]]:
    return [held for name, held in vars(hooks).items() if name.startswith("_global_forward_")]
