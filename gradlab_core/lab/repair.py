"""Two remedies for a bad start: a factor for the weights of every layer before training (LSUV), or steps in proportion
to the weights afterwards (LARS).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core import fields
from gradlab_core.definitions import reference
from gradlab_core.definitions.checks import check_same_paths
from gradlab_core.definitions.initializers import INITIALIZERS, number_problems
from gradlab_core.errors import refuse
from gradlab_core.lab.doctor import weight_of

VARIES = 1e-12
"""An output varies only by rounding if its variance over the square of its largest element is below this."""
NO_FACTOR = "no factor of its weights gives that variance: draw them anew, or make its biases smaller"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairedLayer:
    """What the repair did to one layer: the variance of its output before and after, and the factor of its weights. The
    factor is None if no factor gives the wanted variance, and `note` then says why."""

    path: str
    before: float
    after: float
    factor: float | None
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RepairedWeights:
    """New canonical weights for `from_canonical`, both parameters and running statistics, and their effect."""

    weights: Mapping[str, np.ndarray]
    layers: tuple[RepairedLayer, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerStepSize:
    """How far one step of plain SGD moves a layer, ‖Δθ‖/‖θ‖, and how far one of LARS does; None if no gradient reaches
    it. If layers start on different scales, plain steps differ as much; those of LARS are all alike."""

    path: str
    param_norm: float
    gradient_norm: float | None
    trust_ratio: float | None
    plain: float | None
    lars: float | None


def check_init(init: Any) -> None:
    """Refuse an initialiser that is unknown or that needs a number.

    >>> check_init("orthogonal")
    """
    problems: list[str] = []
    fields.one_of(problems, "init", init, INITIALIZERS)
    refuse("lsuv", problems or number_problems(init, None))


def repair_factor(part: ArrayLike, bias: ArrayLike, target: float) -> float | None:
    """The factor s of the weights for which s·part + bias has the variance `target`, with part = Wx. It is None if part
    does not vary or holds NaN or Inf, or if the biases alone vary more.

    >>> repair_factor([[2.0], [-2.0]], 1.0, 1.0)
    0.5
    >>> repair_factor([[1.0], [1.0]], 0.0, 1.0) is None
    True
    """
    values = np.asarray(part, dtype=np.float64)
    peak = float(np.max(np.abs(values)))
    if not (math.isfinite(peak) and peak > 0):
        return None
    exponent = math.frexp(peak)[1]
    scaled, biases = np.ldexp(values, -exponent), np.broadcast_to(bias, values.shape)
    apart, aside = scaled - scaled.mean(), biases - np.mean(biases)
    square, mixed, rest = np.mean(apart**2), np.mean(apart * aside), np.mean(aside**2) - target
    # the larger root of square·s² + 2·mixed·s + rest = 0
    inside = mixed**2 - square * rest
    if square <= VARIES or inside < 0:
        return None
    factor = float((math.sqrt(inside) - mixed) / square)
    return math.ldexp(factor, -exponent) if factor > 0 else None


def repaired(
    weights: Mapping[str, NDArray[Any]],
    layers: Sequence[str],
    factors: Mapping[str, float | None],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> RepairedWeights:
    """The record of a repair, from the new weights, the factor of each layer, and ln of the variances before and
    after."""
    rows = [
        RepairedLayer(
            path=path,
            before=math.exp(before[path]),
            after=math.exp(after[path]),
            factor=factors[path],
            note=NO_FACTOR if factors[path] is None else "",
        )
        for path in layers
    ]
    return RepairedWeights(weights=weights, layers=tuple(rows))


def scaled_weights(weights: Mapping[str, NDArray[Any]], factors: Mapping[str, float | None]) -> dict[str, NDArray[Any]]:
    """All weights, where those of layers with a factor are multiplied by it. Types are kept.

    >>> scaled_weights({"fc.weight": np.ones(2), "fc.bias": np.ones(1)}, {"fc": 0.5})
    {'fc.weight': array([0.5, 0.5]), 'fc.bias': array([1.])}
    """
    by = {weight_of(path): factor for path, factor in factors.items() if factor is not None}
    return {name: (array * by[name]).astype(array.dtype) if name in by else array for name, array in weights.items()}


def layer_step(
    path: str, size: float, slope: float | None, learning_rate: float, trust_coefficient: float
) -> LayerStepSize:
    """The steps of one layer with ‖θ‖ = `size` and ‖g‖ = `slope`. Source: You, Gitman & Ginsburg 2017 (LARS), without
    weight decay: Δθ = −η·c·(‖θ‖/‖g‖)·g, with the trust ratio of `trust_ratios`. Nothing moves if either norm is 0.

    >>> found = layer_step("fc", 10.0, 4.0, 0.1, 0.01)
    >>> found.trust_ratio, round(found.plain, 9), round(found.lars, 9)
    (2.5, 0.04, 0.001)
    """
    if slope is None:
        return LayerStepSize(path=path, param_norm=size, gradient_norm=None, trust_ratio=None, plain=None, lars=None)
    known = math.isfinite(size) and math.isfinite(slope)
    lars = learning_rate * trust_coefficient if size > 0 and slope > 0 else 0.0
    return LayerStepSize(
        path=path,
        param_norm=size,
        gradient_norm=slope,
        trust_ratio=reference.ratio(size, slope),
        plain=reference.ratio(learning_rate * slope, size),
        lars=lars if known else math.nan,
    )


def layer_step_rows(
    sizes: Mapping[str, float | None],
    slopes: Mapping[str, float | None],
    learning_rate: float,
    trust_coefficient: float,
) -> list[LayerStepSize]:
    """The steps of every layer, from norms of parameters and gradients by module path.

    >>> [row.lars for row in layer_step_rows({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": None}, 1.0, 0.5)]
    [0.5, None]
    """
    check_same_paths(sizes, slopes)
    refuse("layer_steps", [f"{path} has no parameters; expected some" for path, size in sizes.items() if size is None])
    return [
        layer_step(path, size, slopes[path], learning_rate, trust_coefficient)
        for path, size in sizes.items()
        if size is not None
    ]


def check_rates(learning_rate: Any, trust_coefficient: Any) -> None:
    """Refuse rates that are not finite numbers of at least 0.

    >>> check_rates(0.1, 0.001)
    """
    problems: list[str] = []
    fields.real(problems, "learning_rate", learning_rate, 0.0)
    fields.real(problems, "trust_coefficient", trust_coefficient, 0.0)
    refuse("layer_steps", problems)
