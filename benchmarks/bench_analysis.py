"""The whole analysis of one net, against one hook a layer that copies to the host.

Example: `gradlab bench analysis --framework torch --json > analysis.json`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradlab_core.cli.compare import parse_depth
from gradlab_core.definitions.noise import default_noise

from .environment import environment, frameworks
from .harness import Call, Case, Row, measure
from .nets import Workload
from .options import Base, Batch, Block, Cache, Depth, Framework, Only, Rounds, answering
from .table import tables

_PUBLISHED = "published analysis"


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
    """The whole analysis of one TinyNet on one batch, in train mode; `analyze` measures more than the published code
    (FLOPs, root mean square, dead units, non-finite elements, disconnected parameters) and its time holds all of it.

    Raises:
        GradlabError: a size out of range, or a framework that is missing.
    """
    work = Workload(base=base, batch=batch, block=block, layers=parse_depth(depth))
    setting = work.setting  # checks the spec before anything is loaded
    names = frameworks(framework)
    described = environment(names, compilation_cache)
    cases = [case for name in names for case in _CASES[name](work)]
    return measure("analysis", setting, cases, rounds=rounds, environment=described, only=only, on_call=on_call)


def _torch_cases(work: Workload) -> list[Case]:
    import torch

    import gradlab_torch

    from . import published

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y, noise = (
        torch.from_numpy(a).to(device) for a in (work.images, work.labels, default_noise(work.images.shape, seed=2))
    )

    def plain() -> Call:
        net = gradlab_torch.build(work.spec, seed=0).to(device)
        return lambda: published.analysis(net, x, y, noise)

    def twin(memory_format: torch.memory_format) -> Call:
        net = gradlab_torch.build(work.spec, seed=0).to(device)
        net.to(memory_format=memory_format)  # type: ignore[call-overload]  # the stubs know it for tensors only
        images, disturbance = (t.to(memory_format=memory_format) for t in (x, noise))
        return lambda: gradlab_torch.analyze(net, images, y, disturbance, name="bench")

    ways: dict[str, Callable[[], Call]] = {
        _PUBLISHED: plain,
        "gradlab_torch.analyze": lambda: twin(torch.contiguous_format),
        "gradlab_torch.analyze, channels_last": lambda: twin(torch.channels_last),
    }
    return [Case(name=n, framework="torch", prepare=way, baseline=_PUBLISHED) for n, way in ways.items()]


def _jax_cases(work: Workload) -> list[Case]:
    import gradlab_jax

    def twin() -> Call:
        net = gradlab_jax.build(work.spec, seed=0)
        x = gradlab_jax.to_native(work.images)
        noise = gradlab_jax.to_native(default_noise(work.images.shape, seed=2))
        return lambda: gradlab_jax.analyze(net, x, work.labels, noise, name="bench")

    # There is no published analysis in JAX: with both frameworks the PyTorch one is what this is compared with.
    return [Case(name="gradlab_jax.analyze", framework="jax", prepare=twin, baseline=_PUBLISHED, compiles=True)]


_CASES = {"torch": _torch_cases, "jax": _jax_cases}

command = answering(run, "benchmark", tables)

if __name__ == "__main__":
    from .script import main

    main("analysis")
