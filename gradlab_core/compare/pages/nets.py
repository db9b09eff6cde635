"""Runs grouped by their nets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from gradlab_core.compare.comparison import AS_PUBLISHED, CORRECT, Run
from gradlab_core.show import style
from gradlab_core.show.words import framework_name


@dataclasses.dataclass(frozen=True)
class Net:
    """The runs of one block in one framework and one set-up, which differ only in the seed."""

    setup: str
    block: str
    framework: str
    runs: tuple[Run, ...]

    @property
    def colour(self) -> str:
        """The colour of its block."""
        return style.colour_of(self.block)

    @property
    def dash(self) -> str:
        """Solid for PyTorch, dotted for JAX."""
        return style.SOLID if self.framework == "torch" else style.DOTTED

    @property
    def name(self) -> str:
        """The name of the net in charts and tables."""
        return f"{self.block} · {framework_name(self.framework)}"


def nets(runs: Iterable[Run]) -> list[Net]:
    """The nets in the order of their blocks, the frameworks of one block side by side."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.setup, run.block, run.framework), []).append(run)
    blocks = list(dict.fromkeys((setup, block) for setup, block, _ in groups))
    ordered = sorted(
        groups, key=lambda key: blocks.index(key[:2])
    )  # the sort is stable, so frameworks keep their order
    return [Net(*key, runs=tuple(groups[key])) for key in ordered]


def main_runs(runs: Iterable[Run]) -> list[Run]:
    """The main runs of the page: those of the correct set-up, or all if there are none."""
    every = list(runs)
    return [run for run in every if run.setup == CORRECT] or every


def published_runs(runs: Iterable[Run]) -> list[Run]:
    """The runs that repeat the published set-up."""
    return [run for run in runs if run.setup == AS_PUBLISHED]
