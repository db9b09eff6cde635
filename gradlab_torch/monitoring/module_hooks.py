"""Forward hooks on every module there is, for as long as a look lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.modules import module as hooks


class ModuleHooks:
    """Calls `before(module, args)` and `after(module, args, kwargs, out)`, the latter also where the module raises, and
    then without `kwargs`."""

    def __init__(self, before: Callable[..., None], after: Callable[..., None]) -> None:
        pre = hooks.register_module_forward_pre_hook(before)
        post = hooks.register_module_forward_hook(after, with_kwargs=True, always_call=True)
        self.key = -1
        while any(self.key in held for held in _registries()):
            self.key -= 1
        # PyTorch counts its keys on and on. torch.compile guards what it compiled by them, and would compile a function
        # inside of a model anew at every look.
        for held in _registries():
            for handle in (pre, post):
                if handle.id in held:
                    held[self.key] = held.pop(handle.id)

    def remove(self) -> None:
        # One by one: PyTorch's own handle forgets a mark (2.13), and then takes the hook for one that is still there.
        for held in _registries():
            held.pop(self.key, None)


def _registries() -> list[dict[int, Any]]:
    return [held for name, held in vars(hooks).items() if name.startswith("_global_forward_")]
