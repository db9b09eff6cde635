"""Runs grouped into nets, and one value over the seeds of a net."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from gradlab_core.comparison import AS_PUBLISHED, CORRECT, Run

FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX"}


def framework_name(framework: str) -> str:
    """The name people use: `PyTorch` for `torch`."""
    return FRAMEWORKS.get(framework, framework)


@dataclasses.dataclass(frozen=True)
class Net:
    """The runs of one block in one framework under one set-up: they differ in the seed only."""

    setup: str
    block: str
    framework: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """How charts and tables call it."""
        return f"{self.block} · {framework_name(self.framework)}"


def nets(runs: Iterable[Run]) -> list[Net]:
    """The nets in the order of their blocks, the frameworks of one block side by side."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.setup, run.block, run.framework), []).append(run)
    blocks = list(dict.fromkeys((setup, block) for setup, block, _ in groups))
    ordered = sorted(groups, key=lambda key: blocks.index(key[:2]))  # stable: frameworks keep their order
    return [Net(*key, runs=tuple(groups[key])) for key in ordered]


def main_runs(runs: Iterable[Run]) -> list[Run]:
    """The runs the page is about: those of the correct set-up, or all if there is no other."""
    every = list(runs)
    return [run for run in every if run.setup == CORRECT] or every


def published_runs(runs: Iterable[Run]) -> list[Run]:
    """The runs that repeat the published set-up."""
    return [run for run in runs if run.setup == AS_PUBLISHED]


@dataclasses.dataclass(frozen=True)
class Spread:
    """One value over seeds: the mean and the lowest and highest seed. None: no seed has one. NaN and Inf stay."""

    mean: float | None
    low: float | None
    high: float | None


def spread(values: Iterable[float | None]) -> Spread:
    """The `Spread` of the values that were measured.

    >>> spread([1.0, None, 3.0])
    Spread(mean=2.0, low=1.0, high=3.0)
    >>> spread([None])
    Spread(mean=None, low=None, high=None)
    """
    known = [value for value in values if value is not None]
    if not known:
        return Spread(None, None, None)
    if any(math.isnan(value) for value in known):
        return Spread(math.nan, math.nan, math.nan)
    return Spread(sum(known) / len(known), min(known), max(known))
