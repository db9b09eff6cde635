"""The activations: the published plot of f and f′, and a table of where f′ vanishes."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import DERIVATIVE_FINE, DERIVATIVE_VANISHED
from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.regions import ActivationCurve, Interval
from gradlab_core.lab.studies.activations import ActivationRow, ActivationStudy
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, percent

_FIRST = ("sigmoid", "tanh", "relu", "elu", "gelu", "silu")
"""The activations that are visible at first if all are studied. The others can be switched on in the legend."""
_DASHES = ("solid", "dash", "dot", "dashdot")


def activation_section(study: ActivationStudy) -> Section:
    """The section of a study."""
    wrong = [f"{framework_name(f)}'s {row.name}" for row in study.rows for f in row.wrong]
    sentences = _sentences(study)
    if wrong:
        sentences.append(f"Not the definition's derivative: {listed(wrong)}.")
    elif any(row.differences for row in study.rows):
        names = [framework_name(f) for f in study.rows[0].differences]
        sentences.append(f"Kinks aside, the derivatives of {listed(names)} are those of the definition, to rounding.")
    return Section(
        key="activations",
        title="Activations",
        about="A gradient on its way down is multiplied by f′ at every unit. Where f′ is near 0 it stops there; where "
        "f′ is far from 1 at every layer it shrinks or grows exponentially with depth.",
        level="bad" if wrong else "good",
        said=sentences,
        sheets=[_table(study), *_kinks(study)],
        charts=[
            Illustration(
                "activation-gradients",
                "Activations and their derivatives",
                "f above, f′ below. Where the lower curve runs along 0 no gradient gets through; only near 1 it keeps "
                "its size. Names in the legend can be switched on and off.",
                _chart(study),
            )
        ],
    )


def _sentences(study: ActivationStudy) -> list[str]:
    low, high = (number(bound) for bound in DERIVATIVE_FINE)
    weak = [row for row in study.rows if max(abs(row.gradient_min), row.gradient_max) < DERIVATIVE_FINE[0]]
    sentences = [
        f"{row.name} shrinks every gradient: |f′| is nowhere above {number(row.gradient_max)}." for row in weak
    ]
    others = [row for row in study.rows if row.name != "identity"]
    if len(others) > 1:
        best = max(others, key=lambda row: row.share)
        sentences.append(
            f"Of inputs from {_inputs(study)}, {best.name} lets the largest share through with {low} ≤ |f′| ≤ {high}: "
            f"{percent(best.share)}."
        )
    return sentences


def _inputs(study: ActivationStudy) -> str:
    return f"N({number(study.mean)}, {number(study.std)}²)"


def _table(study: ActivationStudy) -> Sheet:
    frameworks = list(study.rows[0].differences)
    return Sheet(
        f"Derivatives on −8 … 8; the share of inputs from {_inputs(study)} with ½ ≤ |f′| ≤ 2"
        + ("; the largest difference of each framework, kinks aside" if frameworks else ""),
        [
            "activation",
            "f′",
            f"|f′| < {number(DERIVATIVE_VANISHED)}",
            "share",
            *(f"{framework_name(f)} off by" for f in frameworks),
        ],
        [
            [
                row.name,
                _range(row),
                _intervals(row.vanishing),
                percent(row.share),
                *map(number, row.differences.values()),
            ]
            for row in study.rows
        ],
        words=[f"|f′| < {number(DERIVATIVE_VANISHED)}"],
        levels=["bad" if row.wrong else "" for row in study.rows],
    )


def _kinks(study: ActivationStudy) -> list[Sheet]:
    """The table of what frameworks take for f′ at kinks, where it has no value; none if no framework was asked for."""
    frameworks = list(study.rows[0].differences)
    rows = [
        [f"{row.name} at {number(kink.x)}", number(kink.definition), *(number(kink.frameworks[f]) for f in frameworks)]
        for row in study.rows
        for kink in row.kinks
    ]
    title = "f′ at kinks, where any number between the two slopes is right"
    headings = ["kink", "definition", *map(framework_name, frameworks)]
    return [Sheet(title, headings, rows)] if frameworks and rows else []


def _range(row: ActivationRow) -> str:
    low, high = number(row.gradient_min, 2).replace("-", "−"), number(row.gradient_max)
    return low if low == high else f"{low} … {high}"


def _intervals(intervals: tuple[Interval, ...]) -> str:
    """Intervals in words.

    >>> _intervals(((-math.inf, -4.585), (4.585, math.inf))), _intervals(())
    ('x < −4.58, x > 4.58', 'nowhere')
    """
    return ", ".join(_interval(*ends) for ends in intervals) or "nowhere"


def _interval(low: float, high: float) -> str:
    a, b = (number(end).replace("-", "−") for end in (low, high))
    if low == -math.inf:
        return f"x < {b}"
    return f"x > {a}" if high == math.inf else f"{a} … {b}"


def _chart(study: ActivationStudy) -> Chart:
    canvas = Canvas([Panel("Activation f", "f(x)"), Panel("Derivative f′", "f′(x)")], "x")
    curves = sorted(study.curves, key=lambda curve: _FIRST.index(curve.name) if curve.name in _FIRST else len(_FIRST))
    for i, curve in enumerate(curves):
        line = Line(curve.name, style.sequence(i % 6, 6))
        for panel, (name, values) in enumerate((("f", curve.value), ("f′", curve.gradient))):
            canvas.line(panel, line, _points(curve, name, values), mode="lines")
    figure = canvas.figure()
    names = [curve.name for curve in curves]
    few = len(names) <= len(_FIRST)
    for trace in figure["data"]:
        trace["line"] = {**trace["line"], "dash": _DASHES[names.index(trace["name"]) // 6 % len(_DASHES)]}
        trace["visible"] = True if few or trace["name"] in _FIRST else "legendonly"
    return figure


def _points(curve: ActivationCurve, name: str, values: tuple[float, ...]) -> list[Point]:
    return [
        Point(x, Spread(value, value, value), f"{curve.name}: {name}({number(x)}) = <b>{number(value)}</b>")
        for x, value in zip(curve.x, values, strict=True)
    ]
