"""What the formulas of the initialisers say of a layer's weights and biases: distribution, standard deviation, bounds.

Written down once more, from the sizes of a layer and not from the shape of its weight, so that what
`gradlab_core.definitions.initializers` draws can be held against it.
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
        """How many inputs an output sums up, strides not counted."""
        return self.inputs // self.groups * self.kernel**2

    @property
    def fan_out(self) -> int:
        """What an input would feed if it were in every group."""
        return self.outputs * self.kernel**2

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the canonical weight."""
        if self.kind == "dense":
            return self.outputs, self.inputs
        first, second = (self.inputs, self.outputs) if self.kind == "transposed" else (self.outputs, self.inputs)
        return first, second // self.groups, self.kernel, self.kernel

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Weight and bias as `initial_arrays` takes them, under the paths of a layer that is a model by itself."""
        kind = kinds.LINEAR if self.kind == "dense" else kinds.CONV
        way = (self.kind == "transposed", self.groups)
        return {"weight": Tensor(kind, self.shape, *way), "bias": Tensor(kind, (self.outputs,), *way)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Law:
    """A distribution: `constant`, `normal`, `uniform`, or `sphere`, that of a coordinate of a random unit vector, which
    elements of an orthogonal matrix have.

    Attributes:
        mean, std: of one number.
        low, high: the bounds; None for a distribution without.
        dimension: of a `sphere`: the vector's.
    """

    kind: str
    mean: float
    std: float
    low: float | None = None
    high: float | None = None
    dimension: int = 0


def weight_law(name: str, layer: SampleLayer, value: float) -> Law:
    """Of the weights that an initialiser draws with its default number; `value` is that of `constant`.

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
    """Of the biases: 0, but in PyTorch's own start."""
    return _uniform(1 / math.sqrt(torch_fan_in(layer))) if name == "torch_default" else _constant(0.0)


def torch_fan_in(layer: SampleLayer) -> int:
    """What PyTorch's own start takes for the fan-in: the second axis times the window, whatever the layer."""
    channels = layer.outputs if layer.kind == "transposed" else layer.inputs
    return channels // layer.groups * layer.kernel**2


def has_density(law: Law) -> bool:
    """Whether there is a density to draw: not of what takes one value, or of the two unit vectors on a line."""
    return law.kind != "constant" and law.dimension != 1


def density(law: Law, x: Array) -> Array:
    """Of a law that has one, 0 out of its bounds; 0 everywhere of one that has none.

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
    with np.errstate(divide="ignore"):  # in two dimensions it has no bound at ±1
        return np.where(inside, scale * np.power(1 - np.square(np.clip(x, -1, 1)), (n - 3) / 2), 0.0)


def fit_probability(law: Law, values: Array) -> float:
    """Kolmogorov and Smirnov's test: how probable it is that so many independent numbers from a normal or uniform law
    lie as far from it as these do, or farther.

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
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))  # Stephens 1970: good from a handful on


def _uniform(bound: float) -> Law:
    return Law(kind="uniform", mean=0.0, std=bound / math.sqrt(3), low=-bound, high=bound)


def _constant(value: float) -> Law:
    stored = float(np.float32(value))
    return Law(kind="constant", mean=stored, std=0.0, low=stored, high=stored)
