"""Quantities: numbers that a monitor measures for every tensor besides its norms. Users add their own, and the built-in
ones are written in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradlab_core import fields
from gradlab_core.definitions import reference
from gradlab_core.errors import refuse
from gradlab_core.records import StepRecord, TensorNorms

OF = ("param", "grad", "update")
WHOLE: Mapping[str, Callable[[list[float]], float]] = {
    "max": lambda values: float(np.max(values)),
    "min": lambda values: float(np.min(values)),
    "sum": lambda values: float(np.sum(values)),
    "mean": lambda values: float(np.mean(values)),
    "norm": reference.norm,
}
"""How the numbers of all tensors become one number of the step; a NaN among them makes it NaN."""
EXTRAS = ("grad_cosine", "update_cosine", "distance")
"""The built-in quantities that a monitor measures only when asked, since each holds one more copy of the parameters."""
_TAKEN = {field.name for kind in (StepRecord, TensorNorms) for field in dataclasses.fields(kind)} | {"state"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of every tensor, measured at every recorded step; it stands in `StepRecord.quantities`.

    Attributes:
        name: an identifier that is not a field of the record.
        of: the tensors it measures: `param` (before the step), `grad` (as the optimizer sees it) or `update` (as it was
            applied).
        measure: `measure({path: tensor})` → `{path: one number}`, in the framework's own tensors, so that nobody waits
            for the device; in JAX it is traced, and what has no gradient path is 0. A tensor that is to be kept must be
            copied: the optimizer changes it in place.
        start: for a quantity that remembers: `start({path: parameter})` → the memory, tensors in any nesting. Then it
            is `measure({path: tensor}, memory)` → `(numbers, memory)`, in JAX of the same structure, shapes and types.
        compares: whether it compares with the record before, so that the first record has no value.
        whole: how the numbers of the tensors become one number of the step: `max`, `min`, `sum`, `mean` or `norm`.
            None: the step has no such number.

    Raises:
        GradlabError: a name that is taken or no identifier, words that are not known, or no functions.

    >>> Quantity(name="largest", of="grad", measure=lambda grads: {p: g.abs().max() for p, g in grads.items()}).of
    'grad'
    """

    name: str
    of: str
    measure: Callable[..., Any]
    start: Callable[[Any], Any] | None = None
    compares: bool = False
    whole: str | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        named = isinstance(self.name, str) and self.name.isidentifier()
        if not named:
            problems.append(f"name is {self.name!r}; expected an identifier, as in grad_max")
        elif self.name in _TAKEN and self.name not in EXTRAS:
            problems.append(f"name is {self.name!r}, which a record has already; expected another")
        fields.one_of(problems, "of", self.of, OF)
        if self.whole is not None:
            fields.one_of(problems, "whole", self.whole, tuple(WHOLE))
        for name, value in (("measure", self.measure), ("start", self.start)):
            if not callable(value) and not (name == "start" and value is None):
                problems.append(f"{name} is {value!r}; expected a function")
        refuse("Quantity", problems)

    def of_all(self, values: Sequence[float]) -> float | None:
        """The number of the step from those of its tensors; None without `whole` or without tensors.

        >>> Quantity(name="q", of="grad", measure=dict, whole="norm").of_all([3.0, 4.0])
        5.0
        """
        return WHOLE[self.whole](list(values)) if self.whole is not None and values else None

    def without_functions(self) -> Quantity:
        """A copy for records: it is equal for two monitors of the same quantity and can be pickled."""
        return dataclasses.replace(self, measure=_measured_elsewhere, start=None)


def _measured_elsewhere(*_: Any) -> Any:
    raise NotImplementedError("this only describes a quantity")


def problems_of(extras: Any) -> list[str]:
    """The problems of the extras that a user asked a monitor for; empty if there are none.

    >>> problems_of(["cosine"])
    ["extra 'cosine' is unknown; expected some of grad_cosine, update_cosine, distance, or a Quantity"]
    """
    if isinstance(extras, (str, Quantity)):
        return [f"extras is {extras!r}; expected a list" if isinstance(extras, Quantity) else _ONE_WORD]
    known = [extra for extra in extras if isinstance(extra, Quantity) or extra in EXTRAS]
    problems = [
        f"extra {extra!r} is unknown; expected some of {', '.join(EXTRAS)}, or a Quantity"
        for extra in extras
        if not any(extra is match for match in known)
    ]
    names = [extra.name if isinstance(extra, Quantity) else extra for extra in known]
    return problems + [f"two extras are called {n}; expected one" for n in dict.fromkeys(names) if names.count(n) > 1]


_ONE_WORD = "extras is one word; expected a list of words"


def checked_numbers(quantity: Quantity, numbers: Any, handed: Sequence[str]) -> dict[str, Any]:
    """The numbers that a quantity returned, in the order of the tensors that it was given (`handed`).

    Raises:
        GradlabError: the result is not a mapping, has a path that is not in `handed`, or lacks one that is.
    """
    problems: list[str] = []
    if not isinstance(numbers, Mapping):
        problems.append(f"it gave a {type(numbers).__name__}; expected {{path: one number}}")
        numbers = dict.fromkeys(handed)
    problems += [f"it gave a number for {p!r}, which it was not handed" for p in numbers if p not in set(handed)]
    if not quantity.compares:  # a tensor that is new since the record before has nothing to compare with
        problems += [f"it gave no number for {path}" for path in handed if path not in numbers]
    refuse(f"quantity {quantity.name}", problems)
    return {path: numbers[path] for path in handed if path in numbers}


def checked_result(quantity: Quantity, result: Any) -> tuple[Any, Any]:
    """`(numbers, memory)`; the memory is None for a quantity that has none.

    Raises:
        GradlabError: a quantity with a memory did not return a pair.
    """
    if quantity.start is None:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        refuse(f"quantity {quantity.name}", [f"it gave a {type(result).__name__}; expected (numbers, memory)"])
    return result[0], result[1]
