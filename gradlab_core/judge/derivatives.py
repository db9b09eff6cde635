"""Derivatives held against differences, step by step, so that a wrong one is found where it is."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from gradlab_core.definitions.cuts import Cut
from gradlab_core.definitions.derivatives import STEPS, Array, Difference, along, difference
from gradlab_core.records.derivatives import STATUSES, DerivativeCheck, DerivativeRow

_RELATIVE, _ABSOLUTE = 1e-7, 1e-10
"""Equal is what agrees to so much of itself, or of the size of what comes out of the step."""
_SAFETY = 4.0
_ALIKE = 1e-9
"""Two runs that differ by more are random; by less, they add up in another order."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A tensor that goes into steps: of the batch, a parameter, or a `Cut` after which the model goes on with it."""

    name: str
    value: Array
    parameter: bool = False


class Steps(Protocol):
    """A model in float64 that is cut into steps: each is computed from what was there before it, and not from what
    another step has just become. Tensors are in canonical layout."""

    @property
    def sources(self) -> Sequence[Source]: ...

    @property
    def targets(self) -> Sequence[Cut]:
        """What comes out of steps, in execution order; the last is the loss."""
        ...

    def run(self, changed: Mapping[int, Array]) -> list[Array | None]:
        """All targets, with these tensors in place of sources; None where one was not computed."""
        ...

    def back(self, target: int, cotangent: Array) -> list[Array | None]:
        """The gradient of ⟨cotangent, target⟩ in every source by backpropagation; None where no path leads."""
        ...


def check_steps(steps: Steps, mode: str) -> DerivativeCheck:
    """Every step in every tensor that goes into it, along a random direction and for a random cotangent, which are the
    same in both twins."""
    sources, targets = steps.sources, steps.targets
    here, again = steps.run({}), steps.run({})
    moves = _Moves(steps, [value for value in here if value is not None])
    random = [_differ(one, other) for one, other in zip(moves.here, again, strict=True)]
    slopes = moves.slopes(random)
    rows = []
    for i in reversed(range(len(targets))):
        gradients = steps.back(i, moves.cotangents[i])
        for j, (source, gradient) in enumerate(zip(sources, gradients, strict=True)):
            came = gradient is not None and bool(np.any(gradient))
            backward = float(np.sum(gradient * moves.directions[j])) if came and gradient is not None else 0.0
            slope = _Slope.of(slopes[j], i)
            if came or slope.value != 0.0:
                limit = _limit(backward, slope, moves.sizes[i])
                status = "random" if random[i] else _status(backward, slope, limit, came=came)
                rows.append(_row(targets[i], source, backward, slope, limit, status))
    return DerivativeCheck(mode=mode, rows=tuple(rows), parameters=_worst(sources, rows))


class _Moves:
    """All sources moved, each along its direction.

    Attributes:
        here: the targets where nothing is moved.
        cotangents, sizes: of each target what it is weighed with, and its size so weighed.
        directions: of each source.
    """

    def __init__(self, steps: Steps, here: list[Array]) -> None:
        self.steps, self.here = steps, here
        names = [target.label for target in steps.targets]
        self.cotangents = [
            np.asarray(_rng(f"cotangent of {name}").standard_normal(v.shape))
            for name, v in zip(names, here, strict=True)
        ]
        self.sizes = [float(np.sum(np.abs(c * value))) for c, value in zip(self.cotangents, here, strict=True)]
        self.directions = [along(_rng(source.name), source.value) for source in steps.sources]

    def slopes(self, random: Sequence[bool]) -> list[Difference]:
        """Of each source the derivatives of all targets. Sources that reach different targets are moved together."""
        first = [self.both(STEPS[0], [j]) for j in range(len(self.directions))]
        reached = [{i for i, still in enumerate(random) if not still and self.changed(ways, i)} for ways in first]
        central, bend = np.zeros((2, len(first), len(STEPS), len(self.here)))
        for group in _apart(reached):
            for n, step in enumerate(STEPS):
                ways = self.both(step, group)
                for j in group:
                    for i in reached[j]:
                        central[j, n, i], bend[j, n, i] = self.weighed(ways, i)
        with np.errstate(invalid="ignore", over="ignore"):
            return [difference(central[j], bend[j], np.array(self.sizes)) for j in range(len(first))]

    def both(self, step: float, sources: Sequence[int]) -> list[list[Array | None]]:
        """All targets a step ahead and a step back."""
        values = [source.value for source in self.steps.sources]
        return [
            self.steps.run({j: np.asarray(values[j] + signed * self.directions[j]) for j in sources})
            for signed in (step, -step)
        ]

    def changed(self, ways: list[list[Array | None]], target: int) -> bool:
        values, here = [way[target] for way in ways], self.here[target]
        return any(value is None or not np.array_equal(value, here, equal_nan=True) for value in values)

    def weighed(self, ways: list[list[Array | None]], target: int) -> tuple[float, float]:
        """`(⟨c, f(h) − f(−h)⟩, Σ|c·(f(h) + f(−h) − 2f(0))|)`; NaN where f was not computed."""
        here, (plus, minus) = self.here[target], (way[target] for way in ways)
        if plus is None or minus is None or not plus.shape == minus.shape == here.shape:
            return np.nan, np.nan
        with np.errstate(invalid="ignore", over="ignore"):
            c = self.cotangents[target]
            return float(np.sum(c * (plus - minus))), float(np.sum(np.abs(c * ((plus - here) + (minus - here)))))


