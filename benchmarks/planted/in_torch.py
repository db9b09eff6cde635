"""Wrong backwards in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Wrong(torch.autograd.Function):
    """A function whose backward has that fault."""

    @staticmethod
    def forward(ctx: Any, fault: str, y: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        ctx.fault = fault
        ctx.save_for_backward(y, shift)
        if fault == "transposed":
            return y.roll(1, -1)
        if fault == "detached":
            return y * torch.sigmoid(y)
        return y + shift

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        (slope,), (y, shift) = slopes, ctx.saved_tensors
        nothing = torch.zeros_like(shift)
        if ctx.fault == "transposed":
            return None, slope.roll(1, -1), nothing
        if ctx.fault == "detached":
            return None, slope * torch.sigmoid(y), nothing
        factor = {"sign": -1.0, "twice": 2.0}.get(ctx.fault, 1.0)
        summed = slope[0] if ctx.fault == "broadcast" else slope
        return None, factor * slope, factor * summed.sum().reshape(1)


class Planted(torch.nn.Module):
    """A layer with that fault after it."""

    def __init__(self, layer: torch.nn.Module, fault: str) -> None:
        super().__init__()
        self.layer, self.fault = layer, fault
        self.shift = torch.nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = Wrong.apply(self.fault, self.layer(x), self.shift)
        return result


def plant(model: torch.nn.Module, fault: str, rng: np.random.Generator) -> str:
    """Plant it after a drawn layer; gives the path of the layer."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm, torch.nn.BatchNorm2d)
    paths = [path for path, module in model.named_modules() if isinstance(module, kinds) and _follows(path)]
    path = str(rng.choice(paths))
    parent, _, name = path.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, name, Planted(getattr(owner, name), fault))
    return path


def _follows(path: str) -> bool:
    """An attribute of a module of its own, in both frameworks."""
    return not path.rpartition(".")[2].isdigit()
