"""How far results of one float32 pass may be from the definition, where no training run is judged."""

from __future__ import annotations

import math

import numpy as np

from gradlab_core.parity.tolerance import distance, relative, size


def error(value: np.ndarray, truth: np.ndarray) -> float:
    """‖value − truth‖/‖truth‖ of whole tensors."""
    return relative(distance(value, truth), size(truth))


def floor(longest_sum: int) -> float:
    """Four units in the last place of float32, times √(length of the longest sum)."""
    return 4.0 * float(np.finfo(np.float32).eps) * math.sqrt(longest_sum)
