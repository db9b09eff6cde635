"""Sharded models are refused by name; what keeps whole tensors on every process is measured."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap

import pytest
import torch

import gradlab_torch as gl
from gradlab_core.definitions.states import gradient_state
from gradlab_core.errors import GradlabError

RANK = """
    import os, sys, warnings
    import torch, torch.distributed as dist
    warnings.filterwarnings("ignore")
    import gradlab_torch as gl
    from gradlab_core.errors import GradlabError
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, fully_shard
    from torch.nn.parallel import DistributedDataParallel as DDP

    rank, port = int(sys.argv[1]), sys.argv[2]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)

    def net():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 33), torch.nn.ReLU(), torch.nn.Linear(33, 2))

    x, y = torch.randn(6, 4), torch.tensor([0, 1] * 3)
    cpu = torch.device("cpu")
    wrapped = {
        "fsdp1": FSDP(net(), use_orig_params=True, device_id=cpu),
        "flat": FSDP(net(), use_orig_params=False, device_id=cpu),
        "fsdp2": fully_shard(net(), mesh=init_device_mesh("cpu", (2,))),
    }
    for name, model in wrapped.items():
        asks = {
            "monitor": lambda: gl.Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1)),
            "flow": lambda: gl.gradient_flow(model, x, y),
            "states": lambda: gl.check_gradients(model, x, y),
        }
        for ask, run in asks.items():
            try:
                run()
                print(name, ask, "measured")
            except GradlabError as error:
                print(name, ask, str(error).replace("\\n", " "))
    inner = wrapped["fsdp1"].module  # without the wrapper, shards look like any other tensors
    try:
        gl.Monitor(inner, torch.optim.SGD(inner.parameters(), lr=0.1))
        print("inner measured")
    except GradlabError as error:
        print("inner", str(error).replace("\\n", " "))
    model = DDP(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gl.Monitor(model, optimizer) as monitor:
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    print("ddp", len(monitor.last.tensors), f"{monitor.last.param_norm:.6f}")
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    script = tmp_path_factory.mktemp("ranks") / "rank.py"
    script.write_text(textwrap.dedent(RANK))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(i), port], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)
    ]
    try:
        done = [rank.communicate(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (_, errors) in zip(ranks, done, strict=True):
        assert rank.returncode == 0, errors.decode()[-3000:]
    return [out.decode().splitlines() for out, _ in done]


@pytest.mark.parametrize(("name", "kind"), [("fsdp1", "FSDP1"), ("flat", "FSDP1"), ("fsdp2", "DTensor (FSDP2")])
def test_two_processes_that_share_a_model_are_refused_on_each(printed, name, kind):
    for lines in printed:
        said = [line for line in lines if line.startswith(f"{name} ")]
        assert len(said) == 3
        if name == "fsdp2":  # DTensors tell where their parts are, so the monitor adds them up
            assert said.pop(0) == "fsdp2 monitor measured"
        assert all(kind in line and "expected whole tensors" in line for line in said), said


def test_shards_without_their_wrapper_are_refused(printed):
    assert all(any(line.startswith("inner") and "FSDP1" in line for line in lines) for lines in printed)


def test_replicas_are_measured_alike(printed):
    said = [next(line for line in lines if line.startswith("ddp")) for lines in printed]
    assert said[0] == said[1]
    whole = gl.global_norm(seeded())
    assert said[0] == f"ddp 4 {float(whole):.6f}"


def seeded() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 33), torch.nn.ReLU(), torch.nn.Linear(33, 2))


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        ({"ds_id": 3, "ds_tensor": None}, "ZeRO"),
        ({"_hp_mapping": object()}, "ZeRO"),
        ({"tensor_model_parallel": True, "partition_dim": 0}, "Megatron's tensor parallel"),
        ({"main_grad": torch.zeros(1)}, "main_grad"),
        ({"to_local": lambda: None}, "unknown to gradlab"),
    ],
)
def test_marks_of_other_libraries_are_known(marks, kind):
    model = seeded()
    for name, value in marks.items():
        setattr(model[0].weight, name, value)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.ones(2, 4), torch.tensor([0, 1])
    for ask in (
        lambda: gl.Monitor(model, optimizer),
        lambda: gl.Monitor(seeded(), optimizer),  # the optimizer's parameters count too
        lambda: gl.check_gradients(model, x, y),
        lambda: gl.gradient_flow(model, x, y),
    ):
        with pytest.raises(GradlabError, match=kind):
            ask()


def test_an_empty_shard_is_not_called_disconnected():
    assert gradient_state(None, 0) == "ok"
