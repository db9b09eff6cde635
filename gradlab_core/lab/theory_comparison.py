"""Random MLPs measured against theory, layer by layer: is the mean over many draws where theory expects it?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gradlab_core.definitions.initializers import INITIALIZERS
from gradlab_core.errors import refuse
from gradlab_core.lab.prediction import Expected, predict_chain
from gradlab_core.lab.random_mlp import RandomMlp, draw_cotangents, draw_inputs, links
from gradlab_core.lab.simulation import Propagation, propagate, run_block


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """ln of a second moment of one layer over many random nets, and what theory expects of it.

    Attributes:
        layer: counted from 1.
        quantity: `preactivation`, `activation` or `gradient` (in the pre-activation).
        mean, deviation: mean and standard deviation over the nets; −inf and NaN if the layer is dead in one of them.
        standard_error: standard error of the mean.
        expected: the expectation for one net; 95 % of means lie within 2 standard errors of `expected.centre`.
    """

    layer: int
    quantity: str
    mean: float
    deviation: float
    standard_error: float
    expected: Expected


def predict(net: RandomMlp) -> list[tuple[str, int, Expected]]:
    """`(quantity, layer, expectation)` for every layer of a random MLP, where the input and the gradient of the output
    have second moment 1. Constant weights are for `predict_constant`, which is exact.

    >>> found = predict(RandomMlp(widths=(100,) * 1001, activation="relu", sigma_w=2.0))
    >>> quantity, layer, expected = found[999]
    >>> quantity, layer, round(expected.limit / math.log(2), 9)
    ('preactivation', 1000, 1001.0)
    """
    forward, backward = predict_chain(links(net), np.ones(1), 0.0)
    rows = [("preactivation", i, e) for i, e in enumerate(forward[::2], 1)]
    rows += [("activation", i, e) for i, e in enumerate(forward[1::2], 1)]
    return rows + [("gradient", i, e) for i, e in enumerate(backward[::2], 1) if e is not None]


def predict_constant(net: RandomMlp, seeds: Sequence[int]) -> Propagation:
    """What a net of constant weights does to the inputs and cotangents of these seeds, exactly. All units of a layer
    are alike, so the net is a chain of single units, each with the weights of a whole layer."""
    initializer = INITIALIZERS["constant"]
    number = net.init_number if net.init_number is not None else initializer.default
    value = float(np.float32(number or 0.0))  # rounded as it is stored
    layers = [(np.full((1, 1, 1), value * fan_in), np.zeros((1, 1))) for fan_in, _ in net.sizes()]
    exact = run_block(
        dataclasses.replace(net, widths=(1,) * len(net.widths)),
        layers,
        draw_inputs(net, seeds).mean(axis=1, keepdims=True),
        draw_cotangents(net, seeds).mean(axis=1, keepdims=True),
    )
    # A unit sums fan_in others forward and fan_out backward. The last gradient is the cotangent itself.
    out = np.array(net.widths[1:], dtype=np.float64)
    gradients = exact.gradients + 2 * np.log(out[-1] / out)
    gradients[:, -1] = 0.0
    return dataclasses.replace(exact, gradients=gradients)


def compare_with_theory(
    net: RandomMlp, *, seeds: Sequence[int], measured: Propagation | None = None
) -> tuple[LayerComparison, ...]:
    """Compare every layer of random nets, one for each seed, with theory.

    The statistic is the mean over nets of ln of the second moment of a layer, with one input for each net; its standard
    error is deviation/√nets. Theory is right if the mean lies within a few standard errors of `expected.centre`.

    Args:
        net: the distribution.
        seeds: the seeds of the nets; at least two.
        measured: the result of a twin's `propagate` for these seeds; by default the nets are measured here.

    >>> rows = compare_with_theory(RandomMlp(widths=(50, 50, 50), init="lecun_normal"), seeds=range(30))
    >>> [row.quantity for row in rows]
    ['preactivation', 'preactivation', 'activation', 'gradient', 'gradient']
    >>> all(abs(row.mean - row.expected.centre) < 4 * row.standard_error for row in rows[:-1])
    True
    """
    refuse("compare_with_theory", [] if len(seeds) > 1 else [f"{len(seeds)} seeds; expected at least 2"])
    nets = propagate(net, seeds=seeds) if measured is None else measured
    columns = [
        (quantity, layer, values)
        for quantity, table in (
            ("preactivation", nets.preactivations),
            ("activation", nets.activations),
            ("gradient", nets.gradients),
        )
        for layer, values in enumerate(table.T, 1)
    ]
    if net.init == "constant":
        exact = predict_constant(net, seeds)
        tables = np.concatenate([exact.preactivations, exact.activations, exact.gradients], axis=1)
        expectations = [Expected(limit=float(m), centre=float(m), spread=0.0) for m in tables.mean(axis=0)]
    else:
        expectations = [expected for _, _, expected in predict(net)]
    rows = []
    for (quantity, layer, values), expected in zip(columns, expectations, strict=True):
        with np.errstate(invalid="ignore"):  # for a dead layer, ln 0 has no deviation
            deviation = float(values.std(ddof=1))
        rows.append(
            LayerComparison(
                layer=layer,
                quantity=quantity,
                mean=float(values.mean()),
                deviation=deviation,
                standard_error=deviation / math.sqrt(len(values)),
                expected=expected,
            )
        )
    return tuple(rows)
