"""The charts of products of matrices, in orders of magnitude along the factors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradlab_core.definitions.thresholds import SURVIVES
from gradlab_core.lab.pages.scale import log_point, shown
from gradlab_core.lab.studies.products import ProductStudy
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.text import number

LINES = 6
"""So many singular values have colours that can be told apart."""

_THEORY, _BOUND = "slope by theory", "bound on s₁"
_POINTS, _HEIGHT = 400, 420
_AXES = "orders of magnitude", "factors"
_LOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def singular_values(study: ProductStudy) -> Chart:
    """The chart of all singular values, with the slopes of theory and the bound on the largest."""
    growth, count = study.growth, len(study.growth.log_spectral)
    canvas = _canvas()
    picked = some(growth.size, LINES)
    names = [(i, Line(value_name(i), style.sequence(place, len(picked)))) for place, i in enumerate(picked)]
    for i, line in names:
        canvas.line(0, line, _points([values[i] for values in growth.log_singular_values], line.name), mode="lines")
    if study.exponents.predicted is not None:
        for i, line in names:
            slope = study.exponents.predicted[i]
            text = f"{line.name} by theory: {shown(slope * count, 1)} after {count:,} factors"
            ends = [_point(k, slope * k, text) for k in (0, count)]
            canvas.line(0, Line(_THEORY, line.colour), ends, mode="lines")
    canvas.line(0, Line(_BOUND, style.colour_of("bound")), _points(study.log_bound, _BOUND), mode="lines")
    figure = canvas.figure()
    for trace in figure["data"]:
        dash = {_THEORY: "dash", _BOUND: "dot"}.get(trace["name"])
        if dash:
            trace["line"] = {**trace["line"], "dash": dash, "width": 1.5}
        if dash == "dot":
            trace["line"]["color"] = style.MUTED
    return _high(figure)


def norms(study: ProductStudy) -> Chart:
    """The chart of the norm at several σ, with the band in which it survives."""
    canvas = _canvas()
    for place, row in enumerate(study.rescaled):
        name = f"σ = {number(row.sigma)} {', '.join(row.marks)}"
        line = Line(name, style.sequence(place, len(study.rescaled)))
        canvas.line(0, line, _points(row.log_spectral, name), mode="lines")
    kept = math.log10(SURVIVES)
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": -kept, "y1": kept}
    canvas.shapes.append(band | {"fillcolor": style.ZONES["good"], "line": {"width": 0}, "layer": "below"})
    return _high(canvas.figure())


def _canvas() -> Canvas:
    y, x = _AXES
    return Canvas([Panel("", y)], x)


def _high(figure: Chart) -> Chart:
    """The layout of a single panel, which has room for many lines."""
    figure["layout"]["height"] = _HEIGHT
    return figure


def _points(logs: Sequence[float], name: str) -> list[Point]:
    """The points from the identity on, which has no factor; of very many factors only some."""
    values = [0.0, *logs]
    return [_point(k, values[k], f"{name}, {k:,} factors") for k in some(len(values), _POINTS)]


def _point(k: int, log: float, text: str) -> Point:
    return log_point(k, log, f"{text}: <b>{shown(log, 1)}</b>")


def value_name(index: int) -> str:
    """The name of a singular value, counted from 0.

    >>> value_name(0), value_name(11)
    ('s₁', 's₁₂')
    """
    return f"s{str(index + 1).translate(_LOW)}"


def some(count: int, most: int) -> list[int]:
    """At most so many of `range(count)`, evenly spread, including the first and the last.

    >>> some(3, 4), some(100, 4)
    ([0, 1, 2], [0, 33, 66, 99])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]