def _apart(reached: Sequence[set[int]]) -> list[list[int]]:
    """Groups of those that reach something, in which no two reach the same."""
    groups: list[tuple[list[int], set[int]]] = []
    for j, targets in enumerate(reached):
        if targets:
            group = next((g for g in groups if not g[1] & targets), None)
            if group is None:
                groups.append(group := ([], set()))
            group[0].append(j)
            group[1].update(targets)
    return [members for members, _ in groups]


@dataclasses.dataclass(frozen=True)
class _Slope:
    """One number of a `Difference`."""

    value: float
    error: float
    kink: float
    single: bool

    @classmethod
    def of(cls, slopes: Difference, target: int) -> _Slope:
        value, error, kink = (float(column[target]) for column in (slopes.value, slopes.error, slopes.kink))
        return cls(value, error, kink, bool(slopes.single[target]))


def _limit(backward: float, slope: _Slope, size: float) -> float:
    """What the two may differ by: rounding, and what the differences leave unknown."""
    return _RELATIVE * max(abs(backward), abs(slope.value)) + _ABSOLUTE * size + _SAFETY * slope.error


def _status(backward: float, slope: _Slope, limit: float, *, came: bool) -> str:
    apart = abs(backward - slope.value)
    if not np.isfinite(apart) or not np.isfinite(limit):
        return "nonfinite"
    if apart <= limit - _SAFETY * slope.error:
        return "right"
    if apart <= limit:
        # Where the limit is wider than the derivative itself, equal is not yet right.
        tells = limit < 0.1 * max(abs(backward), abs(slope.value))
        return "float32" if slope.single else "kink" if slope.kink >= apart else "right" if tells else "unclear"
    if apart <= slope.kink * (1 + _RELATIVE) + limit:
        return "float32" if slope.single else "kink"
    return "wrong" if came else "disconnected"


def _row(target: Cut, source: Source, backward: float, slope: _Slope, limit: float, status: str) -> DerivativeRow:
    own = target.end == "output"
    return DerivativeRow(
        layer=target.layer if own else f"between layers of {target.caller}" if target.caller else "between layers",
        path=target.path if own else target.caller,
        output=target.label if not own else f"output {target.place + 1}" if target.place else "output",
        of=source.name,
        parameter=source.parameter,
        backward=backward,
        difference=slope.value,
        limit=abs(limit),
        status=status,
    )


def _worst(sources: Sequence[Source], rows: Sequence[DerivativeRow]) -> dict[str, str]:
    worst = {source.name: "" for source in sources if source.parameter}
    for row in rows:
        if row.parameter and STATUSES.index(row.status) < STATUSES.index(worst[row.of] or "right"):
            worst[row.of] = row.status
        elif row.parameter:
            worst[row.of] = worst[row.of] or row.status
    return {name: status or "disconnected" for name, status in worst.items()}


def _differ(one: Array, other: Array | None) -> bool:
    if other is None or one.shape != other.shape:
        return True
    with np.errstate(invalid="ignore"):
        return bool(np.sum(np.abs(one - other)) > _ALIKE * np.sum(np.abs(one)))


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
