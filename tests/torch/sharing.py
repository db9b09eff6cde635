"""How a net can be shared by several processes: whole wrappers, and placements for single tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

Wrap = Callable[[torch.nn.Module], object]
Place = Callable[[str, torch.Tensor, bool], Any]
"""How a tensor of this name lies; the last says whether it is a gradient, which may be None."""


def meshes(world: int) -> tuple[DeviceMesh, DeviceMesh]:
    """All in a line, and in two columns."""
    line = init_device_mesh("cpu", (world,), mesh_dim_names=("all",))
    return line, init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))


def fsdp(mesh: DeviceMesh) -> Wrap:
    def wrap(net: torch.nn.Module) -> None:
        for part in (net.wide, net.back, net.unused):
            fully_shard(part, mesh=mesh)
        fully_shard(net, mesh=mesh)

    return wrap


def tensor_parallel(mesh: DeviceMesh) -> Wrap:
    def wrap(net: torch.nn.Module) -> None:
        uneven = ColwiseParallel(use_local_output=False)  # 33 columns are of no size that a shard could tell
        styles = {"wide": uneven, "narrow": RowwiseParallel(), "back": uneven}
        net.tied.weight = torch.nn.Parameter(net.tied.weight.detach().clone())  # laid out by one layer only
        parallelize_module(net, mesh, {**styles, "tied": RowwiseParallel()})
        net.tied.weight = net.narrow.weight

    return wrap


def replicated(mesh: DeviceMesh) -> Wrap:
    def given(module: torch.nn.Module, inputs: Any, mesh: DeviceMesh) -> Any:
        return tuple(distribute_tensor(x, mesh, [Shard(0)]) for x in inputs)

    def answered(module: torch.nn.Module, out: Any, mesh: DeviceMesh) -> Any:
        return out.redistribute(placements=[Replicate()]).to_local()

    def wrap(net: torch.nn.Module) -> None:
        distribute_module(net, mesh, input_fn=given, output_fn=answered)
        net.tied.weight = net.narrow.weight

    return wrap


def both(mesh: DeviceMesh) -> Wrap:
    """Layers over one dimension of the mesh, and all that they have over the other."""

    def wrap(net: torch.nn.Module) -> None:
        tensor_parallel(mesh["tp"])(net)
        fsdp(mesh["dp"])(net)

    return wrap


def places(line: DeviceMesh, grid: DeviceMesh) -> Iterator[tuple[str, Place]]:
    """Ways in which parameters may lie; in the last one each has its own mesh, and gradients are not yet summed."""

    def everywhere(mesh: DeviceMesh, *placements: Any) -> Place:
        def place(name: str, full: torch.Tensor, is_gradient: bool) -> Any:
            fitting = [p if full.ndim > getattr(p, "dim", 0) else Replicate() for p in placements]
            placed = distribute_tensor(full.clone(), mesh, fitting)
            is_missing = is_gradient and mesh.ndim == 1 and not placed.to_local().numel()
            return None if is_missing else placed  # an empty shard may have no gradient

        return place

    def mixed(name: str, full: torch.Tensor, is_gradient: bool) -> Any:
        if name == "few":
            return full.clone()  # beside DTensors, a plain one
        if name == "one":
            if not is_gradient:
                return distribute_tensor(full.clone(), line, [Replicate()])
            share = full * ((dist.get_rank() + 1) / sum(range(dist.get_world_size() + 1)))
            return DTensor.from_local(share, line, [Partial()])
        if name == "cube":
            return distribute_tensor(full, grid["tp"], [Shard(2)])
        return distribute_tensor(full, line, [Shard(0)])

    yield "rows", everywhere(line, Shard(0))
    yield "columns", everywhere(line, Shard(1))
    yield "rows and columns", everywhere(grid, Shard(0), Shard(1))
    yield "rows twice", everywhere(grid, Shard(0), Shard(0))
    yield "replicas of columns", everywhere(grid, Replicate(), Shard(1))
    yield "columns of replicas", everywhere(grid, Shard(1), Replicate())
    yield "mixed", mixed
