"""The update that an optimizer really applied, without a copy of the parameters that is made anew at each step.

Fresh memory of the size of a net costs more than the arithmetic on it, so the copy lives in buffers that stay; large
tensors pass through in blocks that fit a processor's cache, so that each is read once and not three times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gradlab_torch import _norms as norms

_BLOCK = 1 << 17  # elements; half a megabyte


class Applied:
    """Parameters as they were when `before` was called, and what `after` finds changed."""

    def __init__(self, params: Sequence[torch.Tensor]) -> None:
        self.params, self.kind = list(params), _kind(params)
        self.groups = norms.alike(self.params)
        self.olds = [torch.empty_like(norms.side_by_side([params[i] for i in g])) for g in self.groups]

    def fits(self, params: Sequence[torch.Tensor]) -> bool:
        """Whether these are the parameters that the buffers are for."""
        return _kind(params) == self.kind

    def before(self) -> torch.Tensor:
        """Take the copy; gives the norms of the parameters."""
        found = []
        for group, old in zip(self.groups, self.olds, strict=True):
            new = norms.side_by_side([self.params[i] for i in group])
            found.append(_copy(old, new))
        return norms.joined(self.groups, found)

    def after(self) -> torch.Tensor:
        """Norms of what was applied since `before`."""
        found = []
        for group, old in zip(self.groups, self.olds, strict=True):
            new = norms.side_by_side([self.params[i] for i in group])
            found.append(_difference(new, old))
        return norms.joined(self.groups, found)


def _kind(params: Sequence[torch.Tensor]) -> list[object]:
    return [(id(p), p.shape, p.dtype, p.device) for p in params]


def _blocked(rows: torch.Tensor) -> bool:
    return rows.device.type == "cpu" and rows.dtype == torch.float32 and rows.shape[0] == 1 and rows.shape[1] > _BLOCK


def _copy(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    if not _blocked(new):
        return norms.row_norms(old.copy_(new))
    squares = torch.zeros(1, dtype=torch.float64)
    for o, n in _blocks(old, new):
        squares += norms.sums_of_squares(o.copy_(n))
    return norms.from_squares(squares, new.shape[1], lambda lost: new[lost])


def _difference(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    if not _blocked(new):
        return norms.row_norms(norms.wide(new) - norms.wide(old))
    squares, scratch = torch.zeros(1, dtype=torch.float64), torch.empty(1, _BLOCK)
    for o, n in _blocks(old, new):
        squares += norms.sums_of_squares(torch.sub(n, o, out=scratch[:, : n.shape[1]]))
    return norms.from_squares(squares, new.shape[1], lambda lost: new[lost] - old[lost])


def _blocks(old: torch.Tensor, new: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(old.split(_BLOCK, dim=1), new.split(_BLOCK, dim=1), strict=True)
