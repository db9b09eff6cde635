"""Loss gradients; None where no path leads from the loss to a parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gradlab_torch.model.inputs import Inputs, outside_inference
from gradlab_torch.model.taps import OnTap, Tap, run_tapped

Loss = Callable[[Any, Any], torch.Tensor]


def loss_and_gradients(
    model: torch.nn.Module, x: Inputs, y: Any, loss: Loss, on_tap: OnTap
) -> tuple[torch.Tensor, dict[str, torch.Tensor | None], list[tuple[Tap, Any]]]:
    """`(loss, {path: gradient} in definition order, what on_tap handed out)` of a private copy."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # Also where the caller switched gradients off: they are what is asked for here.
    with torch.inference_mode(False), torch.enable_grad():
        out, handed = run_tapped(model, outside_inference(x), on_tap)
        value = loss(out, y)
        leaves = tuple(named.values())
        grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else (None,) * len(leaves)
    return value.detach(), dict(zip(named, grads, strict=True)), handed


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether none holds a NaN or an Inf; one transfer."""
    return bool(torch.stack([t.detach().isfinite().all() for t in tensors]).all())
