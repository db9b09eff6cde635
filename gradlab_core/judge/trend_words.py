"""Trends in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradlab_core.judge.trends import FALLS, QUANTITIES, RISES, STEADY, UNKNOWN, Trend, Trends
from gradlab_core.text import number, odd

NO_PATH = "no gradient path"
_AS_FACTOR = 0.5  # a slope from which on a factor reads better than per cent
_CONTRASTS = {
    "weights / biases": "Weights against biases",
    "early / late": "Early against late layers",
}
_MEANING = {
    ("early / late", "grad", FALLS): "less and less of the gradient reaches the early layers",
    ("early / late", "grad", RISES): "the early layers get a growing part of the gradient",
    ("early / late", "ratio", FALLS): "the early layers learn more and more slowly than the late ones",
    ("early / late", "ratio", RISES): "the early layers catch up with the late ones",
}


def sentences(trends: Trends) -> list[str]:
    """What the trends of a run come to: a sentence for each quantity, then weights against biases and early against
    late layers."""
    return [
        *(s for quantity in QUANTITIES if (s := _of_tensors(trends, quantity))),
        *(s for name in _CONTRASTS for quantity in QUANTITIES if (s := _contrast(trends, name, quantity))),
    ]


def first_to_last(trend: Trend) -> str:
    """From where to where.

    >>> from gradlab_core.judge.trends import trend
    >>> first_to_last(trend("fc1.weight", "param", [(0, 0.14971), (9, 0.22773)]))
    '0.1497 → 0.2277'
    >>> first_to_last(trend("fc1.weight", "grad", [(0, None), (9, 0.0)]))
    'no gradient path → 0'
    """
    first, last = _value(trend, trend.first), _value(trend, trend.last)
    return NO_PATH if first == last == NO_PATH else f"{first} → {last}"


def direction(trend: Trend) -> str:
    """Which way, and how fast."""
    if trend.direction == UNKNOWN:
        return "" if _has_no_path(trend) else "too few positive numbers"
    return ", ".join(filter(None, (trend.direction, rate(trend))))


def rate(trend: Trend) -> str:
    """The slope with its standard error, for 100 steps; empty where there is none. A steep one is given as a factor,
    with its range within one standard error.

    >>> from gradlab_core.judge.trends import trend
    >>> rate(trend("w", "param", [(i, 1.001**i) for i in range(10)]))
    '+10.5 ± 0 % per 100 steps'
    >>> rate(trend("w", "param", [(i, 1.01**i * (2 if i % 2 else 1)) for i in range(1000)]))
    '× 2.7 (2.7 to 2.7) per 100 steps'
    """
    if trend.slope is None or trend.error is None:
        return ""
    if abs(trend.slope) >= _AS_FACTOR:
        low, factor, high = (_factor(trend.slope + sign * trend.error) for sign in (-1, 0, 1))
        return f"× {factor} ({low} to {high}) per 100 steps"
    percent, error = 100 * math.expm1(trend.slope), 100 * math.exp(trend.slope) * trend.error
    if max(abs(percent), error) < 0.005:
        return "0 % per 100 steps"
    digits = 0 if error >= 10 else 1 if error >= 0.05 or abs(percent) >= 10 else 2
    shown = f"{error:.{digits}f}" if error >= 0.005 else "0"
    return f"{percent:+.{digits}f} ± {shown} % per 100 steps".replace("-", "−")


def _factor(slope: float) -> str:
    factor = math.exp(min(slope, 700.0))
    return number(factor, 2 if factor < 100 else 3)


def _value(trend: Trend, value: float | None) -> str:
    if value is None and trend.quantity == "grad":
        return NO_PATH
    return odd(value) or number(value, 4)


def _of_tensors(trends: Trends, quantity: str) -> str:
    """How many tensors go which way, and which of them most."""
    own = [trend for trend in trends.tensors if trend.quantity == quantity]
    if not own:
        return ""
    parts = []
    for way in (RISES, FALLS):
        moving = sorted((t for t in own if t.direction == way), key=lambda t: -abs(t.slope or 0.0))
        if moving:
            most = moving[0]
            which = "in " if len(moving) == 1 else f"in {_count(moving, own)}, most in "
            parts.append(f"{way} {which}{most.path} {first_to_last(most)} ({rate(most)})")
    steady = [t for t in own if t.direction == STEADY]
    parts += [f"is steady in {_count(steady, own)}"] if steady else []
    cut = [t for t in own if _has_no_path(t)]
    unknown = [t for t in own if t.direction == UNKNOWN and t not in cut]
    parts += [f"there is {NO_PATH} in {_count(cut, own)}"] if cut else []
    parts += [f"has too few positive numbers for a trend in {_count(unknown, own)}"] if unknown else []
    return f"{QUANTITIES[quantity]}: {'; '.join(parts)}."


def _has_no_path(trend: Trend) -> bool:
    return trend.quantity == "grad" and trend.first is None and trend.last is None and trend.points == 0


def _count(some: Sequence[Trend], own: Sequence[Trend]) -> str:
    if len(own) == 1:
        return "the only tensor"
    return f"all {len(own)} tensors" if len(some) == len(own) else f"{len(some)} of {len(own)} tensors"


def _contrast(trends: Trends, name: str, quantity: str) -> str:
    """Both groups, and which of them gains on the other."""
    between = next((t for t in trends.contrasts if (t.path, t.quantity) == (name, quantity)), None)
    if between is None or between.direction == UNKNOWN:
        return ""
    above, _, below = name.partition(" / ")
    sides = [
        f"{side}{_members(trends, side)} {first_to_last(own)}"
        for side in (above, below)
        for own in trends.groups
        if (own.path, own.quantity) == (side, quantity)
    ]
    meaning = _MEANING.get((name, quantity, between.direction))
    way = "is steady" if between.direction == STEADY else f"{between.direction} ({rate(between)})"
    return (
        f"{_CONTRASTS[name]}, {QUANTITIES[quantity].lower()}: {', '.join(sides)}; {above} over {below} {way}"
        f"{f': {meaning}' if meaning else ''}."
    )


def _members(trends: Trends, group: str) -> str:
    """Which tensors are meant; of the weights and the biases it is all."""
    own = trends.members[group]
    if group in ("weights", "biases"):
        return ""
    return f" ({', '.join(own)})" if len(own) <= 2 else f" ({own[0]} to {own[-1]})"
