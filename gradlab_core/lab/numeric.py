"""Small pieces of arithmetic that the whole lab uses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-9
"""How far the logarithms of a twin may be from the definition in float64, by `log_distance`. Measured were 5e-12."""


def log(value: float) -> float:
    """ln of a number of at least 0: −inf for 0, and NaN for NaN.

    >>> log(0.0), log(1.0)
    (-inf, 0.0)
    """
    return -math.inf if value == 0.0 else math.log(value)


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """The place between two others where a continuous function changes its sign, by Ridders' method: bisection with an
    exponential correction, which doubles the digits at each step and always keeps the root in between.

    >>> round(root(lambda x: x**3 - 2, 0.0, 2.0) ** 3, 12)
    2.0
    """
    at_low, at_high = function(low), function(high)
    guess = math.inf
    for _ in range(60):
        middle = (low + high) / 2
        at_middle = function(middle)
        bend = math.sqrt(at_middle**2 - at_low * at_high)
        if bend == 0.0:
            return middle
        last, guess = guess, middle + (middle - low) * math.copysign(1.0, at_low - at_high) * at_middle / bend
        at_guess = function(guess)
        if at_guess == 0.0 or abs(guess - last) <= 1e-15 * max(abs(guess), 1.0):
            return guess
        places = sorted([(low, at_low), (middle, at_middle), (guess, at_guess), (high, at_high)])
        turn = next(i for i in range(3) if (places[i][1] < 0) != (places[i + 1][1] < 0))
        (low, at_low), (high, at_high) = places[turn], places[turn + 1]
    return guess


def log_distance(measured: ArrayLike, defined: ArrayLike) -> float:
    """The largest distance of two tables of logarithms, over 1 + |ln|. Two −inf are equal; if only the definition is
    −inf, the distance is Inf; a NaN gives NaN.

    >>> log_distance([-math.inf, 3.0], [-math.inf, 1.0]), log_distance([0.0], [-math.inf]), log_distance([], [])
    (1.0, inf, 0.0)
    """
    a, b = np.asarray(measured, dtype=np.float64), np.asarray(defined, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where(np.isneginf(b), np.inf, np.abs(a - b) / (1 + np.abs(b)))
    return float(np.max(np.where(a == b, 0.0, apart), initial=0.0))
