"""Studies of tied units: in the weights of a net, and in a small net that gets rid of them or does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gradlab_core import backends, fields
from gradlab_core.definitions import symmetry_defect as symmetry
from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import refuse
from gradlab_core.lab.tie import TieStep, tie_over_steps

_LOOKS = 40
# The first takes half a minute; beyond the others most nets diverge.
_MOST_STEPS, _MOST_UNITS, _MOST_DROPOUT = 50_000, 64, 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class TieRun:
    """One training of the demonstration: its start (`constant` or `normal`), its dropout, and its steps."""

    start: str
    dropout: float
    steps: tuple[TieStep, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TieStudy:
    """The same small net from a constant start, from one with dropout, and from a normal start."""

    units: int
    seed: int
    constant: TieRun
    dropout: TieRun
    normal: TieRun

    @property
    def runs(self) -> tuple[TieRun, ...]:
        """All three runs."""
        return self.constant, self.dropout, self.normal


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymmetryStudy:
    """The tied units of a user's net; `framework` is that of the model, None for a file of weights."""

    target: str
    framework: str | None
    found: SymmetryDefect


def study_tie(*, steps: int = 200, units: int = 8, dropout: float = 0.5, seed: int = 0) -> TieStudy:
    """Train the small net three times, and look at it after the first step and some forty times more.

    Raises:
        GradlabError: a number is out of range, or so large that the nets diverge; one message lists all problems.

    >>> study = study_tie(steps=20)
    >>> [run.steps[-1].distinct for run in study.runs]
    [1, 8, 8]
    """
    problems: list[str] = []
    for name, value, least, most in (("steps", steps, 1, _MOST_STEPS), ("units", units, 2, _MOST_UNITS)):
        before = len(problems)
        fields.whole_number(problems, name, value, least)
        if len(problems) == before and value > most:
            problems.append(f"{name} is {value:,}; expected {most:,} at most")
    if not 0 < dropout <= _MOST_DROPOUT:
        problems.append(f"dropout is {dropout!r}; expected a number above 0, {_MOST_DROPOUT} at most")
    fields.whole_number(problems, "seed", seed, 0)
    refuse("symmetry", problems)

    def run(start: str, dropout: float = 0.0) -> TieRun:
        every = max(1, steps // _LOOKS)
        seen = tie_over_steps(steps=steps, every=every, units=units, dropout=dropout, start=start, seed=seed)
        first = tie_over_steps(steps=1, every=1, units=units, dropout=dropout, start=start, seed=seed)[1:]
        return TieRun(start=start, dropout=dropout, steps=seen[:1] + (first if every > 1 else ()) + seen[1:])

    return TieStudy(
        units=units, seed=seed, constant=run("constant"), dropout=run("constant", dropout), normal=run("normal")
    )


def study_symmetry(target: str, params: Any, framework: str | None = None) -> SymmetryStudy:
    """Look for tied units in a model, with the twin of its framework, or in canonical weights `{path: array}`.

    Raises:
        GradlabError: the argument is neither of them.

    >>> net = {"fc1.weight": [[1, 2], [3, 4], [1, 2]], "fc2.weight": [[5, 6, 5]]}
    >>> study_symmetry("net.npz", net).found.layers[0].groups
    ((0, 2),)
    """
    find = symmetry.symmetry_defect if framework is None else backends.load(framework).symmetry_defect
    return SymmetryStudy(target=target, framework=framework, found=find(params))


def tied_layers(defect: SymmetryDefect) -> Mapping[str, int]:
    """The number of surplus copies among the units of each layer; layers without any are left out.

    >>> tied_layers(symmetry.symmetry_defect({"a.weight": [[1.0], [1.0], [2.0]], "b.weight": [[1.0, 1.0, 3.0]]}))
    {'a.weight': 1}
    """
    return {layer.path: layer.units - layer.distinct for layer in defect.layers if layer.distinct < layer.units}
