"""The figures as tables for a person: both parts side by side, ours beside the other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .score import OURS, Judged, Row
from .truth import DROPPED

_TOOLS = ("recall", "any alarm", "recall, by construction", "false alarms", "false alarms, hard")
_CODES = ("recall of code", "exact code", "precision", "located of code")


def tables(rows: Sequence[Row], parts: Sequence[str]) -> Iterator[RenderableType]:
    """What a console prints for the parts asked for."""
    known = {(row.tool, row.part, row.measure, row.subject): row for row in rows}
    for part in parts:
        mine = [row for row in rows if row.part == part]
        tools = list(dict.fromkeys(row.tool for row in mine))
        yield _table(
            f"{part}: all tools on the same runs", ("tool", *_TOOLS),
            [[tool, *(_cell(known.get((tool, part, m, "all")), wide=tool == OURS) for m in _TOOLS)] for tool in tools],
        )  # fmt: skip
        for title, measure in (
            ("Right layer or parameter named first", "located"),
            ("Fault named first", "named first"),
        ):
            yield Text(f"{title}: {_cell(known.get((OURS, part, measure, 'all')), wide=True)}")
        codes = list(dict.fromkeys(row.subject for row in mine if row.measure in _CODES))
        yield _table(
            f"{part}: by finding", ("code", "recall", "exact code", "precision", "located"),
            [[code, *(_cell(known.get((OURS, part, m, code))) for m in _CODES)] for code in sorted(codes)],
        )  # fmt: skip
        for measure, head in (("recall of fault", "fault"), ("false alarms of family", "healthy family")):
            lines = [[row.subject, _cell(row, wide=True)] for row in mine if row.measure == measure]
            yield _table(f"{part}: {measure}", (head, "share"), lines)


def counts(judged: Sequence[Judged]) -> Iterator[RenderableType]:
    """How many runs count as what on which part, and why others were dropped."""
    tally = Counter((j.status, j.drawn.part) for j in judged)
    parts = sorted({part for _, part in tally}, reverse=True)
    lines = [[status, *(str(tally[status, part]) for part in parts)] for status in dict.fromkeys(s for s, _ in tally)]
    yield _table("runs", ("counts as", *parts), lines)
    why = Counter(
        (j.drawn.fault or f"healthy: {j.drawn.family}", j.why.partition(":")[0]) for j in judged if j.status == DROPPED
    )
    if why:
        dropped = [[what, reason, str(count)] for (what, reason), count in sorted(why.items())]
        yield _table("dropped", ("of", "since", "runs"), dropped)


def missed(judged: Sequence[Judged]) -> Iterator[RenderableType]:
    """Misjudged runs, with all that it takes to look at them again."""
    for j in judged:
        wanted = "nothing" if j.drawn.fault is None else f"{' or '.join(j.drawn.codes)} at {j.drawn.where or 'all'}"
        findings = "; ".join(f"{f.code} ({f.severity}, step {f.first_step}) {f.paths[:3]}" for f in j.findings)
        yield Text(f"{j.drawn.name}: {j.drawn.family}, {j.drawn.fault or 'healthy'} ({j.status})", style="bold")
        yield Text(f"  expected {wanted}; said {findings or 'nothing'}\n  {j.drawn.spec}")


def _table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    return table


def _cell(row: Row | None, *, wide: bool = False) -> str:
    """`0.97 (31/32)`; wide, with the interval."""
    if row is None or row.share is None or row.low is None or row.high is None:
        return "–"
    interval = f" [{row.low:.3f}, {row.high:.3f}]" if wide else ""
    return f"{row.share:.3f} ({row.hits}/{row.total}){interval}"
