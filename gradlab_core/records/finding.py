"""What is wrong with a run, as the diagnosis says it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

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
        code: stable name, as `vanishing-gradient`; `gradlab_core.judge.diagnosis.CODES` lists them.
        severity: how much it matters.
        paths: the parameters or layers concerned, the first culprit first; empty where it is the whole net.
        first_step: the first step at which it shows.
        evidence: the numbers that speak for it, by their names.
        remedies: what to do, the likeliest to help first.
        explanation: what it is and why it hinders, with what was seen in this run.
    """

    code: str
    severity: Severity
    paths: tuple[str, ...]
    first_step: Count
    evidence: Mapping[str, float]
    remedies: tuple[str, ...]
    explanation: str
