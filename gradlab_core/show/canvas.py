"""Lines in stacked panels, with a strip below for values that cannot be drawn as numbers.

A value that is NaN, Inf, missing, or 0 on a logarithmic axis leaves a gap in its line and a mark in the strip. Each row
of the strip says in words what its marks stand for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Sized
from typing import Any, Protocol

from gradlab_core.show import style
from gradlab_core.show.spread import Spread
from gradlab_core.text import NOT_MEASURED, odd

Chart = dict[str, Any]
SYMBOLS = {"NaN": "triangle-up", "Inf": "star", "−Inf": "star", "exactly 0": "circle", "no gradient path": "x"}
MOST = 600
"""The most points of a curve. Of a longer run every k-th step is drawn, since a screen has no more columns."""
_PANEL, _GAP, _ROW, _HEADING, _AROUND = 190, 46, 24, 22, 110  # pixels


class Drawn(Protocol):
    """What a line shows and how it is drawn: a net, a recorded run, or a `Line` by itself."""

    @property
    def name(self) -> str: ...

    @property
    def colour(self) -> str: ...

    @property
    def dash(self) -> str: ...

    @property
    def runs(self) -> Sized: ...


@dataclasses.dataclass(frozen=True)
class Line:
    """A line by itself. `runs` are the runs behind each value; with several of them a value has a range."""

    name: str
    colour: str
    dash: str = style.SOLID
    runs: Sized = ()


@dataclasses.dataclass(frozen=True)
class Panel:
    """One of the plots that are stacked."""

    title: str
    y: str
    log: bool = False
    from_zero: bool = False


@dataclasses.dataclass(frozen=True)
class Point:
    """One place on the x axis: its value over seeds, the text under the mouse, and `why` a missing value is missing."""

    x: float | str
    value: Spread
    text: str
    why: str | None = None


class Canvas:
    """Collects lines and marks, then gives the plotly figure as plain dictionaries."""

    def __init__(self, panels: Sequence[Panel], x: str, *, missing: str = NOT_MEASURED) -> None:
        self._panels, self._x, self._missing = panels, x, missing
        self._traces: list[Chart] = []
        self._marks: dict[str, list[Chart]] = {}
        self._named: set[str] = set()
        self._reach: dict[int, list[float]] = {}
        self.shapes: list[Chart] = []
        self.annotations: list[Chart] = []

    def line(self, panel: int, net: Drawn, points: Sequence[Point], *, mode: str = "lines+markers") -> None:
        """Draw one net's values in one panel, with the range over seeds behind them."""
        log = self._panels[panel].log
        drawn: list[float | None] = []
        for point in points:
            mean = point.value.mean
            why = (
                (point.why or self._missing)
                if mean is None
                else odd(mean) or ("exactly 0" if log and mean == 0 else None)
            )
            drawn.append(None if why else mean)
            if why:
                self.mark(why, net, point.x, point.text)
        self._reach.setdefault(panel, []).extend(value for value in drawn if value is not None)
        if len(net.runs) > 1:
            self._range(panel, net, points, drawn)
        self._traces.append(
            {
                "type": "scatter",
                "mode": mode,
                "name": style.text(net.name, 40),
                "legendgroup": net.name,
                "showlegend": self._first(net.name),
                "x": [point.x for point in points],
                "y": [style.rounded(value) for value in drawn],
                "text": [point.text for point in points],
                "hovertemplate": "%{text}<extra></extra>",
                "connectgaps": False,
                "line": style.line(net.colour, net.dash),
                "marker": style.marker(net.colour, net.dash, large="lines" not in mode),
                "yaxis": self._axis(panel),
            }
        )

    def mark(self, why: str, net: Drawn, x: float | str, text: str) -> None:
        """Put a mark at `x` in the row of the strip that says why no value is drawn there."""
        is_solid = net.dash == style.SOLID
        self._marks.setdefault(why, []).append(
            {
                "x": x,
                "text": f"{text}<br><b>{why}</b>",
                "color": net.colour,
                "symbol": SYMBOLS.get(why, "square") + ("" if is_solid else "-open"),
                "size": 8 if is_solid else 13,
            }
        )

    def figure(self) -> Chart:
        """The finished figure: `data` and `layout`."""
        rows = list(self._marks)
        strip = len(rows) * _ROW
        total = len(self._panels) * _PANEL + (len(self._panels) - 1) * _GAP + (strip + 16 if rows else 0)
        layout = style.layout(total + _AROUND)
        layout |= {"shapes": self.shapes, "annotations": list(self.annotations)}
        if len(self._panels) > 1:
            layout["legend"]["y"] = 1 + _HEADING / total
        bottom = f"y{len(self._panels) + 1}" if rows else self._axis(len(self._panels) - 1)
        layout["xaxis"] = style.axis(self._x, anchor=bottom, showgrid=False)
        top = float(total)
        for index, panel in enumerate(self._panels):
            domain = [max(0.0, (top - _PANEL) / total), top / total]
            kind: Chart = _decades(self._reach.get(index, [])) if panel.log else {}
            kind |= {"rangemode": "tozero"} if panel.from_zero else {}
            layout["yaxis" + self._axis(index)[1:]] = style.axis(panel.y, domain=domain, **kind)
            if panel.title and len(self._panels) > 1:
                layout["annotations"].append(_heading(panel.title, domain[1]))
            top -= _PANEL + _GAP
        if rows:
            layout[f"yaxis{bottom[1:]}"] = style.axis(
                domain=[0, strip / total], tickvals=list(range(len(rows))), ticktext=rows, range=[-0.6, len(rows) - 0.4]
            )
        return {"data": [*self._traces, *self._strip_traces(bottom)], "layout": layout}

    def _strip_traces(self, axis: str) -> list[Chart]:
        traces = []
        for row, (why, marks) in enumerate(self._marks.items()):
            look = {key: [mark[key] for mark in marks] for key in ("color", "symbol", "size")} | {"opacity": 1}
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": why,
                    "showlegend": False,
                    "x": [mark["x"] for mark in marks],
                    "y": [row] * len(marks),
                    "text": [mark["text"] for mark in marks],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": look,
                    "yaxis": axis,
                    "cliponaxis": False,
                }
            )
        return traces

    def _range(self, panel: int, net: Drawn, points: Sequence[Point], drawn: Sequence[float | None]) -> None:
        xs: list[Any] = []
        ys: list[float | None] = []
        for block in _unbroken(points, drawn, positive=self._panels[panel].log):
            xs += [*(p.x for p in block), *(p.x for p in reversed(block)), None]
            ys += [*(style.rounded(p.value.high) for p in block)]
            ys += [*(style.rounded(p.value.low) for p in reversed(block)), None]
        if not xs:
            return
        self._traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": style.text(f"{net.name}: range over seeds"),
                "legendgroup": net.name,
                "showlegend": False,
                "hoverinfo": "skip",
                "x": xs,
                "y": ys,
                "fill": "toself",
                "fillcolor": style.faint(net.colour),
                "line": {"width": 0},
                "yaxis": self._axis(panel),
            }
        )

    def _first(self, name: str) -> bool:
        new = name not in self._named
        self._named.add(name)
        return new

    @staticmethod
    def _axis(panel: int) -> str:
        return "y" if panel == 0 else f"y{panel + 1}"


