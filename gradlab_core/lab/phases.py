"""The map of depth × σ_w by theory: where a gradient vanishes, where it explodes, and the narrow band between."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.lab import gaussian
from gradlab_core.lab.meanfield import SAME, check_numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseMap:
    """Nets of infinite width, of all depths and several σ_w.

    Attributes:
        activation, sigma_b: activation of the nets, and standard deviation of their biases.
        sigmas: the σ_w of the columns.
        log_signal: row l − 1, for l = 1 … depth: ln of the second moment of the pre-activations of layer l, for an
            input of second moment 1.
        log_gradient: ln of the second moment of the gradient in layer 1 over that in layer l, the last layer of a net
            of that depth; −inf if nothing reaches layer 1.
    """

    activation: str
    sigma_b: float
    sigmas: tuple[float, ...]
    log_signal: tuple[tuple[float, ...], ...]
    log_gradient: tuple[tuple[float, ...], ...]


def phase_map(activation: str, sigmas: Sequence[float], *, depth: int, sigma_b: float = 0.0) -> PhaseMap:
    """Follow a signal through the layers of nets with these σ_w, all at once.

    Args:
        activation: one of `gradlab_core.lab.activations.ACTIVATIONS`.
        sigmas: above 0.
        depth: depth of the deepest net.
        sigma_b: standard deviation of the biases.

    Raises:
        GradlabError: the activation is unknown or a number is out of range; one message lists all problems.

    >>> found = phase_map("relu", [1.0, 2**0.5, 2.0], depth=11)
    >>> [round(x / math.log(2), 9) + 0.0 for x in found.log_gradient[-1]]
    [-10.0, 0.0, 10.0]
    """
    check_numbers(activation, 1.0, sigma_b)
    problems: list[str] = []
    fields.whole_number(problems, "depth", depth, 1)
    for sigma in sigmas:
        if not 0 < sigma < math.inf:
            problems.append(f"sigma_w is {sigma!r}; expected a positive finite number")
    refuse("phase map", problems)
    weights, biases = 2 * np.log(np.asarray(sigmas, dtype=np.float64)), 2 * math.log(sigma_b) if sigma_b else -math.inf
    log_q, gradient = np.logaddexp(weights, biases), np.zeros(len(sigmas))
    signals, gradients = [log_q], [gradient]
    value, slope = (np.zeros(len(sigmas)) for _ in range(2))
    moved = np.ones(len(sigmas), dtype=bool)
    for _ in range(depth - 1):
        # Expectations are not computed again where the variance has settled, which is most of the map.
        if moved.any():
            moments = gaussian.moments(activation, log_q[moved])
            value[moved], slope[moved] = moments.log_value, moments.log_slope
        gradient = gradient + weights + slope
        after = np.logaddexp(weights + value, biases)
        moved, log_q = np.abs(after - log_q) > SAME, after
        signals.append(log_q)
        gradients.append(gradient)
    return PhaseMap(
        activation=activation,
        sigma_b=float(sigma_b),
        sigmas=tuple(float(sigma) for sigma in sigmas),
        log_signal=tuple(tuple(row.tolist()) for row in signals),
        log_gradient=tuple(tuple(row.tolist()) for row in gradients),
    )
