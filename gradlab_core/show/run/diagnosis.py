"""Findings as the page shows them: with a number, a level, and a mark on the curves where they begin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradlab_core.judge.diagnosis import CODES
from gradlab_core.records import Finding, Severity
from gradlab_core.text import number

LEVELS = {Severity.CRITICAL: "bad", Severity.WARNING: "watch", Severity.NOTE: "unknown"}
_MOST = 12  # so many paths are written out


@dataclasses.dataclass(frozen=True)
class Diagnosed:
    """One finding in words. `more` counts the paths that are left out of `paths`."""

    number: int
    code: str
    title: str
    severity: str
    level: str
    paths: tuple[str, ...]
    more: int
    step: str
    explanation: str
    evidence: list[tuple[str, str]]
    remedies: tuple[str, ...]


def diagnosed(findings: Sequence[Finding]) -> list[Diagnosed]:
    """The findings in words, in the given order, which is that of their severity."""
    return [
        Diagnosed(
            number=i,
            code=finding.code,
            title=CODES[finding.code].title if finding.code in CODES else finding.code,
            severity=finding.severity.value,
            level=LEVELS[finding.severity],
            paths=finding.paths[:_MOST],
            more=max(0, len(finding.paths) - _MOST),
            step=f"{finding.first_step:,}",
            explanation=finding.explanation,
            evidence=[(name.replace("_", " "), number(value, 4)) for name, value in finding.evidence.items()],
            remedies=finding.remedies,
        )
        for i, finding in enumerate(findings, start=1)
    ]


def level(findings: Sequence[Finding]) -> str:
    """The level of the most severe finding; `good` if there is none, or if there are only notes."""
    severities = {finding.severity for finding in findings}
    return "bad" if Severity.CRITICAL in severities else "watch" if Severity.WARNING in severities else "good"


def onsets(findings: Sequence[Finding]) -> dict[int, str]:
    """The numbers of the findings that begin at each step, as in `{12: "1, 3"}`."""
    at: dict[int, list[int]] = {}
    for i, finding in enumerate(findings, start=1):
        at.setdefault(finding.first_step, []).append(i)
    return {step: ", ".join(map(str, numbers)) for step, numbers in sorted(at.items())}
