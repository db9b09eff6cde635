"""Tables and sentences for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gradlab_core import bands
from gradlab_core.comparison import Figure

_STYLES = {"good": "green", "watch": "yellow", "bad": "red", "unknown": "dim", "none": ""}
_LABELS = {
    "params": "parameters",
    "flops": "FLOPs",
    "layers_tracked": "layer calls",
    "mean_std": "mean std",
    "min_std": "min std",
    "max_std": "max std",
    "relu_zero_frac_mean": "ReLU zeros",
    "global_norm": "grad norm",
    "ratio": "first/last",
    "sensitivity": "sensitivity",
    "disconnected": "no gradient",
    "train_loss": "train loss",
    "test_accuracy": "test acc.",
    "grad_norm_mean": "mean grad norm",
    "seconds": "seconds",
}


def number(value: float | None) -> str:
    """A number for a person; what is missing, NaN or infinite says so.

    >>> number(None), number(float("nan")), number(-float("inf")), number(0.0), number(696618.0), number(0.00198)
    ('–', 'NaN', '-Inf', '0', '696,618', '0.00198')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}"


def spread(figure: Figure) -> str:
    """mean ± standard deviation.

    >>> from types import SimpleNamespace
    >>> spread(SimpleNamespace(value=0.5, std=0.01)), spread(SimpleNamespace(value=0.5, std=None))
    ('0.5 ± 0.01', '0.5')
    """
    return number(figure.value) + (f" ± {figure.std:.1g}" if figure.std else "")


def comparison_tables(figures: Sequence[Figure], findings: Sequence[str]) -> Iterable[RenderableType]:
    """A table for each set-up and moment, the verdict in words, and what was found."""
    for setup in dict.fromkeys(f.setup for f in figures):
        for moment in dict.fromkeys(f.moment for f in figures):
            rows = [f for f in figures if (f.setup, f.moment) == (setup, moment)]
            if rows:
                yield _table(f"{moment} ({setup})", rows)
    yield Text(
        f"Colours: bands {bands.TINYNET_CIFAR10.name} ({bands.TINYNET_CIFAR10.source}). On another set-up they are a "
        "lead, not a law.",
        style="dim",
    )
    yield _words(figures)
    if findings:
        yield Text("Found:", style="bold red")
        yield Text("\n".join(f"  • {finding}" for finding in findings))
    else:
        yield Text("Found nothing that is wrong whatever the set-up: every parameter gets a gradient.", style="green")


def _table(title: str, rows: Sequence[Figure]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("block")
    table.add_column("framework")
    names = list(dict.fromkeys(row.figure for row in rows))
    for name in names:
        table.add_column(_LABELS[name], justify="right")
    nets = dict.fromkeys((row.block, row.framework) for row in rows)
    cells = {(row.block, row.framework, row.figure): row for row in rows}
    for block, framework in nets:
        line = [Text(block), Text(framework)]
        for name in names:
            row = cells.get((block, framework, name))
            line.append(Text("–") if row is None else Text(spread(row), style=_STYLES[row.level]))
        table.add_row(*line)
    return table


def _words(figures: Sequence[Figure]) -> Text:
    """One sentence a net: what its bands say of it at initialisation."""
    text = Text()
    for setup, block, framework in dict.fromkeys((f.setup, f.block, f.framework) for f in figures):
        mine = [f for f in figures if (f.setup, f.block, f.framework) == (setup, block, framework)]
        odd = [f.text for f in mine if f.moment == "at initialisation" and f.level in ("watch", "bad")]
        text.append(f"{block} ({framework}, {setup}): ", style="bold")
        text.append("; ".join(odd) + "\n" if odd else "all figures at initialisation are within their bands\n")
    return text
