"""Records of signal propagation: what was measured in every layer, beside what theory expects.

Second moments are kept as natural logarithms, so that no depth takes them out of range; ln 0 = −inf stands for 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.lab.numeric import log
from gradlab_core.lab.prediction import Expected, Link, predict_chain

Array = NDArray[np.float64]

COTANGENT_SEED = 0
"""The seed of ∂L/∂output if there are no labels."""
RANDOM_WITHIN = 5.0
"""Weights whose mean is so many standard errors away from 0 are not random in the sense of the theory."""

ROUNDING = 1e-3
"""How much a layer may differ when it runs in a model and by itself, as a share of the largest element. Float32 and
float16 stay well below; another input or slope does not. Bfloat16 has only two digits and exceeds it, so theory is not
applied to such nets."""
EXAMPLES = 2
"""So many examples of a batch are enough to see which layer feeds which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signal:
    """Statistics over all elements of a tensor: batch, units and positions.

    Attributes:
        mean: the mean; NaN if an element is NaN, or if both Inf and −Inf occur.
        log_second_moment: ln of the mean square; −inf if all elements are 0, Inf if one is Inf, NaN if one is NaN.
        log_variance: ln of the mean squared distance from the mean; NaN if an element is not finite.
        nonfinite: number of elements that are NaN or Inf.
    """

    mean: float
    log_second_moment: float
    log_variance: float
    nonfinite: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSignal:
    """One call of one layer: its output, the gradient in the output, and what theory expects of both.

    Attributes:
        path, kind, call, shape: as in `LayerStats`.
        output: statistics of the output.
        gradient: statistics of ∂L/∂output; None if no path leads from the output to L.
        expected: the expectation for `output.log_second_moment`; None if the layer is not in a plain chain of random
            dense or convolutional layers and activations that begins at the input.
        expected_gradient: the expectation for `gradient.log_second_moment`, given that of the last layer; None also if
            the chain is not the whole net, or if there is no gradient.
    """

    path: str
    kind: str
    call: int
    shape: tuple[int, ...]
    output: Signal
    gradient: Signal | None
    expected: Expected | None
    expected_gradient: Expected | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalPropagation:
    """The signal of a model on one batch, layer by layer in execution order; `input` is the signal of the batch."""

    mode: str
    input: Signal
    layers: tuple[LayerSignal, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredLayer:
    """A `LayerSignal` without the expectations of theory."""

    path: str
    kind: str
    call: int
    shape: tuple[int, ...]
    output: Signal
    gradient: Signal | None


def signal(x: ArrayLike) -> Signal:
    """The definition of a `Signal`, in float64.

    >>> found = signal([[1.0, -1.0], [3.0, 1.0]])
    >>> found.mean, round(math.exp(found.log_second_moment), 12), round(math.exp(found.log_variance), 12)
    (1.0, 3.0, 2.0)
    """
    values = np.asarray(x, dtype=np.float64)
    peak = float(np.max(np.abs(values)))
    exponent = math.frexp(peak)[1] if math.isfinite(peak) else 0
    with np.errstate(invalid="ignore"):
        scaled = np.ldexp(values, -exponent)
        mean = float(np.mean(scaled))
        spread = float(np.sqrt(np.mean(np.square(scaled - mean))))
    rms = float(np.sqrt(np.mean(np.square(scaled))))
    return from_scaled(mean, rms, spread, exponent, int(values.size - np.isfinite(values).sum()))


def from_scaled(mean: float, rms: float, spread: float, exponent: float, nonfinite: float) -> Signal:
    """The record of a tensor that was divided by 2^exponent before its mean, root mean square and standard deviation
    were measured.

    >>> round(from_scaled(0.0, 0.5, 0.5, 2001, 0).log_variance / math.log(2), 9)
    4000.0
    """
    shift = 2 * exponent * math.log(2)
    return Signal(
        mean=mean * 2.0**exponent if abs(exponent) < 1000 else math.ldexp(mean, int(exponent)),
        log_second_moment=2 * log(rms) + shift,
        log_variance=2 * log(spread) + shift,
        nonfinite=int(nonfinite),
    )


def assemble(
    mode: str,
    inputs: Signal,
    measured: Sequence[MeasuredLayer],
    chain: Sequence[Link],
    squares: Array,
    *,
    complete: bool,
) -> SignalPropagation:
    """The record of a model.

    Args:
        mode: `train` or `eval`.
        inputs: the signal of the batch.
        measured: the layers in execution order.
        chain: links for the first layers, as far as each feeds only the next.
        squares: the squared inputs, as the first link takes them.
        complete: whether the chain is the whole net.
    """
    last = measured[-1].gradient if measured else None
    forward: list[Expected] = []
    backward: list[Expected | None] = [None] * len(measured)
    if chain:
        anchored = complete and last is not None and math.isfinite(last.log_second_moment)
        forward, backward = predict_chain(chain, squares, last.log_second_moment if anchored and last else None)
    layers = []
    for index, row in enumerate(measured):
        there = index < len(forward)
        fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        layers.append(
            LayerSignal(
                **fields,
                expected=forward[index] if there else None,
                expected_gradient=backward[index] if there and row.gradient is not None else None,
            )
        )
    return SignalPropagation(mode=mode, input=inputs, layers=tuple(layers))


def is_random(weights: ArrayLike) -> bool:
    """Whether weights can have been drawn around 0: they are not all equal, and their mean is not far from 0.

    >>> is_random(np.full((4, 4), 0.5)), is_random(np.random.default_rng(0).normal(size=(4, 4)))
    (False, True)
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all() or np.ptp(values) == 0.0:
        return False
    return bool(abs(values.mean()) <= RANDOM_WITHIN * values.std() / math.sqrt(values.size))


def same_values(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether two tensors are equal up to float32 rounding, with NaN and Inf in the same places.

    >>> same_values([1.0, math.inf], [1.00001, math.inf]), same_values([1.0], [[1.0]])
    (True, False)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        return False
    peak = float(np.max(np.abs(second[np.isfinite(second)]), initial=0.0))
    return np.allclose(first, second, rtol=0.0, atol=ROUNDING * peak, equal_nan=True)


def cotangent(shape: tuple[int, ...]) -> Array:
    """∂L/∂output if there are no labels: L = Σ output·cotangent, which is drawn from N(0, 1) in canonical layout."""
    return np.random.default_rng(COTANGENT_SEED).standard_normal(shape)
