"""Natural logarithms as orders of magnitude, which charts and tables of the lab show because no depth overflows
them."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import SURVIVES
from gradlab_core.show.canvas import Point
from gradlab_core.show.spread import Spread
from gradlab_core.text import number

ZERO = "exactly 0"


def decades(log: float) -> float:
    """A natural logarithm as orders of magnitude.

    >>> decades(math.log(1000.0))
    2.9999999999999996
    """
    return log / math.log(10)


def magnitude(log: float) -> str:
    """The number with that logarithm as text, as a power of ten if it is large or small.

    >>> magnitude(0.0), magnitude(math.log(0.02)), magnitude(-12000.0), magnitude(-math.inf), magnitude(math.nan)
    ('1', '0.02', '3e−5212', '0', 'NaN')
    """
    if log == -math.inf:
        return "0"
    if not math.isfinite(log):
        return "NaN" if math.isnan(log) else "Inf"
    exponent = math.floor(decades(log) + 1e-9)
    if -3 <= exponent <= 3:
        return number(math.exp(log))
    lead = 10 ** (decades(log) - exponent)
    text = f"{lead:.2g}" if abs(exponent) < 100 else f"{lead:.0f}"
    if text == "10":
        text, exponent = "1", exponent + 1
    return f"{text}e{exponent}".replace("-", "−")


def shown(log: float, digits: int = 2) -> str:
    """The orders of magnitude of a number as text; 0 has none.

    >>> shown(math.log(100.0)), shown(-math.inf), shown(math.log(0.05)), shown(-1e-9)
    ('+2.00', 'exactly 0', '−1.30', '0.00')
    """
    if not math.isfinite(log):
        return "NaN" if math.isnan(log) else "Inf" if log > 0 else ZERO
    text = f"{decades(log):+.{digits}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−")


def verdict(log: float) -> str:
    """`vanishes`, `explodes` or `survives`, by `thresholds.SURVIVES`; `is not finite` for NaN.

    >>> verdict(-10.0), verdict(2.0), verdict(math.nan)
    ('vanishes', 'survives', 'is not finite')
    """
    if math.isnan(log):
        return "is not finite"
    return "survives" if abs(log) <= math.log(SURVIVES) else "vanishes" if log < 0 else "explodes"


def log_point(x: float, log: float, text: str, *, error: float = 0.0, below: str = ZERO) -> Point:
    """A point at the order of magnitude of ln, with a range of ± error; −inf lies below the plot, and `below` says
    why."""
    if log == -math.inf:
        return Point(x, Spread(None, None, None), text, why=below)
    value = decades(log)
    reach = decades(error) if math.isfinite(error) else 0.0
    return Point(x, Spread(value, value - reach, value + reach), text)
