"""The curvature of a loss from products of its Hessian with vectors: the algorithms, once, in float64 NumPy.

A twin supplies the product; the probes are drawn here, in canonical order and layout, so that both twins use the same.
Only parameters with a path to the loss take part: along the others there is nothing to differentiate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradlab_core.errors import GradlabError, refuse

Array = NDArray[np.float64]
Product = Callable[[Array], Array]
"""v ↦ Hv of flat vectors."""

TOLERANCE = 1e-4
"""Residual, relative to the largest |eigenvalue| met, at which an eigenvalue counts as found. The error is at most
that, and of the order of its square where the eigenvalue stands apart; float32 products resolve about 1e-6."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HessianEigenvalue:
    """The largest eigenvalue, as far as it was found.

    Attributes:
        value: an eigenvalue of the Hessian lies within `residual` of it; where `converged` is False the largest may be
            above. NaN where the Hessian holds a NaN or an Inf.
        residual: ‖Hv − value·v‖ for the eigenvector v found, ‖v‖ = 1.
        iterations: Hessian-vector products it took.
        converged: whether the residual fell below `TOLERANCE` times the largest |eigenvalue| met.
    """

    value: float
    residual: float
    iterations: int
    converged: bool


class HessianTrace(NamedTuple):
    """An estimate and its standard error, the standard deviation over probes divided by √samples."""

    estimate: float
    standard_error: float


def top_eigenvalue(product: Product, size: int, *, iterations: int, seed: int) -> HessianEigenvalue:
    """The largest (not: largest in magnitude) eigenvalue of a symmetric matrix, by Lanczos with full
    reorthogonalisation from a random start. Keeps one float64 vector of `size` an iteration.

    Source: Golub & Van Loan, Matrix Computations, 4th edition, section 10.3.

    >>> found = top_eigenvalue(lambda v: np.array([3.0, -5.0]) * v, 2, iterations=9, seed=0)
    >>> round(found.value, 9), found.iterations, found.converged
    (3.0, 2, True)
    """
    check_count("iterations", iterations, least=1)
    start = np.random.default_rng(seed).standard_normal(size)
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(basis[-1] @ image))
        if not np.isfinite(image).all():
            return HessianEigenvalue(value=math.nan, residual=math.nan, iterations=len(basis), converged=False)
        for _ in range(2):  # twice is enough (Parlett): once leaves rounding that brings found vectors back
            for vector in basis:
                image = image - (vector @ image) * vector
        length = float(np.linalg.norm(image))
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        residual = length * abs(float(vectors[-1, -1]))
        converged = residual <= TOLERANCE * float(np.abs(values).max())
        if converged or len(basis) == min(iterations, size):
            return HessianEigenvalue(
                value=float(values[-1]), residual=residual, iterations=len(basis), converged=converged
            )
        beside.append(length)
        basis.append(image / length)


def trace(product: Product, size: int, *, samples: int, seed: int) -> HessianTrace:
    """tr H as the mean of zᵀHz over probes z of random signs. Exact, with standard error 0, for a diagonal matrix.

    Source: Hutchinson 1990, A Stochastic Estimator of the Trace of the Influence Matrix.

    >>> trace(lambda v: np.array([3.0, -5.0]) * v, 2, samples=4, seed=0)
    HessianTrace(estimate=-2.0, standard_error=0.0)
    """
    check_count("samples", samples, least=2)
    rng = np.random.default_rng(seed)
    probes = (rng.choice([-1.0, 1.0], size) for _ in range(samples))
    estimates = np.array([probe @ product(probe) for probe in probes])
    if not np.isfinite(estimates).all():
        return HessianTrace(math.nan, math.nan)
    return HessianTrace(float(estimates.mean()), float(estimates.std(ddof=1)) / math.sqrt(samples))


def on_flat(product: Callable[[list[Array]], list[Any]], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Product, int]:
    """Turn a product on canonical tensors of these shapes into one on flat vectors; also returns their length.

    >>> product, size = on_flat(lambda tensors: [2 * t for t in tensors], {"w": (2, 2), "b": (2,)})
    >>> product(np.arange(6.0)), size
    (array([ 0.,  2.,  4.,  6.,  8., 10.]), 6)
    """
    if not shapes:
        raise GradlabError("no parameter has a gradient path from the loss; expected at least one")
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])

    def flat(v: Array) -> Array:
        pieces = zip(np.split(v, ends[:-1]), shapes.values(), strict=True)
        return np.concatenate(
            [np.asarray(t, np.float64).ravel() for t in product([p.reshape(shape) for p, shape in pieces])]
        )

    return flat, int(ends[-1])


def check_count(name: str, value: Any, *, least: int) -> None:
    """Refuse a number of iterations or samples that is not a whole number, or is too small.

    >>> check_count("samples", 1, least=2)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: samples is 1; expected a whole number of at least 2
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise GradlabError(f"{name} is {value!r}; expected a whole number of at least {least}")


def check_vectors(
    vectors: Mapping[str, tuple[int, ...] | None], shapes: Mapping[str, tuple[int, ...]], cut: set[str]
) -> None:
    """Refuse vectors whose shapes are not those of the parameters. None is allowed for the parameters in `cut`, which
    have no path to the loss.

    >>> check_vectors({"a": (2,), "b": None}, {"a": (3,), "b": (3,)}, set())
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: vectors: 2 problems
      - a has shape (2,); expected (3,), the shape of the parameter
      - b is None; expected shape (3,): only a parameter with no path to the loss may be left out
    """
    problems = [f"{path} is missing; expected shape {shapes[path]}" for path in shapes if path not in vectors]
    problems += [f"{path or 'a leaf'} is not a parameter of this model" for path in vectors if path not in shapes]
    for path, shape in shapes.items():
        came = vectors.get(path, shape)
        if came is None and path not in cut:
            problems.append(
                f"{path} is None; expected shape {shape}: only a parameter with no path to the loss may be left out"
            )
        elif came is not None and came != shape:
            problems.append(f"{path} has shape {came}; expected {shape}, the shape of the parameter")
    refuse("vectors", problems)
