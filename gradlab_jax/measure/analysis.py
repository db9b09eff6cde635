"""All measurements of one net in one record."""

from __future__ import annotations

from typing import Any

import jax

from gradlab_core.definitions import reference
from gradlab_core.judge.bands import band_set, judge
from gradlab_core.records import ArchitectureRecord
from gradlab_jax.measure.activations import activation_stats
from gradlab_jax.measure.cost import count_flops, count_params
from gradlab_jax.measure.flow import gradient_flow
from gradlab_jax.measure.sensitivity import input_sensitivity


def analyze(
    model: Any, x: jax.Array, y: Any, noise: jax.Array, *, name: str, mode: str = "train", bands: str | None = None
) -> ArchitectureRecord:
    """Activations, gradient flow, sensitivity and cost of one net on one batch, judged.

    Args:
        model: of NNX, Linen (bound) or Equinox, or a `Function`; left as it was.
        x: input batch, native layout. y: integer labels (N,). noise: of the shape of x, for the sensitivity.
        name: what the report calls the net.
        mode: `train` or `eval`, for all measurements. On an untrained net with batch normalisation `eval` means
            nothing: its running statistics are still 0 and 1.
        bands: a band set by name, as `tinynet-cifar10`, that judges the figures too. Bands were found on one set-up;
            without a name nothing is held against them.

    Returns:
        A record whose `flops` are those of one example.
    """
    judged_by = None if bands is None else band_set(bands)
    layers = activation_stats(model, x, mode=mode)
    summary = reference.activation_summary(layers)
    flow = gradient_flow(model, x, y, mode=mode)
    sensitivity = input_sensitivity(model, x, noise, mode=mode)
    return ArchitectureRecord(
        name=name,
        framework="jax",
        mode=mode,
        params=count_params(model),
        flops=count_flops(model, x[:1]),
        activations=summary,
        layers=tuple(layers),
        flow=flow,
        sensitivity=sensitivity,
        verdicts=judge(summary, flow, sensitivity, judged_by),
    )
