"""Expectations of an activation under a Gaussian input of any variance, which mean-field theory is based on.

E[f(√q z)] is integrated by Gauss–Legendre rules on pieces that are short compared with the Gaussian and the activation,
and every break of the activation is an end of a piece. A Gauss–Hermite rule, which is one polynomial over the whole
line, is wrong in the third digit across a kink, and for a large q it has no node where tanh bends.

Arguments and results are logarithms of variances. Numbers are computed up to e^(±80); beyond, all activations are power
laws, exactly so in float64. So nothing over- or underflows at any depth.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value, check_activation

Array = NDArray[np.float64]

REACH = 80.0
"""Expectations are computed up to this |ln q|. What is left out beyond it is of relative size e^(−40)."""
_FINE = 0.25  # for smaller inputs every activation is nearly a polynomial
_TAIL = (1.0, 2.0, 3.0, 4.0, 5.0, 6.5, 8.5, 11.0, 14.0)  # in standard deviations; beyond this the weight is below 1e-43
_BLURRED = (-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class Ends(NamedTuple):
    """An activation near 0 and far from it, below and above, where it is linear or constant."""

    at_zero: float
    slopes_at_zero: tuple[float, float]
    far_slopes: tuple[float, float]
    limits: tuple[float, float]

    @property
    def vanishes(self) -> bool:
        """Whether φ(0) = 0, so that small inputs give small outputs."""
        return self.at_zero == 0.0

    @property
    def grows(self) -> bool:
        """Whether the activation is unbounded."""
        return any(self.far_slopes)


@functools.cache
def ends(activation: str) -> Ends:
    """The ends of an activation, read off its definition.

    >>> ends("elu")
    Ends(at_zero=0.0, slopes_at_zero=(1.0, 1.0), far_slopes=(0.0, 1.0), limits=(-1.0, inf))
    """
    far, near = np.array([-1e60, 1e60]), np.array([-1e-30, 1e-30])
    values = activation_value(activation, far)
    slopes = [round(float(slope), 15) + 0.0 for slope in values / far]  # of a bounded function, this leaves 1e-60
    limits = [math.copysign(math.inf, value) if slope else value for slope, value in zip(slopes, values, strict=True)]
    zero = float(activation_value(activation, 0.0))
    low, high = activation_gradient(activation, near).tolist()
    return Ends(zero, (low, high), (slopes[0], slopes[1]), (float(limits[0]) + 0.0, float(limits[1]) + 0.0))


class Moments(NamedTuple):
    """Moments of φ and φ' at u = √q z with a standard Gaussian z, as arrays of the shape of ln q.

    Attributes:
        log_value: ln E[φ²].
        log_slope: ln E[φ'²].
        value_spread: Var[φ²]/E[φ²]².
        slope_spread: Var[φ'²t²]/E[φ'²]², with another standard Gaussian t.
        together: Cov[φ², φ'²]/(E[φ²]·E[φ'²]).
    """

    log_value: Array
    log_slope: Array
    value_spread: Array
    slope_spread: Array
    together: Array


def moments(activation: str, log_q: ArrayLike) -> Moments:
    """The moments for each ln q, where −inf stands for q = 0.

    Raises:
        GradlabError: the activation is unknown.

    >>> found = moments("relu", np.log([4.0]))
    >>> np.exp(found.log_value).round(12), np.exp(found.log_slope).round(12), found.value_spread.round(9)
    (array([2.]), array([0.5]), array([5.]))
    >>> float(moments("tanh", 5000.0).log_value), float(moments("tanh", -5000.0).log_value)
    (0.0, -5000.0)
    """
    check_activation(activation)
    logs = np.asarray(log_q, dtype=np.float64)
    x = np.clip(np.atleast_1d(logs).ravel(), -REACH, REACH)
    z, weights = _rule(activation, x)
    u = np.exp(x / 2)[:, None] * z
    squares, slopes = np.square(activation_value(activation, u)), np.square(activation_gradient(activation, u))

    def mean(values: Array) -> Array:
        return np.asarray((values * weights).sum(axis=1))

    value, slope = mean(squares), mean(slopes)
    parts = (
        np.log(value),
        np.log(slope),
        mean(np.square(squares)) / value**2 - 1,
        3 * mean(np.square(slopes)) / slope**2 - 1,
        mean(squares * slopes) / (value * slope) - 1,
    )
    shaped = [part.reshape(logs.shape) for part in parts]
    end = ends(activation)
    above, below = np.maximum(logs - REACH, 0), np.minimum(logs + REACH, 0)
    if end.vanishes:
        shaped[0] = shaped[0] + below
    if end.grows:
        shaped[0] = shaped[0] + above
    else:
        shaped[1] = shaped[1] - above / 2  # the slope is 0 except near 0, where inputs become ever rarer
    return Moments(*shaped)


def _rule(activation: str, log_q: Array, *, blur: float = 0.0) -> tuple[Array, Array]:
    """Nodes in z and their weights, with a row for each ln q, for a function that bends within `blur` of the breaks."""
    root = np.exp(log_q / 2)[:, None]
    # Edges from the finest input to one standard deviation, at most a factor of 2 apart, as many for all rows.
    first = np.minimum(_FINE / root, _FINE)
    count = 1 + math.ceil(math.log2(1.0 / float(first.min())))
    inner = first ** np.linspace(1.0, 0.0, count)
    side = np.concatenate([inner, np.broadcast_to(_TAIL[1:], (len(root), len(_TAIL) - 1))], axis=1)
    breaks = np.array(ACTIVATIONS[activation].breaks)[None, :] / root
    if blur:
        breaks = np.concatenate([breaks + blur * width for width in _BLURRED], axis=1)
    edges = np.concatenate([-side, np.zeros_like(root), side, np.clip(breaks, -_TAIL[-1], _TAIL[-1])], axis=1)
    return _on_pieces(np.sort(edges, axis=1))


def _on_pieces(edges: Array) -> tuple[Array, Array]:
    """Gauss–Legendre nodes on the pieces between the sorted edges of each row, weighted by the Gaussian density."""
    middle, half = (edges[:, 1:] + edges[:, :-1]) / 2, (edges[:, 1:] - edges[:, :-1]) / 2
    z = (middle[..., None] + half[..., None] * _NODES).reshape(len(edges), -1)
    weights = (half[..., None] * _WEIGHTS).reshape(len(edges), -1) * np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)
    return z, weights


def correlated(activation: str, q: float, correlation: float, *, slopes: bool = False) -> float:
    """E[φ(u₁)φ(u₂)], or the same of φ', for two Gaussian inputs of variance q with that correlation. There is a closed
    form if φ is linear on both sides of 0 (Cho & Saul 2009, the arc-cosine kernel); else two rules are nested.

    >>> import math
    >>> round(correlated("relu", 2.0, 0.0) * math.pi, 12), round(correlated("sigmoid", 1.0, 0.0), 12)
    (1.0, 0.25)
    """
    check_activation(activation)
    c = min(max(correlation, -1.0), 1.0)
    if activation in ("relu", "leaky_relu", "identity"):
        low, high = ends(activation).slopes_at_zero
        step = high - low  # φ(u) = low·u + step·relu(u)
        angle = math.acos(c)
        if slopes:
            return low**2 + low * step + step**2 * (math.pi - angle) / (2 * math.pi)
        kernel = (math.sqrt(max(1 - c * c, 0.0)) + c * (math.pi - angle)) / (2 * math.pi)
        return q * (low**2 * c + low * step * c + step**2 * kernel)
    function = activation_gradient if slopes else activation_value
    root, sine = math.sqrt(q), math.sqrt(max(1 - c * c, 0.0))
    # A kink in the second input is blurred for the first by the width of the second.
    z, weights = (part[0] for part in _rule(activation, np.array([math.log(q)]), blur=sine))
    outer = function(activation, root * z)
    if sine == 0.0:
        return float((weights * outer * function(activation, root * c * z)).sum())
    # The second input is √q (c z₁ + s z₂), so a function that bends at u bends at z₂ = (u/√q − c z₁)/s.
    own = np.concatenate([-np.array(_TAIL), [0.0], _TAIL])
    reach = math.ceil(math.log2(max(root * sine, _FINE) / _FINE)) + 1
    steps = _FINE * 2.0 ** np.arange(reach)
    bends = np.concatenate([-steps, [0.0], steps, ACTIVATIONS[activation].breaks]) / root
    shifted = np.clip((bends[None, :] - c * z[:, None]) / sine, -_TAIL[-1], _TAIL[-1])
    inner, inner_weights = _on_pieces(np.sort(np.concatenate([np.tile(own, (len(z), 1)), shifted], axis=1), axis=1))
    second = function(activation, root * (c * z[:, None] + sine * inner))
    return float((weights * outer * (second * inner_weights).sum(axis=1)).sum())
