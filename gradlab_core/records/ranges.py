"""The values that a field of a record can have: written at the field, checked when a record is read from a file.

NaN is always allowed, since a measurement may have no other result. A field that may be missing has the type `| None`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

ROUNDING = 1e-3
"""By how much a share or a cosine that was computed in float32 or less may lie beyond its bound."""

LARGEST = (1 << 63) - 1
"""Whole numbers are int64 in tables, in loggers and in NumPy."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, both included; `words` say it to a person."""

    least: float
    most: float
    words: str


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of these words."""

    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Quotient:
    """A note that a number is usually that of the field `above` over that of the field `below`, as
    `definitions.reference.ratio` has it. A file then need not hold it where it is so to the last bit."""

    above: str
    below: str


ANY_NUMBER = Range(-math.inf, math.inf, "a number")
ANY_WHOLE = Range(-LARGEST - 1, LARGEST, "a whole number of 64 bits")

Norm = Annotated[float, Range(0.0, math.inf, "a norm, a ratio, a deviation or a time is not below 0")]
"""Also for other numbers that cannot be below 0: ratios of norms, standard deviations, seconds."""
Share = Annotated[float, Range(-ROUNDING, 1 + ROUNDING, "a share is not below 0 and not above 1")]
Cosine = Annotated[float, Range(-1 - ROUNDING, 1 + ROUNDING, "a cosine is not below -1 and not above 1")]
Count = Annotated[int, Range(0, LARGEST, "a count, a step or a size is not below 0 and has 64 bits at most")]
Framework = Annotated[str, OneOf(("torch", "jax"))]
Level = Annotated[str, OneOf(("good", "watch", "bad", "unknown"))]