def _unbroken(points: Sequence[Point], drawn: Sequence[float | None], *, positive: bool) -> list[list[Point]]:
    """Split the points into stretches of neighbours that all have a range to draw."""
    stretches: list[list[Point]] = [[]]
    for point, value in zip(points, drawn, strict=True):
        low = point.value.low
        if value is None or low is None or (positive and low <= 0):
            stretches.append([])
        else:
            stretches[-1].append(point)
    return [stretch for stretch in stretches if len(stretch) > 1]


def _decades(values: Sequence[float]) -> Chart:
    """The ticks of a logarithmic axis: 1, 2 and 5 of each decade over a few decades, only the powers of ten over many,
    and round numbers within a part of one decade."""
    positive = [value for value in values if value > 0]
    reach = max(positive) / min(positive) if positive else 1.0
    if 1 < reach < 5:
        return {"type": "log", "nticks": 6, "tickformat": "~g"}
    few = reach < 300
    return {"type": "log", "dtick": "D2", "tickformat": "~g"} if few else {"type": "log", "exponentformat": "power"}


def _heading(title: str, top: float) -> Chart:
    where = {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "y": top, "yanchor": "bottom"}
    return {**where, "text": f"<b>{title}</b>", "showarrow": False}


@dataclasses.dataclass(frozen=True)
class Illustration:
    """One chart with its title and caption; `key` is its id in the page."""

    key: str
    title: str
    caption: str
    figure: Chart
