"""What a study shows: a verdict, tables and charts, the same on the terminal and on the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.show.canvas import Illustration

WHOLE = "(the model)"
"""A layer that is the model itself, whose path is empty."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of finished texts.

    Attributes:
        title: what its rows are.
        headings: one a column; the first names the row.
        rows: the cells.
        words: the headings of columns that hold words, which are set to the left.
        levels: `good`, `watch`, `bad` or empty, for each row; empty for a table that judges nothing.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()
    levels: Sequence[str] = ()

    def level(self, row: int) -> str:
        """The level of a row."""
        return self.levels[row] if self.levels else ""


@dataclasses.dataclass(frozen=True)
class Section:
    """One study.

    Attributes:
        key: its id on the page.
        title: what it is about.
        about: what to look at, a sentence or two for somebody who sees it for the first time.
        level: `good`, `watch` or `bad`: the colour of the verdict.
        said: the verdict, a sentence each.
        sheets, charts: in the order in which they are shown.
    """

    key: str
    title: str
    about: str
    level: str
    said: Sequence[str]
    sheets: Sequence[Sheet]
    charts: Sequence[Illustration]
