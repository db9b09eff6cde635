"""Charts along the depth of a net, with activations in execution order and gradients in the order of definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradlab_core.compare.comparison import Run
from gradlab_core.compare.pages.nets import Net, nets
from gradlab_core.definitions import kinds
from gradlab_core.judge.bands import Band
from gradlab_core.records import ArchitectureRecord, LayerStats
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Panel, Point
from gradlab_core.show.spread import spread
from gradlab_core.text import number, percent

Measured = Callable[[Run], ArchitectureRecord | None]
_CALL = "layer call, in execution order"


def initial(run: Run) -> ArchitectureRecord | None:
    """The record before the first step."""
    return run.initial


def activation_std(runs: Sequence[Run], record: Measured = initial) -> Chart:
    """The std of every layer call, with a panel for each family of layers, since together they would draw a zigzag."""
    families = [
        ("Convolutions", lambda kind: kind == kinds.CONV),
        ("Normalisations", lambda kind: kind == kinds.NORM),
        ("Activations", lambda kind: kind not in (kinds.CONV, kinds.NORM)),
    ]
    every = nets(runs)
    per_net = [(net, _rows(net, record)) for net in every]
    present = [(t, f) for t, f in families if any(f(seeds[0].kind) for _, rows in per_net for _, seeds in rows)]
    titles = [title for title, _ in present] or [""]
    canvas = Canvas([Panel(title, "std", from_zero=True) for title in titles], _CALL)
    for panel, (_, belongs) in enumerate(present):
        for net, rows in per_net:
            chosen = [(x, seeds) for x, seeds in rows if belongs(seeds[0].kind)]
            canvas.line(panel, net, [_point(net, x, seeds, "std", number) for x, seeds in chosen])
    return canvas.figure()


def zero_fraction(runs: Sequence[Run], band: Band | None = None) -> Chart:
    """The zero fraction of every call of a ReLU-like activation, with the zone of the band for their mean, if any."""
    canvas = Canvas([Panel("", "share of zeros")], _CALL)
    for net in nets(runs):
        rows = [(x, seeds) for x, seeds in _rows(net, initial) if seeds[0].kind in kinds.ZERO_SUMMARY]
        if rows:
            canvas.line(0, net, [_point(net, x, seeds, "zero_frac", percent) for x, seeds in rows])
    if band is not None:
        edges = [edge for edge, _, _ in band.zones]
        zone = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": edges[1], "y1": edges[2], "layer": "below"}
        canvas.shapes.append({**zone, "fillcolor": style.ZONES["good"], "line": {"width": 0}})
    figure = canvas.figure()
    figure["layout"]["yaxis"] |= {"range": [-0.03, 1.03], "tickformat": ".0%"}
    return figure


def gradient_norms(runs: Sequence[Run]) -> Chart:
    """The gradient norm of every weight, and of every parameter that gets no gradient."""
    canvas = Canvas([Panel("", "gradient norm", log=True)], "weight, in the order of definition", missing=_NO_PATH)
    for net in nets(runs):
        points = []
        for x, path in enumerate(_weights(net), start=1):
            value = spread(run.initial.flow.layers.get(path) for run in net.runs)
            words = _NO_PATH if value.mean is None else number(value.mean)
            points.append(Point(x, value, _hover(net, path, f"gradient norm {words}")))
        canvas.line(0, net, points)
    return canvas.figure()


_NO_PATH = "no gradient path"


def _weights(net: Net) -> list[str]:
    """The weights of convolutions and linear layers, without the scales of normalisations, whose size is another. Every
    disconnected parameter is included."""
    record = net.runs[0].initial
    scales = {row.path for row in record.layers if row.kind == kinds.NORM}
    wanted = [p for p in record.flow.layers if "weight" in p.split(".")[-1] and p.rpartition(".")[0] not in scales]
    chosen = {*(wanted or record.flow.layers), *record.flow.disconnected}
    return [path for path in record.flow.layers if path in chosen]


def _rows(net: Net, record: Measured) -> list[tuple[int, list[LayerStats]]]:
    """The place of every layer call, and its row from each seed that was measured."""
    measured = [measurement.layers for run in net.runs if (measurement := record(run)) is not None]
    return list(enumerate(map(list, zip(*measured, strict=True)), start=1))


def _point(net: Net, x: int, seeds: list[LayerStats], field: str, show: Callable[[float | None], str]) -> Point:
    first, value = seeds[0], spread(getattr(row, field) for row in seeds)
    call = f", call {first.call}" if first.call else ""
    about = f"{style.text(first.kind)}{call}, {' × '.join(map(str, first.shape))}"
    odd = sum(row.nonfinite for row in seeds)
    more = f"<br>{odd:,} NaN or Inf elements" if odd else ""
    label = "std" if field == "std" else "zeros"
    return Point(x, value, _hover(net, first.path, f"{about}<br>{label} {show(value.mean)}{more}"))


def _hover(net: Net, path: str, rest: str) -> str:
    return f"{style.text(net.name)}<br><b>{style.text(path)}</b><br>{rest}"
