"""A check of drawn numbers against the law that they should follow: moments, bounds and the whole distribution."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from gradlab_core.lab.laws import KURTOSIS, Law, density, fit_probability, has_density

Array = NDArray[np.float64]
TOO_FAR = 5.0
"""In standard errors. By chance a right initialiser is so far off once in two million times."""
UNLIKELY = 1e-6
"""The same for the test of the whole distribution."""
ROUNDING = 1e-6
"""The relative rounding of float32, to which whatever the formula fixes is right."""
_BINS, _REACH, _POINTS = 45, 4.5, 161


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """All draws together, beside their law.

    Attributes:
        law: the law according to the formula.
        count: the number of finite numbers, which all other figures describe; these are NaN if there are none.
        nonfinite: the number of those that are NaN or Inf.
        mean, std: mean, and standard deviation about the mean of the law.
        mean_error, std_error: their standard errors by the law; 0 if it leaves nothing to chance.
        mean_off, std_off: their distances from the law in standard errors.
        low, high: the smallest and the largest number.
        probability: the probability of lying so far from the law as a whole; None if numbers are not independent.
        wrong: those of `nonfinite`, `mean`, `std`, `bounds` and `distribution` that are wrong.
    """

    law: Law
    count: int
    nonfinite: int
    mean: float
    mean_error: float
    mean_off: float
    std: float
    std_error: float
    std_off: float
    low: float
    high: float
    probability: float | None
    wrong: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """The histogram of one initialiser: bin edges and the density in each bin, empty if all numbers are the same; and
    the density of the law, `expected` at the points `x`, empty if it has no density."""

    name: str
    edges: tuple[float, ...]
    drawn: tuple[float, ...]
    x: tuple[float, ...]
    expected: tuple[float, ...]


def sample(law: Law, drawn: Array) -> Sample:
    """Check numbers of any shape against the law that they should follow.

    >>> law = Law(kind="uniform", mean=0.0, std=3**-0.5, low=-1.0, high=1.0)
    >>> sample(law, np.linspace(-1.1, 1.1, 101)).wrong
    ('bounds',)
    """
    values = drawn[np.isfinite(drawn)]
    count, scale = len(values), max(law.std, abs(law.mean))
    if not count:
        nothing = dict.fromkeys(
            ("mean", "mean_off", "mean_error", "std", "std_off", "std_error", "low", "high"), math.nan
        )
        return Sample(law=law, count=0, nonfinite=drawn.size, probability=None, wrong=("nonfinite",), **nothing)
    mean, std = float(values.mean()), math.sqrt(float(np.square(values - law.mean).mean()))
    # The sum of squares of an orthogonal matrix is not random, but the sum of its elements varies as if they were
    # drawn.
    mean_error = law.std / math.sqrt(count)
    std_error = law.std * math.sqrt((KURTOSIS.get(law.kind, 1.0) - 1) / count) / 2
    low, high = float(values.min()), float(values.max())
    mean_off = _off(mean - law.mean, mean_error, scale)
    std_off = _off(std - law.std, std_error, scale)
    probability = fit_probability(law, values) if law.kind in KURTOSIS else None
    room = ROUNDING * max(abs(law.low or 0.0), abs(law.high or 0.0))
    faults = {
        "nonfinite": count < drawn.size,
        "mean": not abs(mean_off) <= TOO_FAR,
        "std": not abs(std_off) <= TOO_FAR,
        "bounds": law.low is not None and law.high is not None and (low < law.low - room or high > law.high + room),
        "distribution": probability is not None and not probability >= UNLIKELY,
    }
    return Sample(
        law=law,
        count=count,
        nonfinite=drawn.size - count,
        mean=mean,
        mean_error=mean_error,
        mean_off=mean_off,
        std=std,
        std_error=std_error,
        std_off=std_off,
        low=low,
        high=high,
        probability=probability,
        wrong=tuple(name for name, fault in faults.items() if fault),
    )


def _off(difference: float, error: float, scale: float) -> float:
    """The distance in standard errors, after subtracting what rounding explains."""
    beyond = max(abs(difference) - ROUNDING * scale, 0.0)
    return math.copysign(beyond / error if error else math.inf if beyond else 0.0, difference) + 0.0


def histogram(name: str, law: Law, drawn: Array) -> Histogram:
    """The histogram of all finite numbers. The bins end at the bounds of the law, unless numbers lie outside.

    >>> law = Law(kind="uniform", mean=0.0, std=3**-0.5, low=-1.0, high=1.0)
    >>> bars = histogram("uniform", law, np.linspace(-1, 1, 91))
    >>> len(bars.drawn), bars.edges[0], [round(x, 9) for x in bars.x], [round(y, 9) for y in bars.expected]
    (45, -1.0, [-1.0, -1.0, 1.0, 1.0], [0.0, 0.5, 0.5, 0.0])
    """
    values = drawn[np.isfinite(drawn)]
    reach = law.std * (
        math.sqrt(3) if law.kind == "uniform" else _REACH
    )  # the bounds of a sphere are far from most numbers
    ends = (law.mean - reach, law.mean + reach)
    edges = heights = np.zeros(0)
    if len(values) and values.min() < values.max():
        low, high = min(ends[0], values.min()), max(ends[1], values.max())
        heights, edges = np.histogram(values, _BINS, range=(low, high), density=True)
    if law.kind == "uniform":
        x = np.repeat(ends, 2)
        expected = np.array([0, 1, 1, 0]) / (2 * reach)
    else:
        x = np.linspace(*ends, _POINTS) if has_density(law) else np.zeros(0)
        x = x[np.abs(x) < 1] if law.kind == "sphere" else x
        expected = density(law, x)
    return Histogram(name=name, edges=_floats(edges), drawn=_floats(heights), x=_floats(x), expected=_floats(expected))


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
