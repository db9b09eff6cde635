"""The chart of the map of depth × σ_w, with the gradient, the edge of chaos and the net under test."""

from __future__ import annotations

import math

from gradlab_core.definitions.thresholds import SURVIVES
from gradlab_core.lab.pages.scale import decades, magnitude, verdict
from gradlab_core.lab.studies.propagation import PropagationStudy
from gradlab_core.show import style
from gradlab_core.show.canvas import Chart, Illustration
from gradlab_core.text import number

_REACH = 9.0  # the colours end at so many orders of magnitude
_SCALE = [
    [0, "#1d3f72"], [0.17, "#2f86b5"], [1 / 3, "#cfe6ef"], [0.5, "#ffffff"], [2 / 3, "#f9dcc4"], [0.83, "#d9622b"],
    [1, "#7c1d0c"],
]  # fmt: skip
_ROWS = 100  # the most columns and rows that are drawn
_NEAR = 3.0  # with fewer orders of magnitude of σ_w, there is room for ticks at 1, 2 and 5


def phase_chart(study: PropagationStudy) -> Illustration:
    """The chart of a study whose weights are random."""
    phases = study.phases
    assert phases is not None
    step = math.ceil(len(phases.log_gradient) / _ROWS)
    depths = list(range(1, len(phases.log_gradient) + 1, step))
    norms = [[value / 2 for value in phases.log_gradient[depth - 1]] for depth in depths]
    cells = [[max(-_REACH, min(_REACH, decades(value))) for value in row] for row in norms]
    survives = math.log10(SURVIVES)
    sigmas = [style.rounded(sigma) for sigma in phases.sigmas]
    data: list[Chart] = [
        {
            "type": "heatmap", "x": sigmas, "y": depths, "z": [[round(v, 3) for v in row] for row in cells],
            "zmin": -_REACH, "zmax": _REACH, "colorscale": _SCALE, "zsmooth": False,
            "customdata": [[magnitude(value) for value in row] for row in norms],
            "hovertemplate": "σ_w %{x:.3g}, %{y} layers<br>gradient in the first layer over that in the last: "
            "<b>%{customdata}</b><extra></extra>",
            "colorbar": _colorbar(survives), "showlegend": False,
        },
        {
            "type": "contour", "x": sigmas, "y": depths, "z": cells, "showscale": False, "showlegend": False,
            "contours": {"coloring": "none", "start": -survives, "end": survives, "size": 2 * survives},
            "line": {"color": style.INK, "width": 1.3}, "hoverinfo": "skip",
        },
    ]  # fmt: skip
    if study.edge is not None:
        line = {"color": style.INK, "width": 2, "dash": "dash"}
        at = study.edge.sigma_w
        data.append(_marks(f"edge of chaos, σ_w = {number(at)}", [at, at], [1, depths[-1]], mode="lines", line=line))
    sigma, depth = study.sigma_w, study.net.depth
    assert sigma is not None
    star = {"symbol": "star", "size": 17, "color": "#ffd43b", "line": {"color": style.INK, "width": 1.5}, "opacity": 1}
    name = f"this net: {depth} layers, σ_w = {number(sigma)}"
    data.append(_marks(name, [sigma], [min(depth, depths[-1])], mode="markers", marker=star))
    layout = style.layout(430)
    layout["xaxis"] = style.axis("σ_w: standard deviation of weights · √fan_in", type="log", showgrid=False)
    ends = [math.log10(phases.sigmas[i]) for i in (0, -1)]
    layout["xaxis"] |= {"tickformat": "~g", "range": ends}
    if ends[1] - ends[0] < _NEAR:
        layout["xaxis"]["dtick"] = "D2"
    layout["yaxis"] = style.axis("depth (layers)", showgrid=False, range=[1, depths[-1]])
    layout["margin"] |= {"b": 104}
    layout["meta"] = {"narrowLegendColumns": 1}
    layout["annotations"] = [*_named(cells, 0.03, "vanishing"), *_named(cells, 0.97, "exploding")]
    biases = f" and σ_b = {number(study.sigma_b)}" if study.sigma_b else ""
    return Illustration(
        "phases",
        "Vanishing, critical, exploding",
        f"What becomes of a gradient on its way from the last layer to the first, for {study.net.activation}{biases}, "
        "by mean-field theory, for infinite width. Blue vanishes, red explodes, without a colour it keeps its size; "
        f"between the lines it changes by less than {number(SURVIVES)}. The deeper the net, the narrower that band"
        f"{_edge_words(study)}{_apart(study)}",
        {"data": data, "layout": layout},
    )


def _edge_words(study: PropagationStudy) -> str:
    """Say where the band is, which is around the edge of chaos if variances stay there."""
    if study.edge is None:
        return "; there is no edge of chaos for it to close in on."
    return " around the edge of chaos." if study.edge.stable else ". A net that starts on its edge does not stay there."


def _apart(study: PropagationStudy) -> str:
    """What to say if nets of finite width differ from the map, as they do far in saturation."""
    row = next(row for row in study.measured["numpy"] if (row.quantity, row.layer) == ("gradient", 1))
    there = verdict(study.log_gradient)
    if verdict(row.expected.limit / 2) == there:
        return ""
    return f" Not so in nets of this width, {study.net.widths[0]}: measured, the gradient {there}."


def _named(cells: list[list[float]], share: float, name: str) -> list[Chart]:
    """The name of a region, placed so far to the right, if the map has its colour there."""
    row = cells[round(0.85 * (len(cells) - 1))]
    there = row[round(share * (len(row) - 1))]
    if abs(there) < 0.7 * _REACH or (there < 0) != (name == "vanishing"):
        return []
    where = {"xref": "paper", "yref": "paper", "x": share, "y": 0.85, "showarrow": False}
    where |= {"xanchor": "left" if share < 0.5 else "right"}
    return [{**where, "text": f"<b>{name}</b>", "font": {"color": style.INK, "size": 13}, "bgcolor": "#ffffff"}]


def _colorbar(survives: float) -> Chart:
    ticks = [-_REACH, -survives * 2, -survives, 0.0, survives, survives * 2, _REACH]
    words = [magnitude(tick * math.log(10)) for tick in ticks]
    words[0], words[-1] = f"≤ {words[0]}", f"≥ {words[-1]}"
    return {
        "orientation": "h", "thickness": 10, "len": 0.9, "x": 0.5, "y": 0, "yref": "container", "yanchor": "bottom",
        "ypad": 6, "tickvals": ticks, "ticktext": words, "outlinewidth": 0,
    }  # fmt: skip


def _marks(name: str, x: list[float], y: list[int], **look: object) -> Chart:
    return {"type": "scatter", "name": name, "x": x, "y": y, "showlegend": True, "hoverinfo": "name", **look}
