"""The section of products of random matrices: what grows, what is lost, and what theory and bounds say of it."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import SURVIVES
from gradlab_core.lab.graded import EPSILON
from gradlab_core.lab.pages import product_charts
from gradlab_core.lab.pages.product_sheets import (
    bounds_sheet,
    difference_sheets,
    growth_sheet,
    rate,
    rates_sheet,
    scales_sheet,
    scores,
)
from gradlab_core.lab.pages.scale import decades, magnitude, shown
from gradlab_core.lab.pages.section import Section
from gradlab_core.lab.studies.products import ProductStudy
from gradlab_core.show.canvas import Illustration
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number

_DOUBTFUL = 5.0  # standard errors
_FEW = 100  # with fewer factors in all, the mean of their logarithms is not close enough to normal to be judged


def product_section(study: ProductStudy) -> Section:
    """The section of a study."""
    level, verdict = _verdict(study)
    doubtful, theory = _theory(study)
    sentences = [verdict, *_rank(study), _critical(study), _bound(study), *theory, *_frameworks(study)]
    if study.wrong or not study.bounds.holds or (doubtful and level == "good"):
        level = "bad"
    charts = [
        Illustration(
            "product-singular-values",
            "What a product does to the directions of a signal",
            _singular_caption(study),
            product_charts.singular_values(study),
        ),
        Illustration(
            "product-norm",
            "The same matrices, scaled differently",
            "The norm of the product with every matrix multiplied by the same factor. Above the critical σ it "
            "explodes, below it vanishes: straight lines on this axis, so exponentially. Healthy: the critical σ, "
            f"where the norm wanders but has no slope. {_rule_words(study)}Below and above are 0.8 and "
            "1.25 of the critical σ. Shaded: within a factor of 1000 of the start.",
            product_charts.norms(study),
        ),
    ]
    return Section(
        key="products",
        title="Products of random matrices",
        about="A deep linear net multiplies its signal by one matrix after the other, and gradients go back through "
        "the same product. Its size is exponential in depth, so there is but one scale of the weights that keeps it; "
        "and even there directions are lost, unless the matrices are orthogonal.",
        level=level,
        said=sentences,
        sheets=[
            growth_sheet(study),
            rates_sheet(study),
            scales_sheet(study),
            bounds_sheet(study),
            *difference_sheets(study),
        ],
        charts=charts,
    )


def _verdict(study: ProductStudy) -> tuple[str, str]:
    log, count = study.growth.log_spectral[-1], len(study.growth.log_spectral)
    end = decades(log)
    what = f"The product of {count:,} {_kind(study)} matrices, σ = {number(study.growth.sigma)},"
    if not math.isfinite(log) or any(map(math.isnan, study.growth.log_singular_values[-1])):
        return "bad", f"{what} has no size that can be told: its singular values are {_listed(study)}."
    if abs(log) <= math.log(SURVIVES):
        return "good", f"{what} keeps its size: all of them together change the norm by a factor of {magnitude(log)}."
    verb, way = ("explodes", "grows") if end > 0 else ("vanishes", "shrinks")
    each = number(abs(end) / count, 2)
    return "bad", f"{what} {verb}: its norm {way} by {_size(log)} orders of magnitude, {each} a factor."


def _rank(study: ProductStudy) -> list[str]:
    """Say how many directions are left, if some are lost."""
    logs = study.growth.log_singular_values[-1]
    left = sum(log > logs[0] + math.log(EPSILON) for log in logs)
    if left == len(logs) or not math.isfinite(logs[0]) or any(map(math.isnan, logs)):
        return []
    below = f"ends {_size(logs[0] - logs[-1])} orders of magnitude below the largest"
    return [
        f"It loses directions all the while: the smallest singular value "
        f"{'is exactly 0' if logs[-1] == -math.inf else below}, and of {len(logs)} only {left} "
        f"{'is' if left == 1 else 'are'} within the 16 digits that float64 has."
    ]


def _listed(study: ProductStudy) -> str:
    """The orders of magnitude of some singular values of the last product."""
    last = study.growth.log_singular_values[-1]
    return listed([shown(last[i], 1) for i in product_charts.some(len(last), 4)])


def _critical(study: ProductStudy) -> str:
    if study.critical is None:
        measured = rate(study.critical_measured, study.critical_error)
        return (
            f"By measurement products keep their size at σ = {measured}; the rule of thumb, 1/√size, says "
            f"{number(study.rule)}, and for {study.growth.init} matrices there is no formula."
        )
    if study.growth.init == "orthogonal":
        return "Orthogonal matrices keep every length at σ = 1, and every direction: nothing is lost at any depth."
    slope = decades(math.log(study.rule) - math.log(study.critical)) * 100
    return (
        f"Products keep their size at σ = {number(study.critical)}. The rule of thumb, 1/√size = {number(study.rule)}, "
        f"is below: a typical product still shrinks by {number(abs(slope), 2)} orders of magnitude every 100 factors."
    )


def _bound(study: ProductStudy) -> str:
    if not study.bounds.holds:
        return "The bounds do not hold, which no product can do: something is wrong with the numbers."
    slack = study.bounds.log_slack[0]
    if math.isnan(slack):
        return "The product of the factors' norms bounds nothing here: one of them is 0."
    if decades(slack) < 0.05:
        return "The product of the factors' norms, which bounds the norm, is the norm itself here."
    return (
        f"The product of the factors' norms, which bounds the norm, is {_size(slack)} orders of magnitude too large: "
        "the directions that one matrix stretches most are not those of the next."
    )


def _theory(study: ProductStudy) -> tuple[bool, list[str]]:
    """Whether the exponents contradict theory, and the sentence that says so."""
    known = [z for z in scores(study) if z is not None]
    if not known or study.exponents.n * study.exponents.seeds < _FEW:
        return False, []
    if any(math.isnan(z) for z in known):
        return True, ["An exponent that was measured is not a number."]
    worst = max(known, key=abs)
    products = f"{study.exponents.seeds} products"
    if abs(worst) > _DOUBTFUL:
        return True, [
            f"The growth rates of {products} are up to {abs(worst):.1f} standard errors from theory: too much for "
            "chance."
        ]
    return False, [f"The growth rates of {products} are within {abs(worst):.1f} standard errors of theory."]


def _frameworks(study: ProductStudy) -> list[str]:
    right = [framework_name(f) for f in study.differences if f not in study.wrong]
    wrong = [framework_name(f) for f in study.wrong]
    sentences = [f"Another product than the definition's: {listed(wrong)}."] if wrong else []
    return sentences + (
        [f"{listed(right)} {'gives' if len(right) == 1 else 'give'} the same, to rounding."] if right else []
    )


def _size(log: float) -> str:
    """The orders of magnitude of a change, without its direction.

    >>> _size(-55.03)
    '23.9'
    """
    return shown(abs(log), 1).lstrip("+")


def _kind(study: ProductStudy) -> str:
    names = {"gaussian": "Gaussian"}
    return f"{names.get(study.growth.init, study.growth.init)} {study.growth.size}×{study.growth.size}"


def _rule_words(study: ProductStudy) -> str:
    if study.growth.init == "orthogonal":
        return ""
    return "At the rule of thumb, 1/√size, it still falls, the slower the larger the matrices. "


def _singular_caption(study: ProductStudy) -> str:
    dashed = "Dashed: the slopes that theory expects. " if study.critical is not None else ""
    return (
        "How many powers of ten each singular value of the product has gained or lost after k factors. s₁ is the norm: "
        "the most that a signal is stretched. Healthy: lines that stay near 0, and near one another; where they part, "
        f"signals lose their differences. {dashed}Dotted: the product of the factors' norms, above which s₁ cannot get."
    )
