"""Records as small HTML tables, which notebooks show in place of a `repr`.

What is not a number is told apart as everywhere: `not measured`, `NaN`, `Inf` and `0` are four things.
"""

from __future__ import annotations

import dataclasses
import enum
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from gradlab_core.text import NOT_MEASURED, number

T = TypeVar("T")
MOST = 60
"""So many rows are shown; of more, the first and the last."""
_LONGEST = 300


class Rows(list[T]):
    """A list of records that a notebook shows as a table; in everything else a list.

    >>> rows = Rows([{"path": "fc<1>", "rms": float("nan")}, {"path": "fc2", "rms": 0.0}])
    >>> rows == list(rows), rows._repr_html_().count("<tr>")
    (True, 3)
    """

    def _repr_html_(self) -> str:
        return records_table(self)


def records_table(records: Sequence[Any], caption: str = "") -> str:
    """A table with a row for each record of one class, without the fields that are missing in all of them."""
    rows = [_fields(record) for record in records]
    names = [
        name for name in dict.fromkeys(n for row in rows for n in row) if any(_is_there(r.get(name)) for r in rows)
    ]
    count = f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}"
    return html_table(names, [[row.get(name) for name in names] for row in rows], caption or count)


def html_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> str:
    """A table of any values. Every text is escaped, since names come from users.

    >>> html_table(["path", "norm"], [["<b>", None], ["b", 0.0]], "2 rows").count("<b>")
    0
    """
    shown = list(rows) if len(rows) <= MOST else [*rows[: MOST // 2], None, *rows[-(MOST // 2) :]]
    lines = []
    for row in shown:
        if row is None:
            lines.append(_line([f'<td colspan="{len(headings)}">… {len(rows) - MOST:,} more …</td>']))
        else:
            lines.append(_line([f'<td style="text-align: {_side(value)}">{_cut(word(value))}</td>' for value in row]))
    head = _line([f'<th style="text-align: left">{escaped(heading.replace("_", " "))}</th>' for heading in headings])
    return f"<table><caption>{escaped(caption)}</caption><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def word(value: Any) -> str:
    """A value as text.

    >>> [word(v) for v in (None, float("nan"), float("-inf"), 0.0, 0.12345, 1234, True, (3, 4), "<i>")]
    ['not measured', 'NaN', '−Inf', '0', '0.123', '1,234', 'True', '3, 4', '<i>']
    """
    if value is None:
        return NOT_MEASURED
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {word(each)}" for name, each in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(word, value))
    return str(value)


def escaped(text: str) -> str:
    """Text for HTML; half of a surrogate pair, which UTF-8 cannot say, is spelled out."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _cut(text: str) -> str:
    return escaped(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _line(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _side(value: Any) -> str:
    return "right" if isinstance(value, (int, float)) and not isinstance(value, bool) else "left"


def _fields(record: Any) -> Mapping[str, Any]:
    if isinstance(record, Mapping):
        return record
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _is_there(value: Any) -> bool:
    return value is not None and value != () and value != {}
