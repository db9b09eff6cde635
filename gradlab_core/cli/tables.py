"""Tables and sentences for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gradlab_core.compare.comparison import Figure
from gradlab_core.judge.bands import BAND_SETS
from gradlab_core.lab.pages.section import Sheet
from gradlab_core.text import number

_STYLES = {"good": "green", "watch": "yellow", "bad": "red", "unknown": "dim", "none": ""}
FRAMEWORKS = {"torch": "PyTorch", "jax": "JAX"}
_LABELS = {
    "params": "parameters",
    "flops": "forward FLOPs",
    "layers_tracked": "tracked layer calls",
    "mean_std": "mean activation std",
    "min_std": "smallest std",
    "max_std": "largest std",
    "relu_zero_frac_mean": "ReLU zero fraction",
    "global_norm": "gradient norm",
    "ratio": "first/last gradient",
    "sensitivity": "sensitivity",
    "disconnected": "tensors without gradient",
    "train_loss": "train loss",
    "test_accuracy": "test accuracy",
    "grad_norm_mean": "mean gradient norm",
    "seconds": "training seconds",
}


def cell(value: float | None) -> str:
    """A number in a table, or a dash if there is none.

    >>> cell(None), cell(float("nan")), cell(-float("inf")), cell(0.0), cell(696618.0), cell(0.00198)
    ('–', 'NaN', '−Inf', '0', '696,618', '0.00198')
    """
    return number(value, missing="–")


def spread(figure: Figure) -> str:
    """The mean and the standard deviation, as text.

    >>> from types import SimpleNamespace
    >>> spread(SimpleNamespace(value=0.5, std=0.01)), spread(SimpleNamespace(value=0.5, std=None))
    ('0.5 ± 0.01', '0.5')
    """
    return cell(figure.value) + (f" ± {figure.std:.1g}" if figure.std else "")


def comparison_tables(figures: Sequence[Figure], findings: Sequence[str]) -> Iterable[RenderableType]:
    """Yield a table for each set-up and framework, the verdict in words, and the findings."""
    for setup, framework in dict.fromkeys((f.setup, f.framework) for f in figures):
        rows = [f for f in figures if (f.setup, f.framework) == (setup, framework)]
        yield _table(f"{FRAMEWORKS[framework]}, {setup}", rows)
    used = {f.band for f in figures if f.band}
    for band_set in BAND_SETS.values():
        if band_set.name in used:
            words = f"Colours: bands {band_set.name} ({band_set.source}). On another set-up they are a lead, not a law."
        else:
            words = f"No colours: bands {band_set.name} are of another set-up ({band_set.source}); --bands asks."
        yield Text(words, style="dim")
    if used:
        yield _words([f for f in figures if f.band])
    if findings:
        yield Text("Found:", style="bold red")
        yield Text("\n".join(f"  • {finding}" for finding in findings))
    else:
        yield Text("Found nothing that is wrong whatever the set-up: every parameter gets a gradient.", style="green")


def sheet_table(sheet: Sheet) -> Table:
    """A table of the lab, with a column of levels if it judges its rows."""
    table = Table(title=escape(sheet.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, heading in enumerate(sheet.headings):
        left = i == 0 or heading in sheet.words
        table.add_column(escape(heading), justify="left" if left else "right", overflow="fold")
    judged = any(map(sheet.level, range(len(sheet.rows))))
    if judged:
        table.add_column("level")
    for i, row in enumerate(sheet.rows):
        level = sheet.level(i)
        table.add_row(*map(Text, row), *([level] if judged else []), style=_STYLES[level or "none"])
    return table


def _table(title: str, rows: Sequence[Figure]) -> Table:
    """A table with a row for each figure and a column for each block, which fits a terminal of 80 columns."""
    blocks = list(dict.fromkeys(row.block for row in rows))
    cells = {(row.moment, row.figure, row.block): row for row in rows}
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for block in blocks:
        table.add_column(block, justify="right", no_wrap=True)
    for moment in dict.fromkeys(row.moment for row in rows):
        table.add_section()
        table.add_row(Text(moment, style="italic"))
        for name in dict.fromkeys(row.figure for row in rows if row.moment == moment):
            line = [cells.get((moment, name, block)) for block in blocks]
            shown = [Text("–") if f is None else Text(spread(f), style=_STYLES[f.level]) for f in line]
            table.add_row(Text(f"  {_LABELS[name]}"), *shown)
    return table


def _words(figures: Sequence[Figure]) -> Text:
    """A sentence for each net: what its bands say at initialisation or, in their own set-up, after training."""
    text = Text()
    for setup, block, framework in dict.fromkeys((f.setup, f.block, f.framework) for f in figures):
        mine = [f for f in figures if (f.setup, f.block, f.framework) == (setup, block, framework)]
        moment = mine[0].moment
        odd = [f.text for f in mine if f.moment == moment and f.level in ("watch", "bad")]
        text.append(f"{block} ({FRAMEWORKS[framework]}, {setup}): ", style="bold")
        text.append("; ".join(odd) + "\n" if odd else f"all figures {moment} are within their bands\n")
    return text
