"""Heatmaps with a row for each tensor and a column for each step.

The colour is the norm. What is not a number has a colour of its own, which is named above the chart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from gradlab_core.records import GradientState, StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import Chart
from gradlab_core.show.run.steps import DrawnRun, is_anomaly, nonfinite
from gradlab_core.text import NOT_MEASURED, number, odd

ZERO, NO_PATH, NOT_RECORDED = "exactly 0", "no gradient path", "not recorded"
WORDS = {
    "NaN": "#d0209a",
    "Inf": "#e8590c",
    "−Inf": "#a03d00",
    ZERO: "#000000",
    NO_PATH: "#9aa5b1",
    NOT_MEASURED: "#d8dee4",
    NOT_RECORDED: "#eef1f4",
}
"""The colours of what a logarithmic scale cannot show. None of them occurs in the colour scale of the numbers."""
_SCALE = [[0, "#f6efc8"], [0.35, "#86cbb6"], [0.7, "#2f86b5"], [1, "#25457f"]]
_STRIP = {
    "NaN or Inf": ("#d0209a", "triangle-up", lambda record: bool(nonfinite(record))),
    "anomaly": ("#b3410e", "diamond", is_anomaly),
    "skipped": (style.MUTED, "x", lambda record: record.skipped),
}
_MARK, _GAP, _TOP, _BOTTOM, _LABEL = 16, 8, 34, 104, 22  # in pixels, but for `_LABEL`, which is in characters


@dataclasses.dataclass(frozen=True)
class _Cells:
    """`values` holds the numbers to draw, and `words` what stands in their place where there is no number."""

    values: list[list[float | None]]
    words: list[list[str | None]]


def heatmap(run: DrawnRun, quantity: str) -> Chart:
    """The chart of one quantity of `TensorNorms`."""
    paths, columns = run.paths, [str(record.step) for record in run.drawn]
    cells = _cells(run.drawn, paths, quantity)
    strip = {word: mark for word, mark in _STRIP.items() if any(mark[2](record) for record in run.drawn)}
    row = min(18.0, max(3.0, 760 / len(paths)))
    above = len(strip) * _MARK + (_GAP if strip else 0)
    total = row * len(paths) + above
    layout = style.layout(round(total) + _TOP + _BOTTOM)
    layout["margin"] = {"l": 30, "r": 14, "t": _TOP, "b": _BOTTOM}
    layout["meta"] = {"narrowLegendColumns": 1}  # long row names leave little room for the legend
    # The axis has categories, so that all columns are equally wide: a single step would be too thin to see otherwise.
    layout["xaxis"] = style.axis("optimizer step", type="category", categoryarray=columns, showgrid=False, nticks=5)
    layout["xaxis"] |= {"range": [-0.5, len(columns) - 0.5]}
    labelled = range(0, len(paths), math.ceil(13 / row))
    layout["yaxis"] = style.axis(type="category", showgrid=False, range=[len(paths) - 0.5, -0.5], anchor="x")
    layout["yaxis"] |= {"domain": [0, 1 - above / total], "tickfont": {"size": 10}}
    layout["yaxis"] |= {"tickvals": list(labelled), "ticktext": [label(paths[i]) for i in labelled]}
    names = [style.text(path) for path in _apart(paths)]
    traces = [_numbers(columns, names, cells.values), *_odd(columns, names, cells.words)]
    if strip:
        layout["yaxis2"] = style.axis(
            domain=[1 - len(strip) * _MARK / total, 1],
            range=[len(strip) - 0.5, -0.5],
            tickvals=list(range(len(strip))),
            ticktext=list(strip),
            tickfont={"size": 10},
            showgrid=False,
            showline=False,
            ticks="",
        )
        traces += [_marks(i, word, run.drawn) for i, word in enumerate(strip)]
    return {"data": traces, "layout": layout}


def label(path: str) -> str:
    """The end of a path, escaped for HTML. The end tells tensors apart better than the beginning.

    >>> label("fc.weight"), label("model.encoder.layers.11.self_attn.out_proj.weight")
    ('fc.weight', '…lf_attn.out_proj.weight')
    """
    return style.text(path if len(path) <= _LABEL + 2 else "…" + path[-_LABEL - 1 :])


def _apart(paths: Sequence[str]) -> list[str]:
    """Paths as row names. Long ones are cut, and numbered if that makes two of them equal."""
    short = [path if len(path) <= 120 else path[:60] + "…" + path[-58:] for path in paths]
    return [name if short.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(short)]


def _cells(records: Sequence[StepRecord], paths: Sequence[str], quantity: str) -> _Cells:
    values: list[list[float | None]] = []
    words: list[list[str | None]] = []
    for path in paths:
        row = [_cell(record, path, quantity) for record in records]
        values.append([value if isinstance(value, float) else None for value in row])
        words.append([value if isinstance(value, str) else None for value in row])
    return _Cells(values, words)


def _cell(record: StepRecord, path: str, quantity: str) -> float | str:
    """A positive number, or the word for what stands in its place."""
    norms = record.tensors.get(path)
    if norms is None:
        return NOT_RECORDED
    value: float | None = getattr(norms, quantity)
    if value is None:
        return NO_PATH if record.states.get(path) == GradientState.DISCONNECTED else NOT_MEASURED
    return odd(value) or (ZERO if value == 0 else float(value))


def _numbers(columns: list[str], names: list[str], values: list[list[float | None]]) -> Chart:
    logs = [[None if v is None else round(math.log10(v), 3) for v in row] for row in values]
    known = [v for row in logs for v in row if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 0.1:
        low, high = low - 0.5, high + 0.5
    ticks = _ticks(low, high)
    return {
        "type": "heatmap",
        "x": columns,
        "y": names,
        "z": logs,
        "customdata": [[None if v is None else float(f"{v:.3g}") for v in row] for row in values],
        "hovertemplate": "%{y}<br>step %{x}<br><b>%{customdata}</b><extra></extra>",
        "hoverongaps": False,
        "colorscale": _SCALE,
        "zmin": low,
        "zmax": high,
        "showscale": bool(known),
        "colorbar": {
            "orientation": "h", "thickness": 10, "len": 0.9, "x": 0.5, "y": 0, "yref": "container", "yanchor": "bottom",
            "ypad": 6, "tickvals": ticks, "ticktext": [number(10**t, 2) for t in ticks], "outlinewidth": 0,
        },
    }  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """At most six whole decades; three values if the range holds fewer than two decades."""
    decades = list(range(math.ceil(low), math.floor(high) + 1))
    if len(decades) < 2:
        return [low, (low + high) / 2, high]
    return [float(d) for d in decades[:: math.ceil(len(decades) / 6)]]


def _odd(columns: list[str], names: list[str], words: list[list[str | None]]) -> Iterable[Chart]:
    """Yield one layer for each word that occurs, with its entry in the legend."""
    present = {word for row in words for word in row}
    for word, colour in WORDS.items():
        if word in present:
            yield {
                "type": "heatmap", "name": word, "showlegend": True, "x": columns, "y": names,
                "z": [[1 if cell == word else None for cell in row] for row in words],
                "zmin": 0, "zmax": 1, "colorscale": [[0, colour], [1, colour]], "showscale": False,
                "hoverongaps": False, "hovertemplate": f"%{{y}}<br>step %{{x}}<br><b>{word}</b><extra></extra>",
            }  # fmt: skip


def _marks(row: int, word: str, records: Sequence[StepRecord]) -> Chart:
    colour, symbol, is_so = _STRIP[word]
    steps = [str(record.step) for record in records if is_so(record)]
    return {
        "type": "scatter", "mode": "markers", "name": word, "showlegend": False, "yaxis": "y2",
        "x": steps, "y": [row] * len(steps), "cliponaxis": False,
        "marker": {"color": colour, "symbol": symbol, "size": 7, "opacity": 1},
        "hovertemplate": f"step %{{x}}: {word}<extra></extra>",
    }  # fmt: skip
