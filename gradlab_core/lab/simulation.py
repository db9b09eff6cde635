"""A random MLP run in float64, forward and back, at any depth and scale. The signal of each layer is kept as a vector
of root mean square 1 and the logarithm of the number it was divided by.

If the inputs of an activation are so small or so large that it is a power law to the last digit, it is applied at the
end of that range and the rest goes into the logarithm. So 1,000 layers with σ_w from 1e-3 to 1e3 neither over- nor
underflow. What is exactly 0 (a dead layer, or a slope of tanh that float64 cannot hold) is ln 0 = −inf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.lab.activations import activation_gradient, activation_value
from gradlab_core.lab.gaussian import Ends, ends
from gradlab_core.lab.random_mlp import RandomMlp, draw_cotangents, draw_inputs, draw_layer

Array = NDArray[np.float64]

REACH = {"float64": 60.0, "float32": 25.0}
"""An activation is applied directly up to this |ln| of the size of its inputs, so that squares stay in range."""
_BLOCK = 1 << 24  # the weights of all seeds that are held at once


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Propagation:
    """Natural logarithms of second moments over the units of a layer. Each seed is a row, with one net and one input.

    Attributes:
        preactivations: those of the outputs of every layer (seeds, depth).
        activations: those after the activation (seeds, depth − 1).
        gradients: those of ∂L/∂preactivations (seeds, depth), for a random ∂L/∂output of second moment 1.
    """

    preactivations: Array
    activations: Array
    gradients: Array


Run = Callable[[RandomMlp, list[tuple[Array, Array]], Array, Array], Propagation]
"""A function of the net, the weights and biases of every layer, inputs and cotangents, with a row for each seed."""


def in_blocks(net: RandomMlp, seeds: Sequence[int], run: Run) -> Propagation:
    """Run all seeds, as many at a time as fit in memory."""
    problems = [] if len(seeds) else ["no seed; expected at least one"]
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            problems.append(f"seed is {seed!r}; expected a whole number of at least 0")
    refuse("propagate", problems)
    size = max(1, _BLOCK // sum(a * b for a, b in net.sizes()))
    blocks = []
    for start in range(0, len(seeds), size):
        some = seeds[start : start + size]
        layers = [draw_layer(net, layer, some) for layer in range(net.depth)]
        blocks.append(run(net, layers, draw_inputs(net, some), draw_cotangents(net, some)))
    names = [field.name for field in dataclasses.fields(Propagation)]
    return Propagation(**{name: np.concatenate([getattr(part, name) for part in blocks]) for name in names})


def check_dtype(dtype: str) -> None:
    """Refuse a precision that the simulation does not have.

    >>> check_dtype("float16")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: propagate: dtype is 'float16'; expected one of float64, float32
    """
    problems: list[str] = []
    fields.one_of(problems, "dtype", dtype, REACH)
    refuse("propagate", problems)


def propagate(net: RandomMlp, *, seeds: Sequence[int] = (0,)) -> Propagation:
    """Send one input through one net for each seed, and a gradient back. This defines the twins' `propagate`.

    >>> net = RandomMlp(widths=(50,) * 1001, activation="relu", sigma_w=1e3)
    >>> found = propagate(net)
    >>> bool(np.isfinite(found.preactivations).all()), bool(found.preactivations[0, -1] > 12000)
    (True, True)
    """
    return in_blocks(net, seeds, run_block)


def run_block(net: RandomMlp, layers: list[tuple[Array, Array]], x: Array, cotangent: Array) -> Propagation:
    preactivations, activations, slopes = run_forward(net, layers, x)
    size, u = _normalised(np.zeros(len(x)), cotangent)
    gradients = [size]
    for (weight, _), slope in zip(reversed(layers[1:]), reversed(slopes), strict=True):
        size, u = _normalised(size, np.einsum("sij,si->sj", weight, u) * slope)
        gradients.append(size)
    shape = (len(x), 0)
    return Propagation(
        preactivations=2 * np.stack(preactivations, axis=1),
        activations=2 * np.stack(activations, axis=1) if activations else np.zeros(shape),
        gradients=2 * np.stack(gradients[::-1], axis=1),
    )


def run_forward(
    net: RandomMlp, layers: list[tuple[Array, Array]], x: Array
) -> tuple[list[Array], list[Array], list[Array]]:
    """ln of the root mean square of the pre-activations and of the activations of every layer, and the slopes."""
    size, u = _normalised(np.zeros(len(x)), x)
    preactivations, activations, slopes = [], [], []
    for index, (weight, bias) in enumerate(layers):
        size, u = _layer(weight, bias, size, u)
        preactivations.append(size)
        if index < net.depth - 1:
            slopes.append(activation_gradient(net.activation, _near(size)[:, None] * u))
            size, u = _activation(net.activation, size, u)
            activations.append(size)
    return preactivations, activations, slopes


def _layer(weight: Array, bias: Array, size: Array, u: Array) -> tuple[Array, Array]:
    """Wx + b for x = e^size·u, divided by the larger of e^size and 1 if there are biases."""
    biased = np.any(bias, axis=1)
    top = np.where(biased, np.maximum(size, 0.0), size)
    apart = np.exp(
        np.where(np.isfinite(size), size, 0.0) - np.where(np.isfinite(top), top, 0.0)
    )  # size is −inf if u is 0
    lifted = np.where(biased, np.exp(-np.maximum(size, 0.0)), 0.0)
    return _normalised(top, apart[:, None] * np.einsum("sij,sj->si", weight, u) + lifted[:, None] * bias)


def _activation(name: str, size: Array, u: Array) -> tuple[Array, Array]:
    beyond = size - np.clip(size, -REACH["float64"], REACH["float64"])
    return _normalised(power_law(ends(name), beyond), activation_value(name, _near(size)[:, None] * u))


def _near(size: Array) -> Array:
    return np.asarray(np.exp(np.clip(size, -REACH["float64"], REACH["float64"])))


def power_law(end: Ends, beyond: Array) -> Array:
    """The change of ln of an activation when ln of its input exceeds the ends of the range by `beyond`."""
    return np.where(beyond > 0, beyond if end.grows else 0.0, beyond if end.vanishes else 0.0)


def _normalised(size: Array, values: Array) -> tuple[Array, Array]:
    """Rows of root mean square 1, and ln of their former size times e^size, which is −inf for a row of zeros."""
    peak = np.max(np.abs(values), axis=1)  # the squares of small numbers would underflow
    there = np.where(peak > 0, peak, 1.0)
    scaled = values / there[:, None]
    rms = np.where(peak > 0, np.sqrt(np.mean(np.square(scaled), axis=1)), 1.0)
    logs = np.where(peak > 0, size + np.log(there) + np.log(rms), -np.inf)
    return logs, scaled / rms[:, None]
