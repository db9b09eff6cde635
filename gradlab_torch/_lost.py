"""Which updates did rounding swallow? Of the parameters that stood still under a gradient, those that a step of such an
optimizer does not move: for one of the proposals, θ − η·proposal rounds to θ in every element. The others were left out
by the optimizer.

On the CPU the norms are looked at first, and mostly nothing is left to do. A GPU is not waited for: there a kernel
looks by itself, and ends at once where a parameter has moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradlab_torch import _launches as launches
from gradlab_torch._measurements import Named, dense, is_away


def lost_to_rounding(
    optimizer: torch.optim.Optimizer,
    registered: Named,
    gradients: Mapping[str, torch.Tensor],
    norms: torch.Tensor,
    updates: torch.Tensor,
) -> tuple[list[str], torch.Tensor]:
    """Paths of parameters with a gradient, and 1 for each whose update was lost, 0 for the others.

    Args:
        norms: of the gradients, in their order.
        updates: of what was applied, in the order of `registered`.
    """
    paths, params = list(gradients), dict(registered)
    if len(paths) < len(params):
        update_of = dict(zip(params, updates.unbind(), strict=True))
        updates = torch.stack([update_of[path] for path in paths]) if paths else updates[:0]
    still = (updates.to(norms.device) == 0) & (norms > 0) & torch.isfinite(norms)
    looked = None if launches.works(still.device) else still.tolist()
    if looked is not None and not any(looked):
        return paths, torch.zeros_like(norms)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    cases = [
        _Case(p.detach(), gradients[path], optimizer.state.get(p, {}), groups[id(p)])
        for path, p in ((path, params[path]) for path in paths)
    ]
    flags: list[Any] = [None] * len(paths)
    fitting = [i for i, case in enumerate(cases) if case.fits]
    for group in launches.alike([cases[i].param for i in fitting]):
        members = [fitting[i] for i in group]
        # The places are a list: `still[members]` would send it to the device and wait.
        found = _launched([cases[i] for i in members], torch.stack([still[i] for i in members]))
        for i, flag in zip(members, found.unbind(), strict=True):
            flags[i] = flag
    others = [i for i, flag in enumerate(flags) if flag is None]
    if others and looked is None:
        looked = still.tolist()  # a sparse or oddly laid out parameter: here the host does wait
    for i in others:
        flags[i] = cases[i].is_rounded_away() if looked and looked[i] else torch.zeros((), device=still.device)
    return paths, torch.stack([flag.to(still.device, torch.float32) for flag in flags])


class _Case:
    """A parameter, its gradient, and what the optimizer keeps of it."""

    def __init__(self, param: torch.Tensor, gradient: torch.Tensor, state: Any, group: Mapping[str, Any]) -> None:
        self.param, self.gradient = launches.as_real(param), gradient
        self.rate = group.get("lr", 0.0)
        is_adam = {"exp_avg", "exp_avg_sq", "step"} <= set(state) and "betas" in group
        self.momentum = _tensor(state.get("momentum_buffer"))
        self.mean = _tensor(state.get("exp_avg")) if is_adam else None
        self.square = _tensor(state.get("exp_avg_sq")) if is_adam else None
        self.steps = state.get("step", 1)
        self.betas = group.get("betas", (0.0, 0.0))

    @property
    def fits(self) -> bool:
        """Whether a kernel can walk through all of it in step."""
        parts = [t for t in (self.param, self.gradient, self.momentum, self.mean, self.square) if t is not None]
        return launches.works(self.param.device) and all(
            launches.fits(t)  # what fits has strides
            and (t.dtype, t.device, t.shape) == (self.param.dtype, self.param.device, self.param.shape)
            and t.stride() == self.param.stride()
            for t in parts
        )

    def is_rounded_away(self) -> torch.Tensor:
        """Whether one of the proposals moves no element; a rate of 0 swallows nothing, it is what was asked for."""
        p, rate = self.param, self.rate
        step = (launches.as_real(u).to(p.dtype) for u in self._proposals())
        moves = [(p - rate * u != p).any() for u in step]
        asked = rate != 0 if not isinstance(rate, torch.Tensor) else (rate != 0).to(p.device)
        return ~torch.stack(moves).all() & asked

    def _proposals(self) -> Iterator[torch.Tensor]:
        """What optimizers step along, up to the rate: SGD, its momentum, Adam's first step, Adam."""
        gradient = dense(self.gradient)
        yield gradient
        yield gradient.sgn()
        if self.momentum is not None:
            yield self.momentum
        if self.mean is not None and self.square is not None:
            first, second = (1 - float(beta) ** float(self.steps) for beta in self.betas)
            yield (self.mean / first) / (self.square / second).sqrt().clamp_min(1e-30)


def _tensor(value: Any) -> torch.Tensor | None:
    return value if isinstance(value, torch.Tensor) else None


def _launched(cases: Sequence[_Case], still: torch.Tensor) -> torch.Tensor:
    params = [case.param for case in cases]
    device, dtype = params[0].device, params[0].dtype
    rows = [[case.param, case.gradient, case.momentum, case.mean, case.square] for case in cases]
    bits = torch.zeros(len(cases), dtype=torch.int32, device=device)
    steps = _scalars([case.steps for case in cases], device)
    rates = _scalars([case.rate for case in cases], device)
    betas = [_scalars([case.betas[i] for case in cases], device) for i in (0, 1)]
    offered = [3 + 4 * (case.momentum is not None) + 8 * (case.mean is not None) for case in cases]
    with launches.on(device):
        t = launches.table(params)
        launches.launch(
            "moved",
            t.blocks,
            launches.addresses([row[i] for i in range(5) for row in rows]),
            rates,
            *(1 - beta**steps for beta in betas),
            still.to(torch.int64),
            *(t.sizes, t.owners, t.firsts, bits, len(cases)),
            **launches.triton_types(dtype),
            WIDE=launches.triton_types(torch.float64 if dtype == torch.float64 else torch.float32)["TYPE"],
            **launches.width(),
        )
    missed = launches.uploaded(torch.tensor(offered, dtype=torch.int32), device) & ~bits
    return still & (missed != 0) & (rates != 0)


def _scalars(values: Sequence[Any], device: torch.device) -> torch.Tensor:
    """One float64 for each; those that lie on a device stay there."""
    if not any(map(is_away, values)):
        return launches.uploaded(torch.tensor([float(v) for v in values], dtype=torch.float64), device)
    there = [
        v.detach().reshape(()).to(device, torch.float64, non_blocking=True)
        if isinstance(v, torch.Tensor)
        else torch.full((), float(v), dtype=torch.float64, device=device)
        for v in values
    ]
    return torch.stack(there)
