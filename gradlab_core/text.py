"""Numbers as people read them; a number, NaN, Inf and *not measured* never look alike."""

from __future__ import annotations

import math

NOT_MEASURED = "not measured"


def odd(value: float | None) -> str | None:
    """The word for a value that is not a finite number; None for a finite number.

    >>> odd(None), odd(float("nan")), odd(-float("inf")), odd(0.0)
    ('not measured', 'NaN', '−Inf', None)
    """
    if value is None:
        return NOT_MEASURED
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    return None


def number(value: float | None, digits: int = 3, missing: str = NOT_MEASURED) -> str:
    """A number as text, everywhere: three significant digits, and no decimals from a thousand up.

    >>> number(0.00097741), number(13550208), number(12.345), number(0.0), number(3e-7), number(None)
    ('0.000977', '13,550,208', '12.3', '0', '3e-07', 'not measured')
    """
    if value is None or not math.isfinite(value):
        return missing if value is None else odd(value) or missing
    if 1e3 <= abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """A share as a percentage.

    >>> percent(0.3753), percent(None)
    ('37.5 %', 'not measured')
    """
    return odd(value) or f"{100 * (value or 0.0):.1f} %"


def with_std(figure: str, value: float | None, std: float | None) -> str:
    """Mean ± standard deviation; the mean alone if there is one seed or the number is not finite.

    >>> with_std("ratio", 1.0077, 0.743), with_std("test_accuracy", 0.4, 0.198), with_std("ratio", 1.0, None)
    ('1.01 ± 0.74', '40.0 ± 19.8 %', '1')
    """
    show = percent if figure == "test_accuracy" else number
    if odd(value) is not None or std is None or not math.isfinite(std) or std == 0:
        return show(value)
    if figure == "test_accuracy" and value is not None:
        return f"{100 * value:.1f} ± {100 * std:.1f} %"
    return f"{number(value)} ± {number(std, digits=2)}"


def setting(value: object, missing: str = "None") -> str:
    """A hyperparameter as text.

    >>> setting(0.001), setting(64), setting(True), setting("adam"), setting(float("nan")), setting(None)
    ('0.001', '64', 'True', 'adam', 'NaN', 'None')
    """
    if value is None:
        return missing
    return odd(value) or f"{value:.4g}" if isinstance(value, float) else str(value)


def listed(items: list[str]) -> str:
    """A list in a sentence.

    >>> listed(["plain", "postact", "preact"])
    'plain, postact and preact'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nothing"
