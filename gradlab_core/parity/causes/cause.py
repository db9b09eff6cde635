"""What a cause is, and the search for one or two of them that explain a tensor."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from gradlab_core.parity import tolerance

_COLLAPSE = 1e-2
"""A cause leaves at most so much of the difference, besides leaving no more than rounding."""
_EFFORT = 10**8
"""Elements that are computed for pairs of changes, so that no large layer takes minutes: the likelier come first."""


@dataclasses.dataclass(frozen=True)
class Cause:
    """What the candidate does differently.

    Attributes:
        code: its name among the porting traps, as in `docs/parity.md`.
        words: what the candidate does, where the reference does something else.
        fix: what to change in the candidate.
    """

    code: str
    words: str
    fix: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One or two causes, and the part of the difference that they leave."""

    causes: tuple[Cause, ...]
    left: float


Settings = Mapping[str, Any]
"""What a definition takes."""
Change = tuple[Cause, Callable[[Settings], Settings]]
"""A cause, and the settings that it makes of the reference's."""
Finish = Callable[[np.ndarray, np.ndarray], Iterable[tuple[Cause, np.ndarray]]]
"""Of what a definition gives and what the candidate has: causes whose one number is taken from the two, such as a
constant factor, and what each makes of the former."""


def to(**values: Any) -> Callable[[Settings], Settings]:
    """A change that sets these.

    >>> to(k=2)({"k": 1, "n": 3})
    {'k': 2, 'n': 3}
    """
    return lambda settings: {**settings, **values}


@dataclasses.dataclass(frozen=True)
class Target:
    """A tensor to be explained: what the reference has, what the candidate has, and how far rounding may go.

    A definition gives what the reference has within `limit`, or within the part `near` of the difference, where tables
    that were rounded beforehand are known to be in it.
    """

    truth: np.ndarray
    value: np.ndarray
    limit: float
    near: float = 0.0

    @functools.cached_property
    def difference(self) -> float:
        return tolerance.distance(self.value, self.truth)

    def is_reference(self, array: np.ndarray | None) -> bool:
        """Whether a definition gives what the reference has."""
        return array is not None and tolerance.distance(array, self.truth) <= max(
            self.limit, self.near * self.difference
        )

    def left(self, array: np.ndarray | None) -> float | None:
        """The part of the difference that is left, or None if it is more than rounding."""
        if array is None:
            return None
        rest = tolerance.distance(array, self.value)
        explained = (
            rest <= max(self.limit, max(self.near, 1e-6) * self.difference) and rest <= _COLLAPSE * self.difference
        )
        return rest / self.difference if explained else None


def search(
    compute: Callable[[Settings], np.ndarray | None],
    settings: Settings,
    changes: Iterable[Change],
    target: Target,
    finishes: Iterable[Finish] = (),
) -> Iterator[Explanation]:
    """Explanations of a tensor by one change of a definition's settings, or else by two of them.

    Args:
        compute: the definition; None where it cannot be computed with those settings.
        settings: those with which it gives what the reference has.
        changes, finishes: what may be different.

    >>> double = Cause("double", "twice as much", "halve it"), lambda s: {**s, "k": 2.0}
    >>> target = Target(np.ones(3), np.full(3, 2.0), 1e-9)
    >>> [e.causes[0].code for e in search(lambda s: s["k"] * np.ones(3), {"k": 1.0}, [double], target)]
    ['double']
    """
    changes, finishes = list(changes), list(finishes)

    def tried(causes: tuple[Cause, ...], made: Settings) -> Iterator[Explanation]:
        array = compute(made)
        left = target.left(array) if causes else None
        if left is not None:
            yield Explanation(causes, left)
        elif array is not None and len(causes) < 2 and array.shape == target.value.shape:
            for finish in finishes:
                for cause, finished in finish(array, target.value):
                    left = target.left(finished)
                    if left is not None:
                        yield Explanation((*causes, cause), left)

    tries = [list(tried((cause,), change(settings))) for cause, change in changes]
    # One change first, then a number that is taken from the difference itself, then two.
    single = [e for some in tries for e in some if len(e.causes) == 1] + list(tried((), settings))
    if single:
        yield from single
        return
    yield from (e for some in tries for e in some)
    pairs = itertools.islice(itertools.combinations(changes, 2), _EFFORT // max(target.truth.size, 1))
    for (first, change), (second, other) in pairs:
        if first.code != second.code:
            left = target.left(compute(other(change(settings))))
            if left is not None:
                yield Explanation((first, second), left)


def by_factor(what: str, known: Mapping[float, Cause] | None = None) -> Finish:
    """A constant factor between the two; `known` names some of them.

    >>> [c.words for c, _ in by_factor("the output")(np.ones(3), np.full(3, 8.0))]
    ['the output is 8 × what it is in the reference']
    """

    def finish(array: np.ndarray, value: np.ndarray) -> Iterator[tuple[Cause, np.ndarray]]:
        square = float(np.vdot(array, array))
        if not square or not np.isfinite(square):
            return
        factor = float(np.vdot(array, value)) / square
        named = next((cause for k, cause in (known or {}).items() if abs(factor - k) <= 1e-6 * abs(k)), None)
        words = f"{what} is {factor:.6g} × what it is in the reference"
        yield (
            named or Cause("factor", words, "look for a constant that one side multiplies or divides by"),
            factor * array,
        )

    return finish
