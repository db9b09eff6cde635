"""Algorithms in float64 NumPy for the singular values of a model's Jacobian, from its products with vectors.

Singular values say by how much small changes of an input are stretched in the output. If all are near 1 (dynamical
isometry), a net keeps distances forward and gradients backward at any depth (Saxe, McClelland & Ganguli 2014;
Pennington, Schoenholz & Ganguli 2017). A twin supplies v ↦ Jv and u ↦ Jᵀu for one example. Vectors are drawn here, so
both twins use the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse

Array = NDArray[np.float64]
Product = Callable[[Array], Array]

METHODS = ("exact", "lanczos")
DENSE = 1 << 26
"""A Jacobian is written out if it has at most so many elements: half a gigabyte in float64."""
TOLERANCE = 1e-6
"""A singular value counts as found at this residual, relative to the largest. Its error is at most that, and of the
order of its square if the value is well apart from the others. Float32 products resolve about 1e-7."""
LEADING = 10
ITERATIONS = 200
SAMPLES = 32
NEAR_ONE = 2.0
"""A singular value within this factor of 1 counts as kept: ten such nets in a row change a signal by 2¹⁰ at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianSpectrum:
    """Singular values of ∂output/∂input of one example.

    Attributes:
        method: `exact` or `lanczos`.
        shape: (outputs, inputs), each taken as one vector.
        values: the largest singular values in descending order, as many as were asked for; NaN if the Jacobian holds a
            NaN or an Inf.
        mean_squared: ‖J‖_F² over the number of singular values, min(shape); it is 1 if gradients keep their size.
        mean_squared_error: its standard error; 0 if it was computed and not estimated.
        smallest, condition: the smallest singular value, and the largest divided by it (Inf over 0); None unless exact.
        near_one: the share of singular values within a factor of 2 of 1; None unless exact.
        converged: whether all of `values` were found to `TOLERANCE`.
        products: how many times J or its transpose was applied.
    """

    method: str
    shape: tuple[int, int]
    values: tuple[float, ...]
    mean_squared: float
    mean_squared_error: float
    smallest: float | None
    condition: float | None
    near_one: float | None
    converged: bool
    products: int


def check_options(k: Any, method: Any, seed: Any) -> None:
    """Refuse options of `jacobian_singular_values` that do not fit.

    >>> check_options(0, "svd", 0)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: jacobian_singular_values: 2 problems
      - k is 0; expected a whole number of at least 1
      - method is 'svd'; expected one of exact, lanczos
    """
    problems: list[str] = []
    if k is not None:
        fields.whole_number(problems, "k", k, 1)
    fields.one_of(problems, "method", method, METHODS)
    fields.whole_number(problems, "seed", seed, 0)
    refuse("jacobian_singular_values", problems)


def check_floating(floating: bool, dtype: Any) -> None:
    """Refuse inputs by which one cannot differentiate.

    >>> check_floating(True, "float32")
    """
    refuse(
        "jacobian_singular_values",
        []
        if floating
        else [f"the input batch is {dtype}; expected floating numbers: of tokens, hand in the embedding"],
    )


def spectrum(
    push: Product, pull: Product, shape: tuple[int, int], *, k: int | None = None, method: str = "exact", seed: int = 0
) -> JacobianSpectrum:
    """The record of one Jacobian of the shape (outputs, inputs).

    >>> matrix = np.diag([3.0, 2.0, 0.5])
    >>> found = spectrum(matrix.__matmul__, matrix.T.__matmul__, (3, 3))
    >>> found.values, found.condition, found.near_one
    ((3.0, 2.0, 0.5), 6.0, 0.6666666666666666)
    >>> found = spectrum(matrix.__matmul__, matrix.T.__matmul__, (3, 3), k=1, method="lanczos")
    >>> round(found.values[0], 9), round(found.mean_squared, 9), found.converged
    (3.0, 4.416666667, True)
    """
    check_options(k, method, seed)
    if method == "exact":
        too_large = [f"J has {shape[0]}·{shape[1]} elements; expected at most {DENSE}: use method='lanczos'"]
        refuse("jacobian_singular_values", too_large if math.prod(shape) > DENSE else [])
        return _exact(push, pull, shape, k)
    size = min(*shape, LEADING if k is None else k)
    values, converged, products = leading(push, pull, shape, k=size, seed=seed)
    squared, error = mean_squared(pull, shape, seed=seed)
    return JacobianSpectrum(
        method=method,
        shape=shape,
        values=values,
        mean_squared=squared,
        mean_squared_error=error,
        smallest=None,
        condition=None,
        near_one=None,
        converged=converged,
        products=products + SAMPLES,
    )


