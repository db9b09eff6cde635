"""What a step promised: inner products of the update with the gradient and with the parameters, in float64 NumPy.

⟨g, Δθ⟩ is the change of the loss to first order, of the gradient as the optimizer saw it and the update as it was
applied; −⟨g, Δθ⟩ is the decrease that the step promised. ⟨θ, Δθ⟩ says whether the step makes the parameters longer or
shorter. The decrease that came over the one that was promised is the ratio ρ of trust-region methods (Conn, Gould &
Toint 2000, section 6.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def dot(arrays: Iterable[ArrayLike | None], others: Iterable[ArrayLike | None]) -> float | None:
    """Re⟨a, b⟩ = Re Σ ā·b of several tensors taken as one vector each; the same for real numbers without the words.

    None (a missing gradient) contributes nothing; None where no pair is left. NaN and Inf go the way of IEEE: Inf·0 and
    Inf − Inf are NaN. Products are summed by their exponents, so that no product over- or underflows on the way.

    >>> dot([[1e300, 1e-300], None], [[1e-300, 1e300], [1.0]]), dot([[1 + 2j]], [[3 + 1j]]), dot([None], [[1.0]])
    (2.0, 5.0, None)
    """
    pairs = [(_real(a), _real(b)) for a, b in zip(arrays, others, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    (a, powers_of_a), (b, powers_of_b) = (np.frexp(np.concatenate(side)) for side in zip(*pairs, strict=True))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        products, powers = a * b, powers_of_a + powers_of_b
        top = int(np.max(powers, initial=-5000, where=np.isfinite(products) & (products != 0)))
        return float(np.ldexp(np.sum(np.ldexp(products, np.minimum(powers - top, 0))), top))


def total(values: Sequence[float]) -> float:
    """Σ of numbers, also where a part of the sum would overflow.

    >>> total([1e308, 1e308, -1e308, -1e308]), total([])
    (0.0, 0.0)
    """
    plain = float(sum(values))
    return plain if math.isfinite(plain) else dot([values], [np.ones(len(values))]) or 0.0


def _real(x: ArrayLike) -> NDArray[np.float64]:
    """All numbers in a line; a complex one is two."""
    x = np.asarray(x)
    if np.iscomplexobj(x):
        x = np.stack([x.real, x.imag], axis=-1)
    return x.astype(np.float64).ravel()
