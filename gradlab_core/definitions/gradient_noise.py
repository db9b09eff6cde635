"""How much the gradients of single examples differ: the definitions, in float64 NumPy, from the gradients themselves.

Every function takes `{path: array (N, *shape)}`, the loss gradient of each of N examples taken alone; None is a
parameter with no path to the loss. With ḡ the mean over examples, tr Σ = Σᵢ‖gᵢ − ḡ‖²/(N − 1) is the variance of one
example's gradient, unbiased and summed over elements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.definitions import reference
from gradlab_core.errors import GradlabError, refuse

Array = NDArray[np.float64]


def per_example_grad_norms(grads: Mapping[str, ArrayLike | None]) -> Array:
    """‖gᵢ‖₂ of each example over all parameters, shape (N,).

    >>> per_example_grad_norms({"w": [[3.0], [0.0]], "b": [[4.0], [1.0]], "cut": None})
    array([5., 1.])
    """
    present = [np.asarray(g, np.float64) for g in grads.values() if g is not None]
    return np.array([reference.global_norm(example) for example in zip(*present, strict=True)])


def gradient_noise_scale(grads: Mapping[str, ArrayLike | None]) -> float:
    """tr Σ/‖G‖² with ‖G‖² estimated by ‖ḡ‖² − tr Σ/N: the batch size above which averaging more examples gains little.

    Inf where that estimate is not positive: then N examples do not tell the gradient from its noise. A NaN or an Inf
    among the gradients gives NaN. Source: McCandlish et al. 2018, the simple noise scale, appendix A.1.

    >>> round(gradient_noise_scale({"w": [[1.0], [3.0]]}), 6)  # tr Σ = 2, ‖G‖² = 2² − 2/2
    0.666667
    >>> gradient_noise_scale({"w": [[1.0], [-1.0]]})
    inf
    """
    present = [g for g in grads.values() if g is not None]
    if not present:
        raise GradlabError("no parameter has a path to the loss; expected at least one")
    examples = np.shape(present[0])[0]
    signal, noise = (reference.norm(column) for column in zip(*map(_signal_and_noise, present), strict=True))
    snr = _snr(signal, noise, examples)
    return math.inf if snr <= 1 / examples else 1 / (snr - 1 / examples)


def gradient_snr(grads: Mapping[str, ArrayLike | None]) -> dict[str, float | None]:
    """`{path: ‖ḡ‖²/tr Σ}` of each tensor, the ratio of the sums over its elements.

    The source averages the ratio of each element instead, which one element without variance makes infinite: a weight
    behind a dead unit. In the ratio of sums it adds nothing to either. 0/0 is 0, no signal; a gradient that is the same
    for all examples gives Inf, a NaN or an Inf among the gradients NaN, None no path to the loss. Source: Liu et al.
    2020, Understanding Why Neural Networks Generalize Well Through GSNR of Parameters.

    >>> gradient_snr({"w": [[1.0], [1.0], [3.0], [3.0]], "dead": [[0.0]] * 4, "same": [[2.0]] * 4, "cut": None})
    {'w': 3.0, 'dead': 0.0, 'same': inf, 'cut': None}
    """
    return {path: None if g is None else _snr(*_signal_and_noise(g), len(np.asarray(g))) for path, g in grads.items()}


def check_examples(x_shape: tuple[int, ...], y_shape: tuple[int, ...], *, least: int = 1) -> None:
    """Refuse a batch of fewer than `least` examples, or without one label each along the first axis.

    >>> check_examples((1, 3), (1,), least=2)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: per-example gradients: the batch holds 1 example; expected at least 2, since the \
variance between examples is asked for
    """
    if not x_shape:
        raise GradlabError("per-example gradients: the input has no axis; expected a batch (N, …)")
    problems = []
    if x_shape[0] < least:
        problems.append(
            f"the batch holds {x_shape[0]} example; expected at least {least}, since the variance between examples "
            "is asked for"
        )
    if x_shape[0] != (y_shape[0] if y_shape else None):
        problems.append(f"labels have shape {y_shape}; expected ({x_shape[0]}, …), one entry per example")
    refuse("per-example gradients", problems)


def _signal_and_noise(grads: ArrayLike) -> tuple[float, float]:
    """‖ḡ‖ and √Σᵢ‖gᵢ − ḡ‖² of one tensor. Counted from the first example, so that equal gradients vary by exactly 0."""
    g = np.asarray(grads, np.float64)
    with np.errstate(invalid="ignore"):  # Inf − Inf is NaN, and meant
        shifted = g - g[0]
        mean = (shifted / len(g)).sum(axis=0)
        return reference.norm(g[0] + mean), reference.norm(shifted - mean)


def _snr(signal: float, noise: float, examples: int) -> float:
    """‖ḡ‖²/tr Σ; NaN where one of the two is not finite, which tells nothing of their ratio."""
    if not (math.isfinite(signal) and math.isfinite(noise)):
        return math.nan
    return reference.ratio(signal, noise) ** 2 * (examples - 1)
