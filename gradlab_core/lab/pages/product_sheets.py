"""The tables of products of matrices."""

from __future__ import annotations

import math

from gradlab_core.lab.numeric import ROUNDING
from gradlab_core.lab.pages.product_charts import LINES, some, value_name
from gradlab_core.lab.pages.scale import shown
from gradlab_core.lab.pages.section import Sheet
from gradlab_core.lab.studies.products import ProductStudy
from gradlab_core.show.words import framework_name
from gradlab_core.text import number, with_std

_MARKS = {
    "asked": "as asked",
    "critical": "critical",
    "rule": "rule of thumb",
    "below": "0.8 × critical",
    "above": "1.25 × critical",
}


def growth_sheet(study: ProductStudy) -> Sheet:
    """The table of norms and singular values after some of the factors."""
    growth, count = study.growth, len(study.growth.log_spectral)
    columns = some(growth.size, 4)
    steps = [k for power in range(8) for k in (10**power, 2 * 10**power, 5 * 10**power) if k < count] + [count]
    return Sheet(
        f"After k factors, orders of magnitude (seed {growth.seed})",
        ["k", "Frobenius", *(value_name(i) for i in columns)],
        [
            [
                f"{k:,}",
                shown(growth.log_frobenius[k - 1], 1),
                *(shown(growth.log_singular_values[k - 1][i], 1) for i in columns),
            ]
            for k in steps
        ],
    )


def rates_sheet(study: ProductStudy) -> Sheet:
    """The table of measured and predicted exponents."""
    exponents, apart = study.exponents, scores(study)
    predicted, errors = exponents.predicted, exponents.predicted_errors
    rows = []
    for i in some(exponents.size, LINES):
        row = [f"λ{value_name(i)[1:]}", rate(exponents.measured[i], exponents.standard_errors[i])]
        if predicted is not None and errors is not None:
            row += [rate(predicted[i], errors[i]), "–" if (z := apart[i]) is None else f"{z:+.1f}".replace("-", "−")]
        rows.append(row)
    theory = ["theory", "errors apart"] if predicted is not None else []
    return Sheet(
        f"Growth rates (Lyapunov exponents), {exponents.seeds} products",
        ["ln a factor", "measured", *theory],
        rows,
    )


def scales_sheet(study: ProductStudy) -> Sheet:
    """The table of the norm at several σ."""
    count = len(study.growth.log_spectral)
    theory = study.critical is not None
    rows = []
    for row in study.rescaled:
        expected = [shown(row.exponent * count, 1)] if row.exponent is not None else []
        rows.append([marked(row.marks), number(row.sigma, 4), *expected, shown(row.log_spectral[-1], 1)])
    return Sheet(
        f"The same matrices at another σ: orders of magnitude after {count:,}",
        ["scale", "σ", *(["norm by λ₁"] if theory else []), "norm"],
        rows,
    )


def bounds_sheet(study: ProductStudy) -> Sheet:
    """The table of what the singular values of the factors say of those of the product."""
    bounds, size = study.bounds, study.growth.size
    product, factors = bounds.log_singular_values, bounds.log_of_factors
    rows = [
        ("largest singular value", "≤", product[0], factors[0], bounds.log_slack[0]),
        ("smallest singular value", "≥", product[-1], factors[-1], bounds.log_smallest_slack),
        ("condition number", "≤", bounds.log_condition, bounds.log_condition_bound, None),
        ("|determinant|", "=", sum(product), sum(factors), bounds.log_slack[-1]),
    ]
    cells = []
    for name, sign, of_product, of_factors, slack in rows[: 4 if size > 1 else 1]:
        apart = abs(of_factors - of_product) if slack is None else abs(slack)
        cells.append([name, shown(of_product, 1), sign, shown(of_factors, 1), shown(apart, 1).lstrip("+")])
    return Sheet(
        "Bounds by the factors' singular values, orders of magnitude",
        ["", "of the product", " ", "product of those", "apart"],
        cells,
        levels=[] if bounds.holds else ["bad"] * len(cells),
    )


def difference_sheets(study: ProductStudy) -> list[Sheet]:
    """The table of the frameworks beside the definition; none if no framework was asked for."""
    rows = [[framework_name(f), number(value), number(ROUNDING)] for f, value in study.differences.items()]
    title = "Largest difference of a logarithm l from the definition's, over 1 + |l|"
    levels = ["bad" if f in study.wrong else "" for f in study.differences]
    return [Sheet(title, ["framework", "off by", "allowed"], rows, levels=levels)] if rows else []


def scores(study: ProductStudy) -> list[float | None]:
    """How many standard errors, as theory expects them, each exponent is off. None if there is nothing to say: without
    theory, or if theory allows no error and there is none except rounding."""
    exponents = study.exponents
    if exponents.predicted is None or exponents.predicted_errors is None:
        return [None] * len(exponents.measured)
    values = zip(exponents.measured, exponents.predicted, exponents.predicted_errors, strict=True)
    return [
        (measured - predicted) / error
        if error
        else (None if math.isclose(measured, predicted, rel_tol=1e-9, abs_tol=1e-9) else math.inf)
        for measured, predicted, error in values
    ]


def rate(value: float, error: float) -> str:
    """A growth rate with the digits that its error allows, at most six.

    >>> rate(0.55384, 0.0095), rate(-3.6e-18, 1e-18)
    ('0.5538 ± 0.0095', '0.000000')
    """
    if not math.isfinite(value) or not math.isfinite(error):
        return with_std("rate", value, error)
    if error < 1e-6:
        return f"{round(value, 6) + 0.0:.6f}".replace("-", "−")
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def marked(marks: tuple[str, ...]) -> str:
    """The names of a σ.

    >>> marked(("asked", "rule"))
    'as asked, rule of thumb'
    """
    return ", ".join(_MARKS[mark] for mark in marks)
