"""Runs that one process can do, or several together; as a program: what rank R of W recorded of each, as JSON.

python -m tests.torch.shared_runs R W FILE-BY-WHICH-THEY-MEET
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import gradlab_torch as gl
from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord
from tests.torch.sharing import Place, Wrap, both, fsdp, meshes, places, replicated, tensor_parallel

STEPS = 3


class Net(torch.nn.Module):
    """Rows that two do not divide, three rows for four, a layer that nothing uses, one that is frozen; tied weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = torch.nn.Linear(4, 33)
        self.narrow = torch.nn.Linear(33, 3)
        self.norm = torch.nn.LayerNorm(3)
        self.back = torch.nn.Linear(3, 33)
        self.tied = torch.nn.Linear(33, 3)
        self.unused = torch.nn.Linear(3, 3)
        self.frozen = torch.nn.Linear(3, 5).requires_grad_(False)
        self.tied.weight = self.narrow.weight
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.narrow(self.wide(x).relu()))
        out: torch.Tensor = self.frozen(self.tied(self.back(hidden).relu()))
        return out


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve examples, which one, two and four processes share alike."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 4, dtype=torch.float64, generator=generator)
    return x, torch.arange(12) % 5


def figures(record: StepRecord) -> dict[str, Any]:
    """All that a record says, one number or word under each name."""
    flat = {k: v for k, v in vars(record).items() if isinstance(v, (float, int, bool)) or v is None}
    flat |= {f"{path} {k}": v for path, norms in record.tensors.items() for k, v in dataclasses.asdict(norms).items()}
    return flat | {f"{path} state": state.value for path, state in record.states.items()}


def train(net: torch.nn.Module, of: slice = slice(None)) -> list[dict[str, Any]]:
    """Three steps on these examples of the batch, with gradients that are made smaller as clipping does."""
    records: list[dict[str, Any]] = []
    # With `foreach` it writes into the gradients, and the version of a DTensor does not tell.
    writes = all(isinstance(p, DTensor) for p in net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=writes)
    with gl.Monitor(net, optimizer, look_every=None, on_record=lambda r: records.append(figures(r))) as monitor:
        for _ in range(STEPS):
            x, y = (part[of] for part in batch())
            loss = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            monitor.observe(loss)
            monitor.before_clipping()
            for p in net.parameters():
                if p.grad is not None:
                    p.grad.mul_(0.25)
            optimizer.step()
            optimizer.zero_grad()
    return records


def bare(place: Place, spoil: str = "") -> list[dict[str, Any]]:
    """Adam on tensors whose gradients are given; `place` says how each lies."""
    generator = torch.Generator().manual_seed(2)
    shapes = {"uneven": (33, 2), "few": (3, 5), "one": (1, 7), "cube": (4, 6, 5), "none": (0, 3)}
    dtype = torch.float32 if spoil == "beyond float32" else torch.float64
    full = {k: torch.randn(shape, dtype=dtype, generator=generator) for k, shape in shapes.items()}
    net = torch.nn.ParameterDict({k: torch.nn.Parameter(place(k, t, False)) for k, t in full.items()})
    rate = {"lost": 1e-30, "large": 0.0, "small": 0.0, "beyond float32": 0.0}.get(spoil, 0.1)
    records: list[dict[str, Any]] = []
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, foreach=False)
    with gl.Monitor(net, optimizer, look_every=None, on_record=lambda r: records.append(figures(r))):
        for step in range(2):
            for k, p in net.items():
                g = full[k] * (step + 1)
                if spoil == "partly lost" and k == "uneven":
                    g[:-1] = 0.0  # only the shard with the last row moves
                if spoil == "zero" and k == "few":
                    g.zero_()
                g *= {"large": 1e200, "small": 1e-200, "beyond float32": 3e37}.get(spoil, 1.0)
                if spoil == "nan" and k == "cube":
                    g[-1, -1, -1] = math.nan
                p.grad = place(k, g, True)
            optimizer.step()
    return records


