"""Which updates did rounding swallow? Of the parameters that stood still under a gradient, those that a step of such an
optimizer does not move: for one of the proposals, θ − η·proposal rounds to θ in every element. The others were left out
by the optimizer.

On the CPU the norms are looked at first, and mostly nothing is left to do. A GPU is not waited for: there a kernel
looks by itself, and ends at once where a parameter has moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gradlab_torch.model.sharding import local
from gradlab_torch.monitoring.measurements import Named, dense, is_away
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees.norm_arithmetic import joined
from gradlab_torch.trees.transfer import Parts


def lost_to_rounding(
    optimizer: torch.optim.Optimizer,
    registered: Named,
    gradients: Mapping[str, torch.Tensor],
    parts: Parts,
    *,
    sharded: bool = False,
) -> tuple[list[str], torch.Tensor]:
    """Paths of parameters with a gradient, and for each a number that is 0 unless its update was lost: the sum of the
    proposals that moved no element, as bits: 1 the gradient, 2 its sign, 4 the momentum, 8 Adam's step.

    Args:
        parts: the norms of the gradients, in their order, and of what was applied, in the order of `registered`.
        sharded: these are shards, and others may have a gradient where this one has none: whatever stood still is
            looked at, and the update is lost if a proposal moved no shard.
    """
    updates = parts["update"][1]
    norms = parts["grad"][1] if "grad" in parts else updates[:0]
    paths, params = list(gradients), dict(registered)
    if len(paths) < len(params):
        update_of = dict(zip(params, updates.unbind(), strict=True))
        updates = torch.stack([update_of[path] for path in paths]) if paths else updates[:0]
    still = updates.to(norms.device) == 0
    still = still if sharded else still & (norms > 0) & torch.isfinite(norms)
    looked = None if launches.works(still.device) else still.tolist()
    if looked is not None and not any(looked):
        return paths, torch.zeros_like(norms)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    cases = [
        _Case(
            local(params[path]).detach(),
            gradients[path],
            optimizer.state.get(params[path], {}),
            groups[id(params[path])],
        )
        for path in paths
    ]
    devices = {case.param.device for case in cases}
    launching = {device for device in devices if launches.works(device)}
    fitting = [i for i, case in enumerate(cases) if case.param.device in launching and case.fits]
    rest = sorted(set(range(len(cases))) - set(fitting))
    members = [[fitting[i] for i in group] for group in launches.alike([cases[i].param for i in fitting])]
    lost = [_launched([cases[i] for i in group], _picked(still, group)) for group in members]
    if rest:
        looked = still.tolist() if looked is None else looked  # a sparse or oddly laid out parameter: the host waits
        flags = [cases[i].rounded_away() if looked[i] else torch.zeros((), device=still.device) for i in rest]
        members.append(rest)
        lost.append(torch.stack([flag.to(still.device, torch.float32) for flag in flags]))
    return paths, joined(members, [flags.to(still.device, torch.float32) for flags in lost])


def _picked(vector: torch.Tensor, members: list[int]) -> torch.Tensor:
    everything = members == list(range(len(vector)))
    return vector if everything else vector[launches.indices(members, vector.device)]


class _Case:
    """A parameter, its gradient, and what the optimizer keeps of it."""

    def __init__(self, param: torch.Tensor, gradient: torch.Tensor, state: Any, group: Mapping[str, Any]) -> None:
        self.param, self.gradient = launches.as_real(param), gradient
        self.rate = group.get("lr", 0.0)
        is_adam = {"exp_avg", "exp_avg_sq", "step"} <= set(state) and "betas" in group
        self.momentum = _tensor(state.get("momentum_buffer"))
        self.mean = _tensor(state.get("exp_avg")) if is_adam else None
        self.square = _tensor(state.get("exp_avg_sq")) if is_adam else None
        steps = state.get("step", 1)
        self.steps = local(steps) if isinstance(steps, torch.Tensor) else steps
        self.betas = group.get("betas", (0.0, 0.0))

    @property
    def fits(self) -> bool:
        """Whether a kernel can walk through all of it in step."""
        p = self.param
        return launches.fits(p) and all(
            t is None
            or (
                launches.fits(t)
                and t.dtype == p.dtype
                and t.device == p.device
                and t.stride() == p.stride()
                and t.shape == p.shape
            )
            for t in (self.gradient, self.momentum, self.mean, self.square)
        )

    def rounded_away(self) -> torch.Tensor:
        """The bits of the proposals that move no element; a rate of 0 swallows nothing, it is what was asked for."""
        p, rate = self.param, self.rate
        steps = ((bit, launches.as_real(u).to(p.dtype)) for bit, u in self._proposals())
        bits = [bit * ~(p - rate * u != p).any() for bit, u in steps]
        moving = rate != 0 if not isinstance(rate, torch.Tensor) else (rate != 0).to(p.device)
        return torch.stack(bits).sum() * moving

    def _proposals(self) -> Iterator[tuple[int, torch.Tensor]]:
        """What optimizers step along, up to the rate: SGD, its momentum, Adam's first step, Adam; each with its bit."""
        gradient = dense(self.gradient)
        yield 1, gradient
        yield 2, gradient.sgn()
        if self.momentum is not None:
            yield 4, self.momentum
        if self.mean is not None and self.square is not None:
            first, second = (1 - float(beta) ** float(self.steps) for beta in self.betas)
            yield 8, (self.mean / first) / (self.square / second).sqrt().clamp_min(1e-30)


def _tensor(value: Any) -> torch.Tensor | None:
    return local(value) if isinstance(value, torch.Tensor) else None


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
    return missed * (still & (rates != 0))


def _scalars(values: Sequence[Any], device: torch.device) -> torch.Tensor:
    """One float64 for each; those that lie on a device stay there."""
    there = [i for i, value in enumerate(values) if is_away(value)]
    if not there:
        return launches.uploaded(np.array([float(v) for v in values]), device)
    here = sorted(set(range(len(values))) - set(there))
    kinds: dict[object, list[int]] = {}
    for i in there:
        kinds.setdefault((values[i].device, values[i].dtype), []).append(i)
    groups = [*kinds.values(), *([here] if here else [])]
    stacks = [torch.stack([values[i].detach().reshape(()) for i in group]) for group in kinds.values()]
    if here:
        stacks.append(launches.uploaded(np.array([float(values[i]) for i in here]), device))
    return joined(groups, [part.to(device, torch.float64, non_blocking=True) for part in stacks])
