"""The sentences of the init doctor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlab_core.lab.doctor import LayerStart

_RIGHT = 1.3
"""If its gain is within this factor of the one that keeps the variance, a layer is not to blame for its input."""
_LEAST_NORMALISED = 1e-4
"""A variance well above the 1e-5 that normalisations add to it before they divide by its root."""


def advise(
    row: LayerStart, *, nonfinite: int, alike: bool, direct: bool, fine: tuple[float, float], bad: tuple[float, float]
) -> tuple[str, str]:
    """The level of a layer and the advice for it, from its numbers. `direct` says that it reads what ran just before
    it."""
    if nonfinite:
        return (
            "bad",
            f"{nonfinite} elements of its output are NaN or Inf: look at the layers before it, and its weights",
        )
    if alike:
        return "bad", (
            "all its weights are the same, so its units are copies of one another and stay so: draw them, "
            f"{_draw(row.wanted_gain)}"
        )
    if row.ratio == 0.0:
        return "bad", f"its output does not vary: its weights or its input are 0; {_draw(row.wanted_gain)}"
    if row.normalised and row.variance >= _LEAST_NORMALISED:
        return "good", "a normalisation follows, which takes its scale out"
    if fine[0] <= row.ratio <= fine[1]:
        return "good", "varies as it should"
    level = "watch" if bad[0] <= row.ratio <= bad[1] else "bad"
    fact = f"its output varies {row.ratio:.3g} times as much as it should"
    factor = f"multiply its weights by {math.sqrt(1 / row.ratio):.3g}"
    if row.gain is None:
        return level, f"{fact}: {factor}"
    if not direct:
        return level, f"{fact}; what it reads is not the output that ran last, but pooled, added or the like: {factor}"
    keeps = f"{row.wanted_gain:.3g} that {_keeps(row.activation)}"
    off = row.wanted_gain / row.gain
    if 1 / _RIGHT <= off <= _RIGHT:
        return level, f"{fact}, for what comes before it: its own gain, {row.gain:.3g}, is about the {keeps}"
    return level, (
        f"{fact}: its gain is {row.gain:.3g} and not the {keeps}: multiply its weights by {off:.3g}, or draw them: "
        f"{_draw(row.wanted_gain)}"
    )


def _keeps(activation: str | None) -> str:
    if activation is None or activation in ("input", "norm", "identity"):
        return "keeps the variance of its input"
    return f"keeps the variance after {activation}"


def _draw(gain: float) -> str:
    return f"kaiming_normal with gain={gain:.3g}"
