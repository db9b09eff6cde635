"""The parameters of a step under their paths, and their gradients as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Named = Sequence[tuple[str, torch.nn.Parameter]]


def is_away(value: object) -> bool:
    """Whether a number lies on another device than the host, who would have to wait for it."""
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


def gradients(registered: Named) -> dict[str, torch.Tensor]:
    """The gradients that are there."""
    return {name: p.grad for name, p in registered if p.grad is not None}


def dense(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient with its zeros."""
    return gradient.to_dense() if gradient.is_sparse else gradient
