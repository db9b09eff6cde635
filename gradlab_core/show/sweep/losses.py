"""The final loss of every run against each hyperparameter that is a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradlab_core.judge.sweep import SweptRun
from gradlab_core.show import style
from gradlab_core.show.canvas import Chart, Illustration
from gradlab_core.text import number

MOST = 4
"""So many hyperparameters are drawn."""
_MARKS = {"fine": ("#009E73", "circle"), "warning": ("#B07C00", "diamond"), "critical": ("#D55E00", "x")}
_DECADES = 10.0


def loss_chart(runs: Sequence[SweptRun], names: Sequence[str]) -> list[Illustration]:
    """A chart for each of the first hyperparameters with more than two numbers; a run without a finite final loss is in
    none of them, which the caption counts."""
    known = [run for run in runs if run.last_loss is not None and math.isfinite(run.last_loss)]
    numeric = [name for name in names if len({run.config[name] for run in known if _is_number(run, name)}) > 2]
    lost = len(runs) - len(known)
    left = f" {lost:,} run{'s' if lost > 1 else ''} without a finite final loss cannot be drawn." if lost else ""
    words = f"One mark a run, its shape and colour the verdict.{left}"
    return [
        Illustration(f"loss-{i}", f"Final loss against {style.text(name, 60)}", words, _chart(known, name))
        for i, name in enumerate(numeric[:MOST])
        if known
    ]


def _is_number(run: SweptRun, name: str) -> bool:
    value = run.config.get(name)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _chart(runs: Sequence[SweptRun], name: str) -> Chart:
    shown = [run for run in runs if _is_number(run, name)]
    layout = style.layout(360)
    layout["xaxis"] = style.axis(style.text(name, 60), **_scale([run.config[name] for run in shown]))
    layout["yaxis"] = style.axis("final loss", **_scale([run.last_loss for run in shown]))
    layout["showlegend"] = True
    return {"data": [trace for verdict in _MARKS for trace in _marks(shown, name, verdict)], "layout": layout}


def _scale(values: Sequence[Any]) -> dict[str, Any]:
    """A logarithmic axis, if all values are above 0 and a decade apart."""
    is_log = bool(values) and min(values) > 0 and max(values) / min(values) >= _DECADES
    return {"type": "log"} if is_log else {}


def _marks(runs: Sequence[SweptRun], name: str, verdict: str) -> list[Chart]:
    own = [run for run in runs if run.verdict == verdict]
    colour, symbol = _MARKS[verdict]
    text = [f"{style.text(run.name, 60)}<br><b>loss {number(run.last_loss, 4)}</b><br>{verdict}" for run in own]
    trace = {
        "type": "scatter", "mode": "markers", "name": verdict, "showlegend": True, "hoverinfo": "text", "text": text,
        "x": [run.config[name] for run in own], "y": [run.last_loss for run in own],
        "marker": {"color": colour, "symbol": symbol, "size": 8, "opacity": 0.8},
    }  # fmt: skip
    return [trace] if own else []
