"""The state of a gradient, decided from the norm that a twin measured."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import TINY_GRADIENT_RMS
from gradlab_core.records import GradientState

STRUCTURAL = frozenset({GradientState.DISCONNECTED, GradientState.FROZEN, GradientState.UNREGISTERED})
"""States that the program decides and no number can change."""


def gradient_state(norm: float | None, size: int, *, lost: bool = False) -> GradientState:
    """The state of a gradient of `size` elements with this norm. A norm of None means that there is no gradient path;
    `lost` means that the update was too small to move any element of its parameter. An empty parameter is never
    `disconnected`.

    >>> [gradient_state(n, 4).value for n in (None, 0.0, 1e-9, 1.0, math.nan)]
    ['disconnected', 'zero', 'tiny', 'ok', 'nonfinite']
    >>> gradient_state(1e-9, 4, lost=True).value, gradient_state(None, 0).value
    ('lost', 'ok')
    """
    if size == 0:
        return GradientState.OK
    if norm is None:
        return GradientState.DISCONNECTED
    if not math.isfinite(norm):
        return GradientState.NONFINITE
    if norm == 0.0:
        return GradientState.ZERO
    if lost:
        return GradientState.LOST
    return GradientState.TINY if norm / math.sqrt(size) < TINY_GRADIENT_RMS else GradientState.OK
