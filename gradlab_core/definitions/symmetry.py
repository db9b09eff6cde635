"""Units that are copies of one another: their definition in float64 NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from gradlab_core.definitions import reference
from gradlab_core.definitions.thresholds import COPY_TOLERANCE


def copied_share(weight: ArrayLike) -> float:
    """The share of a weight's rows (canonical layout: the first axis counts units) that are copies of another row.

    A row a is a copy if there is another row b with ‖a − b‖ ≤ 1e-4·max(‖a‖, ‖b‖). Units that start alike get the same
    gradient and stay alike, so they are one unit. Rows that are zero or not finite count neither way; 0 where fewer
    than two are left.

    >>> copied_share([[1.0, 2.0], [3.0, 1.0], [1.0, 2.00001], [0.0, 0.0], [0.0, 0.0]])
    0.6666666666666666
    """
    rows = np.asarray(weight, dtype=np.float64)
    rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    sizes = np.array([reference.norm(row) for row in rows])
    there = (sizes > 0) & np.isfinite(sizes)
    rows, sizes = rows[there], sizes[there]
    if len(rows) < 2:
        return 0.0
    copies = 0
    for i, row in enumerate(rows):
        apart = np.linalg.norm((rows - row) / np.maximum(sizes, sizes[i])[:, None], axis=1)
        copies += int(np.count_nonzero(apart <= COPY_TOLERANCE) > 1)  # itself is one
    return copies / len(rows)
