"""Products of random matrices, which is what a deep linear net does to a signal, factor by factor."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.definitions.initializers import INITIALIZERS
from gradlab_core.errors import refuse
from gradlab_core.lab.graded import log_singular_values

Array = NDArray[np.float64]

ENSEMBLES = ("gaussian", "uniform", "orthogonal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductGrowth:
    """The product of the first k of n matrices, for k = 1 … n. All logarithms are natural.

    Attributes:
        size, sigma, seed, init: the arguments of `matrix_product_growth`.
        log_frobenius: ln ‖P_k‖_F.
        log_spectral: ln ‖P_k‖₂, the largest singular value.
        log_singular_values: ln of all singular values of P_k, largest first, where −Inf stands for 0.
        exponents: log_singular_values of P_n divided by n, the growth of each for one factor.
    """

    size: int
    sigma: float
    seed: int
    init: str
    log_frobenius: tuple[float, ...]
    log_spectral: tuple[float, ...]
    log_singular_values: tuple[tuple[float, ...], ...]
    exponents: tuple[float, ...]


def matrix_product_growth(n: int, size: int, sigma: float, seed: int, *, init: str = "gaussian") -> ProductGrowth:
    """Norms and singular values of A_k⋯A_1 for k = 1 … n, with random and independent A_k.

    Args:
        n: number of factors.
        size: number of rows and of columns.
        sigma: standard deviation of the elements; for `orthogonal` the factor before the orthogonal matrix.
        seed: seed of the matrices, which are drawn in NumPy and so are the same in both twins.
        init: `gaussian`, `uniform` (on ±σ√3) or `orthogonal` (all rotations and reflections equally likely).

    Raises:
        GradlabError: a number is out of range; one message lists all problems.

    >>> growth = matrix_product_growth(100, 4, 1.0, seed=0)
    >>> f"{growth.log_frobenius[-1] / np.log(10):.1f}"  # orders of magnitude, after 100 Gaussian 4×4 matrices
    '23.9'
    >>> matrix_product_growth(50, 4, 0.5, seed=0, init="orthogonal").exponents[0].__round__(6)
    -0.693147
    """
    matrices = draw_matrices(n, size, sigma, seed, init=init)
    return as_growth(log_singular_values(matrices), sigma=sigma, seed=seed, init=init)


def draw_matrices(n: int, size: int, sigma: float, seed: int, *, init: str = "gaussian") -> Array:
    """The factors (n, size, size) in float64. The arguments are those of `matrix_product_growth`.

    >>> draw_matrices(3, 2, 0.1, seed=0).shape
    (3, 2, 2)
    """
    problems: list[str] = []
    fields.whole_number(problems, "n", n, 1)
    fields.whole_number(problems, "size", size, 1)
    fields.whole_number(problems, "seed", seed, 0)
    fields.real(problems, "sigma", sigma, 0.0)
    if sigma == 0:
        problems.append("sigma is 0; expected a positive number: a product of zeros neither grows nor shrinks")
    fields.one_of(problems, "init", init, ENSEMBLES)
    refuse("matrix product", problems)
    stream, shape = np.random.default_rng(seed), (n, size, size)
    if init == "gaussian":
        return sigma * stream.standard_normal(shape)
    if init == "uniform":
        return sigma * stream.uniform(-np.sqrt(3), np.sqrt(3), shape)
    draw = INITIALIZERS["orthogonal"].draw
    assert draw is not None
    return np.stack([draw(stream, shape[1:], (size, size), sigma) for _ in range(n)])


def as_growth(logs: Array, *, sigma: float, seed: int, init: str) -> ProductGrowth:
    """The record of a product, from the (n, size) logarithms that `log_singular_values` returns."""
    largest = logs[:, 0]
    with np.errstate(invalid="ignore"):
        beside = np.where(np.isneginf(logs), 0.0, np.exp(2 * (logs - largest[:, np.newaxis]))).sum(axis=1)
    frobenius = np.where(np.isneginf(largest), largest, largest + np.log(np.maximum(beside, 1)) / 2)
    return ProductGrowth(
        size=logs.shape[1],
        sigma=sigma,
        seed=seed,
        init=init,
        log_frobenius=tuple(frobenius.tolist()),
        log_spectral=tuple(largest.tolist()),
        log_singular_values=tuple(map(tuple, logs.tolist())),
        exponents=tuple((logs[-1] / len(logs)).tolist()),
    )
