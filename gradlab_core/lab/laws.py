"""The distributions of weights and biases according to the formulas of the initialisers, with their bounds.

The formulas are written here a second time, from the sizes of a layer instead of the shape of its weight, as a check of
what `gradlab_core.definitions.initializers` draws.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor

Array = NDArray[np.float64]
LAYERS = ("dense", "conv", "transposed", "grouped")
KURTOSIS = {"normal": 3.0, "uniform": 1.8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleLayer:
    """A layer to draw: `inputs` → `outputs` units, or channels of a convolution with a square window of `kernel` sides.

    >>> layer = SampleLayer(kind="grouped", inputs=32, outputs=64, kernel=3, groups=4)
    >>> layer.shape, layer.fan_in, layer.fan_out
    ((64, 8, 3, 3), 72, 576)
    """

    kind: str
    inputs: int
    outputs: int
    kernel: int = 1
    groups: int = 1

    @property
    def fan_in(self) -> int:
        """The number of inputs that an output sums up, without regard to strides."""
        return self.inputs // self.groups * self.kernel**2

    @property
    def fan_out(self) -> int:
        """The number of outputs that an input would feed if it were in every group."""
        return self.outputs * self.kernel**2

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the canonical weight."""
        if self.kind == "dense":
            return self.outputs, self.inputs
        first, second = (self.inputs, self.outputs) if self.kind == "transposed" else (self.outputs, self.inputs)
        return first, second // self.groups, self.kernel, self.kernel

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Weight and bias as `initial_arrays` takes them, with the paths of a model that is this layer alone."""
        kind = kinds.LINEAR if self.kind == "dense" else kinds.CONV
        way = (self.kind == "transposed", self.groups)
        return {"weight": Tensor(kind, self.shape, *way), "bias": Tensor(kind, (self.outputs,), *way)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """A distribution: `constant`, `normal`, `uniform` or `sphere`. The last is that of a coordinate of a random unit
    vector, and so of an element of an orthogonal matrix.

    Attributes:
        mean, std: mean and standard deviation of one number.
        low, high: the bounds; None for a distribution without bounds.
        dimension: for a `sphere`, the dimension of the vector.
    """

    kind: str
    mean: float
    std: float
    low: float | None = None
    high: float | None = None
    dimension: int = 0


def weight_law(name: str, layer: SampleLayer, value: float) -> Law:
    """The law of the weights that an initialiser draws with its default number; `value` is that of `constant`.

    >>> law = weight_law("xavier_uniform", SampleLayer(kind="dense", inputs=100, outputs=100), 0.1)
    >>> round(law.std, 12), round(law.high, 4)
    (0.1, 0.1732)
    """
    n_in, n_out = layer.fan_in, layer.fan_out
    if name == "constant":
        return _constant(value)
    if name == "orthogonal":
        rows = layer.shape[0]
        longer = max(rows, math.prod(layer.shape) // rows)
        return Law(kind="sphere", mean=0.0, std=1 / math.sqrt(longer), low=-1.0, high=1.0, dimension=longer)
    if name == "torch_default":
        return _uniform(1 / math.sqrt(torch_fan_in(layer)))
    if name == "xavier_uniform":
        return _uniform(math.sqrt(6 / (n_in + n_out)))
    if name == "kaiming_uniform":
        return _uniform(math.sqrt(6 / n_in))
    std = {
        "normal": 0.01,
        "xavier_normal": math.sqrt(2 / (n_in + n_out)),
        "kaiming_normal": math.sqrt(2 / n_in),
        "lecun_normal": math.sqrt(1 / n_in),
    }
    return Law(kind="normal", mean=0.0, std=std[name])


def bias_law(name: str, layer: SampleLayer) -> Law:
    """The law of the biases, which are 0 except in PyTorch's own start."""
    return _uniform(1 / math.sqrt(torch_fan_in(layer))) if name == "torch_default" else _constant(0.0)


def torch_fan_in(layer: SampleLayer) -> int:
    """The fan-in in PyTorch's own start, which is the second axis times the window for every kind of layer."""
    channels = layer.outputs if layer.kind == "transposed" else layer.inputs
    return channels // layer.groups * layer.kernel**2


def has_density(law: Law) -> bool:
    """Whether the law has a density. A constant has none, nor have the two unit vectors on a line."""
    return law.kind != "constant" and law.dimension != 1


def density(law: Law, x: Array) -> Array:
    """The density of a law at x, which is 0 outside its bounds, and 0 everywhere if the law has none.

    >>> density(Law(kind="normal", mean=0.0, std=1.0), np.zeros(1)).round(4).tolist()
    [0.3989]
    """
    if not has_density(law):
        return np.zeros_like(x)
    if law.kind == "normal":
        return np.asarray(np.exp(-np.square((x - law.mean) / law.std) / 2) / (law.std * math.sqrt(2 * math.pi)))
    assert law.low is not None
    assert law.high is not None
    inside = (x >= law.low) & (x <= law.high)
    if law.kind == "uniform":
        return np.where(inside, 1 / (law.high - law.low), 0.0)
    n = law.dimension
    scale = math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2)) / math.sqrt(math.pi)
    with np.errstate(divide="ignore"):  # in two dimensions the density is unbounded at ±1
        return np.where(inside, scale * np.power(1 - np.square(np.clip(x, -1, 1)), (n - 3) / 2), 0.0)


def fit_probability(law: Law, values: Array) -> float:
    """The probability, by the test of Kolmogorov and Smirnov, that so many independent numbers from a normal or uniform
    law lie at least as far from it as these do.

    >>> fit_probability(Law(kind="normal", mean=0.0, std=1.0), np.linspace(-1, 1, 1000)) < 1e-6
    True
    """
    from scipy.special import kolmogorov, ndtr

    ordered = np.sort(values)
    if law.kind == "normal":
        below = np.asarray(ndtr((ordered - law.mean) / law.std))
    else:
        assert law.low is not None
        assert law.high is not None
        below = np.clip((ordered - law.low) / (law.high - law.low), 0, 1)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = float(max(np.max(steps[1:] - below), np.max(below - steps[:-1])))
    root = math.sqrt(len(ordered))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))  # Stephens 1970, good for more than a few numbers


def _uniform(bound: float) -> Law:
    return Law(kind="uniform", mean=0.0, std=bound / math.sqrt(3), low=-bound, high=bound)


def _constant(value: float) -> Law:
    stored = float(np.float32(value))
    return Law(kind="constant", mean=stored, std=0.0, low=stored, high=stored)
