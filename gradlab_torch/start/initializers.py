"""Weight initialisers: one distribution, and for one seed one set of numbers, in both twins.

The numbers are drawn in NumPy, in `gradlab_core/definitions/initializers.py`, which also says what the fans are; every
tensor has a stream of its own, keyed by the seed and its canonical path.
"""

from __future__ import annotations

import numpy as np
import torch

from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import Tensor, initial_arrays
from gradlab_torch.model.layers import layer_tensors
from gradlab_torch.model.weights import to_canonical


def initialize(model: torch.nn.Module, name: str, *, seed: int, number: float | None = None) -> None:
    """Draw the weights of all dense, convolutional and recurrent layers, and set their biases. In place; whatever else
    the model holds (normalisations, embeddings, parameters of its own) stays as it is.

    Args:
        model: any `torch.nn.Module`.
        name: `constant`, `normal`, `xavier_uniform`, `xavier_normal` (Glorot & Bengio 2010), `kaiming_uniform`,
            `kaiming_normal` (He et al. 2015), `lecun_normal` (LeCun et al. 1998), `orthogonal` (Saxe et al. 2014) or
            `torch_default`, which draws biases and embeddings too, as PyTorch does.
        seed: a whole number of at least 0; one seed, one set of numbers in both twins.
        number: the value of `constant`, the standard deviation of `normal`, the gain of others; None is the default.

    Raises:
        GradlabError: an initialiser nobody knows, a model without such a layer, a seed or number that does not fit.

    >>> layer = torch.nn.Linear(100, 100)
    >>> initialize(layer, "xavier_normal", seed=0)
    >>> round(layer.weight.std().item(), 2)
    0.1
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
