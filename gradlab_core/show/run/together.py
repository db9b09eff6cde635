"""Several runs in one chart: their losses side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.show.run.steps import DrawnRun
from gradlab_core.show.spread import Spread
from gradlab_core.text import number, odd

_DECADES = 2  # if losses are so many decades apart, a logarithmic axis shows more


def losses(runs: Sequence[DrawnRun]) -> Chart | None:
    """The chart of the losses of all runs; None if fewer than two of them have losses."""
    known = [run for run in runs if any(record.loss is not None for record in run.records)]
    if len(known) < 2:
        return None
    finite = [r.loss for run in known for r in run.drawn if r.loss is not None and math.isfinite(r.loss)]
    log = bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= 10**_DECADES
    canvas = Canvas([Panel("Loss", "loss", log=log)], "optimizer step")
    for i, run in enumerate(known):
        name = style.text(run.name, 60)
        points = [
            Point(r.step, Spread(r.loss, r.loss, r.loss), f"{name}<br>step {r.step}<br><b>loss {_shown(r.loss)}</b>")
            for r in run.drawn
        ]
        line = Line(run.name, style.sequence(i, len(known)))
        canvas.line(0, line, points, mode="lines" if len(points) > 1 else "markers")
    return canvas.figure()


def _shown(loss: float | None) -> str:
    return odd(loss) or number(loss)
