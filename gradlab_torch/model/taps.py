"""Where a model's layers give their outputs.

Two kinds of layer are found in two ways. A layer that is a module (convolution, normalisation, linear) is met by a
forward hook. An activation is often called as a function, `F.relu(x)`, and leaves no module behind: it is met by a
function mode, and belongs to the module whose forward called it. Both come out in execution order, a layer called
twice comes twice; and both are met the moment they are computed, so a later in-place activation falsifies nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from gradlab_core.definitions import kinds
from gradlab_torch.model import activation_patterns as patterns
from gradlab_torch.model.inputs import Inputs, call
from gradlab_torch.model.modules import own_randomness


@dataclasses.dataclass(frozen=True)
class Tap:
    """One call of one layer. `spatial`: this tensor is laid out as (N, C, spatial…)."""

    path: str
    kind: str
    call: int
    spatial: bool

    def channel_axis(self, x: torch.Tensor) -> int:
        return 1 if self.spatial and x.ndim > 2 else x.ndim - 1


OnTap = Callable[[Tap, torch.Tensor], Any]
"""Gets a layer's output the moment it is computed; returns anything to hand out."""


def run_tapped(model: nn.Module, x: Inputs, on_tap: OnTap) -> tuple[Any, list[tuple[Tap, Any]]]:
    """`model(x)` of a private copy, with every layer's output shown to `on_tap`; and what `on_tap` handed out, in
    execution order."""
    watch = Watch(on_tap)
    handles = []
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(watch.enter(path)))
            handles.append(module.register_forward_hook(watch.leave(path, classify(module))))
        with watch, own_randomness(model):
            out = call(model, x)
    finally:
        for handle in handles:
            handle.remove()
    return out, watch.handed_out


def classify(module: nn.Module) -> tuple[str, bool] | None:
    """`(kind, spatial)` of a module that is a layer."""
    if isinstance(module, _ConvNd):
        return kinds.CONV, True
    if isinstance(module, (_NormBase, nn.GroupNorm)):
        return kinds.NORM, True
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return kinds.NORM, False
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        return kinds.LINEAR, False
    return (kinds.EMBEDDING, False) if isinstance(module, nn.Embedding) else None


class Watch(TorchFunctionMode):
    """Knows which module is running, and sees every function it calls."""

    def __init__(self, on_tap: OnTap) -> None:
        super().__init__()
        self.on_tap = on_tap
        self.running: list[str] = []
        self.calls: dict[str, int] = {}
        self.spatial = True  # until a layer with parameters says otherwise, the layout is the image's
        self.handed_out: list[tuple[Tap, Any]] = []

    def enter(self, path: str) -> Callable[..., None]:
        return lambda module, args: self.running.append(path)

    def leave(self, path: str, layer: tuple[str, bool] | None) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            self.running.pop()
            if layer is not None and isinstance(out, torch.Tensor):
                kind, self.spatial = layer
                self.tap(path, kind, out)

        return hook

    def leave_stack(self) -> None:
        """Be no function mode any more. Others may have become one since, and stay."""
        above = []
        if any(torch._C._get_function_stack_at(i) is self for i in range(torch._C._len_torch_function_stack())):
            while (mode := torch.overrides._pop_mode()) is not self:
                above.append(mode)
        for mode in reversed(above):
            torch.overrides._push_mode(mode)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():  # what is traced here would become part of the user's compiled function
            return out
        kind = patterns.find(function, args, kwargs or {})
        if kind is not None:
            self.tap(self.running[-1] if self.running else "", kind, out)
        return out

    def tap(self, path: str, kind: str, value: torch.Tensor) -> None:
        call = self.calls.get(path, 0)
        self.calls[path] = call + 1
        tap = Tap(path, kind, call, self.spatial)
        # What is measured is not measured again: the statistics call functions too.
        with torch._C.DisableTorchFunction():
            self.handed_out.append((tap, self.on_tap(tap, value)))
