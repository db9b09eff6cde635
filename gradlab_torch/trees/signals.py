"""Mean, variance and second moment of a tensor on its device, for any range of numbers."""

from __future__ import annotations

import torch

from gradlab_core.lab.propagation import Signal, from_scaled
from gradlab_torch.trees.norm_arithmetic import wide


def measured(x: torch.Tensor) -> torch.Tensor:
    """What `as_signal` makes a record of: mean, root mean square and standard deviation of the tensor divided by a
    power of two near its largest element, the exponent, and how many elements are not finite; float64."""
    values = wide(x.detach())
    peak = values.abs().amax()  # NaN if there is one
    exponent = torch.where(torch.isfinite(peak), torch.frexp(peak)[1], 0)
    limit = 120 if values.dtype == torch.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = exponent.clamp(-limit, limit)
    scaled = torch.ldexp(values, -exponent)
    mean = scaled.mean()
    spread = (scaled - mean).square().mean().sqrt()
    rms = scaled.square().mean().sqrt()
    lost = values.numel() - torch.isfinite(values).sum()
    return torch.stack([number.double() for number in (mean, rms, spread, exponent, lost)])


def as_signals(rows: list[torch.Tensor]) -> list[Signal]:
    """The records; the one transfer to the host."""
    return [from_scaled(*row) for row in torch.stack(rows).tolist()] if rows else []
