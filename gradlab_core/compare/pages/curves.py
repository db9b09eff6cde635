"""Training curves: loss, gradient norm and update ratio per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradlab_core.compare.comparison import Run
from gradlab_core.compare.pages.nets import Net, nets
from gradlab_core.records import StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import MOST, Canvas, Chart, Panel, Point
from gradlab_core.show.spread import spread
from gradlab_core.text import number, odd

_PANELS: tuple[tuple[Panel, Callable[[StepRecord], float | None]], ...] = (
    (Panel("Loss", "loss"), lambda step: step.loss),
    (Panel("Gradient norm", "norm", log=True), lambda step: step.grad_norm),
    (Panel("Update ratio", "ratio", log=True), lambda step: step.update_ratio),
)


def training(runs: Sequence[Run]) -> Chart:
    """A panel for each figure. A diverged run is drawn by itself, so that it does not shift the mean of the others."""
    canvas = Canvas([panel for panel, _ in _PANELS], "optimizer step")
    for net in _apart(nets(runs)):
        steps = _thinned(net)
        for panel, (shown, value) in enumerate(_PANELS):
            points = [
                Point(rows[0].step, band, _hover(net, rows[0].step, shown.title, band.mean, len(rows)))
                for rows in steps
                for band in [spread(value(row) for row in rows)]
            ]
            canvas.line(panel, net, points, mode="lines" if len(points) > 1 else "markers")
        _mark_divergence(canvas, net)
    return canvas.figure()


def _apart(every: Sequence[Net]) -> list[Net]:
    """The healthy runs of each net together, and each diverged run alone."""
    apart: list[Net] = []
    for net in every:
        healthy = tuple(run for run in net.runs if run.training.diverged_at is None and run.training.steps)
        alone = [(run,) for run in net.runs if run.training.diverged_at is not None]
        apart += [Net(net.setup, net.block, net.framework, group) for group in (healthy, *alone) if group]
    return apart


def _thinned(net: Net) -> list[list[StepRecord]]:
    """The records of all seeds at each step that is drawn; the last step is always one of these."""
    at: dict[int, list[StepRecord]] = {}
    for run in net.runs:
        for row in run.training.steps:
            at.setdefault(row.step, []).append(row)
    steps = [at[step] for step in sorted(at)]
    stride = -(-len(steps) // MOST) if steps else 1
    return [rows for i, rows in enumerate(steps) if i % stride == 0 or i == len(steps) - 1]


def _mark_divergence(canvas: Canvas, net: Net) -> None:
    for run in net.runs:
        step = run.training.diverged_at
        if step is None:
            continue
        place = {"x": step, "xref": "x", "yref": "paper"}
        canvas.shapes.append(
            {"type": "line", "xref": "x", "yref": "paper", "x0": step, "x1": step, "y0": 0, "y1": 1}
            | {"line": {"color": net.colour, "width": 1.5, "dash": "dash"}}
        )
        # At most four labels, since they stand one below the other.
        if len(canvas.annotations) < 4:
            words = f"{style.text(net.name)}, seed {run.seed}: diverged at step {step}"
            look = {"showarrow": False, "bgcolor": "rgba(255,255,255,0.9)", "font": {"color": net.colour}}
            canvas.annotations.append(
                {**place, **look, "text": words, "y": 1, "yanchor": "top", "yshift": -18 * len(canvas.annotations)}
                | {"xanchor": "left" if step < 0.5 * _last_step(net) or len(run.training.steps) < 3 else "right"}
            )


def _last_step(net: Net) -> int:
    return max((row.step for run in net.runs for row in run.training.steps), default=0)


def _hover(net: Net, step: int, title: str, value: float | None, seeds: int) -> str:
    seed = f"seed {net.runs[0].seed}" if len(net.runs) == 1 else f"mean of {seeds} seeds"
    shown = odd(value) or number(value)
    return f"{style.text(net.name)}, {seed}<br>step {step}<br><b>{title.lower()} {shown}</b>"
