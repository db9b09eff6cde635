"""A derivative from differences: central differences at several steps, extrapolated to a step of 0, and what rounding
and kinks leave unknown of it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENTS = (6, 10, 14, 18, 22)
"""Steps of 2^-n of the size of what is moved. The large ones serve where products are made in float32, the small ones
where a kink is near: a step that does not cross it does not see it."""
TINY = 30
"""The step at which a difference is nothing but rounding."""
STEPS = tuple(2.0**-n for n in (*EXPONENTS, TINY))
_RATIO = 2.0 ** (EXPONENTS[1] - EXPONENTS[0])
_SINGLE = 1e-11
"""Rounding above this share of a tensor is not float64's, which leaves 1e-16 and, where terms cancel, some more."""
_DOUBLE = 2.0**-51
_ASTRAY, _LEAST = 0.1, 1e-5
"""In float64 the quotient at the tiny step is right to 1e-6 of the tensor's size; one that is off by this share of
itself is rounding. A kink within the finest step moves it by less, unless it is all there is."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Derivatives of several numbers ⟨c, f⟩ in one direction.

    Attributes:
        value: the derivative.
        error: what the extrapolation and rounding leave unknown.
        kink: by how much the derivative on one side may differ from `value`.
        single: whether the rounding is that of float32, or coarser.
    """

    value: Array
    error: Array
    kink: Array
    single: NDArray[np.bool_]


def difference(central: Array, bend: Array, size: Array) -> Difference:
    """The derivatives from what was measured at each of `STEPS`, of so many numbers.

    Args:
        central: (steps, numbers): ⟨c, f(h) − f(−h)⟩.
        bend: (steps, numbers): Σ|c·(f(h) + f(−h) − 2f(0))|, which is of h² where f is smooth, of h at a kink, and does
            not depend on h where it is rounding.
        size: (numbers,): Σ|c·f(0)|.

    >>> h = np.array(STEPS)[:, None]
    >>> smooth = difference(np.exp(h) - np.exp(-h), np.abs(np.exp(h) + np.exp(-h) - 2), np.ones(1))
    >>> round(float(smooth.value[0]), 12), bool(smooth.kink[0] < 1e-6)
    (1.0, True)
    >>> relu = difference(h, h, np.ones(1))  # at its kink: slopes of 0 and 1
    >>> relu.value.tolist(), relu.kink.tolist()
    ([0.5], [0.5])
    """
    steps = np.array(STEPS)[:, np.newaxis]
    rounding, single = _rounding(central, bend, size)
    value, error = richardson(central[:-1] / (2 * steps[:-1]), rounding / steps[:-1])
    finest = central[-2] / (2 * steps[-2])
    # A kink within all steps but the finest misleads every step but that one, and all of them alike.
    error = error + np.where(single, 0.0, np.abs(value - finest))
    return Difference(value, error, bend[-2] / (2 * steps[-2]), single)


def richardson(quotients: Array, noise: Array) -> tuple[Array, Array]:
    """The limit of central differences at steps that fall by the same factor, and its error.

    Each column of the table takes out one more even power of the step. The entry with the smallest error is taken: the
    larger of what it changed on its two neighbours, and the noise of its finest step (Ridders 1982).

    Args:
        quotients: (steps, numbers).
        noise: (steps, numbers): by how much rounding may have moved each.
    """
    best = quotients[-1]
    error = np.abs(quotients[-1] - quotients[-2]) + noise[-1]
    column = quotients
    for order in range(1, len(quotients)):
        factor = _RATIO ** (2 * order)
        finer = (factor * column[1:] - column[:-1]) / (factor - 1)
        change = np.maximum(np.abs(finer - column[1:]), np.abs(finer - column[:-1])) + noise[order:]
        for row, estimate in zip(finer, change, strict=True):
            best = np.where(estimate < error, row, best)
            error = np.minimum(estimate, error)
        column = finer
    return best, error


def _rounding(central: Array, bend: Array, size: Array) -> tuple[Array, NDArray[np.bool_]]:
    """How far rounding moves ⟨c, f⟩, and whether it is coarser than float64's.

    It is what of the bend does not shrink with the step: a kink shrinks in proportion, a curve faster. Where rounding
    is the same on both sides there is no bend; then the quotient at the tiny step has nothing to do with the others.
    """
    coarse, fine, tiny = bend[-3], bend[-2], bend[-1]
    stays = np.maximum(np.where(fine > coarse / 4, fine, 0.0), np.where(tiny > fine / 64, tiny, 0.0))
    before, last, beyond = (central[n] / (2 * STEPS[n]) for n in (-3, -2, -1))
    apart = np.abs(beyond - last)
    astray = (apart > _ASTRAY * np.maximum(np.abs(beyond), np.abs(last))) & (apart > _LEAST * size)
    stays = np.maximum(stays, np.where(astray, np.abs(last - before) * STEPS[-2], 0.0))
    return np.maximum(stays, _DOUBLE * size), astray | (stays > _SINGLE * size)


def along(rng: np.random.Generator, value: Array) -> Array:
    """A random direction, as large as the tensor; of a tensor of zeros, as large as 1."""
    size = float(np.sqrt(np.mean(np.square(value)))) if value.size else 0.0
    return np.asarray(rng.standard_normal(value.shape) * (size if 0 < size < np.inf else 1.0))
