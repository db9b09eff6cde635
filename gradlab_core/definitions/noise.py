"""The disturbance of the input that both twins are shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-3


def default_noise(shape: tuple[int, ...], *, seed: int, epsilon: float = EPSILON) -> NDArray[np.float32]:
    """ε·N(0,1) of a canonical shape, float32.

    >>> default_noise((2, 3), seed=0).shape
    (2, 3)
    """
    return (epsilon * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
