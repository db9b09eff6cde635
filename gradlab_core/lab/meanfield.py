"""The maps of variance and correlation in a random net of infinite width, and their limits.

In a layer z = W a + b with weights N(0, σ_w²/fan_in) and biases N(0, σ_b²) the pre-activations are Gaussian with
variance q. In the next layer

    q′ = σ_w² E[φ(√q z)²] + σ_b²        the variance map,
    χ  = σ_w² E[φ′(√q z)²]              the factor of the second moment of a gradient on its way back,

and the correlation of two inputs has a map of its own, whose slope at 1 is χ. If χ = 1, on the edge of chaos, a
gradient neither vanishes nor explodes, and two inputs neither merge nor part exponentially.

Sources: Poole et al. 2016, Exponential expressivity in deep neural networks through transient chaos; Schoenholz et al.
2017, Deep information propagation.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core import fields
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.lab import gaussian
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.lab.numeric import log, root

Array = NDArray[np.float64]

SAME = 1e-12
"""Two variances count as equal below this relative difference; rounding of the quadrature is 1e-14."""
_STEP = 0.25  # the step of the scan along ln q, which does not see fixed points that are closer together


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanField:
    """The limit of a signal in a net of infinite width and depth.

    Attributes:
        activation, sigma_w, sigma_b: the net.
        q: the variance of pre-activations after many layers; 0 if the signal dies out, Inf if it explodes.
        chi: χ at q. Each layer multiplies the second moment of a gradient by it.
        phase: `ordered` (χ < 1: gradients vanish, inputs merge), `critical`, or `chaotic` (χ > 1: gradients explode).
        variance_length: number of layers in which the distance of the variance from q falls by a factor of e; None if q
            is 0 or Inf.
        correlation: correlation of two inputs after many layers; None if q is 0 or Inf.
        correlation_length: ξ = −1/ln χ_c, the number of layers in which the distance of the correlation from its limit
            falls by e, where χ_c is the slope of the correlation map at that limit; Inf on the edge of chaos, None if q
            is 0 or Inf.
        gradient_length: −1/ln χ, the number of layers in which the second moment of a gradient falls by e; negative if
            it grows.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q: float
    chi: float
    phase: str
    variance_length: float | None
    correlation: float | None
    correlation_length: float | None
    gradient_length: float


def log_variance_map(activation: str, log_q: ArrayLike, *, sigma_w: float, sigma_b: float) -> Array:
    """ln q′ for each ln q, where −inf stands for q = 0.

    >>> float(np.exp(log_variance_map("relu", np.log(3.0), sigma_w=2**0.5, sigma_b=0.5)).round(12))
    3.25
    """
    check_numbers(activation, sigma_w, sigma_b)
    return np.asarray(np.logaddexp(2 * log(sigma_w) + gaussian.moments(activation, log_q).log_value, 2 * log(sigma_b)))


def log_chi(activation: str, log_q: ArrayLike, *, sigma_w: float) -> Array:
    """ln χ for each ln q.

    >>> float(np.exp(log_chi("relu", 0.0, sigma_w=2**0.5)).round(12))
    1.0
    """
    check_numbers(activation, sigma_w, 0.0)
    return np.asarray(2 * log(sigma_w) + gaussian.moments(activation, log_q).log_slope)


def correlation_map(activation: str, correlation: float, *, sigma_w: float, sigma_b: float, q: float) -> float:
    """The correlation of two inputs in the next layer, if both have the variance q that the layer keeps.

    >>> round(correlation_map("relu", 0.0, sigma_w=2**0.5, sigma_b=0.0, q=1.0) * math.pi, 12)
    1.0
    """
    check_numbers(activation, sigma_w, sigma_b)
    return (sigma_w**2 * gaussian.correlated(activation, q, correlation) + sigma_b**2) / q


def variance_limit(activation: str, *, sigma_w: float, sigma_b: float, start: float = 1.0) -> float:
    """The variance after many layers from `start`, without a walk through them.

    The map rises with q, so the limit is the first fixed point in the direction of the first step; 0 if there is none
    below, Inf if there is none above.

    >>> round(variance_limit("relu", sigma_w=1.0, sigma_b=1.0), 12), variance_limit("tanh", sigma_w=0.9, sigma_b=0.0)
    (2.0, 0.0)
    """
    check_numbers(activation, sigma_w, sigma_b)
    if not (isinstance(start, (int, float)) and start > 0 and math.isfinite(start)):
        raise GradlabError(f"start is {start!r}; expected a finite variance above 0")

    def growth(log_q: Any) -> Any:
        return log_variance_map(activation, log_q, sigma_w=sigma_w, sigma_b=sigma_b) - log_q

    first = math.log(start)
    ahead = float(growth(first))
    if abs(ahead) <= SAME:
        return start
    # Far away the map is a power law, so the direction does not change beyond these ends.
    reach = gaussian.REACH
    end = max(reach, first + 1) if ahead > 0 else min(-reach, first - 1, 2 * log(sigma_b) - 1 if sigma_b else 0.0)
    places = np.linspace(first, end, 2 + math.ceil(abs(end - first) / _STEP))
    turned = np.flatnonzero(growth(places) * math.copysign(1.0, ahead) < -SAME)
    if not len(turned):
        return math.inf if ahead > 0 else 0.0
    return math.exp(root(lambda x: float(growth(x)), places[turned[0] - 1], places[turned[0]]))