def _exact(push: Product, pull: Product, shape: tuple[int, int], k: int | None) -> JacobianSpectrum:
    size = min(shape)
    product = pull if shape[0] <= shape[1] else push  # a product for each output, or for each input
    dense = np.stack([product(unit) for unit in np.eye(size)])
    finite = np.isfinite(dense).all()
    values = np.linalg.svd(dense, compute_uv=False) if finite else np.full(size, math.nan)
    largest, smallest = float(values[0]), float(values[-1])
    kept = (values >= 1 / NEAR_ONE) & (values <= NEAR_ONE)
    return JacobianSpectrum(
        method="exact",
        shape=shape,
        values=tuple(values[:k].tolist()),
        mean_squared=float(np.mean(np.square(values))),
        mean_squared_error=0.0 if finite else math.nan,
        smallest=smallest,
        condition=(largest / smallest if smallest else math.inf) if finite else math.nan,
        near_one=float(np.mean(kept)) if finite else math.nan,
        converged=bool(finite),
        products=size,
    )


def leading(
    push: Product, pull: Product, shape: tuple[int, int], *, k: int, seed: int
) -> tuple[tuple[float, ...], bool, int]:
    """The k largest singular values, whether all were found, and the number of products.

    The method is Golub–Kahan bidiagonalisation with full reorthogonalisation. It keeps a float64 vector of inputs and
    one of outputs for each of at most `ITERATIONS` iterations.

    Source: Golub & Van Loan, Matrix Computations, 4th edition, section 10.4.

    >>> found, converged, _ = leading(lambda v: v * [3.0, -5.0], lambda u: u * [3.0, -5.0], (2, 2), k=2, seed=0)
    >>> [round(value, 9) for value in found], converged
    ([5.0, 3.0], True)
    """
    start = np.random.default_rng(seed).standard_normal(shape[1])
    right: list[Array] = [start / np.linalg.norm(start)]
    left: list[Array] = []
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = push(right[-1])
        length, image = _beyond(image, left)
        if not math.isfinite(length):
            return (math.nan,) * k, False, 2 * len(right) - 1
        diagonal.append(length)
        left.append(image)
        back, image = _beyond(pull(image), right)
        if not math.isfinite(back):
            return (math.nan,) * k, False, 2 * len(right)
        small = np.diag(diagonal) + np.diag(beside, 1)
        u, values, _ = np.linalg.svd(small)
        residuals = back * np.abs(u[-1, :k])
        # If nothing is left, or the space is full, all that the start can reach has been reached.
        done = len(right) == min(shape) or len(right) == ITERATIONS or back <= 1e-14 * values[0]
        converged = len(values) >= k and bool((residuals <= TOLERANCE * values[0]).all())
        if converged or done:
            padded = np.concatenate([values[:k], np.zeros(max(k - len(values), 0))])
            exhausted = len(values) == min(shape) or back <= 1e-14 * values[0]
            return tuple(padded.tolist()), converged or exhausted, 2 * len(right)
        beside.append(back)
        right.append(image)


def _beyond(vector: Array, basis: list[Array]) -> tuple[float, Array]:
    """The length and direction of the part of a vector outside the basis; 0 and zeros if there is none."""
    before = float(np.linalg.norm(vector))
    for _ in range(2):  # twice is enough (Parlett); after once, rounding brings back vectors that were found
        for known in basis:
            vector = vector - (known @ vector) * known
    length = float(np.linalg.norm(vector))
    if length <= 1e-15 * before:
        return 0.0, np.zeros_like(vector)
    return length, vector / length


def mean_squared(pull: Product, shape: tuple[int, int], *, seed: int) -> tuple[float, float]:
    """The mean squared singular value, ‖J‖_F²/min(shape), and its standard error, estimated from `SAMPLES` vectors u of
    random signs in the outputs, for which E‖Jᵀu‖² = ‖J‖_F² (Hutchinson 1990).

    >>> estimate, error = mean_squared(lambda u: u * [3.0, -5.0], (2, 2), seed=0)
    >>> round(estimate, 9), round(error, 9)
    (17.0, 0.0)
    """
    rng = np.random.default_rng(seed)
    squares = [float(np.sum(np.square(pull(rng.choice([-1.0, 1.0], shape[0]))))) for _ in range(SAMPLES)]
    estimates = np.array(squares) / min(shape)
    if not np.isfinite(estimates).all():
        return math.nan, math.nan
    return float(estimates.mean()), float(estimates.std(ddof=1)) / math.sqrt(SAMPLES)
