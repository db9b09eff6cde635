"""The chart of a range test: the loss against the learning rate, and the rate that is suggested."""

from __future__ import annotations

import math

from gradlab_core.judge.examination import RangeTest
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.text import number, odd


def range_chart(test: RangeTest) -> Chart:
    """The loss before the step with each rate. A dashed line marks the suggested rate."""
    canvas = Canvas([Panel("Loss", "loss before the step")], "learning rate")
    points = [
        Point(rate, Spread(loss, loss, loss), f"rate {number(rate)}<br><b>loss {odd(loss) or number(loss)}</b>")
        for rate, loss in zip(test.rates, test.losses, strict=True)
    ]
    canvas.line(0, Line("loss", style.sequence(0, 2)), points)
    if test.suggested is not None:
        colour, at = style.sequence(1, 2), {"xref": "x", "yref": "paper"}
        line = {"color": colour, "width": 1.2, "dash": "dash"}
        canvas.shapes.append(
            {"type": "line", **at, "x0": test.suggested, "x1": test.suggested, "y0": 0, "y1": 1, "line": line}
        )
        text = f"suggested: {number(test.suggested)}"
        where = {"x": test.suggested, "y": 1, "xanchor": "right", "yanchor": "top", "showarrow": False}
        canvas.annotations.append({**at, **where, "text": text, "font": {"color": colour}, "bgcolor": "#ffffff"})
    figure = canvas.figure()
    figure["layout"]["xaxis"] |= {"type": "log", "exponentformat": "power"}
    for annotation in figure["layout"]["annotations"]:  # on a logarithmic axis plotly takes the exponent
        annotation["x"] = math.log10(annotation["x"])
    return figure
