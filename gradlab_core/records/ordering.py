"""Records in the order of their steps."""

from __future__ import annotations

from collections.abc import Iterable

from gradlab_core.records import StepRecord


def in_order(records: Iterable[StepRecord]) -> list[StepRecord]:
    """By step, each step once: a run that went on from a checkpoint holds some twice, and the later record counts."""
    by_step = {record.step: record for record in records}
    return [by_step[step] for step in sorted(by_step)]
