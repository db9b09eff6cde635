"""Loss gradients; None where no path leads from the loss to a parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradlab_torch._module import Buffers, Functional
from gradlab_torch._taps import OnTap, Tap, run_tapped

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def loss_and_gradients(
    f: Functional, params: tuple[torch.Tensor, ...], rest: Buffers, x: torch.Tensor, y: Any, loss: Loss, on_tap: OnTap
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...], Buffers, list[tuple[Tap, Any]]]:
    """`(loss, gradients in definition order, new buffers, what on_tap handed out)`; `.grad` of the model's parameters
    is not touched, and a frozen parameter gets its gradient like any other."""
    leaves = tuple(p.detach().requires_grad_() for p in params)
    with torch.enable_grad():
        logits, state, handed = run_tapped(f, leaves, rest, x, on_tap)
        value = loss(logits, y)
        grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else (None,) * len(leaves)
    return value.detach(), grads, state, handed
