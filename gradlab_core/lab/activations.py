"""The definitions of the activations and their derivatives in float64 NumPy, which `activation_gradient` of the twins
must equal.

They are written so that no input overflows and small derivatives keep their digits: sech² and σ' are computed from
e^−|x| and never as 1 − tanh².
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

LEAK = 0.01  # the slope of the leaky ReLU below 0, which is the default of both frameworks
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848  # Klambauer et al. 2017
_CUBIC = 0.044715  # in the tanh form of GELU
_FAR = 40.0  # beyond this input, a Gaussian and 1 − tanh are 0 in float64


class Activation(NamedTuple):
    """An activation.

    Attributes:
        value: f, elementwise.
        gradient: f', elementwise; at a kink it is the value that PyTorch's autograd gives.
        breaks: the points between which f' is monotone, in order.
        kinks: those of the breaks at which f' jumps.
    """

    value: Function
    gradient: Function
    breaks: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1 + e)


def _sigmoid_slope(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _below(x: Array) -> Array:
    """e^x for x ≤ 0, and 1 above."""
    return np.exp(np.minimum(x, 0))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _normal_share(x: Array) -> Array:
    from scipy.special import ndtr  # far faster than calls of math.erfc; imported here because only GELU needs it

    return np.asarray(ndtr(x))


def _normal_density(x: Array) -> Array:
    return np.exp(-(np.clip(x, -_FAR, _FAR) ** 2) / 2) / math.sqrt(2 * math.pi)


def _cubed(x: Array) -> tuple[Array, Array]:
    """2u and its derivative, where u is the argument of the tanh in GELU's tanh form: (1 + tanh u)/2 is σ(2u)."""
    near, scale = np.clip(x, -_FAR, _FAR), math.sqrt(8 / math.pi)
    return scale * (near + _CUBIC * near**3), scale * (1 + 3 * _CUBIC * near**2)


def _gelu_tanh_slope(x: Array) -> Array:
    u, slope = _cubed(x)
    return _sigmoid(u) + x * _sigmoid_slope(u) * slope


def _mish_gate(x: Array) -> tuple[Array, Array]:
    """tanh(softplus(x)) and its derivative, as fractions in e^x below 0 and in e^−x above."""
    e = np.exp(-np.abs(x))
    above = 1 + 2 * e + 2 * e**2
    below = e * (e + 2) + 2
    gate = np.where(x > 0, (1 + 2 * e) / above, e * (e + 2) / below)
    return gate, np.where(x > 0, 4 * e**2 * (1 + e) / above**2, 4 * e * (e + 1) / below**2)


def _mish_slope(x: Array) -> Array:
    gate, slope = _mish_gate(x)
    return gate + x * slope


def _inside(x: Array, bound: float) -> Array:
    return np.where(np.abs(x) < bound, 1.0, 0.0)


_GELU_TANH_BREAK = 1.4185040087908284  # where the second derivative is 0, to 17 digits, as for SiLU and Mish
_SILU_BREAK = 2.3993572805154677  # x·tanh(x/2) = 2
_MISH_BREAKS = (-2.256376396360793, 1.4905711794854285)

ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0), (0.0,), (0.0,)),
    "relu6": Activation(
        lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0), (0.0, 6.0), (0.0, 6.0)
    ),
    "leaky_relu": Activation(
        lambda x: np.where(x > 0, x, LEAK * x), lambda x: np.where(x > 0, 1.0, LEAK), (0.0,), (0.0,)
    ),
    "elu": Activation(_elu, _below, (0.0,)),
    "selu": Activation(
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SELU_SCALE * np.where(x > 0, 1.0, SELU_ALPHA * _below(x)),
        (0.0,),
        (0.0,),
    ),
    "celu": Activation(_elu, _below, (0.0,)),  # with the default α = 1, it equals ELU
    "gelu": Activation(
        lambda x: x * _normal_share(x),
        lambda x: _normal_share(x) + x * _normal_density(x),
        (-math.sqrt(2), math.sqrt(2)),
    ),
    "gelu_tanh": Activation(
        lambda x: x * _sigmoid(_cubed(x)[0]), _gelu_tanh_slope, (-_GELU_TANH_BREAK, _GELU_TANH_BREAK)
    ),
    "silu": Activation(
        lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) + x * _sigmoid_slope(x), (-_SILU_BREAK, _SILU_BREAK)
    ),
    "mish": Activation(lambda x: x * _mish_gate(x)[0], _mish_slope, _MISH_BREAKS),
    "sigmoid": Activation(_sigmoid, _sigmoid_slope, (0.0,)),
    "tanh": Activation(np.tanh, lambda x: 4 * _sigmoid_slope(2 * np.clip(x, -1e3, 1e3)), (0.0,)),
    "softplus": Activation(_softplus, _sigmoid),
    "softsign": Activation(lambda x: x / (1 + np.abs(x)), lambda x: (1 / (1 + np.abs(x))) ** 2, (0.0,)),
    "log_sigmoid": Activation(lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
    "hard_tanh": Activation(lambda x: np.clip(x, -1, 1), lambda x: _inside(x, 1), (-1.0, 1.0), (-1.0, 1.0)),
    "hard_sigmoid": Activation(
        lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: _inside(x, 3) / 6, (-3.0, 3.0), (-3.0, 3.0)
    ),
    "hard_silu": Activation(
        lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x: np.where(x >= 3, 1.0, _inside(x, 3) * (np.clip(x, -3, 3) / 3 + 0.5)),
        (-3.0, 3.0),
        (-3.0, 3.0),
    ),
    "identity": Activation(np.array, np.ones_like, ()),
}
"""All activations of `gradlab_core.definitions.kinds`, and the identity. `gelu` is the exact one, x·Φ(x), and
`gelu_tanh` its tanh form."""

JAX_KINKS = {("leaky_relu", 0.0): 1.0, ("hard_tanh", -1.0): 1.0, ("hard_tanh", 1.0): 1.0}
"""Activations for which JAX takes another number than PyTorch at a kink, where any between the two slopes is right."""


def activation_value(name: str, x: ArrayLike) -> Array:
    """f(x), elementwise, in float64.

    >>> activation_value("silu", [-1e4, 0.0, 1e4]).tolist()
    [-0.0, 0.0, 10000.0]
    """
    return _known(name).value(np.asarray(x, dtype=np.float64))


def activation_gradient(name: str, x: ArrayLike) -> Array:
    """f'(x), elementwise, in float64; at a kink it is the value that PyTorch gives.

    Args:
        name: one of `ACTIVATIONS`.
        x: numbers of any shape.

    Raises:
        GradlabError: no such activation.

    >>> activation_gradient("sigmoid", [-1e4, 0.0, 2.0]).round(4).tolist()
    [0.0, 0.25, 0.105]
    """
    return _known(name).gradient(np.asarray(x, dtype=np.float64))


def check_activation(name: str) -> None:
    """Refuse the name of an unknown activation.

    >>> check_activation("relu7")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: activation: name is 'relu7'; expected one of relu, relu6, leaky_relu, ...
    """
    problems: list[str] = []
    fields.one_of(problems, "name", name, ACTIVATIONS)
    refuse("activation", problems)


def _known(name: str) -> Activation:
    check_activation(name)
    return ACTIVATIONS[name]
