"""One step, and a run, as tables for a notebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradlab_core.records.notebook import html_table, word

if TYPE_CHECKING:
    from gradlab_core.records.step import StepRecord


def step_table(record: StepRecord) -> str:
    """The tensors of a step, under what was measured of the whole net. Of them only what was measured is shown."""
    paths = list(dict.fromkeys([*record.tensors, *record.states]))
    norms = [record.tensors.get(path) for path in paths]
    fields = [field.name for each in norms[:1] if each is not None for field in dataclasses.fields(each)]
    names = [name for name in fields if any(getattr(each, name, None) is not None for each in norms)]
    rows = [
        [path, *(getattr(each, name, None) for name in names), record.states.get(path)]
        for path, each in zip(paths, norms, strict=True)
    ]
    return html_table(["parameter", *names, "state"], rows, _said(_whole(record)))


def steps_table(run: Sequence[StepRecord], config: Mapping[str, Any]) -> str:
    """A row for each step, with what was measured of the whole net at any of them."""
    rows = [_whole(record) for record in run]
    names = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    steps = f"{len(run):,} records" + (f", step {run[0].step:,} to {run[-1].step:,}" if run else "")
    return html_table(
        names, [[row[name] for name in names] for row in rows], f"{steps}; {_said(config)}" if config else steps
    )


def _whole(record: StepRecord) -> dict[str, Any]:
    """What is a number, or yes or no."""
    from gradlab_core.records.frames import plain  # which needs the record classes, as these need this file

    return {name: getattr(record, name) for name in plain(type(record)) if name != "attempt"}


def _said(values: Mapping[str, Any]) -> str:
    """Values by name in one line, without those that were not measured."""
    return ", ".join(f"{name.replace('_', ' ')} {word(value)}" for name, value in values.items() if value is not None)
