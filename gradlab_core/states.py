"""The state of a gradient, decided from its norm; the twins measure, this decides."""

from __future__ import annotations

import math

from gradlab_core.records import GradientState
from gradlab_core.thresholds import TINY_GRADIENT_RMS


def gradient_state(norm: float | None, size: int) -> GradientState:
    """The state of a gradient of `size` elements with this norm; None says that there is no gradient path.

    >>> [gradient_state(n, 4).value for n in (None, 0.0, 1e-9, 1.0, math.nan)]
    ['disconnected', 'zero', 'tiny', 'ok', 'nonfinite']
    """
    if norm is None:
        return GradientState.DISCONNECTED
    if not math.isfinite(norm):
        return GradientState.NONFINITE
    if norm == 0.0:
        return GradientState.ZERO
    return GradientState.TINY if norm / math.sqrt(size) < TINY_GRADIENT_RMS else GradientState.OK
