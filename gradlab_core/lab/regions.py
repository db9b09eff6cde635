"""The inputs of an activation for which its derivative vanishes, or is about right.

Between two neighbouring breaks of an activation its derivative is monotone. So the inputs whose derivative lies within
given bounds are at most two intervals in each piece, whose ends are found by bisection to the last bit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from collections.abc import Callable

import numpy as np

from gradlab_core.definitions.thresholds import DERIVATIVE_FINE, DERIVATIVE_VANISHED
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value, check_activation

Interval = tuple[float, float]

_END = 1e150  # stands for infinity, but its square is still finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationCurve:
    """An activation and its derivative at evenly spaced points, for a chart."""

    name: str
    x: tuple[float, ...]
    value: tuple[float, ...]
    gradient: tuple[float, ...]


def activation_curve(name: str, *, start: float = -8.0, stop: float = 8.0, points: int = 321) -> ActivationCurve:
    """The curve of the published plot, by default from −8 to 8.

    >>> curve = activation_curve("sigmoid", points=3)
    >>> curve.x, curve.gradient[1]
    ((-8.0, 0.0, 8.0), 0.25)
    """
    problems = [] if points >= 2 else [f"points is {points}; expected at least 2"]
    if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
        problems.append(f"start is {start!r} and stop {stop!r}; expected two finite numbers, the smaller first")
    refuse("activation curve", problems)
    x = np.linspace(start, stop, points)
    value, gradient = activation_value(name, x), activation_gradient(name, x)
    return ActivationCurve(
        name=name, x=tuple(x.tolist()), value=tuple(value.tolist()), gradient=tuple(gradient.tolist())
    )


def vanishing_region(name: str, below: float = DERIVATIVE_VANISHED) -> tuple[Interval, ...]:
    """The intervals of x, in order, on which |f'(x)| < `below`. Ends may be ±Inf; single points are left out.

    Raises:
        GradlabError: the activation is unknown, or the bound is not positive.

    >>> [(round(a, 3), round(b, 3)) for a, b in vanishing_region("sigmoid")]
    [(-inf, -4.585), (4.585, inf)]
    >>> vanishing_region("relu"), vanishing_region("identity")
    (((-inf, 0.0),), ())
    """
    check_activation(name)
    refuse("vanishing region", [] if below > 0 else [f"below is {below!r}; expected a positive number"])
    return _where(name, lambda slope: -below < slope < below, (-below, below))


def goldilocks_region(
    name: str, low: float = DERIVATIVE_FINE[0], high: float = DERIVATIVE_FINE[1]
) -> tuple[Interval, ...]:
    """The intervals of x on which low ≤ |f'(x)| ≤ high, as in `vanishing_region`.

    >>> [(round(a, 3), round(b, 3)) for a, b in goldilocks_region("tanh")]
    [(-0.881, 0.881)]
    """
    check_activation(name)
    right = 0 <= low <= high
    refuse("Goldilocks", [] if right else [f"low is {low!r} and high {high!r}; expected 0 ≤ low ≤ high"])
    return _where(name, lambda slope: low <= abs(slope) <= high, (-high, -low, low, high))


def goldilocks_share(
    name: str, *, mean: float = 0.0, std: float = 1.0, low: float = DERIVATIVE_FINE[0], high: float = DERIVATIVE_FINE[1]
) -> float:
    """The probability that low ≤ |f'(x)| ≤ high for an input from N(mean, std²), from the exact intervals.

    Args:
        name: one of `ACTIVATIONS`.
        mean, std: mean and standard deviation of the input; with a `std` of 0 every input is the mean.
        low, high: the bounds, by default `DERIVATIVE_FINE`.

    Raises:
        GradlabError: the activation is unknown, or the numbers are not those of a distribution and an interval.

    >>> [round(goldilocks_share(name), 3) for name in ("sigmoid", "tanh", "relu", "identity")]
    [0.0, 0.622, 0.5, 1.0]
    """
    region = goldilocks_region(name, low, high)
    problems = [] if math.isfinite(mean) else [f"mean is {mean!r}; expected a finite number"]
    if not 0 <= std < math.inf:
        problems.append(f"std is {std!r}; expected a finite number of at least 0")
    refuse("Goldilocks share", problems)
    if std == 0:
        return float(low <= abs(float(activation_gradient(name, mean))) <= high)
    return math.fsum(_mass((a - mean) / std, (b - mean) / std) for a, b in region)


def _mass(a: float, b: float) -> float:
    """Φ(b) − Φ(a), from the smaller tail, so that it keeps its digits far away."""
    if a > 0:
        a, b = -b, -a
    return (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2))) / 2


def _where(name: str, wanted: Callable[[float], bool], levels: tuple[float, ...]) -> tuple[Interval, ...]:
    """The intervals on which f' satisfies `wanted`, which can change only at a break or where f' crosses a level."""
    edges = [-_END, *ACTIVATIONS[name].breaks, _END]
    cuts = [-_END]
    for a, b in itertools.pairwise(edges):
        crossings = (_crossing(name, a, b, level) for level in levels)
        cuts += [*sorted({x for x in crossings if x is not None}), b]
    intervals: list[Interval] = []
    for a, b in itertools.pairwise(cuts):
        if not wanted(_slope(name, _inside(a, b))):
            continue
        if intervals and intervals[-1][1] == a:
            a = intervals.pop()[0]
        intervals.append((a, b))
    return tuple((-math.inf if a == -_END else a, math.inf if b == _END else b) for a, b in intervals)


def _crossing(name: str, a: float, b: float, level: float) -> float | None:
    """The place where the derivative, which is monotone on (a, b), crosses the level; None if it does not."""
    left, right = math.nextafter(a, b), math.nextafter(b, a)
    over = _slope(name, left) > level
    if (_slope(name, right) > level) == over:
        return None
    below, above = _ordinal(left), _ordinal(right)
    while above - below > 1:
        middle = (below + above) // 2
        if (_slope(name, _number(middle)) > level) == over:
            below = middle
        else:
            above = middle
    return _number(above)


def _inside(a: float, b: float) -> float:
    """A point well inside an interval, but not its middle, which may lie on a level if the function is symmetric."""
    if a == -_END:
        return 0.0 if b == _END else b - max(1.0, abs(b))
    return a + max(1.0, abs(a)) if b == _END else a + 0.4 * (b - a)


def _ordinal(x: float) -> int:
    """Map neighbouring floats to neighbouring integers, so that bisection takes 64 steps from any ends."""
    bits: int = struct.unpack("<q", struct.pack("<d", abs(x)))[0]
    return -bits if x < 0 else bits


def _number(ordinal: int) -> float:
    x: float = struct.unpack("<d", struct.pack("<q", abs(ordinal)))[0]
    return -x if ordinal < 0 else x


def _slope(name: str, x: float) -> float:
    return float(activation_gradient(name, x))
