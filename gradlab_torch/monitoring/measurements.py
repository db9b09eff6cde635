"""The parameters of a step under their paths, and their gradients as they are stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from gradlab_core.records import GradientState
from gradlab_torch.model.modules import path_of
from gradlab_torch.model.sharding import is_dtensor, local

Named = Sequence[tuple[str, torch.nn.Parameter]]


def is_away(value: object) -> bool:
    """Whether a number lies on another device than the host, who would have to wait for it."""
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


def registered(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
    """`(path, parameter)` of what the optimizer may move, in the order of the model. It asks for a gradient, not
    for `requires_grad`: a parameter frozen with a gradient left in it still moves."""
    groups = (p for group in optimizer.param_groups for p in group["params"])
    moved = {id(p): p for p in groups if p.requires_grad or p.grad is not None}
    own = [(path_of(name), p) for name, p in model.named_parameters() if moved.pop(id(p), None) is not None]
    return own + [(f"optimizer.{i}", p) for i, p in enumerate(moved.values())]  # not of this model


def known_states(model: torch.nn.Module, moved: Collection[int]) -> dict[str, GradientState]:
    """The state of every parameter of the model, as far as the program decides it; `moved` are the `id`s of those that
    the optimizer moves."""
    return {
        path_of(name): GradientState.OK
        if id(p) in moved
        else GradientState.UNREGISTERED
        if p.requires_grad
        else GradientState.FROZEN
        for name, p in model.named_parameters()
    }


def gradients(registered: Named) -> dict[str, torch.Tensor]:
    """The gradients that are there; of a DTensor the part that belongs to the shard of the parameter."""
    return {name: _beside_shard(p.grad, p) if is_dtensor(p) else p.grad for name, p in registered if p.grad is not None}


def _beside_shard(gradient: Any, param: Any) -> torch.Tensor:
    """Where a gradient is not yet added up over the processes, or lies in another way than its parameter, it is
    brought into place, as the optimizer will do for itself."""
    if is_dtensor(gradient) and gradient.placements != param.placements:
        gradient = gradient.redistribute(param.device_mesh, param.placements)
    return local(gradient)


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient with its zeros."""
    return gradient.to_dense() if gradient.is_sparse else gradient
