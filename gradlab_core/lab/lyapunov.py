"""Lyapunov exponents of products of random matrices, from theory and measured by a QR chain.

λ_k is the rate per factor at which the k-th singular value of A_n⋯A_1 grows or decays, the limit of ln σ_k/n. A signal
explodes if λ_1 > 0 and vanishes if λ_1 < 0. The gap λ_1 − λ_size says how fast the product loses its rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.lab.graded import scaled
from gradlab_core.lab.products import ENSEMBLES, draw_matrices

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LyapunovExponents:
    """Exponents measured over several seeds, largest first.

    Attributes:
        size, sigma, init, n: the distribution of the matrices, and the number of factors for each seed.
        seeds: the number of seeds.
        measured: the mean over seeds.
        standard_errors: the standard error of that mean: the standard deviation over seeds (ddof 1) over √seeds.
        predicted: the exponents by theory; None if there is no theory.
        predicted_errors: the standard errors that theory expects; None if there is no theory.
    """

    size: int
    sigma: float
    init: str
    n: int
    seeds: int
    measured: tuple[float, ...]
    standard_errors: tuple[float, ...]
    predicted: tuple[float, ...] | None
    predicted_errors: tuple[float, ...] | None


def predicted_exponents(size: int, sigma: float, *, init: str = "gaussian") -> tuple[float, ...] | None:
    """λ_1 ≥ … ≥ λ_size by theory. For independent elements N(0, σ²), λ_k = ln σ + ½(ln 2 + ψ((size − k + 1)/2)) with
    the digamma function ψ; for σ times an orthogonal matrix all are ln σ; None for `uniform`, which has no known
    formula.

    The k-th diagonal element of R in a QR chain is the length of a Gaussian vector in size − k + 1 dimensions, σ·χ.
    Source: Newman 1986, The distribution of Lyapunov exponents: exact results for random matrices.

    >>> [round(x, 4) for x in predicted_exponents(4, 1.0)]
    [0.558, 0.3648, 0.058, -0.6352]
    """
    _check(size, sigma, init)
    if init == "gaussian":
        return tuple(math.log(sigma) + (math.log(2) + _digamma(size - k)) / 2 for k in range(size))
    return (math.log(sigma),) * size if init == "orthogonal" else None


def predicted_errors(size: int, n: int, seeds: int, *, init: str = "gaussian") -> tuple[float, ...] | None:
    """The standard error of each exponent over n·seeds factors: half the root of ψ'((size − k + 1)/2)/(n·seeds), from
    the variance of ln χ. It is 0 for orthogonal matrices and None for `uniform`.

    >>> [round(x, 4) for x in predicted_errors(2, 100, 1)]
    [0.0641, 0.1111]
    """
    if init == "gaussian":
        return tuple(math.sqrt(_trigamma(size - k) / (n * seeds)) / 2 for k in range(size))
    return (0.0,) * size if init == "orthogonal" else None


def critical_sigma(size: int, *, init: str = "gaussian") -> float | None:
    """The σ at which the largest exponent is 0. Above it products explode, and below it they vanish.

    The rule of thumb 1/√size keeps E‖Av‖² = ‖v‖². But the logarithm of a mean exceeds the mean of the logarithm, so a
    typical product still vanishes at 1/√size, and the faster the smaller the matrices are. For orthogonal matrices the
    critical σ is 1.

    >>> [round(critical_sigma(size), 4) for size in (4, 100)], [0.5, 0.1]
    ([0.5724, 0.1005], [0.5, 0.1])
    """
    exponents = predicted_exponents(size, 1.0, init=init)
    return None if exponents is None else math.exp(-exponents[0])


def lyapunov_exponents(
    n: int, size: int, sigma: float, seeds: Sequence[int], *, init: str = "gaussian"
) -> LyapunovExponents:
    """Exponents from the diagonals of a QR chain A_k·Q_{k−1} = Q_k·R_k: λ is the mean of ln |R_k| over the factors.

    For Gaussian matrices the estimate has no bias at any n, unlike ln σ_k(P_n)/n, whose values repel one another.
    Source: Benettin et al. 1980.

    Args:
        n, size, sigma, init: as in `matrix_product_growth`.
        seeds: the seeds of the products, at least two, all different.

    Raises:
        GradlabError: a number is out of range, or the seeds do not allow for a standard error.

    >>> found = lyapunov_exponents(200, 2, 1.0, range(8))
    >>> [round(m, 2) for m in found.measured], [round(p, 2) for p in found.predicted]
    ([0.05, -0.66], [0.06, -0.64])
    """
    few = len(set(seeds)) < 2 or len(set(seeds)) < len(seeds)
    refuse("Lyapunov exponents", [f"seeds is {list(seeds)!r}; expected at least two different ones"] if few else [])
    exponents = np.stack([_exponents(draw_matrices(n, size, sigma, seed, init=init)) for seed in seeds])
    return LyapunovExponents(
        size=size,
        sigma=sigma,
        init=init,
        n=n,
        seeds=len(seeds),
        measured=tuple(exponents.mean(axis=0).tolist()),
        standard_errors=tuple((exponents.std(axis=0, ddof=1) / math.sqrt(len(seeds))).tolist()),
        predicted=predicted_exponents(size, sigma, init=init),
        predicted_errors=predicted_errors(size, n, len(seeds), init=init),
    )


def _exponents(matrices: Array) -> Array:
    basis, total = np.eye(matrices.shape[1]), np.zeros(matrices.shape[1])
    for scale, factor in scaled(matrices):
        basis, r = np.linalg.qr(factor @ basis)
        with np.errstate(divide="ignore"):
            total += scale + np.log(np.abs(np.diagonal(r)))
    return total / len(matrices)


def _digamma(degrees: int) -> float:
    """ψ(degrees/2), by ψ(x + 1) = ψ(x) + 1/x from ψ(½) = −γ − 2 ln 2 and ψ(1) = −γ."""
    start = -float(np.euler_gamma) - (2 * math.log(2) if degrees % 2 else 0.0)
    return start + math.fsum(2 / j for j in range(2 - degrees % 2, degrees, 2))


def _trigamma(degrees: int) -> float:
    """ψ'(degrees/2), by ψ'(x + 1) = ψ'(x) − 1/x² from ψ'(½) = π²/2 and ψ'(1) = π²/6."""
    start = math.pi**2 / (2 if degrees % 2 else 6)
    return start - math.fsum((2 / j) ** 2 for j in range(2 - degrees % 2, degrees, 2))


def _check(size: int, sigma: float, init: str) -> None:
    problems: list[str] = []
    fields.whole_number(problems, "size", size, 1)
    if not 0 < sigma < math.inf:
        problems.append(f"sigma is {sigma!r}; expected a positive finite number")
    fields.one_of(problems, "init", init, ENSEMBLES)
    refuse("Lyapunov exponents", problems)
