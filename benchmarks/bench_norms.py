"""Norms against optax, torch and plain code: bandwidth, and error against float64.

Example: `gradlab bench norms --elements 67108864 --rounds 21`
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import typer

from gradlab_core.errors import refuse

from .environment import environment, frameworks, torch_done
from .harness import Case, Row, measure
from .options import Cache, Framework, Only, Rounds, answering
from .table import tables


def run(
    *,
    framework: Framework = None,
    elements: Annotated[int, typer.Option(help="Float32 elements in all.")] = 1 << 26,
    tensors: Annotated[int, typer.Option(help="Length of the list of tensors; divides the elements.")] = 64,
    scale: Annotated[float, typer.Option(help="Elements are scale·N(0,1): 1e25 shows what overflows.")] = 1.0,
    steps: int = 1,
    rounds: Rounds = 11,
    only: Only = None,
    compilation_cache: Cache = None,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Global norm of one tensor and of a list, and the norms of the list's leaves; elements are scale·N(0,1), float32.

    Args:
        steps: calls between two waits for the device. With more than one the host may run ahead of an accelerator, as
            it does in a training loop.

    Raises:
        GradlabError: a size out of range, or a framework that is missing.
    """
    sizes = {"elements": elements, "tensors": tensors, "steps": steps}
    problems = [f"{name} is {n}; expected a whole number of at least 1" for name, n in sizes.items() if n < 1]
    if not problems and elements % tensors:
        problems.append(f"elements is {elements}; expected a multiple of tensors, {tensors}")
    if not (math.isfinite(scale) and scale > 0):
        problems.append(f"scale is {scale}; expected a finite number above 0")
    refuse("bench norms", problems)
    names = frameworks(framework)
    described = environment(names, compilation_cache)
    data = np.random.default_rng(0).standard_normal(elements, dtype=np.float32) * np.float32(scale)
    rows = []
    for what, count in (("global norm", 1), ("global norm", tensors), ("leaf norms", tensors)):
        parts = np.split(data, count)
        cases = [case for name in names for case in _CASES[name](parts, steps, leaves=what == "leaf norms")]
        each = f"{count} tensor{'s' * (count > 1)} of {elements // count:,} float32"
        setting = f"{what}, {each}, scale {scale:g}"
        rows += measure("norms", setting, cases, rounds=rounds, environment=described, only=only, on_call=on_call)
    return rows


COPY = {"torch": "torch, clone in one tensor", "jax": "jnp.copy in one array, jit"}
"""How fast this device moves memory: a copy of all elements, read and written, in the same rounds."""


def _truth(parts: Sequence[np.ndarray], leaves: bool) -> list[float]:
    squares = [float(np.square(part, dtype=np.float64).sum()) for part in parts]
    return [math.sqrt(s) for s in squares] if leaves else [math.sqrt(math.fsum(squares))]


def _error(parts: Sequence[np.ndarray], leaves: bool) -> Callable[[Any], float]:
    truth = _truth(parts, leaves)

    def worst(result: Any) -> float:
        norms = [float(v) for v in result] if leaves else [float(result)]
        return max(abs(f - t) / t for f, t in zip(norms, truth, strict=True))

    return worst


def _torch_cases(parts: Sequence[np.ndarray], steps: int, *, leaves: bool) -> list[Case]:
    import torch

    import gradlab_torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = [torch.from_numpy(part).to(device) for part in parts]
    done = torch_done()

    def finished(way: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: done(_last_of(steps, way))

    def items() -> list[float]:
        return [t.norm().item() for t in tensors]

    if leaves:
        ways: dict[str, Callable[[], Any]] = {
            "torch, .item() per tensor": items,
            "torch.linalg.vector_norm per tensor": lambda: [torch.linalg.vector_norm(t) for t in tensors],
            "gradlab_torch.leaf_norms": lambda: list(gradlab_torch.leaf_norms(tensors).values()),
        }
        baseline = "torch, .item() per tensor"
    else:
        ways = {
            "torch.nn.utils.get_total_norm": lambda: torch.nn.utils.get_total_norm(tensors),
            "torch, .item() per tensor": lambda: math.sqrt(sum(n * n for n in items())),
            "gradlab_torch.global_norm": lambda: gradlab_torch.global_norm(tensors),
        }
        if len(tensors) == 1:
            ways["torch.linalg.vector_norm"] = lambda: torch.linalg.vector_norm(tensors[0])
        baseline = "torch.nn.utils.get_total_norm"
    joined = torch.cat(tensors)
    ways[COPY["torch"]] = joined.clone
    return _cases("torch", {name: finished(way) for name, way in ways.items()}, baseline, parts, leaves, steps)


def _jax_cases(parts: Sequence[np.ndarray], steps: int, *, leaves: bool) -> list[Case]:
    import jax
    import jax.numpy as jnp
    import optax

    import gradlab_jax

    arrays = [jnp.asarray(part) for part in parts]

    def naive(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(jnp.square(x)))

    if leaves:
        ways: dict[str, Callable[[Any], Any]] = {
            "jnp per array, jit": lambda tree: [naive(x) for x in tree],
            "gradlab_jax.leaf_norms, jit": lambda tree: list(gradlab_jax.leaf_norms(tree).values()),
        }
        baseline = "jnp per array, jit"
    else:
        ways = {
            "optax.tree.norm, jit": optax.tree.norm,
            "jnp, jit": lambda tree: jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in tree)),
            "gradlab_jax.global_norm, jit": gradlab_jax.global_norm,
        }
        baseline = "optax.tree.norm, jit"

    def call(way: Callable[[Any], Any], argument: Any) -> Callable[[], Any]:
        compiled = jax.jit(way)
        return lambda: jax.block_until_ready(_last_of(steps, lambda: compiled(argument)))

    calls = {name: call(way, arrays) for name, way in ways.items()}
    calls[COPY["jax"]] = call(jnp.copy, jnp.concatenate(arrays))
    return _cases("jax", calls, baseline, parts, leaves, steps)


def _last_of(steps: int, way: Callable[[], Any]) -> Any:
    for _ in range(steps - 1):
        way()  # nobody keeps it: a copy of all elements is freed as soon as the next one is asked for
    return way()


def _cases(
    framework: str,
    ways: dict[str, Callable[[], Any]],
    baseline: str,
    parts: Sequence[np.ndarray],
    leaves: bool,
    steps: int,
) -> list[Case]:
    error, reads = _error(parts, leaves), sum(part.nbytes for part in parts)
    return [
        Case(
            name=name,
            framework=framework,
            prepare=functools.partial(_built, way),
            baseline=baseline,
            compiles=framework == "jax",
            steps=steps,
            reads=2 * reads if name == COPY[framework] else reads,
            copy=COPY[framework],
            error=None if name == COPY[framework] else error,
        )
        for name, way in ways.items()
    ]


def _built(way: Callable[[], Any]) -> Callable[[], Any]:
    return way


_CASES = {"torch": _torch_cases, "jax": _jax_cases}

command = answering(run, "benchmark", tables)

if __name__ == "__main__":
    from .script import main

    main("norms")
