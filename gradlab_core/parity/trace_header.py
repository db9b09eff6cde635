"""What a run on disk holds: its header, and what tells one batch, or one set of weights, from another."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import each
from gradlab_core.parity.trace import Key
from gradlab_core.records.ranges import Count, OneOf

ROLES = ("reference", "candidate")
SHAPES = ("one", "by name", "by place")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor of a step; its member is None where there is no gradient path."""

    step: int
    quantity: str
    path: str
    call: int
    member: str | None

    @property
    def key(self) -> Key:
        return Key(self.quantity, self.path, self.call)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One array or several, as x or y of a batch; the member of an input that is None is None."""

    shape: Annotated[str, OneOf(SHAPES)]
    members: Mapping[str, str | None]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A `Spread` of that arithmetic: totals and counts of the float64 tensors, in their order."""

    arithmetic: Arithmetic
    totals: tuple[float, ...]
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What the JSON of a trace holds. Weights, batch and spreads are in a reference's trace only; digests are in both,
    so that a candidate's trace says what it was recorded like. Where a candidate's weights have other names, its
    tensors are under the reference's, and `modules` says which of its modules is which. `local` are those of a
    candidate that are each computed from the reference's tensors."""

    role: Annotated[str, OneOf(ROLES)]
    framework: str
    versions: Mapping[str, str]
    precision: str | None
    arithmetic: Arithmetic
    steps: Count
    weights_digest: str
    batch_digest: str
    float64: tuple[Stored, ...]
    float32: tuple[Stored, ...]
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    x: Arrays | None = None
    y: Arrays | None = None
    drawn: tuple[Drawn, ...] = ()
    modules: Mapping[str, str] | None = None
    local: tuple[Stored, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        for name in ("float64", "float32"):
            held = {stored.step for stored in getattr(self, name)}
            if not held or (min(held), max(held), len(held)) != (0, self.steps - 1, self.steps):
                problems.append(f"{name} does not hold {self.steps} steps")
        problems += [
            f"{len(drawn.totals)} spreads of {drawn.arithmetic.name} for {len(self.float64)} tensors"
            for drawn in self.drawn
            if not len(drawn.totals) == len(drawn.counts) == len(self.float64)
        ]
        if self.role == "reference" and (self.x is None or self.y is None):
            problems.append("no batch")
        refuse("the header does not fit together", problems)


def plain(value: Any) -> np.ndarray:
    """An array of numbers that NumPy itself knows; bfloat16 and the like become float64.

    >>> plain(["a"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: an array of <U1 is no array of numbers
    """
    array = np.asarray(value)
    if array.dtype.kind in "biufc":
        return array
    try:
        if array.dtype.kind in "OUSMm":
            raise ValueError
        return array.astype(np.float64)
    except (ValueError, TypeError):
        raise GradlabError(f"an array of {array.dtype.str} is no array of numbers") from None


def shape_of(x: Any) -> str:
    """How x or y holds its arrays.

    >>> shape_of({"mask": 1}), shape_of((1, 2)), shape_of(np.ones(2))
    ('by name', 'by place', 'one')
    """
    return "by name" if isinstance(x, Mapping) else "by place" if isinstance(x, (tuple, list)) else "one"


def digest(*parts: Any) -> str:
    """Of arrays: what holds the same numbers under the same names has the same.

    >>> digest(np.ones(2)) == digest(np.ones(2)) != digest({"x": np.ones(2)})
    True
    """
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(shape_of(part).encode())
        for name, array in each(part).items():
            kept = np.ascontiguousarray(plain(array))
            hashed.update(f"|{name}|{kept.dtype.str}|{kept.shape}|".encode(errors="surrogatepass"))
            hashed.update(kept.tobytes())
    return hashed.hexdigest()
