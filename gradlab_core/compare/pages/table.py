"""The comparison table: a column for each net, a row for each figure, and a level in words and colour for each figure
that a band judges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.compare.comparison import INITIAL, TRAINED, Figure, Run, summarize
from gradlab_core.compare.pages.nets import nets
from gradlab_core.judge.bands import BandSet
from gradlab_core.show.words import JUDGED, LABELS, framework_name
from gradlab_core.text import NOT_MEASURED, with_std

_SIGNS = {"good": "✓", "watch": "!", "bad": "✕", "unknown": "?"}
_GROUPS = (
    ("The net", INITIAL, ("params", "flops", "layers_tracked", "disconnected")),
    ("At initialisation", INITIAL, JUDGED),
    ("After training", TRAINED, JUDGED),
    ("Last epoch of training", "last epoch", ("train_loss", "test_accuracy", "grad_norm_mean")),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure of one net in words; `level` is empty if nothing is judged."""

    value: str
    level: str = ""
    sign: str = ""
    note: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """`columns` holds `(block, framework)`, `groups` holds `(title, [(label, cells)])`."""

    columns: list[tuple[str, str]]
    groups: list[tuple[str, list[tuple[str, list[Cell]]]]]


def comparison_table(runs: Sequence[Run], asked: BandSet | None = None) -> Table:
    """The table of these runs, which all have one set-up; `asked` are bands that were asked for."""
    columns = nets(runs)
    by_key = {(f.block, f.framework, f.moment, f.figure): f for f in summarize(runs, judged_by=asked)}
    groups = []
    for title, moment, names in _GROUPS:
        rows = []
        for name in names:
            figures = [by_key.get((net.block, net.framework, moment, name)) for net in columns]
            cells = [cell(f, len(net.runs)) for f, net in zip(figures, columns, strict=True)]
            rows.append((LABELS[name], cells))
        groups.append((title, rows))
    return Table([(net.block, framework_name(net.framework)) for net in columns], groups)


def cell(figure: Figure | None, seeds: int) -> Cell:
    """One figure, with a note if not every seed has it."""
    if figure is None:
        return Cell(NOT_MEASURED, "unknown", _SIGNS["unknown"])
    if figure.value is None:
        return Cell(NOT_MEASURED, "unknown", _SIGNS["unknown"], text=figure.text)
    note = f"{figure.seeds} of {seeds} seeds" if figure.seeds < seeds else ""
    value = with_std(figure.figure, figure.value, figure.std)
    if figure.level == "none":
        return Cell(value, note=note)
    return Cell(value, figure.level, _SIGNS.get(figure.level, "?"), note, figure.text)
