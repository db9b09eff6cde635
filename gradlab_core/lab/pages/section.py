"""What a study shows, on the terminal and on the page alike: a verdict, tables and charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.show.canvas import Illustration

WHOLE = "(the model)"
"""The name of a layer that is the model itself, whose path is empty."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table of finished texts.

    Attributes:
        title: says what the rows are.
        headings: a heading for each column; the first column names the row.
        rows: the cells.
        words: the headings of columns that hold words, which are aligned to the left.
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
    """The section of one study.

    Attributes:
        key: its id on the page.
        title: says what it is about.
        about: what to look at, in a sentence or two for somebody who sees it for the first time.
        level: `good`, `watch` or `bad`, which decides the colour of the verdict.
        said: the sentences of the verdict.
        sheets, charts: tables and charts, in the order in which they are shown.
    """

    key: str
    title: str
    about: str
    level: str
    said: Sequence[str]
    sheets: Sequence[Sheet]
    charts: Sequence[Illustration]