def mean_field(activation: str, *, sigma_w: float, sigma_b: float = 0.0, start: float = 1.0) -> MeanField:
    """The limit of a signal whose pre-activations in the first layer have the variance `start`, for that σ_w and σ_b.

    Args:
        activation: one of `gradlab_core.lab.activations.ACTIVATIONS`.
        sigma_w: standard deviation of the weights times √fan_in.
        sigma_b: standard deviation of the biases.
        start: decides about the limit if there are several fixed points, as for GELU.

    Raises:
        GradlabError: the activation is unknown, or a number is not finite and at least 0.

    >>> found = mean_field("tanh", sigma_w=1.5, sigma_b=0.0)
    >>> found.phase, round(found.q, 4), round(found.correlation, 12), round(found.correlation_length, 2)
    ('chaotic', 0.7934, 0.0, 17.05)
    >>> found = mean_field("relu", sigma_w=2**0.5)
    >>> found.phase, found.q, found.correlation_length
    ('critical', 1.0, inf)
    """
    q = variance_limit(activation, sigma_w=sigma_w, sigma_b=sigma_b, start=start)
    chi = math.exp(float(log_chi(activation, log(q), sigma_w=sigma_w)))
    critical = abs(chi - 1) <= 1e3 * SAME
    there = 0 < q < math.inf
    correlation = slope = length = None
    if there:
        correlation, slope = _correlation_limit(activation, sigma_w, sigma_b, q, 1.0 if critical else chi)
        length = _length(variance_slope(activation, math.log(q), sigma_w, sigma_b))
    return MeanField(
        activation=activation,
        sigma_w=float(sigma_w),
        sigma_b=float(sigma_b),
        q=q,
        chi=chi,
        phase="critical" if critical else "ordered" if chi < 1 else "chaotic",
        variance_length=length,
        correlation=correlation,
        correlation_length=None if slope is None else _length(slope),
        gradient_length=_length(1.0 if critical else chi),
    )


def variance_slope(activation: str, log_q: float, sigma_w: float, sigma_b: float) -> float:
    """dq′/dq at a fixed point, where it equals d ln q′/d ln q."""
    width = 1e-4
    ends = log_variance_map(activation, [log_q - width, log_q + width], sigma_w=sigma_w, sigma_b=sigma_b)
    return float(ends[1] - ends[0]) / (2 * width)


def _correlation_limit(activation: str, sigma_w: float, sigma_b: float, q: float, chi: float) -> tuple[float, float]:
    """The stable fixed point of the correlation map, and the slope there. The map is convex for positive correlations
    and has the fixed point 1; if its slope there is above 1, there is another fixed point below."""
    if chi <= 1:
        return 1.0, chi

    def drift(c: float) -> float:
        return correlation_map(activation, c, sigma_w=sigma_w, sigma_b=sigma_b, q=q) - c

    # This is so near to 1 that the map has not crossed yet, and far enough for its curvature to be visible.
    below = 1 - 1e-6
    c = 1.0 if drift(below) >= 0 else 0.0 if drift(0.0) <= SAME else root(drift, 0.0, below)
    return c, chi if c == 1.0 else sigma_w**2 * gaussian.correlated(activation, q, c, slopes=True)


def _length(factor: float) -> float:
    """The number of layers in which a quantity falls by e if each multiplies it by `factor`; negative if it grows."""
    if abs(factor - 1) <= 1e3 * SAME:
        return math.inf
    return -1 / math.log(factor) if factor > 0 else 0.0


def check_numbers(activation: str, sigma_w: float, sigma_b: float) -> None:
    """Refuse an unknown activation, and a σ that is not a finite number of at least 0."""
    problems: list[str] = []
    fields.one_of(problems, "activation", activation, ACTIVATIONS)
    fields.real(problems, "sigma_w", sigma_w, 0.0)
    fields.real(problems, "sigma_b", sigma_b, 0.0)
    refuse("mean field", problems)