SPOILED = ("", "lost", "partly lost", "zero", "nan", "large", "small", "beyond float32")


def plain(name: str, full: torch.Tensor, is_gradient: bool) -> torch.Tensor:
    return full.clone()


def run_of_one() -> dict[str, list[dict[str, Any]]]:
    """What the several are held against."""
    runs = {f"bare {spoil}": bare(plain, spoil) for spoil in SPOILED}
    return {"net": train(Net()), **runs}


def refusals(line: DeviceMesh) -> dict[str, str]:
    def said(net: torch.nn.Module, **options: Any) -> str:
        try:
            gl.Monitor(net, torch.optim.SGD(net.parameters(), lr=0.1), look_every=None, **options)
        except GradlabError as error:
            return str(error)
        return "measured"

    ones = torch.ones(2, 2)
    summand = torch.nn.ParameterDict({"w": torch.nn.Parameter(DTensor.from_local(ones, line, [Partial()]))})
    rows = torch.nn.ParameterDict({"w": torch.nn.Parameter(distribute_tensor(ones, line, [Shard(0)]))})
    other = torch.nn.ParameterDict({f"w{dist.get_rank()}": rows["w"]})
    return {"partial": said(summand), "extras": said(rows, extras=["distance"]), "other": said(other)}


def collectives(line: DeviceMesh) -> list[int]:
    """How many a step has that is recorded, and one that is not."""
    net = Net()
    fsdp(line)(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    counts = []
    with gl.Monitor(net, optimizer, every=2, look_every=None):
        for _ in range(2):
            net(batch()[0]).sum().backward()
            with CommDebugMode() as seen:
                optimizer.step()
            counts.append(seen.get_total_counts())
    return counts


def left_alone(rank: int) -> str:
    """Only the first process takes the step."""
    group = dist.new_group(timeout=datetime.timedelta(seconds=3))
    mesh = DeviceMesh.from_group(group, "cpu")
    net = torch.nn.ParameterDict({"w": torch.nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    gl.Monitor(net, optimizer, look_every=None)
    net["w"].grad = distribute_tensor(torch.ones(4), mesh, [Shard(0)])
    try:
        if rank == 0:
            optimizer.step()
    except RuntimeError as error:
        return f"error: {error}"
    return "done"


def looks(line: DeviceMesh) -> list[str]:
    net = Net()
    fsdp(line)(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught, gl.Monitor(net, optimizer, look_every=1) as monitor:
        warnings.simplefilter("always")
        for _ in range(2):
            net(batch()[0]).sum().backward()
            optimizer.step()
    assert monitor.last is not None
    assert monitor.last.probe is None
    return [str(w.message) for w in caught if "look" in str(w.message)]


def run_of_many(rank: int, world: int) -> dict[str, Any]:
    line, grid = meshes(world)
    mine = slice(rank, None, world)
    wrapped: dict[str, tuple[Wrap, slice]] = {
        "fsdp": (fsdp(line), mine),
        "hsdp": (fsdp(grid), mine),
        "tensor parallel": (tensor_parallel(line), slice(None)),
        "replicated": (replicated(line), slice(None)),
        "both": (both(grid), slice(rank // 2, None, world // 2)),
    }
    nets: dict[str, list[dict[str, Any]]] = {}
    for name, (wrap, of) in wrapped.items():
        net = Net()
        wrap(net)
        nets[name] = train(net, of)
    bares = {name: {f"bare {spoil}": bare(place, spoil) for spoil in SPOILED} for name, place in places(line, grid)}
    return {
        "nets": nets,
        "bares": bares,
        "collectives": collectives(line),
        "refusals": refusals(line),
        "looks": looks(line),
        "alone": left_alone(rank),
    }


def main() -> None:
    rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    print(json.dumps(run_of_many(rank, world)))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
