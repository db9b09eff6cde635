"""Rows as tables for a person: one a setting, the environment above, the reasons of what failed below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .harness import Row

_COLUMNS = (
    "case",
    "median ms",
    "quartiles ms",
    "compile s",
    "memory MiB",
    "GB/s",
    "of copy",
    "error",
    "speed-up",
    "time",
)


def tables(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """What a console prints; columns that would be empty are left out."""
    for environment in {tuple(row.environment.items()): row.environment for row in rows}.values():
        yield Text("; ".join(f"{name} {value}" for name, value in environment.items()), style="dim")
    for setting in dict.fromkeys(row.setting for row in rows):
        mine = [row for row in rows if row.setting == setting]
        lines = [_cells(row) for row in mine]
        used = [i for i in range(len(_COLUMNS)) if i < 2 or any(line[i] for line in lines)]
        against = {(row.framework, row.baseline) for row in mine if row.speedup is not None}
        caption = "; ".join(f"{framework} against {baseline}" for framework, baseline in sorted(against, key=str))
        table = Table(
            title=Text(setting),
            title_justify="left",
            caption=Text(f"Speed-up, time: {caption}.") if caption else None,
            caption_justify="left",
        )
        for i in used:
            table.add_column(_COLUMNS[i], justify="right" if i else "left", no_wrap=True)
        for line in lines:
            table.add_row(*(Text(line[i]) for i in used))
        yield table
        for row in mine:
            if row.failure is not None:
                yield Text(f"{row.case} did not run: {row.failure}", style="yellow")


def _cells(row: Row) -> tuple[str, ...]:
    if row.median is None or row.lower_quartile is None or row.upper_quartile is None:
        return (row.case, "failed", *[""] * (len(_COLUMNS) - 2))
    digits = 3 if row.median < 1e-3 else 2 if row.median < 1.0 else 0  # of milliseconds
    return (
        row.case,
        f"{row.median * 1e3:.{digits}f}",
        f"{row.lower_quartile * 1e3:.{digits}f} – {row.upper_quartile * 1e3:.{digits}f}",
        "" if row.compile_seconds is None else f"{row.compile_seconds:.2f}",
        "" if row.memory_bytes is None else f"{row.memory_bytes / 2**20:.0f}",
        "" if row.bytes_per_second is None else f"{row.bytes_per_second / 1e9:.1f}",
        "" if row.share_of_copy is None else f"{row.share_of_copy:.2f}",
        "" if row.relative_error is None else f"{row.relative_error:.0e}",
        "" if row.speedup is None else f"{row.speedup:.2f}×",
        "" if row.speedup is None else f"{1 / row.speedup:.3f}",
    )
