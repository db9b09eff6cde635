"""A study of one product of random matrices by its factors, the growth rates of many, and where they change sign."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gradlab_core import backends, fields
from gradlab_core.errors import refuse
from gradlab_core.lab.bounds import ProductBounds, product_bounds
from gradlab_core.lab.lyapunov import LyapunovExponents, critical_sigma, lyapunov_exponents
from gradlab_core.lab.numeric import ROUNDING, log_distance
from gradlab_core.lab.products import ENSEMBLES, ProductGrowth, draw_matrices, matrix_product_growth

_LONGEST = 180.0  # seconds
_SIGMAS = (1e-300, 1e300)  # beyond this, an element may not be an ordinary float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rescaled:
    """The same random matrices with another σ.

    Attributes:
        sigma: the other σ.
        marks: the reasons for it: `asked`, `critical`, `rule` (of thumb), `below` and `above` (0.8 and 1.25 of the
            critical one); several if they are the same number.
        exponent: λ_1 by theory; None if there is no theory.
        log_spectral: ln ‖P_k‖₂ for k = 1 … n.
    """

    sigma: float
    marks: tuple[str, ...]
    exponent: float | None
    log_spectral: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductStudy:
    """What is known about one product and products like it. All logarithms are natural.

    Attributes:
        growth: the growth of the product, factor by factor.
        exponents: growth rates over several products.
        critical: the σ at which λ_1 is 0 by theory; None if there is no theory.
        critical_measured, critical_error: that σ from the measured exponents, and its standard error.
        rule: the σ at which E‖Av‖² = ‖v‖², which is 1/√size, or 1 for orthogonal matrices.
        bounds: what the singular values of the factors say about those of the product.
        log_bound: ln of the product of the first k factors' spectral norms.
        rescaled: the norm at several σ, smallest first.
        differences: for each framework asked for, the largest difference of its logarithms l from the definition, over
            1 + |l|.
        wrong: the frameworks whose difference is more than rounding.
    """

    growth: ProductGrowth
    exponents: LyapunovExponents
    critical: float | None
    critical_measured: float
    critical_error: float
    rule: float
    bounds: ProductBounds
    log_bound: tuple[float, ...]
    rescaled: tuple[Rescaled, ...]
    differences: Mapping[str, float]
    wrong: tuple[str, ...]


def study_products(
    *,
    factors: int = 100,
    size: int = 4,
    sigma: float = 1.0,
    matrices: str = "gaussian",
    seed: int = 0,
    seeds: int = 20,
    frameworks: Sequence[str] = (),
) -> ProductStudy:
    """Study a product of so many size×size matrices, and the exponents of `seeds` products, of which it is the first.

    Args:
        factors, size, sigma, seed, matrices: n, size, sigma, seed and init of `matrix_product_growth`.
        seeds: the number of products on which the exponents are measured, at least 2.
        frameworks: the frameworks whose `matrix_product_growth` is compared with the definition.

    Raises:
        GradlabError: a number is out of range, the study would take more than a few minutes, or a framework is not
            installed.

    >>> study = study_products(factors=100, size=4, sigma=0.5, seeds=2)
    >>> round(study.critical, 3), study.rule, [row.marks for row in study.rescaled]
    (0.572, 0.5, [('below',), ('asked', 'rule'), ('critical',), ('above',)])
    """
    _check(factors, size, sigma, matrices, seed, seeds, frameworks)
    twins = {framework: backends.load(framework) for framework in dict.fromkeys(frameworks)}
    drawn = draw_matrices(factors, size, sigma, seed, init=matrices)
    growth = matrix_product_growth(factors, size, sigma, seed, init=matrices)
    exponents = lyapunov_exponents(factors, size, sigma, range(seed, seed + seeds), init=matrices)
    critical = critical_sigma(size, init=matrices)
    measured = math.exp(math.log(sigma) - exponents.measured[0])
    rule = 1.0 if matrices == "orthogonal" else 1 / math.sqrt(size)
    differences = {
        framework: _difference(twin.matrix_product_growth(factors, size, sigma, seed, init=matrices), growth)
        for framework, twin in twins.items()
    }
    return ProductStudy(
        growth=growth,
        exponents=exponents,
        critical=critical,
        critical_measured=measured,
        critical_error=measured * exponents.standard_errors[0],
        rule=rule,
        bounds=product_bounds(drawn),
        log_bound=tuple(np.log(np.linalg.norm(drawn, 2, axis=(1, 2))).cumsum().tolist()),
        rescaled=_rescaled(growth, critical, measured, rule),
        differences=differences,
        wrong=tuple(framework for framework, difference in differences.items() if not difference <= ROUNDING),
    )


def _rescaled(growth: ProductGrowth, critical: float | None, measured: float, rule: float) -> tuple[Rescaled, ...]:
    """The product with other σ: a factor in every matrix becomes its k-th power in the product of k."""
    turn = measured if critical is None else critical
    wanted = {"asked": growth.sigma, "critical": turn, "rule": rule, "below": 0.8 * turn, "above": 1.25 * turn}
    marks: dict[float, list[str]] = {}
    for mark, sigma in wanted.items():
        same = next((known for known in marks if math.isclose(known, sigma, rel_tol=1e-9)), sigma)
        marks.setdefault(same, []).append(mark)
    logs, steps = np.array(growth.log_spectral), np.arange(1, len(growth.log_spectral) + 1)
    return tuple(
        Rescaled(
            sigma=sigma,
            marks=tuple(marks[sigma]),
            exponent=None if critical is None else math.log(sigma) - math.log(critical),
            log_spectral=tuple((logs + steps * (math.log(sigma) - math.log(growth.sigma))).tolist()),
        )
        for sigma in sorted(marks)
    )


def _difference(growth: ProductGrowth, defined: ProductGrowth) -> float:
    names = ("log_frobenius", "log_spectral", "log_singular_values")
    return float(np.max([log_distance(getattr(growth, name), getattr(defined, name)) for name in names]))


def _check(
    factors: int, size: int, sigma: float, matrices: str, seed: int, seeds: int, frameworks: Sequence[str]
) -> None:
    problems: list[str] = []
    fields.whole_number(problems, "factors", factors, 1)
    fields.whole_number(problems, "size", size, 1)
    if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:
        problems.append(f"sigma is {sigma!r}; expected a positive number from {_SIGMAS[0]:g} to {_SIGMAS[1]:g}")
    fields.one_of(problems, "matrices", matrices, ENSEMBLES)
    fields.whole_number(problems, "seed", seed, 0)
    fields.whole_number(problems, "seeds", seeds, 2)
    for framework in frameworks:
        fields.one_of(problems, "framework", framework, backends.BACKENDS)
    if not problems and (seconds := _seconds(factors, size, seeds, len(set(frameworks)))) > _LONGEST:
        problems.append(
            f"factors {factors:,}, size {size:,} and seeds {seeds:,} would take {_minutes(seconds)}; expected "
            f"{_minutes(_LONGEST)} at most: time grows with factors and with the third to fourth power of size"
        )
    refuse("products", problems)


def _seconds(factors: int, size: int, seeds: int, frameworks: int) -> float:
    """The approximate time of a study on one core, within a factor of two or three, fitted to sizes from 1 to 256. The
    singular values are computed twice, and a framework needs two to three times as long."""
    followed = 1e-4 + 1e-5 * size**2 + 1.2e-7 * size**3
    chained = 2e-5 + 1e-9 * size**3
    return factors * (followed * (2 + 2.5 * frameworks) + chained * seeds)


def _minutes(seconds: float) -> str:
    """A time in words.

    >>> _minutes(180), _minutes(1e6), _minutes(1e20)
    ('about 3 minutes', 'about 278 hours', 'more than a year')
    """
    if seconds > 86400 * 365:
        return "more than a year"
    return f"about {seconds / 60:.0f} minutes" if seconds < 7200 else f"about {seconds / 3600:.0f} hours"
