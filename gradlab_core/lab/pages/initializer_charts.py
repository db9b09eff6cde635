"""Two charts of the initialisers: their histograms on one axis, and the signal of deep nets with these starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradlab_core.lab.pages.scale import decades, log_point, magnitude
from gradlab_core.lab.pages.starts import start_name, zero
from gradlab_core.lab.samples import Histogram
from gradlab_core.lab.studies.initializers import InitializerRow, InitializerStudy
from gradlab_core.lab.studies.starts import Start
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.text import number

_PANEL, _GAP = 62, 12  # pixels
_HEAD = 1.55  # the share of a panel above its highest bar, where its texts are
_SIGMAS = 3.7
_DRAWN, _FORMULA, _WRONG = style.sequence(1, 6), style.sequence(5, 6), style.sequence(5, 6)
_MOST = 10.0
"""The orders of magnitude of the plot, up and down. Lines may leave it, so that the others can be told apart."""
_LABEL = 17  # pixels


def weights_chart(study: InitializerStudy) -> Chart:
    """A panel for each initialiser, with one axis of weights for all."""
    reach = _reach(study)
    count = len(study.rows)
    total = count * _PANEL + (count - 1) * _GAP
    layout = style.layout(total + 100)
    layout["annotations"] = []
    layout["margin"] |= {"l": 34}
    bottom = _axis(count - 1)
    layout["xaxis"] = style.axis("weight", range=[-reach, reach], anchor=bottom, nticks=9)
    layout["legend"]["y"] = 1 + 6 / total
    data: list[Chart] = []
    for i, (row, bars) in enumerate(zip(study.rows, study.histograms, strict=True)):
        top = (total - i * (_PANEL + _GAP)) / total
        layout["yaxis" + _axis(i)[1:]] = style.axis(
            domain=[max(0.0, top - _PANEL / total), top],
            range=[0, _HEAD],
            showticklabels=False,
            ticks="",
            showgrid=False,
        )
        data += _panel(row, bars, _axis(i))
        layout["annotations"] += _texts(row, study.layer.fan_in, top, reach)
    named: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace["name"] not in named
        named.add(trace["name"])
    title = "density, each panel its own height" if count > 3 else "density"
    where = {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "right", "xshift": -8, "y": 0.5, "textangle": -90}
    layout["annotations"].append({**where, "text": title, "showarrow": False})
    return {"data": data, "layout": layout}


def _axis(panel: int) -> str:
    return "y" if panel == 0 else f"y{panel + 1}"


def _reach(study: InitializerStudy) -> float:
    """The reach of the axis to both sides: what is drawn without far tails, and constants that are not far away."""
    spread = [0.0]
    for row in study.rows:
        law, drawn = row.weights.law, row.weights
        if law.kind == "uniform" and law.high is not None:
            spread.append(law.high)
        elif law.kind != "constant":
            spread.append(_SIGMAS * law.std)
        if math.isfinite(drawn.std) and law.kind != "constant":
            spread.append(min(_SIGMAS * drawn.std, max(abs(drawn.low), abs(drawn.high))))
    reach = max(spread)
    constants = [abs(row.weights.law.mean) for row in study.rows if row.weights.law.kind == "constant"]
    return 1.06 * max(reach, *(value for value in [*constants, 0.0] if value <= 3 * reach or not reach)) or 1.0


def _panel(row: InitializerRow, bars: Histogram, axis: str) -> list[Chart]:
    peak = max((value for value in (*bars.drawn, *bars.expected) if math.isfinite(value)), default=0.0) or 1.0
    common: Chart = {"yaxis": axis, "hovertemplate": "%{text}<extra></extra>"}
    traces: list[Chart] = []
    if bars.drawn:
        # One filled shape of steps, since a browser makes stripes of bars that are a pixel wide.
        heights = [value / peak for value in bars.drawn]
        texts = [
            f"{row.name}<br>{number(low)} … {number(high)}<br>density <b>{number(value)}</b>"
            for low, high, value in zip(bars.edges, bars.edges[1:], bars.drawn, strict=False)
        ]
        traces.append(
            {
                **common,
                "type": "scatter",
                "mode": "lines",
                "name": "as drawn",
                "x": [style.rounded(edge) for edge in bars.edges],
                "y": [style.rounded(height) for height in (*heights, 0.0)],
                "text": [*texts, ""],
                "fill": "tozeroy",
                "fillcolor": style.faint(_DRAWN).replace("0.13", "0.55"),
                "line": {"shape": "hv", "width": 0, "color": _DRAWN},
            }
        )
    elif math.isfinite(row.weights.low):
        traces.append(_spike(common, "as drawn", row.weights.low, f"{row.name}<br>all {number(row.weights.low)}", 5))
    line = {"color": _FORMULA, "width": 2}
    if bars.x:
        texts = [f"{row.name}<br>at {number(x)} the formula's density is <b>{number(y)}</b>" for x, y in _curve(bars)]
        formula = [style.rounded(y / peak) for y in bars.expected]
        points = {"x": [style.rounded(x) for x in bars.x], "y": formula, "text": texts}
        traces.append({**common, "type": "scatter", "mode": "lines", "name": "by formula", **points, "line": line})
    elif row.weights.law.kind == "constant":
        value = row.weights.law.mean
        spike = _spike(common, "by formula", value, f"{row.name}<br>by formula all {number(value)}", 1.5)
        traces.append({**spike, "line": line})
    return traces


def _curve(bars: Histogram) -> list[tuple[float, float]]:
    return list(zip(bars.x, bars.expected, strict=True))


def _spike(common: Chart, name: str, x: float, text: str, width: float) -> Chart:
    line = {"color": _DRAWN, "width": width}
    where = {"x": [style.rounded(x)] * 2, "y": [0, 1], "text": [text] * 2}
    return {**common, "type": "scatter", "mode": "lines", "name": name, "opacity": 0.8, **where, "line": line}


def _texts(row: InitializerRow, fan_in: int, top: float, reach: float) -> list[Chart]:
    """The texts of a panel: the name at the left, σ at the right, and what cannot be drawn."""
    drawn = row.weights
    sigma = f"σ = {number(drawn.std)}<br>σ·√fan-in = {number(drawn.std * math.sqrt(fan_in))}"
    if drawn.law.kind == "constant":
        sigma = f"all {number(drawn.low)}" if drawn.low == drawn.high else sigma
        sigma += "<br>outside of the axis" if abs(drawn.low) > reach else ""
    notes = [f"<b>{row.name}</b>"]
    if drawn.nonfinite:
        notes.append(f"<b>{drawn.nonfinite:,} are NaN or Inf</b>")
    if row.wrong:
        notes.append("<b>✕ wrong</b>")
    look = {"xref": "paper", "yref": "paper", "y": top, "yanchor": "top", "showarrow": False}
    colour = {"color": _WRONG} if row.wrong else {}
    left = {"x": 0, "xanchor": "left", "align": "left", "xshift": 4, "text": "<br>".join(notes)}
    right = {"x": 1, "xanchor": "right", "align": "right", "text": sigma}
    return [{**look, **left, "font": {"size": 12, **colour}}, {**look, **right, "font": {"size": 11}}]


def starts_chart(study: InitializerStudy) -> Chart:
    """A line for each start, forward in the upper panel and backward in the lower."""
    down = f"Gradient, from layer {study.depth} (right) down"
    canvas = Canvas(
        [Panel("Signal, from the input (left) on", "orders of magnitude"), Panel(down, "orders of magnitude")], "layer"
    )
    lines = [Line(start_name(start), style.sequence(i, len(study.starts))) for i, start in enumerate(study.starts)]
    for panel in range(2):
        for start, line in zip(study.starts, lines, strict=True):
            mode = "lines" if study.depth > 1 else "markers"
            canvas.line(panel, line, _points(start, line.name, panel), mode=mode)
    figure = canvas.figure()
    layout = figure["layout"]
    layout["meta"] = {"narrowLegendColumns": 1}
    for panel in range(2):
        every = [log / 2 for start in study.starts for log in (start.signal, start.gradient)[panel]]
        values = [0.0, *(decades(log) for log in every if math.isfinite(log))]
        low, high = max(min(values), -_MOST), min(max(values), _MOST)
        room = 0.08 * max(high - low, 1.0)
        ends = [low - (0 if low == -_MOST else room), high + (0 if high == _MOST else room)]
        layout["yaxis" + _axis(panel)[1:]] |= {"range": ends, "zeroline": True, "zerolinecolor": style.MUTED}
        layout["annotations"] += _leaving(study.starts, lines, panel, study.depth)
    return figure


def _points(start: Start, name: str, panel: int) -> list[Point]:
    what, logs, dead = (("signal", start.signal, start.dead_signal), ("gradient", start.gradient, start.dead_gradient))[
        panel
    ]
    points = []
    for layer, log in enumerate(logs, 1):
        lost = dead[layer - 1] if dead else 0
        text = f"{name}<br>layer {layer}<br>{what} <b>{magnitude(log / 2)}</b>"
        text += f"<br>exactly 0 in {lost} of {start.nets} nets" if 0 < lost < start.nets else ""
        points.append(log_point(layer, log / 2, text, below=zero(start)))
    return [log_point(0, 0.0, f"{name}<br>input <b>1</b>"), *points] if panel == 0 else points


def _leaving(starts: Sequence[Start], lines: Sequence[Line], panel: int, depth: int) -> list[Chart]:
    """Texts that say where lines leave the plot and would end, in a staircase so that they do not overlap."""
    leaving: list[tuple[float, Chart]] = []
    for start, line in zip(starts, lines, strict=True):
        logs = list(enumerate((start.signal, start.gradient)[panel], 1))
        sizes = [(layer, decades(log / 2)) for layer, log in (logs if panel == 0 else logs[::-1]) if math.isfinite(log)]
        x = _crossing([(0, 0.0), *sizes] if panel == 0 else sizes)
        if x is None:
            continue
        layer, last = sizes[-1]
        text = f"{line.name}: {last:+,.0f} at layer {layer}".replace("-", "−")
        edge = math.copysign(_MOST, last)
        look = {
            "font": {"size": 11, "color": line.colour},
            "arrowcolor": line.colour,
            "bgcolor": "rgba(255,255,255,0.8)",
        }
        leaving.append((x, {"x": style.rounded(x), "y": edge, "yref": _axis(panel), "text": text, **look}))
    leaving.sort(key=lambda item: item[0], reverse=panel == 1)
    annotations = []
    steps = {_MOST: 0, -_MOST: 0}
    for x, chart in leaving:
        left = x > depth / 2
        steps[chart["y"]] += 1
        away = {"ax": -26 if left else 26, "ay": math.copysign(_LABEL * (steps[chart["y"]] - 0.1), chart["y"])}
        anchor = {
            "xref": "x",
            "showarrow": True,
            "xanchor": "right" if left else "left",
            "arrowhead": 2,
            "arrowwidth": 1.2,
        }
        annotations.append({**chart, **away, **anchor})
    return annotations


def _crossing(sizes: Sequence[tuple[int, float]]) -> float | None:
    """The place where a line leaves the plot, interpolated between layers; None if the line does not leave it."""
    if not sizes or abs(sizes[-1][1]) <= _MOST:
        return None
    outside = max(i for i, (_, value) in enumerate(sizes) if i == 0 or abs(sizes[i - 1][1]) <= _MOST)
    (x0, y0), (x1, y1) = sizes[max(outside - 1, 0)], sizes[outside]
    return x0 + (x1 - x0) * (_MOST - abs(y0)) / (abs(y1) - abs(y0)) if abs(y1) > abs(y0) else float(x1)
