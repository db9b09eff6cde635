"""Tensors by the module that they belong to: a tree as the model is one, with a strip of cells for every branch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from gradlab_core.parity import Key, ParityReport, ParityRow
from gradlab_core.show.parity.cells import SIDES, Cell, cell, columns, figure, share, strip, times, worst, worst_share

WHOLE = "(the model)"
DEEPEST, OPEN = 8, 30
"""Levels that are told apart; leaves up to which all branches are open."""
WORDS = {
    "activation": "activation",
    "logits": "logits",
    "loss": "loss",
    "activation_gradient": "gradient of the activation",
    "gradient": "gradient",
    "learning_rate": "learning rate",
    "optimizer": "optimizer's state",
    "parameter": "after the step",
    "statistic": "running statistic after the step",
}
_OF_A_PARAMETER = ("gradient", "optimizer", "parameter", "statistic")
_RUNS = {"logic": "candidate in float64", "reference": "reference in float32", "candidate": "candidate in float32"}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What was measured of one tensor at one step: a line for each run that is held against the oracle."""

    step: int
    said: str
    broken: bool
    lines: tuple[tuple[str, ...], ...]


@dataclasses.dataclass
class Leaf:
    """One tensor."""

    name: str
    key: Key
    cells: list[Cell]
    numbers: list[Numbers]


@dataclasses.dataclass
class Branch:
    """A module: its own tensors, and the modules in it."""

    name: str
    leaves: list[Leaf] = dataclasses.field(default_factory=list)
    branches: dict[str, Branch] = dataclasses.field(default_factory=dict)
    cells: list[Cell] = dataclasses.field(default_factory=list)
    open: bool = False

    @property
    def children(self) -> list[Branch]:
        return list(self.branches.values())


def tree(report: ParityReport) -> Branch:
    """The root, whose branches lead to the first divergence open."""
    places = columns(max(row.step for row in report.rows) + 1)
    root = Branch(WHOLE)
    for key, rows in _by_key(report.rows).items():
        path, name = _place(key)
        branch = root
        for part in path.split(".", DEEPEST - 1) if path else ():
            branch = branch.branches.setdefault(part, Branch(part))
        branch.leaves.append(_leaf(name, key, rows, places))
    _shorten(root)
    first = report.first_divergence
    few = len(_by_key(report.rows)) <= OPEN
    _finish(root, len(places), None if first is None else first.key, everything=few)
    root.open = True
    return root


def numbers(row: ParityRow) -> Numbers:
    """The figures of one row as texts."""
    lines = tuple(
        (
            _RUNS[side],
            figure(getattr(row, f"{side}_error")),
            "" if side == "logic" else figure(getattr(row, f"{side}_expected")),
            figure(getattr(row, f"{side}_tolerance")),
            times(share(row, side)),
        )
        for side in SIDES
        if getattr(row, f"{side}_error") is not None
    )
    said = row.problem or (times(worst_share(row)) if lines else "no gradient path on either side: nothing to compare")
    return Numbers(row.step, said, row.problem is not None, lines)


def _by_key(rows: Sequence[ParityRow]) -> dict[Key, list[ParityRow]]:
    by_key: dict[Key, list[ParityRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    return by_key


def _place(key: Key) -> tuple[str, str]:
    """The module that a tensor belongs to, and what it is called there."""
    path, name = key.path, WORDS.get(key.quantity, key.quantity)
    if key.quantity in _OF_A_PARAMETER:
        path, _, parameter = key.path.rpartition(".")
        name = f"{parameter}: {name}"
    return path, f"{name} (call {key.call})" if key.call else name


def _leaf(name: str, key: Key, rows: list[ParityRow], places: Sequence[range]) -> Leaf:
    by_step: list[list[Cell]] = [[] for _ in range(places[-1].stop)]
    for row in rows:
        by_step[row.step].append(cell(row))
    # What broke first, and what is worst: the rest is colour.
    failed = next((row for row in rows if row.problem), None)
    top = max(rows, key=lambda row: (cell(row).level, worst_share(row) or 0.0))
    shown = [row for row in (failed, top) if row is not None]
    return Leaf(name, key, strip(by_step, places), [numbers(row) for row in dict.fromkeys(shown)])


def _shorten(branch: Branch) -> None:
    """A branch that holds nothing but another one is named with it: `stage1.0`."""
    for name, child in list(branch.branches.items()):
        while not child.leaves and len(child.branches) == 1:
            inner = child.children[0]
            child = dataclasses.replace(inner, name=f"{child.name}.{inner.name}")
        branch.branches[name] = child
        _shorten(child)


def _finish(branch: Branch, width: int, first: Key | None, *, everything: bool) -> bool:
    """Fill in the cells of branches, and open those that lead to the first divergence; whether this one does."""
    led = [_finish(child, width, first, everything=everything) for child in branch.children]
    parts: list[Any] = [*branch.leaves, *branch.children]
    branch.cells = [worst(part.cells[i] for part in parts) for i in range(width)]
    leads = any(led) or any(leaf.key == first for leaf in branch.leaves)
    branch.open = everything or leads
    return leads


def every(branch: Branch) -> Iterator[Leaf]:
    """All leaves, in their order on the page."""
    yield from branch.leaves
    for child in branch.children:
        yield from every(child)
