"""Units that are copies of one another, without comparing every row with every other."""

from __future__ import annotations

import torch

from gradlab_core.definitions.thresholds import COPY_TOLERANCE
from gradlab_torch.trees.norm_arithmetic import row_norms, wide

_DIRECTIONS, _NEIGHBOURS = 8, 8
_NEAR = 10 * COPY_TOLERANCE
"""Rows whose projections differ by more are no copies: no projection on a normal draw makes a difference ten times as
large."""


def copied_share(weight: torch.Tensor) -> torch.Tensor:
    """`gradlab_core.definitions.symmetry.copied_share` as a 0-d tensor on the device, O(n log n).

    Rows are projected on a few random directions. The nearest row is looked for among the neighbours in the order of
    the first two projections, by all of them, and only with that one is a row compared in full. Projections of copies
    differ by 1e-4 as the rows do, those of others by about 1: a few neighbours are plenty.
    """
    rows = wide(weight.detach().flatten(1))
    count = len(rows)
    if rows.numel() == 0:
        return rows.new_zeros(())
    sizes = row_norms(rows)
    there = (sizes > 0) & torch.isfinite(sizes)
    draw = torch.randn(rows.shape[1], _DIRECTIONS, generator=torch.Generator().manual_seed(0))
    projected = rows @ draw.to(rows.device, rows.dtype)
    around = torch.arange(count, device=rows.device)
    shifts = torch.tensor([*range(-_NEIGHBOURS, 0), *range(1, _NEIGHBOURS + 1)], device=rows.device)
    candidates = []
    for k in range(2):
        # Rows of zeros would lie between the others.
        order = torch.where(there, projected[:, k], torch.inf).argsort()
        candidates.append(order[(order.argsort()[:, None] + shifts) % count])
    near = torch.cat(candidates, dim=1)
    apart = (projected[near] - projected[:, None]).abs().amax(dim=2)  # squares of small weights would be 0
    apart = apart / torch.maximum(sizes[near], sizes[:, None])
    apart = torch.where((near == around[:, None]) | apart.isnan(), torch.inf, apart)
    distance, column = apart.min(dim=1)
    partner = near[around, column]
    if rows.device.type == "cpu" and not bool((distance <= _NEAR).any()):  # as of all weights that start at random
        return rows.new_zeros(())
    allowed = COPY_TOLERANCE * torch.maximum(sizes, sizes[partner])
    alike = (row_norms(rows - rows[partner]) <= allowed) & torch.isfinite(distance)
    total = there.sum()
    return torch.where(total > 1, (alike & there).sum().to(rows.dtype) / total, 0.0)
