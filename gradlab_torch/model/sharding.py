"""Parameters of which this process holds but a part, or whose gradients are kept elsewhere: refused by name.

A norm over one shard is a wrong number that looks right, so nothing is measured. PyTorch's DDP and
ZeroRedundancyOptimizer keep whole parameters and gradients on every process and are not concerned. A DTensor says
itself what of it lies where, so who adds up over the processes may ask for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from gradlab_core.errors import refuse

_WHOLE = "expected whole tensors: a model before it is wrapped, or under DistributedDataParallel"
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def is_dtensor(t: object) -> bool:
    """Whether a tensor is one of which each process holds a part, or a replica. PyTorch's distributed package, which
    takes long to import, is there only where somebody uses it."""
    return type(t) not in _PLAIN and any(base.__name__ == "DTensor" for base in type(t).__mro__)


def local(t: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor: of a DTensor its shard, which may be empty, else all of it."""
    held: torch.Tensor = t.to_local() if is_dtensor(t) else t  # type: ignore[attr-defined]
    return held


def refuse_sharded(
    what: str, model: torch.nn.Module, params: Iterable[torch.Tensor] = (), *, dtensors: bool = False
) -> None:
    """Refuse a model, or parameters handed to an optimizer, of which this process does not hold everything; with
    `dtensors` those are let through that are DTensors, as long as each process holds numbers and not summands of them.

    Raises:
        GradlabError: FSDP, FSDP2 or tensor parallel (DTensor), DeepSpeed, Megatron, or sharding of another kind; the
            message names each kind that was met, and where.
    """
    where: dict[str, list[str]] = {}
    for kind, name in _met(model, params, dtensors):
        where.setdefault(kind, []).append(name)
    refuse(what, [f"{kind}: {_some(names)}; {_WHOLE}" for kind, names in where.items()])


def _met(model: torch.nn.Module, params: Iterable[torch.Tensor], dtensors: bool) -> Iterator[tuple[str, str]]:
    for path, module in model.named_modules():
        kind = _of_module(module)
        if kind is not None:
            yield kind, path or type(module).__name__
    named: dict[str, torch.Tensor] = dict(model.named_parameters())
    others = {id(p): p for p in params} if params else {}
    for p in named.values():
        others.pop(id(p), None)
    named |= {f"optimizer.{i}": p for i, p in enumerate(others.values())}
    for name, p in named.items():
        kind = _of_dtensor(p) if dtensors and is_dtensor(p) else _of_parameter(p)
        if kind is not None:
            yield kind, name


def _of_module(module: torch.nn.Module) -> str | None:
    bases = {base.__name__ for base in type(module).__mro__}
    if bases & {"DeepSpeedEngine", "PipelineEngine"}:
        return "DeepSpeed keeps gradients in its own buffers"
    strategy = getattr(getattr(module, "sharding_strategy", None), "name", "FULL_SHARD")
    if "FullyShardedDataParallel" in bases and strategy != "NO_SHARD":
        return "FSDP1 (FullyShardedDataParallel) leaves each process a shard"
    return None


def _of_dtensor(p: Any) -> str | None:
    if any(placement.is_partial() for placement in p.placements):
        return "a Partial parameter is a sum of which each process holds a summand"
    if p.device_mesh.get_coordinate() is None:
        return "this process is not in the mesh of the parameter"
    return None


def _of_parameter(p: torch.Tensor) -> str | None:
    bases = {base.__name__ for base in type(p).__mro__}
    if is_dtensor(p):
        return "DTensor (FSDP2, tensor parallel) leaves each process a shard"
    if "FlatParameter" in bases or getattr(p, "_is_flat_param", False) or getattr(p, "_fsdp_flattened", False):
        return "FSDP1 (FullyShardedDataParallel) leaves each process a shard"
    if hasattr(p, "ds_id") or hasattr(p, "ds_tensor") or hasattr(p, "_hp_mapping"):
        return "DeepSpeed's ZeRO leaves each process a shard"
    if getattr(p, "tensor_model_parallel", False):
        return "Megatron's tensor parallel leaves each process a shard"
    if hasattr(p, "main_grad"):
        return "gradients are kept in main_grad (Megatron, Transformer Engine)"
    if hasattr(p, "to_local") or hasattr(p, "local_shards"):
        return f"{type(p).__name__} is sharded in a way unknown to gradlab"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
