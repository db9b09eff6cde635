"""The kinds of layers gradlab tracks, by the names both twins give them, and the properties of each."""

from __future__ import annotations

CONV, NORM, LINEAR, EMBEDDING = "conv", "norm", "linear", "embedding"

ACTIVATIONS = tuple(
    "relu relu6 leaky_relu elu selu celu gelu gelu_tanh silu mish sigmoid tanh softplus softsign log_sigmoid "
    "hard_tanh hard_sigmoid hard_silu".split()
)

TRACKED = frozenset([CONV, NORM, *ACTIVATIONS])
"""Kinds that get a row of activation statistics: convolutions, normalisations, activations."""

RELU_LIKE = frozenset({"relu", "relu6"})
"""Activations that are exactly 0 on a half line, so that a unit can be dead."""

ZERO_SUMMARY = frozenset({"relu", "relu6", "silu"})
"""Activations whose zero fraction enters the summary of a net."""

BOUNDS = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "relu6": (0.0, 6.0),
}
"""Lower and upper bound of the activations that have both, so that they can saturate."""

SATURATION_MARGIN = 0.01
"""Within this share of the range from a bound an activation counts as saturated."""

SATURATED = {
    kind: (low + SATURATION_MARGIN * (high - low), high - SATURATION_MARGIN * (high - low))
    for kind, (low, high) in BOUNDS.items()
}
"""Up to where, and from where on, that is."""
