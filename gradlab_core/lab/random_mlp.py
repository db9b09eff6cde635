"""The spec of a random MLP of any depth, the net that theory describes, and its numbers.

Its weights are those of `build(ModelSpec(kind="mlp", …), seed=…)` of either twin, for the same initialiser and seed.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import INITIALIZERS, Tensor, initial_arrays, number_problems
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.lab.prediction import Link

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomMlp:
    """Dense layers with an activation between them, and none after the last.

    Attributes:
        widths: widths of the input and of every layer: `(100,) * 51` is a net of 50 layers.
        activation: one of `gradlab_core.lab.activations.ACTIVATIONS`.
        init: one of `gradlab_core.definitions.initializers.INITIALIZERS`, or None for weights N(0, sigma_w²/fan_in)
            and biases N(0, sigma_b²).
        init_number: the value, std or gain of the initialiser; None for its default.
        sigma_w, sigma_b: the distribution of weights and biases if `init` is None.

    Raises:
        GradlabError: a field is out of range; the message lists every such field.

    >>> RandomMlp(widths=(4, 4), activation="relu", sigma_w=1.0, init="normal")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: RandomMlp: sigma_w is 1.0 and init 'normal'; expected one of the two
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    init: str | None = None
    init_number: float | None = None
    sigma_w: float | None = None
    sigma_b: float = 0.0

    def __post_init__(self) -> None:
        problems: list[str] = []
        fields.whole_numbers(problems, "widths", "layer", self.widths)
        if isinstance(self.widths, tuple) and len(self.widths) < 2:
            problems.append(f"widths is {self.widths!r}; expected that of the input and of one layer at least")
        fields.one_of(problems, "activation", self.activation, ACTIVATIONS)
        fields.real(problems, "sigma_b", self.sigma_b, 0.0)
        if self.init is not None:
            fields.one_of(problems, "init", self.init, INITIALIZERS)
            if self.init in INITIALIZERS:
                problems += number_problems(self.init, self.init_number)
            if self.sigma_w is not None:
                problems.append(f"sigma_w is {self.sigma_w!r} and init {self.init!r}; expected one of the two")
            if self.sigma_b:
                problems.append(f"sigma_b is {self.sigma_b!r} and init {self.init!r}, which says what biases are")
        elif self.sigma_w is None:
            problems.append("neither init nor sigma_w is given; expected one of the two")
        else:
            fields.real(problems, "sigma_w", self.sigma_w, 0.0)
        refuse("RandomMlp", problems)

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1

    def sizes(self) -> list[tuple[int, int]]:
        """`(fan_in, fan_out)` of every layer."""
        return list(zip(self.widths, self.widths[1:], strict=False))


def layer_variances(net: RandomMlp, fan_in: int, fan_out: int) -> tuple[float, float]:
    """`(σ_w², σ_b²)` of one layer: fan_in times the mean square of its weights, and the mean square of its biases.

    >>> layer_variances(RandomMlp(widths=(100, 50), init="kaiming_normal"), 100, 50)
    (2.0000000000000004, 0.0)
    """
    if net.init is None:
        assert net.sigma_w is not None
        return net.sigma_w**2, net.sigma_b**2
    default = INITIALIZERS[net.init].default
    number = net.init_number if net.init_number is not None else 1.0 if default is None else default
    shares = {
        "constant": float(
            fan_in
        ),  # constant weights are not random: see `gradlab_core.lab.theory_comparison.predict_constant`
        "normal": float(fan_in),
        "xavier_uniform": 2 * fan_in / (fan_in + fan_out),
        "xavier_normal": 2 * fan_in / (fan_in + fan_out),
        "kaiming_uniform": 1.0,
        "kaiming_normal": 1.0,
        "lecun_normal": 1.0,
        "orthogonal": min(1.0, fan_in / fan_out),
        "torch_default": 1 / 3,
    }
    return shares[net.init] * number**2, 1 / (3 * fan_in) if net.init == "torch_default" else 0.0


def links(net: RandomMlp) -> list[Link]:
    """The net as a chain for `predict_chain`, where all units of a layer have the same second moment."""
    chain: list[Link] = []
    for fan_in, fan_out in net.sizes():
        weights, biases = layer_variances(net, fan_in, fan_out)
        layer = Link(kinds.LINEAR, fan_out, _times(weights), _times(weights * fan_out / fan_in), biases)
        chain += [layer, Link(net.activation)]
    return chain[:-1]


def _times(factor: float) -> Callable[[Array], Array]:
    return lambda values: values * factor


def draw_layer(net: RandomMlp, layer: int, seeds: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (seeds, out, in) and biases (seeds, out) of a layer, counted from 0. Each tensor has its own stream."""
    fan_in, fan_out = net.sizes()[layer]
    name = f"fc{layer + 1}"
    shapes = {f"{name}.weight": (fan_out, fan_in), f"{name}.bias": (fan_out,)}
    arrays: list[list[Any]] = []
    for seed in seeds:
        if net.init is not None:
            tensors = {path: Tensor(kinds.LINEAR, shape) for path, shape in shapes.items()}
            arrays.append(list(initial_arrays(net.init, tensors, seed=seed, number=net.init_number).values()))
        else:
            assert net.sigma_w is not None
            scales = (net.sigma_w / math.sqrt(fan_in), net.sigma_b)
            pairs = zip(shapes.items(), scales, strict=True)
            arrays.append([s * stream(seed, path).standard_normal(shape) for (path, shape), s in pairs])
    weights, biases = zip(*arrays, strict=True)
    return np.stack(weights).astype(np.float64), np.stack(biases).astype(np.float64)


def draw_inputs(net: RandomMlp, seeds: Sequence[int]) -> Array:
    """An input for each seed (seeds, widths[0]), from N(0, 1) and scaled so that its second moment is exactly 1."""
    drawn = np.stack([stream(seed, "x").standard_normal(net.widths[0]) for seed in seeds])
    return np.asarray(drawn / np.sqrt(np.mean(np.square(drawn), axis=1, keepdims=True)))


def draw_cotangents(net: RandomMlp, seeds: Sequence[int]) -> Array:
    """∂L/∂output for each seed (seeds, widths[-1]), drawn like the inputs."""
    drawn = np.stack([stream(seed, "cotangent").standard_normal(net.widths[-1]) for seed in seeds])
    return np.asarray(drawn / np.sqrt(np.mean(np.square(drawn), axis=1, keepdims=True)))


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator for one tensor, with the same key as in `gradlab_core.definitions.initializers`."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
