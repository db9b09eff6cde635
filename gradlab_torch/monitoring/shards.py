"""The same record from one process or many: what each holds of a step is added up in one all-reduce.

Norms are roots of sums over elements, and so are inner products sums. Each process measures the shards that it holds
(empty ones too), the squares and products are summed in float64, and the roots are taken afterwards, on the host. With
them goes how many elements each process held: the sum over all of it, divided by the size of the parameter, says how
often each element was counted. So replicas are counted once, whatever keeps them (a `Replicate`, another dimension of
the mesh, a plain tensor beside DTensors), and a NaN in any of them shows everywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import refuse
from gradlab_torch.model.sharding import is_dtensor, local
from gradlab_torch.monitoring.measurements import Named
from gradlab_torch.trees import launches as launches
from gradlab_torch.trees.transfer import Parts, Transfer

_NORMS = ("param", "grad", "update", "raw")
_PRODUCTS = ("grad_update", "param_update")
_BITS = range(4)  # of the proposals that `lost_to_rounding` tells of
_LARGE, _SCALE = 2.0**500, 2.0**600
"""The square of a larger norm, or of one below the inverse, could leave float64, so it is scaled and summed apart."""


def one_number(loss: torch.Tensor) -> torch.Tensor:
    """A loss as this process has it.

    Raises:
        GradlabError: a DTensor of which this process has a summand.
    """
    whole = not is_dtensor(loss) or all(p.is_replicate() for p in loss.placements)  # type: ignore[attr-defined]
    refuse("observe", [] if whole else ["the loss is a DTensor that is not replicated; expected loss.full_tensor()"])
    return local(loss.detach())


class Shards:
    """The processes that share these parameters: all of them, at every step that is recorded."""

    def __init__(self, params: Named) -> None:
        meshes = list({p.device_mesh: None for _, p in params if is_dtensor(p)})  # type: ignore[attr-defined]
        self.group = _group(meshes)
        self.device = _device(meshes[0].device_type)
        self._check_alike(params)

    @classmethod
    def of(cls, params: Named, extras: Sequence[str | Quantity]) -> Shards | None:
        """None where this process holds all there is. Takes part in a reduction, so every process calls it.

        Raises:
            GradlabError: extras, which need whole tensors; processes that would record different parameters.
        """
        if not any(is_dtensor(p) for _, p in params):
            return None
        names = [extra if isinstance(extra, str) else extra.name for extra in extras]
        refuse("Monitor", [f"{name} needs whole tensors; expected no extras beside DTensors" for name in names])
        return cls(params)

    def transfer(self, parts: Parts, params: Named) -> Transfer:
        """The figures of all processes, on their way to the host; `parts` are those of this one."""
        columns = self._columns(parts, params)
        loss = self._loss(parts.get("loss"))
        sums = torch.cat([*columns.values(), loss])
        dist.all_reduce(sums, group=self.group)
        names = [name for name, _ in params]
        summed: Parts = {
            column: (names, part) for column, part in zip(columns, sums[: -len(loss)].split(len(names)), strict=True)
        }
        own = {name: part for name, part in parts.items() if name not in {*_NORMS, *_PRODUCTS, "lost", "loss"}}
        types = {name: part.dtype for name, (_, part) in parts.items()}
        sizes = np.array([p.numel() for _, p in params], np.float64)
        return _Summed({**summed, "loss": (["sum", "count"], sums[-len(loss) :]), **own}, own, sizes, types)

    def _columns(self, parts: Parts, params: Named) -> dict[str, torch.Tensor]:
        """One number for each parameter in each column, 0 for what this process cannot tell of."""
        places = {name: i for i, (name, _) in enumerate(params)}
        held = launches.uploaded(np.array([local(p).numel() for _, p in params], np.float64), self.device)

        def spread(names: Sequence[str], values: torch.Tensor) -> torch.Tensor:
            values = values.to(self.device, torch.float64)
            if len(names) == len(places):
                return values
            at = launches.indices([places[name] for name in names], self.device)
            return torch.zeros_like(held).index_copy(0, at, values)

        columns = {"held": held}
        for quantity in _NORMS:
            names, norms = parts.get(quantity, ([], held[:0]))
            norms = spread(names, norms)
            columns[f"{quantity} held"] = held * spread(names, torch.ones(len(names), device=self.device))
            is_large, is_small = norms > _LARGE, norms < 1 / _LARGE
            columns[f"{quantity} large"] = torch.where(is_large, norms / _SCALE, 0.0).square()
            columns[f"{quantity} small"] = torch.where(is_small, norms * _SCALE, 0.0).square()
            columns[f"{quantity} other"] = torch.where(is_large | is_small, 0.0, norms).square()
        columns |= {quantity: spread(*parts[quantity]) for quantity in _PRODUCTS}
        names, lost = parts.get("lost", ([], held[:0]))
        bits = spread(names, lost).to(torch.int64)
        for bit in _BITS:  # where nothing is held, nothing can move
            columns[f"moved {bit}"] = (((bits >> bit) & 1 == 0) & (held > 0)).to(torch.float64)
        return columns

    def _loss(self, part: tuple[list[str], torch.Tensor] | None) -> torch.Tensor:
        """The loss of this process, and that it has one."""
        if part is None:
            return torch.zeros(2, dtype=torch.float64, device=self.device)
        loss = part[1].to(self.device, torch.float64, non_blocking=True)
        return torch.cat([loss, torch.ones_like(loss)])

    def _check_alike(self, params: Named) -> None:
        """A reduction of vectors of different lengths would hang, or add up what does not belong together."""
        mark = zlib.crc32(repr([(name, tuple(p.shape), p.dtype) for name, p in params]).encode())
        marks = torch.tensor([mark, -mark], dtype=torch.int64, device=self.device)
        dist.all_reduce(marks, op=dist.ReduceOp.MAX, group=self.group)
        most, least = marks.tolist()
        refuse(
            "Monitor",
            ["the processes train different parameters; expected the same ones, of the same shapes, on each"]
            if most != -least
            else [],
        )


class _Summed(Transfer):
    """The sums over all processes, of which the numbers of a step are made on the host."""

    def __init__(self, parts: Parts, own: Parts, sizes: np.ndarray, types: Mapping[str, torch.dtype]) -> None:
        super().__init__(parts)
        self.own, self.sizes, self.types = list(own), sizes, types

    def numbers(self) -> dict[str, dict[str, float]]:
        """As one process would have them that holds everything."""
        arrived = super().numbers()
        names = list(arrived["held"])
        sums = {name: np.array(list(part.values())) for name, part in arrived.items() if name not in self.own}
        with np.errstate(all="ignore"):
            times = np.where(self.sizes > 0, sums["held"] / self.sizes, 1.0)  # how often each element was counted
            columns = {name: self._roots(name, sums, times) for name in _NORMS if name in self.types}
            columns |= {name: sums[name] / times for name in _PRODUCTS}
        there = {name: np.full(len(names), True) for name in columns}
        there["grad"] = (sums["grad held"] > 0) | (self.sizes == 0)
        if "raw" in columns:
            there["raw"] = there["grad"]
            if not np.array_equal(sums["raw held"], sums["grad held"]):
                del columns["raw"]  # not every process was asked
        stuck = np.any([sums[f"moved {bit}"] == 0 for bit in _BITS], axis=0)
        if "lost" in self.types:
            columns["lost"] = stuck & (columns["update"] == 0) & (columns["grad"] > 0) & np.isfinite(columns["grad"])
            there["lost"] = there["grad"]
        numbers = {name: _named(names, column, there[name]) for name, column in columns.items()}
        total, count = arrived["loss"].values()
        return {**numbers, **{k: arrived[k] for k in self.own}, **({"loss": {"loss": total / count}} if count else {})}

    def _roots(self, name: str, sums: Mapping[str, np.ndarray], times: np.ndarray) -> np.ndarray:
        """The norms, in the type that one process would measure them in."""
        large, small, other = (sums[f"{name} {part}"] / times for part in ("large", "small", "other"))
        norms = np.where(
            large > 0,
            np.sqrt(large + other / _SCALE / _SCALE) * _SCALE,
            np.where(other == 0, np.sqrt(small) / _SCALE, np.sqrt(other + small / _SCALE / _SCALE)),
        )
        return norms if self.types[name] == torch.float64 else norms.astype(np.float32)


def _named(names: Sequence[str], column: np.ndarray, there: np.ndarray) -> dict[str, float]:
    return {name: float(value) for name, value, is_there in zip(names, column, there, strict=True) if is_there}


def _group(meshes: Sequence[Any]) -> Any:
    """The processes of the widest mesh, where it has the others in it; else all there are."""
    ranks = [frozenset(mesh.mesh.flatten().tolist()) for mesh in meshes]
    widest = max(range(len(meshes)), key=lambda i: len(ranks[i]))
    if not all(some <= ranks[widest] for some in ranks):
        return None
    if meshes[widest].ndim == 1:
        return meshes[widest].get_group()
    if len(ranks[widest]) == dist.get_world_size():
        return None
    return dist.new_group(sorted(ranks[widest]), use_local_synchronization=True)


def _device(kind: str) -> torch.device:
    """Where the processes talk to each other."""
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
