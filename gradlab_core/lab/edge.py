"""The edge of chaos: the σ_w at which inputs to a deep net neither merge nor part exponentially.

Sources: Schoenholz et al. 2017, and Hayou, Doucet & Rousseau 2019 for edges that are not stable.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.lab import gaussian
from gradlab_core.lab.meanfield import SAME, check_numbers, log_variance_map, variance_slope
from gradlab_core.lab.numeric import log, root

_FARTHEST = 50.0
"""An edge of chaos is searched for up to this ln q. Beyond, rounding hides what is left for the weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeOfChaos:
    """The σ_w at which χ = 1.

    Attributes:
        activation, sigma_b: activation of the net, and standard deviation of its biases.
        sigma_w: the critical σ_w.
        q: the variance of pre-activations that is kept; Inf if χ = 1 for any variance and biases add up for ever (ReLU
            with biases), None if every variance is kept (ReLU without biases).
        stable: whether nearby variances converge to q. The edges of GELU and SiLU are not stable: q must be the
            variance that the net starts with.
    """

    activation: str
    sigma_b: float
    sigma_w: float
    q: float | None
    stable: bool


def edge_of_chaos(activation: str, sigma_b: float = 0.0) -> EdgeOfChaos:
    """The critical σ_w for given biases, from q − E[φ²]/E[φ′²] = σ_b² and σ_w² = 1/E[φ′²].

    Raises:
        GradlabError: no σ_w is critical, as for softplus, the activation is unknown, or σ_b is out of range.

    >>> edge_of_chaos("tanh").sigma_w, round(edge_of_chaos("relu").sigma_w ** 2, 12)
    (1.0, 2.0)
    >>> found = edge_of_chaos("tanh", sigma_b=0.3)
    >>> round(found.sigma_w, 4), round(found.q, 4), found.stable
    (1.3956, 0.7635, True)
    """
    check_numbers(activation, 1.0, sigma_b)
    end = gaussian.ends(activation)
    near = (end.slopes_at_zero[0] ** 2 + end.slopes_at_zero[1] ** 2) / 2
    if end.vanishes and end.slopes_at_zero == end.far_slopes:  # φ(cx) = cφ(x), so χ is the same for any variance
        return EdgeOfChaos(
            activation=activation,
            sigma_b=float(sigma_b),
            sigma_w=1 / math.sqrt(near),
            q=math.inf if sigma_b else None,
            stable=not sigma_b,
        )

    def surplus(log_q: Any) -> Any:
        """By how much q exceeds the shares of biases and weights, in units of q because that spans decades."""
        moments = gaussian.moments(activation, log_q)
        return 1 - np.exp(moments.log_value - moments.log_slope - log_q) - np.exp(2 * log(sigma_b) - log_q)

    if end.vanishes and not sigma_b:  # at q = 0 only the slopes at 0 count
        sigma_w, tiny = 1 / math.sqrt(near), math.log(1e-4)
        drift = float(log_variance_map(activation, tiny, sigma_w=sigma_w, sigma_b=0.0)) - tiny
        return EdgeOfChaos(activation=activation, sigma_b=0.0, sigma_w=sigma_w, q=0.0, stable=drift <= SAME)
    # The surplus rises from below 0 and changes its sign only once, since what is left for weights grows with q.
    low, high = (min(-30.0, 2 * log(sigma_b) - 1) if sigma_b else -30.0), _FARTHEST
    if not surplus(low) < 0 < surplus(high):
        raise GradlabError(
            f"{activation} with σ_b = {sigma_b:g}: χ = 1 at no variance that a net keeps; expected another activation"
        )
    log_q = root(lambda x: float(surplus(x)), low, high)
    sigma_w = math.exp(-float(gaussian.moments(activation, log_q).log_slope) / 2)
    return EdgeOfChaos(
        activation=activation,
        sigma_b=float(sigma_b),
        sigma_w=sigma_w,
        q=math.exp(log_q),
        stable=variance_slope(activation, log_q, sigma_w, sigma_b) <= 1 + 1e-9,
    )
