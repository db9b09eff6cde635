"""What the steps of a run promised and what came of it, and how straight downhill they went."""

from __future__ import annotations

from gradlab_core.judge.promise import kept, stretches
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
    found = kept(run.records)
    if found is None:
        return words + "There are too few records with a loss to say what came of it."
    if found.ratio is None:
        return words + "Over the whole run the noise of the losses exceeds what was promised and what came."
    used = "single losses" if found.averaged == 1 else f"means of {found.averaged:,} losses"
    return words + (
        f"Over the whole run {number(found.ratio)} ± {number(found.ratio_error)} of what was promised came (from "
        f"{used} at its ends): about 1 for short steps on one batch, less on other batches every time, where part of a "
        "promise is for its own batch alone."
    )


def _figure(run: DrawnRun) -> Chart:
    parts = stretches(run.records)
    decrease = [Panel("Decrease of the loss in each stretch", "decrease")] if parts else []
    canvas = Canvas([*decrease, Panel(_COSINE, "cosine")], "optimizer step")
    for line, values in ((_PROMISED, [p.promised for p in parts]), (_CAME, [p.actual for p in parts])):
        points = []
        for part, value in zip(parts, values, strict=True):
            error = part.error if line is _CAME else 0.0
            told = f" ± {number(error)}" if error else ""
            text = f"steps {part.first} to {part.last}<br><b>{line.name} {odd(value) or number(value)}{told}</b>"
            points.append(Point((part.first + part.last) / 2, Spread(value, value - error, value + error), text))
        if points:
            canvas.line(0, line, points, mode="lines+markers")
    cosines = [(r.step, r.grad_update_cosine) for r in run.drawn]
    drawn = [Point(step, Spread(c, c, c), f"step {step}<br><b>cosine {odd(c) or number(c)}</b>") for step, c in cosines]
    canvas.line(1 if parts else 0, run, drawn, mode="lines" if len(drawn) > 1 else "markers")
    return canvas.figure()
