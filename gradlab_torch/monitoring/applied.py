"""The update that an optimizer really applied, without a copy of the parameters that is made anew at each step.

Fresh memory of the size of a net costs more than the arithmetic on it, so the copy lives in buffers that stay; large
tensors pass through in blocks that fit a processor's cache, so that each is read once and not three times. On a GPU
the norms come with the copy and with the difference, in one launch each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from gradlab_torch.trees import launches as launches
from gradlab_torch.trees import norm_arithmetic as norms

_BLOCK = 1 << 17  # elements; half a megabyte


class Applied:
    """Parameters as they were when `before` was called, and what `after` finds changed."""

    def __init__(self, params: Sequence[torch.Tensor]) -> None:
        self.params, self.kind = list(params), _kind(params)
        real = [launches.as_real(p) for p in self.params]
        self.parts = [
            (members, (_Launched if way == "launched" else _Rows)([real[i] for i in members]))
            for way, members in norms.ways(real)
        ]

    def fits(self, params: Sequence[torch.Tensor]) -> bool:
        """Whether these are the parameters that the buffers are for."""
        return _kind(params) == self.kind

    def before(self) -> torch.Tensor:
        """Take the copy; gives the norms of the parameters."""
        return self._joined([part.before for _, part in self.parts])

    def after(self) -> torch.Tensor:
        """Norms of what was applied since `before`."""
        return self._joined([part.after for _, part in self.parts])

    def _joined(self, measured: Sequence[Callable[[list[torch.Tensor]], torch.Tensor]]) -> torch.Tensor:
        real = [launches.as_real(p) for p in self.params]
        members = [members for members, _ in self.parts]
        norms_of_parts = [way([real[i] for i in part]) for part, way in zip(members, measured, strict=True)]
        return norms.joined(members, norms_of_parts)


class _Launched:
    """Copies with the places in memory of what they are copies of, in one launch for each type and device."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        self.olds = [torch.empty_like(p) for p in params]

    def before(self, params: list[torch.Tensor]) -> torch.Tensor:
        return self._measured(launches.copied, params)

    def after(self, params: list[torch.Tensor]) -> torch.Tensor:
        return self._measured(launches.differences, params)

    def _measured(self, way: Callable[..., torch.Tensor], params: list[torch.Tensor]) -> torch.Tensor:
        # What the optimizer put in a parameter's place may lie in another order: it is brought into that of the copy.
        pairs = zip(params, self.olds, strict=True)
        now = [p if p.stride() == old.stride() else torch.empty_like(old).copy_(p) for p, old in pairs]
        return norms.in_groups(launches.alike(now), way, now, self.olds)


class _Rows:
    """Copies as rows, those of one shape side by side."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        self.groups = norms.alike(params)
        self.olds = [torch.empty_like(norms.side_by_side([params[i] for i in g])) for g in self.groups]

    def before(self, params: list[torch.Tensor]) -> torch.Tensor:
        return self._measured(lambda new, old: _copy(old, new), params)

    def after(self, params: list[torch.Tensor]) -> torch.Tensor:
        return self._measured(_difference, params)

    def _measured(
        self, way: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], params: list[torch.Tensor]
    ) -> torch.Tensor:
        rows = (norms.side_by_side([params[i] for i in group]) for group in self.groups)
        return norms.joined(self.groups, [way(new, old) for new, old in zip(rows, self.olds, strict=True)])


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
