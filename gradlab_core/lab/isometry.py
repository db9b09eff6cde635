"""Singular values of the Jacobian of a random MLP of any depth, which show how many directions it keeps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gradlab_core.lab.random_mlp import RandomMlp, draw_inputs, draw_layer
from gradlab_core.lab.simulation import run_forward

DIGITS = 1e-13
"""Singular values below this share of the largest are only rounding errors of the product."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSpectrum:
    """Singular values of ∂output/∂input at one input.

    Attributes:
        log_values: their natural logarithms, largest first; −inf for those that are 0 or below rounding of the largest.
        log_mean_squared: ln of the mean of their squares, which is 0 if gradients keep their size.
    """

    log_values: tuple[float, ...]
    log_mean_squared: float


def jacobian_spectrum(net: RandomMlp, *, seed: int = 0) -> LogSpectrum:
    """The spectrum for the net and the input of one seed: that of the product of W·diag(f′) over all layers, which is
    rescaled at each layer so that it neither over- nor underflows.

    >>> found = jacobian_spectrum(RandomMlp(widths=(20,) * 1001, activation="identity", init="orthogonal"))
    >>> abs(found.log_mean_squared) < 1e-4, len(found.log_values)  # as float32 stores them
    (True, 20)
    >>> found = jacobian_spectrum(RandomMlp(widths=(20,) * 1001, activation="relu", sigma_w=1e3))
    >>> found.log_mean_squared > 12000
    True
    """
    layers = [draw_layer(net, layer, [seed]) for layer in range(net.depth)]
    *_, slopes = run_forward(net, layers, draw_inputs(net, [seed]))
    product, scale = np.eye(net.widths[0]), 0.0
    for index, (weight, _) in enumerate(layers):
        product = weight[0] @ product
        if index < net.depth - 1:
            product = slopes[index][0][:, None] * product
        peak = float(np.max(np.abs(product)))
        if peak == 0.0:
            size = min(net.widths[0], net.widths[-1])
            return LogSpectrum(log_values=(-math.inf,) * size, log_mean_squared=-math.inf)
        product, scale = product / peak, scale + math.log(peak)
    values = np.linalg.svd(product, compute_uv=False)
    with np.errstate(divide="ignore"):
        logs = scale + np.log(np.where(values < DIGITS * values[0], 0.0, values))
    return LogSpectrum(
        log_values=tuple(logs.tolist()), log_mean_squared=2 * scale + math.log(float(np.mean(np.square(values))))
    )
