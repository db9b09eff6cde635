"""What a monitor measures of one step: gradients as they are stored, updates that rounding swallowed, one transfer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

Named = Sequence[tuple[str, torch.nn.Parameter]]
Parts = dict[str, tuple[list[str], torch.Tensor]]
"""`{quantity: (paths, one value for each)}`."""


def path_of(name: str) -> str:
    """The canonical path of a parameter, without what torch.compile puts around a module."""
    return name.replace("_orig_mod.", "")


def gradients(registered: Named) -> dict[str, torch.Tensor]:
    """The gradients that are there."""
    return {name: p.grad for name, p in registered if p.grad is not None}


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient with its zeros."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def transferred(parts: Parts) -> dict[str, dict[str, float]]:
    """Everything that was measured, as numbers; the one transfer to the host."""
    device = next(iter(parts.values()))[1].device
    wide = torch.float32 if device.type == "mps" else torch.float64
    numbers = iter(torch.cat([vector.to(device, wide) for _, vector in parts.values()]).tolist())
    return {quantity: {path: next(numbers) for path in paths} for quantity, (paths, _) in parts.items()}


def lost_to_rounding(
    optimizer: torch.optim.Optimizer,
    registered: Named,
    gradients: Mapping[str, torch.Tensor],
    norms: Mapping[str, float],
    updates: Mapping[str, float],
) -> set[str]:
    """Of the parameters that stood still under a gradient, those that a step of such an optimizer does not move: for
    one of `_proposals`, θ − η·proposal rounds to θ in every element. The others were left out by the optimizer."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    still = [
        (name, p, groups[id(p)])
        for name, p in registered
        if updates[name] == 0.0 and 0.0 < norms.get(name, 0.0) < math.inf
    ]
    if not still:
        return set()
    device = still[0][1].device
    found = [_rounds_away(p.detach(), dense(gradients[name]), optimizer.state.get(p, {}), g) for name, p, g in still]
    flags = torch.stack([flag.to(device) for flag in found]).tolist()
    return {name for (name, _, _), lost in zip(still, flags, strict=True) if lost}


def _rounds_away(p: torch.Tensor, gradient: torch.Tensor, state: Any, group: Mapping[str, Any]) -> torch.Tensor:
    rate = group.get("lr", 0.0)
    moves = [(p - rate * u.to(p.dtype) != p).any() for u in _proposals(gradient, state, group)]
    # A rate of 0 swallows nothing: it is what was asked for.
    return ~torch.stack(moves).all() & (torch.as_tensor(rate, device=p.device) != 0)


def _proposals(gradient: torch.Tensor, state: Any, group: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """What optimizers step along, up to the rate: SGD, its momentum, Adam's first step, Adam."""
    yield gradient
    yield gradient.sgn()
    if isinstance(state.get("momentum_buffer"), torch.Tensor):
        yield state["momentum_buffer"]
    if {"exp_avg", "exp_avg_sq", "step"} <= set(state) and "betas" in group:
        first, second = (1 - float(beta) ** float(state["step"]) for beta in group["betas"])
        yield (state["exp_avg"] / first) / (state["exp_avg_sq"] / second).sqrt().clamp_min(1e-30)
