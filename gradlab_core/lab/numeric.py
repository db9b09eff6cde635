"""Two lines of arithmetic that the theory of signal propagation needs everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable


def log(value: float) -> float:
    """ln of a number of at least 0; −inf of 0, NaN of NaN.

    >>> log(0.0), log(1.0)
    (-inf, 0.0)
    """
    return -math.inf if value == 0.0 else math.log(value)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a continuous function changes its sign between two places, by Ridders' method: bisection, bent by an
    exponential so that the digits double, with the root always in between.

    >>> round(root(lambda x: x**3 - 2, 0.0, 2.0) ** 3, 12)
    2.0
    """
    at_low, at_high = function(low), function(high)
    found = math.inf
    for _ in range(60):
        middle = (low + high) / 2
        at_middle = function(middle)
        bend = math.sqrt(at_middle**2 - at_low * at_high)
        if bend == 0.0:
            return middle
        last, found = found, middle + (middle - low) * math.copysign(1.0, at_low - at_high) * at_middle / bend
        at_found = function(found)
        if at_found == 0.0 or abs(found - last) <= 1e-15 * max(abs(found), 1.0):
            return found
        places = sorted([(low, at_low), (middle, at_middle), (found, at_found), (high, at_high)])
        turn = next(i for i in range(3) if (places[i][1] < 0) != (places[i + 1][1] < 0))
        (low, at_low), (high, at_high) = places[turn], places[turn + 1]
    return found
