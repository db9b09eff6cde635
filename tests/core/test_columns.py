"""Columns: every field of every record comes back as it was, whatever its type, and a later field needs no line."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab_core.errors import GradlabError
from gradlab_core.records import GradientState, LayerStats, StepRecord, TensorNorms
from gradlab_core.records.columns import table
from gradlab_core.records.ranges import Count, Norm, OneOf, Quotient
from gradlab_core.sinks import ColumnSink, load_records
from gradlab_core.sinks.column_rows import FLOATS, QUOTIENT, Layout, Packer, listed, unpack
from tests.core.drawn_records import values
from tests.recorded import alike, eventful


@dataclasses.dataclass(frozen=True, kw_only=True)
class Later:
    """What somebody may add to the records: lists of records that may be missing, tuples, text, words, mappings."""

    dot: float | None
    norm: Norm
    size: Norm
    share: Annotated[Norm, Quotient("norm", "size")]
    count: Count
    level: Annotated[str, OneOf(("good", "bad"))] | None
    said: str | None
    state: GradientState | None
    clipped: bool | None
    pair: tuple[float, Annotated[int, OneOf((3, 5))]]
    layers: tuple[LayerStats, ...] | None
    within: Mapping[str, tuple[Norm | None, ...]]
    nested: Mapping[str, Mapping[str, TensorNorms]]
    none: tuple[str, ...] = ()


def there_and_back(kind: type, records: list[Any]) -> list[Any]:
    """The records through their columns, the bytes of a row, and a structure that has been JSON."""
    own = table(kind)
    packers: dict[Any, Packer] = {}
    back = []
    for record in records:
        lists: list[list[Any]] = [[] for _ in own.columns]
        structure = own.node.split(record, lists)
        stored, data = packers.setdefault(structure, Packer(own.columns)).pack(lists)
        layout = Layout(json.loads(json.dumps(structure)), stored)
        assert len(data) == layout.size
        row = np.frombuffer(data, np.uint8).reshape(1, -1)
        read = [(column, *(each[0] for each in unpack(layout, column, row))) for column in own.columns]
        back.append(own.node.join(layout.structure, [iter(listed(*each)) for each in read]))
    return back


@settings(max_examples=60, deadline=None)
@given(st.lists(values(Later), max_size=4))
def test_any_record_class_makes_the_round_trip(records: list[Later]) -> None:
    assert alike(there_and_back(Later, records), records)


@settings(max_examples=60, deadline=None)
@given(st.lists(values(StepRecord), max_size=4))
def test_any_records_make_the_round_trip_through_a_file(records: list[StepRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.gradlab"
        with ColumnSink(path) as sink:
            for record in records:
                sink(record)
        written = [dataclasses.replace(record, attempt=0) for record in records]
        assert alike(load_records(path), written)


def norms(**changes: Any) -> TensorNorms:
    return TensorNorms(**({"param": 2.0, "grad": 1.0, "update": 0.5, "ratio": 0.25} | changes))


def forms(*records: TensorNorms) -> dict[str, str]:
    """The form of every column of the last of these records."""
    own = table(TensorNorms)
    packer = Packer(own.columns)
    for record in records:
        lists: list[list[Any]] = [[] for _ in own.columns]
        own.node.split(record, lists)
        stored, _ = packer.pack(lists)
    return {column.name: column.form for column in stored}


def test_each_column_has_the_smallest_form_that_loses_nothing() -> None:
    found = forms(norms(grad=0.1))
    assert found == {
        "param": "<f4", "grad": "<f8", "update": "<f4", "ratio": QUOTIENT,
        "grad_cosine": "-", "update_cosine": "-", "distance": "-", "grad_update": "-", "param_update": "-",
    }  # fmt: skip
    assert forms(norms(param=0.0, update=0.0, ratio=0.0))["ratio"] == QUOTIENT
    assert forms(norms(param=0.0, ratio=math.inf))["ratio"] == QUOTIENT
    assert forms(norms(ratio=math.nan))["ratio"] == "<f4"
    assert forms(norms(ratio=0.3))["ratio"] == "<f8"
    assert forms(norms(grad=None))["grad"] == "-"
    assert forms(norms(grad=1e300), norms())["grad"] == "<f8"  # and keeps it
    assert forms(norms(distance=1.0), norms())["distance"] == "<f4"
    assert FLOATS[-1] == "<f8"


def test_a_word_that_is_not_on_the_list_is_refused() -> None:
    record = dataclasses.replace(eventful()[0], states={"fc.weight": "odd"})
    with tempfile.TemporaryDirectory() as folder, ColumnSink(Path(folder) / "run.gradlab") as sink:
        with pytest.raises(GradlabError, match=r"states\[\] is 'odd'; expected one of ok, disconnected"):
            sink(record)
        sink(eventful()[1])
        assert alike(load_records(sink.path), [eventful()[1]])
