"""What a monitor measures of one step: gradients as they are stored, updates that rounding swallowed, one transfer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

Named = Sequence[tuple[str, torch.nn.Parameter]]
Parts = dict[str, tuple[list[str], torch.Tensor]]
"""`{quantity: (paths, one value for each)}`."""


def path_of(name: str) -> str:
    """The canonical path of a parameter, without what torch.compile puts around a module."""
    return name.replace("_orig_mod.", "")


def gradients(registered: Named) -> list[torch.Tensor]:
    """The gradients that are there. Of a sparse one, the zeros that are not stored add nothing."""
    found = [p.grad for _, p in registered if p.grad is not None]
    return [g.coalesce().values() if g.is_sparse else g for g in found]


def dense(gradient: torch.Tensor | None) -> torch.Tensor:
    """A gradient that is there, with its zeros."""
    assert gradient is not None  # asked of those that have one
    return gradient.to_dense() if gradient.is_sparse else gradient


def transferred(parts: Parts) -> dict[str, dict[str, float]]:
    """Everything that was measured, as numbers; the one transfer to the host."""
    device = next(iter(parts.values()))[1].device
    wide = torch.float32 if device.type == "mps" else torch.float64
    numbers = iter(torch.cat([vector.to(device, wide) for _, vector in parts.values()]).tolist())
    return {quantity: {path: next(numbers) for path in paths} for quantity, (paths, _) in parts.items()}


def lost_to_rounding(
    optimizer: torch.optim.Optimizer, registered: Named, grads: Mapping[str, float], updates: Mapping[str, float]
) -> set[str]:
    """Of the parameters that stood still under a gradient, those that no step could have moved: θ − η·g rounds to θ
    everywhere, or θ − η·sign g does (Adam's first step). The others were left out by the optimizer."""
    rates = {id(p): group.get("lr", 0.0) for group in optimizer.param_groups for p in group["params"]}
    still = [
        (name, p, rates[id(p)])
        for name, p in registered
        if updates[name] == 0.0 and 0.0 < grads.get(name, 0.0) < math.inf and float(rates[id(p)]) != 0.0
    ]
    if not still:
        return set()
    found = torch.stack([_rounds_away(p.detach(), dense(p.grad), rate).to("cpu") for _, p, rate in still])
    return {name for (name, _, _), lost in zip(still, found.tolist(), strict=True) if lost}


def _rounds_away(p: torch.Tensor, gradient: torch.Tensor, rate: float | torch.Tensor) -> torch.Tensor:
    return torch.stack([(p - rate * g == p).all() for g in (gradient.to(p.dtype), gradient.sign().to(p.dtype))]).any()
