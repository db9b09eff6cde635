"""One training step with every norm recorded, against bare steps and the published loop.

Example: `gradlab bench step --base 16 --batch 64 --compilation-cache /tmp/jax-cache`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradlab_core.cli.compare import parse_depth

from .environment import environment, frameworks
from .harness import Call, Case, Row, measure
from .nets import TRAINING, Workload
from .options import Base, Batch, Block, Cache, Depth, Framework, Only, Rounds, answering
from .table import tables

_RULE = {
    "learning_rate": TRAINING.learning_rate,
    "momentum": TRAINING.momentum,
    "weight_decay": TRAINING.weight_decay,
}


def run(
    *,
    framework: Framework = None,
    base: Base = 32,
    batch: Batch = 128,
    block: Block = "preact",
    depth: Depth = "2,2,2",
    rounds: Rounds = 7,
    only: Only = None,
    compilation_cache: Cache = None,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """A step of SGD with momentum and weight decay on one TinyNet, from a NumPy batch to the loss on the host.

    Raises:
        GradlabError: a size out of range, or a framework that is missing.
    """
    work = Workload(base=base, batch=batch, block=block, layers=parse_depth(depth))
    setting = work.setting  # checks the spec before anything is loaded
    names = frameworks(framework)
    described = environment(names, compilation_cache)
    cases = [case for name in names for case in _CASES[name](work)]
    return measure("step", setting, cases, rounds=rounds, environment=described, only=only, on_call=on_call)


def _torch_cases(work: Workload) -> list[Case]:
    import torch

    import gradlab_torch
    from gradlab_torch.programs.training import _Stepper

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = work.images, work.labels

    def model() -> Any:
        return gradlab_torch.build(work.spec, seed=0).to(device)

    def published() -> Call:
        from .published import PublishedLoop

        loop = PublishedLoop(model(), **_RULE)
        return lambda: loop.step(x, y)

    def bare(memory_format: torch.memory_format, *, compiled: bool = False) -> Call:
        net = model().to(memory_format=memory_format)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=_RULE["learning_rate"], momentum=_RULE["momentum"], weight_decay=_RULE["weight_decay"]
        )
        net.train()
        forward = torch.compile(net) if compiled else net

        def step() -> float:
            images = torch.from_numpy(x).to(device, memory_format=memory_format)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(forward(images), torch.from_numpy(y).to(device))
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def twin() -> Call:
        stepper = _Stepper(model(), TRAINING, gradlab_torch.cross_entropy)
        return lambda: stepper.step(x, y, TRAINING.learning_rate)

    ways: dict[str, Callable[[], Call]] = {
        "published loop": published,
        "torch eager": lambda: bare(torch.contiguous_format),
        "torch channels_last": lambda: bare(torch.channels_last),
        "torch.compile channels_last": lambda: bare(torch.channels_last, compiled=True),
        "gradlab_torch, all norms": twin,
    }
    return [
        Case(name=name, framework="torch", prepare=way, baseline="published loop", compiles="compile" in name)
        for name, way in ways.items()
    ]


def _jax_cases(work: Workload) -> list[Case]:
    import gradlab_jax
    from gradlab_jax.programs.training import _Stepper

    from .plain_flax import plain_step, with_flax_norms

    x, y = work.images, work.labels
    native = np.ascontiguousarray(np.moveaxis(x, 1, -1))

    def model() -> Any:
        return gradlab_jax.build(work.spec, seed=0)

    def plain(net: Any) -> Call:
        step = plain_step(net, **_RULE)
        return lambda: step(native, y)

    def twin() -> Call:
        stepper = _Stepper(model(), TRAINING, gradlab_jax.cross_entropy)
        return lambda: stepper.step(x, y, TRAINING.learning_rate)

    ways: dict[str, Callable[[], Call]] = {
        "plain Flax": lambda: plain(with_flax_norms(model())),
        "plain Flax, PyTorch's BatchNorm": lambda: plain(model()),
        "gradlab_jax, all norms": twin,
    }
    return [
        Case(name=name, framework="jax", prepare=way, baseline="plain Flax", compiles=True)
        for name, way in ways.items()
    ]


_CASES = {"torch": _torch_cases, "jax": _jax_cases}

command = answering(run, "benchmark", tables)

if __name__ == "__main__":
    from .script import main

    main("step")
