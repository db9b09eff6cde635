"""The curves of one recorded run: loss, gradient norm, update ratio and anomaly score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradlab_core.definitions.thresholds import ANOMALY_SCORE, HEALTHY_UPDATE_RATIO
from gradlab_core.records import StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.show.run.steps import DrawnRun, is_anomaly
from gradlab_core.show.spread import Spread
from gradlab_core.text import number, odd

_ONSET = "#8a2d05"
_RATIO, _SCORE = "Update ratio", "Anomaly score of the gradient norm"
_PANELS: tuple[tuple[Panel, Callable[[StepRecord], float | None]], ...] = (
    (Panel("Loss", "loss"), lambda record: record.loss),
    (Panel("Gradient norm", "norm", log=True), lambda record: record.grad_norm),
    (Panel(_RATIO, "ratio", log=True), lambda record: record.update_ratio),
    (Panel(_SCORE, "σ"), lambda record: record.anomaly),
)


_ANOMALIES = Line("anomaly", style.colour_of("postact"))  # this colour stands out from that of the line


def curves(run: DrawnRun, onsets: Mapping[int, str] | None = None) -> Chart:
    """A panel for each quantity that was measured at any step. Every curve shows the anomalies and the steps at which
    findings begin; `onsets` gives the numbers of these, as in `{step: "1, 3"}`."""
    shown = [(panel, value) for panel, value in _PANELS if any(value(r) is not None for r in run.records)]
    canvas = Canvas([panel for panel, _ in shown], "optimizer step")
    for place, (panel, value) in enumerate(shown):
        # The first steps have no score, as the caption says; a mark for each of them would only be in the way.
        rows = [r for r in run.drawn if panel.title != _SCORE or value(r) is not None]
        points = [_point(panel, r, value(r)) for r in rows]
        canvas.line(place, run, points, mode="lines" if len(points) > 1 else "markers")
        marked = [p for p, r in zip(points, rows, strict=True) if is_anomaly(r) and _is_drawn(panel, p.value.mean)]
        if marked:
            canvas.line(place, _ANOMALIES, marked, mode="markers")
        if panel.title == _RATIO:
            canvas.shapes.append(_zone(place, *HEALTHY_UPDATE_RATIO))
        if panel.title == _SCORE:
            canvas.shapes.append(_zone(place, -ANOMALY_SCORE, ANOMALY_SCORE))
    for step, numbers in (onsets or {}).items():
        _mark_onset(canvas, step, numbers)
    return canvas.figure()


def _is_drawn(panel: Panel, value: float | None) -> bool:
    """Whether the value is drawn on the curve. If not, the line has put a mark in the strip below already."""
    return odd(value) is None and not (panel.log and value == 0)


def _point(panel: Panel, record: StepRecord, value: float | None) -> Point:
    text = f"step {record.step}<br><b>{panel.title.lower()} {odd(value) or number(value)}</b>"
    if is_anomaly(record):
        text += f"<br>anomaly: {score(record)}"
    return Point(record.step, Spread(value, value, value), text)


def score(record: StepRecord) -> str:
    """The z-score in words."""
    return f"{odd(record.anomaly) or number(record.anomaly, 2)} σ"


def _mark_onset(canvas: Canvas, step: int, numbers: str) -> None:
    """Draw a dashed line through all panels, with the numbers of the findings on top."""
    at = {"xref": "x", "yref": "paper"}
    line = {"color": _ONSET, "width": 1.2, "dash": "dash"}
    canvas.shapes.append({"type": "line", **at, "x0": step, "x1": step, "y0": 0, "y1": 1, "line": line})
    look = {"showarrow": False, "bgcolor": "#ffffff", "bordercolor": _ONSET, "borderpad": 2}
    look |= {"font": {"size": 11, "color": _ONSET}}
    # The numbers stand one below the other, since findings often begin close together.
    down = 20 * (len(canvas.annotations) % 4)
    canvas.annotations.append(
        {**at, **look, "x": step, "y": 1, "yanchor": "top", "yshift": -down - 4, "xanchor": "left", "text": numbers}
    )


def _zone(panel: int, low: float, high: float) -> Chart:
    """The shape that shades the healthy region of a panel."""
    where = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y" if panel == 0 else f"y{panel + 1}", "y0": low, "y1": high}
    return {"type": "rect", **where, "fillcolor": style.ZONES["good"], "line": {"width": 0}, "layer": "below"}
