"""Bounds on the singular values of a product from those of its factors, and whether a product keeps them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.lab.graded import EPSILON, check_matrices, log_singular_values

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductBounds:
    """The singular values σ_1 ≥ … ≥ σ_size of a product against those of its factors, as natural logarithms.

    If a factor is singular, as far as float64 can tell, whatever depends on a singular value of 0 is NaN.

    Attributes:
        log_singular_values: ln σ_k of the product.
        log_of_factors: Σ_i ln σ_k(A_i).
        log_slack: by how much the sum over the k largest of the factors exceeds that of the product. It is at least 0
            for every k (Horn 1950), and 0 for k = size, where both sides are ln |det|. For k = 1 it says that the norm
            is submultiplicative.
        log_smallest_slack: by how much ln σ_size of the product exceeds that of the factors; at least 0.
        log_condition, log_condition_bound: ln(σ_1/σ_size) of the product, and the sum of those of the factors, which is
            at least as large.
        rounding: how much the logarithms may be off because of rounding.
        holds: whether all inequalities that are not NaN hold up to rounding.
    """

    log_singular_values: tuple[float, ...]
    log_of_factors: tuple[float, ...]
    log_slack: tuple[float, ...]
    log_smallest_slack: float
    log_condition: float
    log_condition_bound: float
    rounding: float
    holds: bool


def product_bounds(matrices: ArrayLike) -> ProductBounds:
    """Check σ_max(AB) ≤ σ_max(A)·σ_max(B), σ_min(AB) ≥ σ_min(A)·σ_min(B) and Horn's inequalities on a product.

    Horn's inequalities are Π_{j≤k} σ_j(AB) ≤ Π_{j≤k} σ_j(A)·σ_j(B) for every k, with equality for k = size. The bound
    on the norm says how fast a product *may* grow. Random matrices stay far below it, since their singular vectors do
    not align.

    Args:
        matrices: (n, size, size); the first one is applied first.

    Raises:
        GradlabError: the argument is not a stack of finite square matrices.

    Source: Horn & Johnson 1991, Topics in Matrix Analysis, theorem 3.3.4.

    >>> found = product_bounds([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 2.0]]])  # the norm could have been 2·2
    >>> [round(math.exp(x), 9) for x in found.log_singular_values], round(math.exp(found.log_slack[0]), 9)
    ([2.0, 2.0], 2.0)
    >>> found.holds
    True
    """
    factors = check_matrices(matrices)
    values = np.linalg.svd(factors, compute_uv=False)
    singular = values <= factors.shape[1] * EPSILON * values[:, :1]
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(singular, 0.0, values))
    spread = np.exp(logs[:, 0] - np.where(singular, np.inf, logs).min(axis=1)) if not singular.all() else np.ones(1)
    # The smallest value of each factor is off by its condition number, and each sum by a digit of its terms.
    finite = float(np.abs(logs[np.isfinite(logs)]).sum())
    rounding = EPSILON * (10 * factors.shape[1] * float(np.maximum(spread, 1).sum()) + finite)
    return judged(log_singular_values(factors)[-1], logs.sum(axis=0), rounding)


def judged(logs: Array, of_factors: Array, rounding: float) -> ProductBounds:
    """Check the inequalities between ln σ_k of a product and the sums of those of its factors.

    >>> judged(np.array([1.0, 0.0]), np.array([0.9, 0.1]), 1e-9).holds  # a product larger than its factors allow
    False
    """
    known = np.isfinite(of_factors) & np.isfinite(logs)
    difference = np.where(known, of_factors, np.nan) - np.where(known, logs, np.nan)
    slack = np.cumsum(difference)
    smallest = -float(difference[-1])
    condition, bound = (float(x[0] - x[-1]) if known.all() else math.nan for x in (logs, of_factors))
    broken = [*(slack < -rounding), slack[-1] > rounding, smallest < -rounding, bound - condition < -rounding]
    return ProductBounds(
        log_singular_values=tuple(logs.tolist()),
        log_of_factors=tuple(of_factors.tolist()),
        log_slack=tuple(slack.tolist()),
        log_smallest_slack=smallest,
        log_condition=condition,
        log_condition_bound=bound,
        rounding=rounding,
        holds=not any(broken),
    )
