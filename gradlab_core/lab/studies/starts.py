"""The effect of each initialiser on a signal and its gradient in a deep net of one width, by theory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradlab_core.lab.random_mlp import RandomMlp, layer_variances
from gradlab_core.lab.theory_comparison import predict, predict_constant

MOST_LAYERS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Initialisers that theory cannot tell apart in such a net, and its prediction.

    Predicted are the means over nets, layer by layer from 1, of the natural logarithm of a second moment, where the
    input and the gradient of the output have second moment 1.

    Attributes:
        names: the initialisers.
        signal: the means for pre-activations; −inf if they are 0 in all nets.
        gradient: the means for the gradient of the loss in pre-activations.
        nets: the number of inputs with which constant weights were followed exactly; 0 for others.
        dead: the number of these in which the signal, and the gradient, of each layer is 0. The means leave them out.
    """

    names: tuple[str, ...]
    signal: tuple[float, ...]
    gradient: tuple[float, ...]
    nets: int = 0
    dead_signal: tuple[int, ...] = ()
    dead_gradient: tuple[int, ...] = ()


def study_starts(
    names: Sequence[str], *, depth: int, width: int, activation: str, value: float, seeds: Sequence[int]
) -> tuple[Start, ...]:
    """The starts of these initialisers, where `value` is that of `constant`. Orthogonal weights are taken to be
    Gaussian with the same variance.

    >>> starts = study_starts(
    ...     ["xavier_normal", "lecun_normal"], depth=9, width=50, activation="relu", value=0.1, seeds=[0]
    ... )
    >>> [start.names for start in starts]
    [('xavier_normal', 'lecun_normal')]
    """
    groups: dict[object, list[str]] = {}
    nets = {}
    for name in names:
        number = value if name == "constant" else None
        nets[name] = RandomMlp(widths=(width,) * (depth + 1), activation=activation, init=name, init_number=number)
        variances = tuple(round(variance, 12) for variance in layer_variances(nets[name], width, width))
        groups.setdefault(name if name == "constant" else variances, []).append(name)
    return tuple(
        _constant(nets[some[0]], seeds) if some[0] == "constant" else _random(nets[some[0]], some)
        for some in groups.values()
    )


def _random(net: RandomMlp, names: Sequence[str]) -> Start:
    expectations = predict(net)
    signal = tuple(expected.centre for quantity, _, expected in expectations if quantity == "preactivation")
    gradient = tuple(expected.centre for quantity, _, expected in expectations if quantity == "gradient")
    return Start(names=tuple(names), signal=signal, gradient=gradient)


def _constant(net: RandomMlp, seeds: Sequence[int]) -> Start:
    exact = predict_constant(net, seeds)
    signal, dead_signal = _alive(exact.preactivations)
    gradient, dead_gradient = _alive(exact.gradients)
    return Start(
        names=("constant",),
        signal=signal,
        gradient=gradient,
        nets=len(seeds),
        dead_signal=dead_signal,
        dead_gradient=dead_gradient,
    )


def _alive(logs: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The mean of each layer over the nets in which it is not 0, and the number of nets in which it is 0."""
    dead = np.isneginf(logs)
    alive = len(logs) - dead.sum(axis=0)
    total = np.where(dead, 0.0, logs).sum(axis=0)
    means = np.where(alive > 0, total / np.maximum(alive, 1), -np.inf)
    return tuple(means.tolist()), tuple(dead.sum(axis=0).tolist())
