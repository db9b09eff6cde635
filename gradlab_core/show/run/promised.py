"""What the steps of a run promised and what came of it, and how straight downhill they went."""

from __future__ import annotations

from gradlab_core.judge.promise import Kept, kept, stretches
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel, Point
from gradlab_core.show.run.steps import DrawnRun
from gradlab_core.show.spread import Spread
from gradlab_core.text import number, odd

_PROMISED, _CAME = Line("promised", style.sequence(0, 2)), Line("came", style.sequence(1, 2))
_COSINE = "Cosine of step and gradient"


def promises(index: int, run: DrawnRun) -> list[Illustration]:
    """The chart, where the records say what was promised."""
    if all(r.grad_update is None for r in run.records):
        return []
    return [Illustration(f"run-{index}-promise", "What steps promised, and what came", _words(run), _figure(run))]


def _words(run: DrawnRun) -> str:
    words = (
        "To first order a step promises the loss to fall by −⟨g, Δθ⟩. Above: by how much it was to fall in each "
        "stretch of the run, and by how much it fell. Below: −1 is straight downhill, above 0 is uphill, as momentum "
        "goes for a while when it overshoots. "
    )
    came = kept(run.records)
    if came is None:
        return words + "There are too few records with a loss to say what came of it."
    if came.ratio is None:
        return words + "Over the whole run the noise of the losses exceeds what was promised and what came."
    used = "single losses" if came.averaged == 1 else f"means of {came.averaged:,} losses"
    return words + (
        f"Over the whole run {number(came.ratio)} ± {number(came.ratio_error)} of what was promised came (from "
        f"{used} at its ends): about 1 for short steps on one batch, less on other batches every time, where part of a "
        "promise is for its own batch alone."
    )


def _figure(run: DrawnRun) -> Chart:
    parts = stretches(run.records)
    decrease = [Panel("Decrease of the loss in each stretch", "decrease")] if parts else []
    canvas = Canvas([*decrease, Panel(_COSINE, "cosine")], "optimizer step")
    for line in (_PROMISED, _CAME):
        points = [_point(part, line) for part in parts]
        if points:
            canvas.line(0, line, points)
    cosines = [(r.step, r.grad_update_cosine) for r in run.drawn]
    drawn = [Point(step, Spread(c, c, c), f"step {step}<br><b>cosine {odd(c) or number(c)}</b>") for step, c in cosines]
    canvas.line(1 if parts else 0, run, drawn, mode="lines" if len(drawn) > 1 else "markers")
    return canvas.figure()


def _point(part: Kept, line: Line) -> Point:
    """What was promised in a stretch, or what came: where that is below its noise it is not drawn."""
    where = (part.first + part.last) / 2, f"steps {part.first:,} to {part.last:,}<br><b>{line.name} "
    if line is _PROMISED:
        return Point(where[0], Spread(part.promised, None, None), f"{where[1]}{number(part.promised)}</b>")
    value = part.actual if part.is_clear else None
    told = f"{where[1]}{number(part.actual)} ± {number(part.error)}</b>"
    return Point(where[0], Spread(value, None, None), told, why="below the noise")
