"""Singular values of a model's input-output Jacobian, from its products with vectors: the algorithms, in float64 NumPy.

They say by how much one input's small changes are stretched in the output; where all are near 1 (dynamical isometry) a
net keeps distances forward and gradients back, at any depth (Saxe, McClelland & Ganguli 2014; Pennington, Schoenholz &
Ganguli 2017). A twin supplies v ↦ Jv and u ↦ Jᵀu of one example; vectors are drawn here, so both twins use the same.
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
"""Elements of a Jacobian up to which it is written out: half a gigabyte in float64."""
TOLERANCE = 1e-6
"""Residual, relative to the largest singular value, at which one counts as found. Its error is at most that, and of the
order of the square where it stands apart from the others. Float32 products resolve about 1e-7."""
LEADING = 10
ITERATIONS = 200
SAMPLES = 32
NEAR_ONE = 2.0
"""Within this factor of 1 a singular value counts as kept: ten such nets in a row still keep three digits of 2¹⁰."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianSpectrum:
    """Singular values of ∂output/∂input of one example.

    Attributes:
        method: `exact` or `lanczos`.
        shape: (outputs, inputs), each taken as one vector.
        values: the largest, falling; as many as were asked for. NaN where the Jacobian holds a NaN or an Inf.
        mean_squared: ‖J‖_F² over the number of singular values, min(shape): 1 where gradients keep their size.
        mean_squared_error: its standard error; 0 where it was computed and not estimated.
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
    """Refuse inputs in which nothing can be differentiated.

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
    """The record of one Jacobian of that (outputs, inputs).

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
    """The k largest singular values, whether all were found, and products used: Golub–Kahan bidiagonalisation with full
    reorthogonalisation. Keeps a float64 vector of inputs and one of outputs for each of `ITERATIONS` turns at most.

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
        # All that the start can reach has been reached where nothing is left, and where there is no more room.
        done = len(right) == min(shape) or len(right) == ITERATIONS or back <= 1e-14 * values[0]
        converged = len(values) >= k and bool((residuals <= TOLERANCE * values[0]).all())
        if converged or done:
            padded = np.concatenate([values[:k], np.zeros(max(k - len(values), 0))])
            exhausted = len(values) == min(shape) or back <= 1e-14 * values[0]
            return tuple(padded.tolist()), converged or exhausted, 2 * len(right)
        beside.append(back)
        right.append(image)


def _beyond(vector: Array, basis: list[Array]) -> tuple[float, Array]:
    """What a vector has that the basis has not: its length and direction; 0 and zeros where it has nothing."""
    before = float(np.linalg.norm(vector))
    for _ in range(2):  # twice is enough (Parlett): once leaves rounding that brings found vectors back
        for known in basis:
            vector = vector - (known @ vector) * known
    length = float(np.linalg.norm(vector))
    if length <= 1e-15 * before:
        return 0.0, np.zeros_like(vector)
    return length, vector / length


def mean_squared(pull: Product, shape: tuple[int, int], *, seed: int) -> tuple[float, float]:
    """The mean squared singular value, ‖J‖_F²/min(shape), and its standard error, from `SAMPLES` random signs u of the
    outputs: E‖Jᵀu‖² = ‖J‖_F² (Hutchinson 1990).

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
