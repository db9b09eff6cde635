"""Weight initialisers: one distribution, and for one seed one set of numbers, in both twins.

Each works in place on any model: it draws the weights of all dense, convolutional and recurrent layers and sets their
biases. Whatever else the model holds (normalisations, embeddings, parameters of its own) stays as it is. The numbers
are drawn in NumPy, in `gradlab_core/definitions/initializers.py`, which also says what the fans are; every tensor has a
stream of its own, keyed by the seed and its canonical path. All raise a `GradlabError` for a model without such a layer
and for a seed, gain or std that is no number of at least 0.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor, initial_arrays
from gradlab_torch.model.layers import layer_tensors
from gradlab_torch.model.weights import to_canonical

SQRT2 = math.sqrt(2)


def constant(model: torch.nn.Module, *, value: float) -> None:
    """Every weight the same, biases 0: then all units of a layer compute the same and stay the same.

    >>> layer = torch.nn.Linear(2, 1)
    >>> constant(layer, value=0.5)
    >>> layer.weight.sum().item()
    1.0
    """
    initialize(model, "constant", seed=0, number=value)


def normal(model: torch.nn.Module, *, seed: int, std: float = 0.01) -> None:
    """Weights from N(0, std²), biases 0.

    >>> layer = torch.nn.Linear(100, 100)
    >>> normal(layer, seed=0)
    >>> round(abs(layer.weight).mean().item(), 3)  # σ·√(2/π)
    0.008
    """
    initialize(model, "normal", seed=seed, number=std)


def xavier_uniform(model: torch.nn.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights uniform on ±gain·√(6/(fan_in + fan_out)), biases 0. Source: Glorot & Bengio 2010.

    >>> layer = torch.nn.Linear(4, 2)
    >>> xavier_uniform(layer, seed=0)
    >>> bool(abs(layer.weight).max() <= 1)
    True
    """
    initialize(model, "xavier_uniform", seed=seed, number=gain)


def xavier_normal(model: torch.nn.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights from N(0, gain²·2/(fan_in + fan_out)), biases 0. Source: Glorot & Bengio 2010.

    >>> layer = torch.nn.Linear(100, 100)
    >>> xavier_normal(layer, seed=0)
    >>> round(layer.weight.std().item(), 2)
    0.1
    """
    initialize(model, "xavier_normal", seed=seed, number=gain)


def kaiming_uniform(model: torch.nn.Module, *, seed: int, gain: float = SQRT2) -> None:
    """Weights uniform on ±gain·√(3/fan_in), biases 0; √2 is the gain of ReLU. Source: He et al. 2015.

    >>> layer = torch.nn.Linear(6, 2)
    >>> kaiming_uniform(layer, seed=0)
    >>> bool(abs(layer.weight).max() <= 1)
    True
    """
    initialize(model, "kaiming_uniform", seed=seed, number=gain)


def kaiming_normal(model: torch.nn.Module, *, seed: int, gain: float = SQRT2) -> None:
    """Weights from N(0, gain²/fan_in), biases 0; √2 is the gain of ReLU. Source: He et al. 2015.

    >>> layer = torch.nn.Linear(200, 100)
    >>> kaiming_normal(layer, seed=0)
    >>> round(layer.weight.std().item(), 2)
    0.1
    """
    initialize(model, "kaiming_normal", seed=seed, number=gain)


def lecun_normal(model: torch.nn.Module, *, seed: int) -> None:
    """Weights from N(0, 1/fan_in), biases 0; not truncated, which `jax.nn.initializers.lecun_normal`
    is.

    Source: LeCun et al. 1998.

    >>> layer = torch.nn.Linear(100, 100)
    >>> lecun_normal(layer, seed=0)
    >>> round(layer.weight.std().item(), 2)
    0.1
    """
    initialize(model, "lecun_normal", seed=seed)


def orthogonal(model: torch.nn.Module, *, seed: int, gain: float = 1.0) -> None:
    """Weights gain·Q, where Q, with all axes but the first as one, has orthonormal columns, or rows if those are fewer;
    biases 0. Source: Saxe, McClelland & Ganguli 2014.

    >>> layer = torch.nn.Linear(3, 3)
    >>> orthogonal(layer, seed=0, gain=2.0)
    >>> (layer.weight @ layer.weight.T).diagonal().round(decimals=4).tolist()
    [4.0, 4.0, 4.0]
    """
    initialize(model, "orthogonal", seed=seed, number=gain)


def torch_default(model: torch.nn.Module, *, seed: int) -> None:
    """PyTorch's own start: weights and biases of dense and convolutional layers uniform on ±1/√fan_in, all of a
    recurrent layer on ±1/√hidden, embeddings from N(0, 1).

    >>> layer = torch.nn.Linear(4, 100)
    >>> torch_default(layer, seed=0)
    >>> bool(abs(layer.weight).max() <= 0.5)
    True
    """
    initialize(model, "torch_default", seed=seed)


def initialize(model: torch.nn.Module, name: str, *, seed: int, number: float | None = None) -> None:
    """The initialiser of that name, as a spec says it; `number` is its value, std or gain.

    >>> layer = torch.nn.Linear(2, 1)
    >>> initialize(layer, "constant", seed=0, number=0.5)
    """
    arrays = initial_arrays(name, layer_tensors(model), seed=seed, number=number)
    named = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for path, array in arrays.items():
            named[path].copy_(torch.from_numpy(array))


def drawn_layer(name: str, weight: Tensor, *, seed: int, number: float | None = None) -> dict[str, np.ndarray]:
    """`{"weight": …, "bias": …}` in canonical layout, as a PyTorch layer holds them that has such a weight, dense or a
    convolution over one to three axes, and was drawn by the initialiser of that name.

    >>> drawn_layer("orthogonal", Tensor("linear", (1, 1)), seed=0, number=2.0)["weight"].shape
    (1, 1)
    """
    first, second, *window = weight.shape
    if weight.kind == kinds.LINEAR:
        layer = torch.nn.utils.skip_init(torch.nn.Linear, second, first)
    else:
        sizes = (first, second * weight.groups) if weight.transposed else (second * weight.groups, first)
        kind = getattr(torch.nn, f"Conv{'Transpose' if weight.transposed else ''}{len(window)}d")
        layer = torch.nn.utils.skip_init(kind, *sizes, tuple(window), groups=weight.groups)
    initialize(layer, name, seed=seed, number=number)
    return to_canonical(layer)
