"""Norms of single tensors over the steps: each layer has a colour, weights are solid and biases dotted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradlab_core.judge.trends import QUANTITIES, is_bias
from gradlab_core.records import GradientState, StepRecord
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Line, Panel, Point
from gradlab_core.show.run.heat import NO_PATH, NOT_RECORDED
from gradlab_core.show.run.steps import DrawnRun
from gradlab_core.show.spread import Spread
from gradlab_core.text import NOT_MEASURED, number, odd

MOST = 6
"""So many layers are drawn, since more lines cannot be told apart."""
_PANELS: tuple[tuple[Panel, str, Callable[[str], bool]], ...] = (
    (Panel("Parameter norm of weights", "norm", log=True), "param", lambda path: not is_bias(path)),
    (Panel("Parameter norm of biases", "norm", log=True), "param", is_bias),
    (Panel("Gradient norm", "norm", log=True), "grad", lambda path: True),
)
_LABEL = 22  # in characters


def layer_norms(run: DrawnRun) -> Chart:
    """Parameter and gradient norms of the tensors of up to `MOST` layers, chosen evenly from the first to the last."""
    layers = shown_layers(run.paths)
    panels = [panel for panel in _PANELS if any(panel[2](path) for own in layers for path in own)]
    canvas = Canvas([panel for panel, *_ in panels], "optimizer step")
    for place, (_, quantity, belongs) in enumerate(panels):
        for i, own in enumerate(layers):
            for path in filter(belongs, own):
                line = Line(
                    _short(path), style.sequence(i, len(layers)), style.DOTTED if is_bias(path) else style.SOLID
                )
                points = [_point(record, path, quantity) for record in run.drawn]
                canvas.line(place, line, points, mode="lines" if len(points) > 1 else "markers")
    figure = canvas.figure()
    # The columns leave the upper right corner to the buttons.
    figure["layout"]["legend"] |= {"entrywidth": 0.2, "entrywidthmode": "fraction"}
    return figure


def shown_layers(paths: Sequence[str]) -> list[list[str]]:
    """The layers to draw, each with its first weight and its first bias. A recurrent layer counts as several, one for
    each direction and each source (input or state).

    >>> shown_layers(["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0", "fc.weight"])
    [['rnn.weight_ih_l0', 'rnn.bias_ih_l0'], ['rnn.weight_hh_l0', 'rnn.bias_hh_l0'], ['fc.weight']]
    >>> len(shown_layers([f"fc{i}.weight" for i in range(50)]))
    6
    """
    layers: dict[str, list[str]] = {}
    for path in paths:
        module, _, leaf = path.rpartition(".")
        layers.setdefault(f"{module}.{leaf.removeprefix('weight').removeprefix('bias')}", []).append(path)
    every = list(layers.values())
    if len(every) <= MOST:
        return every
    return [every[round(i * (len(every) - 1) / (MOST - 1))] for i in range(MOST)]


def _point(record: StepRecord, path: str, quantity: str) -> Point:
    norms = record.tensors.get(path)
    value: float | None = None if norms is None else getattr(norms, quantity)
    cut = record.states.get(path) == GradientState.DISCONNECTED
    why = NOT_RECORDED if norms is None else NO_PATH if cut else NOT_MEASURED
    shown = why if value is None else odd(value) or number(value)
    text = f"{style.text(path)}<br>step {record.step}<br><b>{QUANTITIES[quantity].lower()} {shown}</b>"
    return Point(record.step, Spread(value, value, value), text, why=why)


def _short(path: str) -> str:
    """The end of a path, which tells tensors apart better than its beginning."""
    return path if len(path) <= _LABEL else "…" + path[1 - _LABEL :]
