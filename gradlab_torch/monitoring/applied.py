"""The update that an optimizer really applied, without a copy of the parameters that is made anew at each step.

Fresh memory of the size of a net costs more than the arithmetic on it, so the copy lives in buffers that stay; large
tensors pass through in blocks that fit a processor's cache, so that each is read once and not three times. On a GPU
the norms come with the copy and with the difference, in one launch each. What the step promised comes in the same pass:
the inner products of the update with the gradient and with the parameters before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gradlab_torch.model.sharding import local
from gradlab_torch.monitoring.measurements import dense
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees import norm_arithmetic as norms

_BLOCK = 1 << 17  # elements; half a megabyte


class Applied:
    """Parameters as they were when `before` was called, and what `after` finds changed."""

    def __init__(self, params: Sequence[torch.Tensor]) -> None:
        self.params, self.kind = list(params), _kind(params)
        real = self._held()
        self.parts = [
            (members, (_Launched if way == "launched" else _Rows)([real[i] for i in members]))
            for way, members in norms.ways(real)
        ]

    def fits(self, params: Sequence[torch.Tensor]) -> bool:
        """Whether these are the parameters that the buffers are for."""
        return _kind(params) == self.kind

    def before(self) -> torch.Tensor:
        """Take the copy; gives the norms of the parameters."""
        return self._joined([part.before for _, part in self.parts], self._held())

    def after(self, grads: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """A row for each parameter: the norm of what was applied since `before`, ⟨g, Δθ⟩ and ⟨θ, Δθ⟩. The gradients are
        those of the step; with None the second is 0."""
        beside = [None if g is None else _beside(g, p) for g, p in zip(grads, self.params, strict=True)]
        rows = self._joined([part.after for _, part in self.parts], self._held(), beside)
        return rows if len(rows) else rows.reshape(0, 3)

    def _held(self) -> list[torch.Tensor]:
        """The parameters as real numbers; of a DTensor the shard that is here."""
        return [launches.as_real(local(p)) for p in self.params]

    def _joined(self, measured: Sequence[Callable[..., torch.Tensor]], *lists: Sequence[Any]) -> torch.Tensor:
        members = [members for members, _ in self.parts]
        parts = [way(*([x[i] for i in part] for x in lists)) for part, way in zip(members, measured, strict=True)]
        return norms.joined(members, parts)


class _Launched:
    """Copies with the places in memory of what they are copies of, in one launch for each type and device."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        self.olds = [torch.empty_like(p) for p in params]

    def before(self, params: list[torch.Tensor]) -> torch.Tensor:
        return self._measured(launches.copied, params)

    def after(self, params: list[torch.Tensor], grads: list[torch.Tensor | None]) -> torch.Tensor:
        laid = [None if g is None else _laid(g, old) for g, old in zip(grads, self.olds, strict=True)]
        return self._measured(launches.differences, params, laid)

    def _measured(self, way: Callable[..., torch.Tensor], params: list[torch.Tensor], *more: Any) -> torch.Tensor:
        # What the optimizer put in a parameter's place may lie in another order: it is brought into that of the copy.
        now = [_laid(p, old) for p, old in zip(params, self.olds, strict=True)]
        return norms.in_groups(launches.alike(now), way, now, self.olds, *more)


class _Rows:
    """Copies as rows, those of one shape side by side."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        self.groups = norms.alike(params)
        self.olds = [torch.empty_like(norms.side_by_side([params[i] for i in g])) for g in self.groups]

    def before(self, params: list[torch.Tensor]) -> torch.Tensor:
        rows = (norms.side_by_side([params[i] for i in group]) for group in self.groups)
        return norms.joined(self.groups, [_copy(old, new) for new, old in zip(rows, self.olds, strict=True)])

    def after(self, params: list[torch.Tensor], grads: list[torch.Tensor | None]) -> torch.Tensor:
        measured = []
        for group, old in zip(self.groups, self.olds, strict=True):
            news = [params[i] for i in group]
            beside = _gradients(news, [grads[i] for i in group])
            measured.append(_difference(norms.side_by_side(news), old, beside))
        return norms.joined(self.groups, measured)


def _gradients(params: list[torch.Tensor], grads: list[torch.Tensor | None]) -> torch.Tensor | None:
    """The gradients as rows beside those of the parameters, zeros for a missing one; None where all are missing."""
    if all(g is None for g in grads):
        return None
    if len(params) == 1 and grads[0] is not None:
        return norms.flat(grads[0].detach(), params[0]).unsqueeze(0)
    return norms.side_by_side([torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)])


def _beside(gradient: torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    """A gradient as a dense tensor of the parameter's type, as real numbers."""
    return launches.as_real(dense(gradient).detach().resolve_conj().resolve_neg().to(param.dtype))


def _laid(t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The tensor in the order in memory of another one."""
    return t if t.stride() == like.stride() else torch.empty_like(like).copy_(t)


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


def _difference(new: torch.Tensor, old: torch.Tensor, grads: torch.Tensor | None) -> torch.Tensor:
    """For each row the norm of new − old, and its inner products with the gradient and with the old."""
    if not _blocked(new):
        was = norms.wide(old)
        moves = norms.wide(new) - was
        of_grads = None if grads is None else norms.row_products(norms.wide(grads), moves)
        return _columns(norms.row_norms(moves), of_grads, norms.row_products(was, moves))
    scratch = torch.empty(1, _BLOCK)
    squares, of_grads, of_params = (torch.zeros(1, dtype=torch.float64) for _ in range(3))
    beside = [None] * -(-new.shape[1] // _BLOCK) if grads is None else grads.split(_BLOCK, dim=1)
    for (o, n), g in zip(_blocks(old, new), beside, strict=True):
        moves = torch.sub(n, o, out=scratch[:, : n.shape[1]])
        squares += norms.sums_of_squares(moves)
        of_params += norms.sums_of_products(o, moves)
        if g is not None:
            of_grads += norms.sums_of_products(g, moves)
    size = norms.from_squares(squares, new.shape[1], lambda lost: new[lost] - old[lost])
    for products, rows in ((of_grads, grads), (of_params, old)):
        if rows is not None and size[0] != 0 and norms.lost_products(products, new.shape[1]):
            blocks = zip(rows.split(_BLOCK, dim=1), _blocks(old, new), strict=True)
            products[0] = norms.in_float64((row, n - o) for row, (o, n) in blocks)
    return _columns(size, of_grads, of_params)


def _columns(sizes: torch.Tensor, of_grads: torch.Tensor | None, of_params: torch.Tensor) -> torch.Tensor:
    of_grads = torch.zeros_like(of_params) if of_grads is None else of_grads
    return torch.stack([sizes.to(of_params.dtype), of_grads, of_params], dim=1)


def _blocks(old: torch.Tensor, new: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(old.split(_BLOCK, dim=1), new.split(_BLOCK, dim=1), strict=True)
