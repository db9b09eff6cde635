"""Findings: the faults that the diagnosis reports of a run."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from gradlab_core.records.notebook import records_table
from gradlab_core.records.ranges import Count


class Severity(enum.StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"  # as it is, the run cannot learn
    WARNING = "warning"  # it learns worse than it could, or will fail
    NOTE = "note"  # worth knowing, and often meant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a run.

    Attributes:
        code: stable name, such as `vanishing-gradient`; `gradlab_core.judge.diagnosis.CODES` lists them.
        severity: how much the fault matters.
        paths: the parameters or layers concerned, the likeliest cause first; empty if it is the whole net.
        first_step: the first step at which the fault shows.
        evidence: the numbers that support the finding, by name.
        remedies: what to do, the likeliest to help first.
        explanation: what the fault is, why it hinders training, and what this run showed.
    """

    code: str
    severity: Severity
    paths: tuple[str, ...]
    first_step: Count
    evidence: Mapping[str, float]
    remedies: tuple[str, ...]
    explanation: str

    def _repr_html_(self) -> str:
        return records_table([self])
