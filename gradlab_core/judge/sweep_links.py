"""Which hyperparameter goes with which finding.

The runs are put into groups by the value of a hyperparameter, and the shares of runs that have the finding are compared
by the χ² test of independence (Pearson 1900), whose p is multiplied by the number of pairs that are looked at
(Bonferroni). That a finding goes with a value does not say that the value is its cause.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from scipy import special

from gradlab_core.judge.sweep import SweptRun, varying
from gradlab_core.text import number

LEVEL = 0.01
"""A pair is told if a sweep in which nothing goes with anything would show any such pair so rarely."""
MOST_VALUES, BINS = 6, 4
"""A hyperparameter with more numbers than this is cut into so many groups of about the same size."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs with one value of a hyperparameter, or with values of one range, and how many of them have the finding."""

    label: str
    runs: int
    found: int

    @property
    def share(self) -> float:
        return self.found / self.runs


@dataclasses.dataclass(frozen=True)
class Link:
    """A finding that comes more often with some values of a hyperparameter than with others."""

    code: str
    parameter: str
    groups: tuple[Group, ...]
    p: float


def links(runs: Sequence[SweptRun]) -> list[Link]:
    """The pairs of findings and hyperparameters that go together, the clearest first."""
    read = [run for run in runs if run.problem is None]
    codes = sorted({code for run in read for code in run.alarms})
    tested = []
    for parameter in varying(read):
        labels = grouped([run.config.get(parameter) for run in read])
        order = list(dict.fromkeys(label for _, label in sorted({*labels})))
        for code in codes:
            has = [code in run.alarms for run in read]
            groups = tuple(
                Group(label, len(own), sum(own))
                for label in order
                for own in [[h for h, (_, mine) in zip(has, labels, strict=True) if mine == label]]
            )
            tested.append(Link(code, parameter, groups, _p(groups)))
    kept = [dataclasses.replace(link, p=min(1.0, link.p * len(tested))) for link in tested]
    return sorted((link for link in kept if link.p < LEVEL), key=lambda link: link.p)


def grouped(values: Sequence[Any]) -> list[tuple[float, str]]:
    """For each value its place in the order of the groups, and the label of its group.

    >>> [label for _, label in grouped([0.1, 0.01, 0.1, None, 1.0])]
    ['0.1', '0.01', '0.1', 'not given', '1']
    >>> sorted({label for _, label in grouped(list(range(100)))})
    ['0 to 24', '25 to 49', '50 to 74', '75 to 99']
    """
    numbers = sorted(v for v in values if _is_number(v))
    if len({*numbers}) <= MOST_VALUES:
        return [(float(v), number(v)) if _is_number(v) else _word(v) for v in values]
    edges = [numbers[len(numbers) * k // BINS] for k in range(1, BINS)]

    def place(value: float) -> int:
        return sum(value >= edge for edge in edges)

    inside: dict[int, list[float]] = {}
    for value in numbers:
        inside.setdefault(place(value), []).append(value)
    label = {k: " to ".join(dict.fromkeys((number(own[0]), number(own[-1])))) for k, own in inside.items()}
    return [(float(place(v)), label[place(v)]) if _is_number(v) else _word(v) for v in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _word(value: Any) -> tuple[float, str]:
    """The group of what is no number; these stand last."""
    return math.inf, "not given" if value is None else str(value)


def _p(groups: Sequence[Group]) -> float:
    runs, having = sum(group.runs for group in groups), sum(group.found for group in groups)
    if len(groups) < 2 or having in (0, runs):
        return 1.0
    share = having / runs
    square = sum((g.found - g.runs * share) ** 2 / (g.runs * share * (1 - share)) for g in groups)
    return float(special.chdtrc(len(groups) - 1, square))
