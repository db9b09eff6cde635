"""How much two results may differ: derived from what was measured, with every constant here and its reason.

The oracle q₆₄ is the reference twin in float64. In float64 the candidate must equal it, up to what rounding can do; in
float32 each twin's own rounding error e = ‖q − q₆₄‖/‖q₆₄‖ is measured, and neither may be much worse than the other.
"""

from __future__ import annotations

import math

import numpy as np

from gradlab_core import reference

LOGIC = 1e-9
"""Relative difference in float64 above which two programs compute different things. Rounding in float64 is 1e-16 an
operation; a definition that differs shows from 1e-7 up (an ε of 1e-6 instead of 1e-5 in a normalisation)."""

FACTOR = 8.0
"""How many times worse one twin's rounding may be than the other's. Two correct programs sum in different orders, so
their errors are two draws from one distribution: a few times apart is chance, eight times is not."""

FLOOR_ULPS = 4.0
"""Errors below this many units in the last place, times √(length of the longest sum), pass whatever the other twin's
error is: a twin that happens to round to the exact result must not make an ordinary error look large."""

CONDITION = 64.0
"""Slack of the conditioning that is read off float32 errors: some float32 kernels accumulate in float64 inside, so the
error they show is too small by that much."""

NO_DIGIT = 0.5
"""A reference whose own float32 error is above this has no correct digit left in that tensor (the slope of a saturated
tanh, 1 − t², is all cancellation). Float64 has lost as many digits there, and only its magnitude is asked for."""

KINK_REACH = 1e-4
"""How far from zero, relative to its tensor, a rounding error can push a unit; farther is no rounding."""

EPS = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}


def error(value: np.ndarray, truth: np.ndarray, noise: np.ndarray | None = None) -> float:
    """‖value − truth‖/‖truth‖ of whole tensors; 0 for two zeros, and Inf for another shape, or where the two do not
    have the same NaN and Inf in the same places. Where the truth is exactly 0 the scale is that of `noise`, what the
    reference makes of it in float32; without any, a number beside 0 is Inf.

    >>> error(np.array([1.0, 2.0]), np.array([1.0, 2.0])), error(np.array([1e-9]), np.array([0.0]))
    (0.0, inf)
    >>> error(np.array([1e-20]), np.array([0.0]), noise=np.array([1e-10])) < 1e-9
    True
    """
    if value.shape != truth.shape:
        return math.inf
    a, b = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    odd = ~(np.isfinite(a) & np.isfinite(b))
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return math.inf
    a, b = a[~odd], b[~odd]
    difference, scale = reference.norm(a - b), reference.norm(b)
    if scale == 0.0 and noise is not None:
        scale = reference.norm(noise)
    return 0.0 if difference == 0.0 else difference / scale if scale else math.inf


def floor(longest_sum: int, dtype: str = "float32") -> float:
    """The error that needs no comparison, for a program whose longest sum has that many terms.

    >>> floor(10_000) < 1e-4
    True
    """
    return FLOOR_ULPS * EPS[dtype] * math.sqrt(longest_sum)


def logic_tolerance(reference_error: float) -> float:
    """What may differ in float64, given how far the reference's own float32 result is from its float64 one.

    That distance is the conditioning of the tensor, times float32's ε: for a gradient that is zero but for rounding (a
    bias before a normalisation) it is of order 1 or more, and no small relative bound can hold in float64 either. The
    candidate has no say in it.

    >>> logic_tolerance(1e-6), logic_tolerance(0.2) > 1e-8, logic_tolerance(1.0)
    (1e-09, True, 0.5)
    """
    conditioned = CONDITION * reference_error * EPS["float64"] / EPS["float32"]
    return max(LOGIC, conditioned, NO_DIGIT if reference_error > NO_DIGIT else 0.0)


def rounding_tolerance(other_error: float, typical_error: float, logic_error: float, least: float) -> float:
    """How large one twin's rounding error may be.

    Args:
        other_error: the other twin's on this tensor.
        typical_error: the median over tensors of this kind at this step; a single number can be exact by luck.
        logic_error: the difference in float64, which scaled to float32 is what plain rounding makes of this tensor; the
            other twin may do better because its kernel accumulates in float64 inside, by `CONDITION` at most.
        least: what needs no comparison.
    """
    plain = min(logic_error * EPS["float32"] / EPS["float64"], CONDITION * other_error)
    return max(FACTOR * max(other_error, typical_error), plain, least)


def switched_units(value: np.ndarray, truth: np.ndarray) -> float:
    """The share of elements that are exactly 0 on one side only, and nearly so on the other: units that a rounding
    error pushed over the kink of their ReLU.

    >>> switched_units(np.array([0.0, 1e-9, 1.0, 2.0]), np.array([0.0, 0.0, 1.0, 2.0]))
    0.25
    >>> switched_units(np.array([0.0, 0.0, 1.0, 2.0]), np.array([0.0, 3.0, 1.0, 2.0]))
    0.0
    """
    if value.shape != truth.shape or not truth.size:
        return 0.0
    near = np.abs(value - truth) <= KINK_REACH * math.sqrt(float(np.mean(np.square(truth))))
    return float(np.mean(((value == 0) != (truth == 0)) & near))


def kink_floor(switched: float) -> float:
    """The gradient error that so large a share of switched units explains.

    A switched unit adds or drops its whole contribution to a gradient, however small the rounding error that switched
    it: of K contributions of similar size, k move the gradient by about √(k/K).

    >>> kink_floor(0.0)
    0.0
    """
    return FACTOR * math.sqrt(switched)
