"""Records drawn by hypothesis from the types of their fields, whatever fields a class comes to have."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from gradlab_core.records.ranges import ANY_NUMBER, ANY_WHOLE, OneOf, Range

NAMES = st.text(st.characters(exclude_categories=()), max_size=4)  # half of a surrogate pair too
SIZES = (0.0, 1.0, 0.1, 5e-324, 1e-45, 1.5e-45, 3.4028234663852886e38, 3.5e38, 1.7e308, math.inf)
EDGES = (math.nan, *SIZES, *(-size for size in SIZES))


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values that a field of this type can have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _plain(arguments[0], arguments[1:])
    if origin in (types.UnionType, typing.Union):
        return st.none() | values(arguments[0])
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{name: values(own) for name, own in hints.items()})
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(NAMES, values(arguments[1]), max_size=3)
    return _plain(hint, ())


def _plain(kind: type, notes: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    words = next((note.words for note in notes if isinstance(note, OneOf)), None)
    if words is not None:
        return st.sampled_from(words)
    if kind is bool:
        return st.booleans()
    if issubclass(kind, enum.Enum):
        return st.sampled_from(list(kind))
    if kind is str:
        return NAMES
    limit = next((note for note in notes if isinstance(note, Range)), ANY_NUMBER if kind is float else ANY_WHOLE)
    if kind is int:
        return st.integers(max(int(limit.least), -(1 << 63) + 1), int(limit.most)) | st.integers(0, 200)
    inside = [edge for edge in EDGES if math.isnan(edge) or limit.least <= edge <= limit.most]
    low, high = math.ceil(max(limit.least, -(2.0**100))), math.floor(min(limit.most, 2.0**100))
    return st.sampled_from(inside) | st.floats(limit.least, limit.most) | st.floats(low, high, width=32)
