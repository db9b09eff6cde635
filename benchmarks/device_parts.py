"""The parts of `benchmarks.device`, run one a process: `python -m benchmarks.device_parts PART FRAMEWORK FILE [--cpu]`.

The file is written anew, whole, whenever something more was measured.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.records.codec import encode

from . import bench_monitor, bench_norms, bench_step
from .device_suite import run_kernels, run_suite
from .environment import environment
from .gpt2 import Gpt2
from .monitored import Sizes
from .waits import waits_and_launches

SMOKE = Sizes(
    base=2,
    batch=4,
    width=8,
    depth=3,
    small_batch=4,
    gpt2=Gpt2(layers=2, width=32, heads=2, vocabulary=64, context=16, sequences=2),
)
FULL = Sizes(depth=300)  # a thousand layers take JAX half a minute of compiling for each case, and the minutes are few
WATCHED = (
    *("torch, bare", "gradlab_torch.Monitor", "torch, .item() loop: gradients, parameters"),
    *("jax, bare", "gradlab_jax.monitor", "gradlab_jax.monitor, without read"),
)
STEPS = ("published loop", "torch eager", "torch channels_last", "gradlab_", "plain Flax")


class Found:
    """What was measured so far, in the file too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Any] = []
        self.facts: dict[str, Any] = {}

    def add(self, rows: Sequence[Any] = (), **facts: Any) -> None:
        self.rows += encode(list(rows))
        self.facts |= encode(facts)
        with whole_file(self.path) as temporary:
            temporary.write_text(json.dumps({"rows": self.rows, "facts": self.facts}), encoding="utf-8")


def versions(framework: str, results: Found, cpu: bool) -> None:
    """What is installed and what it sees."""
    facts: dict[str, Any] = dict(environment((framework,)))
    facts["accelerator"] = _accelerator(framework)
    if framework == "torch":
        import torch

        facts["cuda"] = torch.version.cuda or "none"
        if importlib.util.find_spec("triton") is not None:
            facts["triton"] = importlib.metadata.version("triton")
        if facts["accelerator"]:
            facts["memory GiB"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
    else:
        import jax

        facts["devices"] = ", ".join(map(str, jax.devices()))
    results.add(**facts)


def norms(framework: str, results: Found, cpu: bool) -> None:
    sizes = {"elements": 1 << 12, "tensors": 4, "rounds": 1} if cpu else {"elements": 1 << 28, "rounds": 15}
    results.add(bench_norms.run(framework=framework, steps=2 if cpu else 10, **sizes))


def gpt2(framework: str, results: Found, cpu: bool) -> None:
    _monitors(framework, ("gpt2",), "adamw", results, cpu)


def monitor(framework: str, results: Found, cpu: bool) -> None:
    _monitors(framework, ("tinynet", "wide", "deep"), "sgd", results, cpu)


def _monitors(framework: str, nets: Sequence[str], optimizer: str, results: Found, cpu: bool) -> None:
    sizes, steps, rounds = (SMOKE, 2, 1) if cpu else (FULL, 10, 5 if nets == ("gpt2",) else 9)
    for net in nets:
        results.add(
            bench_monitor.run(
                framework=framework,
                net=(net,),
                optimizer=optimizer,
                steps=steps,
                rounds=rounds,
                only=[name for name in WATCHED if framework in name],
                **vars(sizes),
            )
        )
        if framework == "torch":
            cases = bench_monitor.CASES["torch"](sizes, net, optimizer, steps)
            watched = {case.name: case for case in cases if case.name in WATCHED[:2]}
            results.add(**{f"in a step of {net}": waits_and_launches(watched, *WATCHED[:2])})


def step(framework: str, results: Found, cpu: bool) -> None:
    sizes: dict[str, Any] = {"base": 2, "batch": 4, "depth": "1", "rounds": 1} if cpu else {"rounds": 15}
    results.add(bench_step.run(framework=framework, only=STEPS, **sizes))


def parity(framework: str, results: Found, cpu: bool) -> None:
    run_suite(cpu=cpu, on_change=lambda facts: results.add(**facts))


def kernels(framework: str, results: Found, cpu: bool) -> None:
    run_kernels(cpu=cpu, on_change=lambda facts: results.add(**facts))


PARTS: dict[str, Callable[[str, Found, bool], None]] = {
    f.__name__: f for f in (versions, norms, gpt2, monitor, step, kernels, parity)
}


def _accelerator(framework: str) -> bool:
    if framework == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() != "cpu"


def main(arguments: Sequence[str]) -> None:
    """Run one part.

    Raises:
        GradlabError: the framework sees no accelerator and the CPU was not asked for.
    """
    name, framework, path, *rest = arguments
    cpu = "--cpu" in rest
    for each in ("torch", "jax") if framework == "both" else (framework,):
        if name != "versions" and not cpu and not _accelerator(each):
            raise GradlabError(f"{each} sees no accelerator here; expected one, or --cpu")
    PARTS[name](framework, Found(Path(path)), cpu)


if __name__ == "__main__":
    main(sys.argv[1:])
