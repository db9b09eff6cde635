"""How much two results may differ: K times the rounding expected of a tensor, with every constant here and its reason.

The oracle q₆₄ is the reference in float64. In float64 the candidate must equal it, up to what rounding can do. In
float32 each side's error is held against σ, the spread of float64 runs that carry random errors of the arithmetic's
unit roundoff in every operation (`gradlab_core.parity.rounding`): conditioning, kinks and growth over steps are in it.
"""

from __future__ import annotations

import math

import numpy as np

from gradlab_core.definitions import reference

LOGIC = 1e-9
"""Relative difference in float64 above which two programs compute different things. Rounding in float64 is 1e-16 an
operation; a definition that differs shows from 1e-7 up (an ε of 1e-6 instead of 1e-5 in a normalisation)."""

ALARMS = 1e-4
"""The promise: of healthy pairs, fewer than this share raise an alarm."""

DRAWS = (8, 24, 64)
"""Perturbed runs: so many at first, and more before anybody is accused. A unit that rounding switches in one run of
three is missed by eight runs in 4 % of cases, and by 64 never."""

SLACK = 64.0
"""How much worse float64 may round than σ, scaled down from float32, says: in float32 many kernels accumulate in
float64 inside, and the float64 functions of two libraries differ by units in the last place, not by half of one."""

NO_DIGIT = 0.5
"""Relative σ above which float32 has no correct digit of a tensor: the report counts such tensors."""

SATURATES = 0.05
"""Relative σ above which it may be too small to scale down: a spread cannot grow past the tensor itself, nor past the
next kink, while what float64 does to the tensor goes on growing in proportion."""

ROUND64 = 2.0**-53


def distance(value: np.ndarray, truth: np.ndarray) -> float:
    """‖value − truth‖ over whole tensors; Inf for another shape, or where the two do not have the same NaN and Inf in
    the same places.

    >>> distance(np.array([3.0, np.inf]), np.array([0.0, np.inf])), distance(np.array([np.nan]), np.array([1.0]))
    (3.0, inf)
    """
    if value.shape != truth.shape:
        return math.inf
    a, b = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if finite.all():
        return reference.norm(a - b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return math.inf
    return reference.norm(a[finite] - b[finite])


def size(truth: np.ndarray) -> float:
    """‖truth‖ over what is finite of it."""
    truth = np.asarray(truth, np.float64)
    return reference.norm(truth[np.isfinite(truth)])


def relative(error: float, scale: float) -> float:
    """error/scale; 0 for two zeros, Inf for an error beside a scale of 0.

    >>> relative(0.0, 0.0), relative(1e-9, 0.0)
    (0.0, inf)
    """
    return 0.0 if error == 0.0 else error / scale if scale else math.inf


def factor(tests: int, draws: int = DRAWS[-1]) -> float:
    """K: so many σ an error may be, if σ is estimated from `draws` runs and so many tensors are tested.

    An error of one degree of freedom over such an estimate follows Student's t; that errors of large tensors scatter
    less is no matter, since what rounds early shifts all of its elements together.

    >>> round(factor(2_000), 1), round(factor(200_000), 1)
    (6.2, 7.3)
    """
    from scipy import special  # here, since importing it takes longer than the rest of a twin's own modules

    return float(-special.stdtrit(draws, ALARMS / max(tests, 1) / 2))


def logic_tolerance(expected: float, unit: float, times: float) -> float:
    """What may differ in float64, relative, where rounding with that unit roundoff is expected to be `expected`.

    A gradient that is zero but for rounding (a bias before a normalisation) has an expected error far above itself, and
    no small relative bound can hold for it in float64 either. The candidate has no say in it.

    >>> logic_tolerance(1e-6, 2.0**-24, 6.0), logic_tolerance(0.2, 2.0**-24, 6.0) > 1e-8
    (1e-09, True)
    """
    return max(LOGIC, SLACK * times * expected * ROUND64 / unit)
