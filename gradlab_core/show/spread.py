"""The mean and the range of a value over several runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Spread:
    """The mean, lowest and highest of a value over seeds; None if no seed has the value. NaN and Inf are kept."""

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
