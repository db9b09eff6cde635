"""How near its limit a tensor is: a colour on a logarithmic scale, and a word for what is no number on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from gradlab_core.parity import ParityRow
from gradlab_core.parity.tolerance import relative
from gradlab_core.text import number, odd

NOTHING = "no gradient path on either side"
MISSING = "on one side only"
ODD = "NaN or Inf, or another shape, on one side only"
COLUMNS = 16
"""Steps side by side; of a longer run a column holds several, and shows the worst."""
SIDES = ("logic", "reference", "candidate")
_BOUNDS = ((1e-3, "up to 0.001"), (1e-2, "up to 0.01"), (1e-1, "up to 0.1"), (1.0, "up to 1: holds"))
_ABOVE = ((10.0, "up to 10: broken"), (1000.0, "up to 1,000"), (math.inf, "more"))
SCALE = tuple(name for _, name in (*_BOUNDS, *_ABOVE))
LEVELS = (NOTHING, *SCALE, ODD, MISSING)
"""From the best to the worst; the place of a level is its class on the page."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One tensor, or the worst of several, at one step or several: its level, and what the mouse shows."""

    level: int
    text: str


def share(row: ParityRow, side: str) -> float | None:
    """The error of a side over its limit; None where there is nothing to compare."""
    error, limit = getattr(row, f"{side}_error"), getattr(row, f"{side}_tolerance")
    return None if error is None or limit is None else relative(error, limit)


def worst_share(row: ParityRow) -> float | None:
    """The largest of the three; NaN if one is."""
    shares = [part for side in SIDES if (part := share(row, side)) is not None]
    return None if not shares else math.nan if any(map(math.isnan, shares)) else max(shares)


def cell(row: ParityRow) -> Cell:
    """One tensor at one step."""
    where = f"step {row.step}"
    if row.missing is not None:
        return Cell(LEVELS.index(MISSING), f"{where}: {row.missing}")
    worst = worst_share(row)
    if worst is None:
        return Cell(LEVELS.index(NOTHING), f"{where}: {NOTHING}")
    unfit = [word for side in SIDES if (word := odd(getattr(row, f"{side}_error"))) is not None]
    if unfit or math.isnan(worst):
        return Cell(LEVELS.index(ODD), f"{where}: {ODD} (error {', '.join(dict.fromkeys(unfit)) or 'NaN'})")
    level = next(name for bound, name in (*_BOUNDS, *_ABOVE) if worst <= bound)
    return Cell(LEVELS.index(level), f"{where}: {times(worst)}")


def times(share: float | None) -> str:
    """An error over its limit, as people say it.

    >>> times(0.0123), times(1234.5), times(None)
    ('0.012 × its limit', '1,234 × its limit', 'nothing to compare')
    """
    return "nothing to compare" if share is None else f"{number(share, 2)} × its limit"


def figure(value: float | None) -> str:
    """An error or a limit.

    >>> figure(1.234e-9), figure(math.inf), figure(0.0)
    ('1.23e-09', 'Inf', '0')
    """
    return odd(value) or (f"{value:.2e}" if value else "0")


def columns(steps: int) -> list[range]:
    """The steps of each column.

    >>> columns(3), columns(33)[:2], len(columns(33))
    ([range(0, 1), range(1, 2), range(2, 3)], [range(0, 3), range(3, 6)], 11)
    """
    width = math.ceil(steps / COLUMNS) or 1
    return [range(start, min(start + width, steps)) for start in range(0, steps, width)]


def worst(cells: Iterable[Cell]) -> Cell:
    """The worst of several, the first of equals; without any, a cell that says so."""
    return max(cells, key=lambda cell: cell.level, default=Cell(0, "not there"))


def strip(by_step: Sequence[Sequence[Cell]], places: Sequence[range]) -> list[Cell]:
    """One cell a column."""
    return [worst(row for step in place for row in by_step[step]) for place in places]
