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
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file

SCHEMA_VERSION = 1
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

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


# Looking types up takes longer than all the rest, and a run has many records: hence the caches.
@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _needed(cls: type) -> frozenset[str]:
    """Fields without a default. What was written before a field came to be has not got it: its default holds."""
    return frozenset(field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING)


@functools.cache
def _shape(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(kind), typing.get_args(kind)


def decode(kind: Any, value: Any, where: str = "record") -> Any:
    """The inverse of `encode`: `value` as the type `kind`, or a `GradlabError` that says where it does not fit."""
    if type(value) is kind:
        return value
    origin, arguments = _shape(kind)
    if origin is types.UnionType:  # only `X | None` occurs in records
        return None if value is None else decode(arguments[0], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints, needed = _hints(typing.cast(type, kind)), _needed(typing.cast(type, kind))
        if not needed <= value.keys() <= hints.keys():
            raise GradlabError(
                f"{where}: expected the fields {', '.join(sorted(hints))}; missing {sorted(needed - set(value))}, "
                f"unknown {sorted(set(value) - set(hints))}"
            )
        return typing.cast(type, kind)(**{n: decode(hints[n], v, f"{where}.{n}") for n, v in value.items()})
    if origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is not Ellipsis:
            return tuple(decode(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
        return tuple(decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, dict):
        return {key: decode(arguments[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind is float and not isinstance(value, bool):
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str) and value in _WORDS:
            return _WORDS[value]
    elif isinstance(kind, type) and issubclass(kind, enum.Enum) and value in [member.value for member in kind]:
        return kind(value)
    raise GradlabError(f"{where}: {value!r} is not a {getattr(kind, '__name__', kind)}")


def document(kind: str, rows: Iterable[Any]) -> str:
    """The one JSON document that every `--json` prints and every file of records holds."""
    body = {"schema_version": SCHEMA_VERSION, "kind": kind, "rows": [encode(row) for row in rows]}
    return json.dumps(body, allow_nan=False, ensure_ascii=False)


def parse(text: str, kind: str, row_type: type[T], where: str = "document") -> list[T]:
    """The rows of a `document`, checked.

    Raises:
        GradlabError: not JSON, another schema version, another kind, or a row with other fields.
    """
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        raise GradlabError(f"{where} is not JSON ({error}); expected a document written by gradlab") from error
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
        temporary.write_text(text, encoding="utf-8")
