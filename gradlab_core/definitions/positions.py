"""What both twins' transformer shares: where a step stands in its sequence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def positions(length: int, width: int) -> NDArray[np.float64]:
    """Fixed positions (T, width): columns 2i and 2i + 1 hold sin and cos of t/10000^(2i/width), t = 0 … T − 1.

    Source: Vaswani et al. 2017, section 3.5.

    >>> positions(2, 4).round(4).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.01, 1.0]]
    """
    column = np.arange(width)
    angles = np.arange(length)[:, np.newaxis] / 10_000 ** ((column - column % 2) / width)
    return np.where(column % 2, np.cos(angles), np.sin(angles))
