"""What a model costs: parameters, and floating-point operations of one forward pass."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from gradlab_torch._module import functional


def count_params(model: torch.nn.Module) -> int:
    """Trainable parameters, in elements.

    >>> count_params(torch.nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: torch.nn.Module, x: torch.Tensor) -> int:
    """2 × multiply-adds of all convolutions and matrix products of one forward pass on `x`, in eval mode.

    >>> count_flops(torch.nn.Linear(3, 2), torch.ones(4, 3))
    48
    """
    f, params, rest = functional(model, "eval")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        f.apply(params, rest, x)
    return int(counter.get_total_flops())
