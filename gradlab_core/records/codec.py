"""Records to JSON and back, without loss and without invalid JSON.

JSON has no NaN and no Inf, and Python's own writer emits them all the same. Here a float field that is not finite is
written as one of three strings and a missing value as null, so that NaN, ±Inf, missing and zero stay four things.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.records.decoding import decode

SCHEMA_VERSION = 1

T = TypeVar("T")


def encode(value: Any) -> Any:
    """A record, or anything inside one, as plain JSON values.

    >>> encode({"a": float("nan"), "b": None, "c": -float("inf"), "d": 0.0})
    {'a': 'NaN', 'b': None, 'c': '-Infinity', 'd': 0.0}
    """
    kind = type(value)
    # By far the most common first: a record goes to a file at every step.
    if value is None or kind is str or (kind is float and math.isfinite(value)):
        return value
    if dataclasses.is_dataclass(kind):
        return {name: encode(getattr(value, name)) for name in _fields(kind)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


@functools.cache
def _fields(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def document(kind: str, rows: Iterable[Any], **beside: Iterable[Any]) -> str:
    """The JSON document that every `--json` prints and every file of records holds, with other lists `beside` the rows.
    It is ASCII, so that any terminal can print it, whatever characters a path has."""
    lists = {name: [encode(row) for row in some] for name, some in {"rows": rows, **beside}.items()}
    return json.dumps({"schema_version": SCHEMA_VERSION, "kind": kind, **lists}, allow_nan=False)


def loads(text: str | bytes, where: str, expected: str) -> Any:
    """The value of a JSON text.

    >>> loads("[" * 100_000, "line 1", "expected a record")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: line 1 is nested too deeply; expected a record

    Raises:
        GradlabError: the text is not JSON, or nested too deeply; the message holds `where` and `expected`.
    """
    try:
        return json.loads(text)
    except ValueError as error:  # also for bytes that are not UTF-8, and for a number with thousands of digits
        raise GradlabError(f"{where} is not JSON ({error}); {expected}") from error
    except RecursionError as error:
        raise GradlabError(f"{where} is nested too deeply; {expected}") from error


def parse(text: str, kind: str, row_type: type[T], where: str = "document") -> list[T]:
    """The rows of a `document`, checked.

    Raises:
        GradlabError: not JSON, another schema version, another kind, or a row with other fields or with a value that
            its field cannot have.
    """
    body = loads(text, where, "expected a document written by gradlab")
    if not isinstance(body, dict) or not {"schema_version", "kind", "rows"} <= set(body):
        raise GradlabError(f"{where} has no schema_version, kind and rows; expected a document written by gradlab")
    if body["schema_version"] != SCHEMA_VERSION:
        raise GradlabError(
            f"{where} has schema version {body['schema_version']!r}; this gradlab reads {SCHEMA_VERSION}: "
            "write it again with this version, or install the one that wrote it"
        )
    if body["kind"] != kind or not isinstance(body["rows"], list):
        raise GradlabError(f"{where} holds {body['kind']!r}; expected a list of {kind!r}")
    return [decode(row_type, row, f"{where}, row {index}") for index, row in enumerate(body["rows"])]


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing.

    Raises:
        GradlabError: the folder does not exist or cannot be written.
    """
    with whole_file(path) as temporary:
        # Names come from users and may hold half a surrogate pair, which UTF-8 cannot encode: it is escaped.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
