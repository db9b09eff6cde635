"""A finding from its code and from what was seen in the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradlab_core.judge.diagnosis.codes import CODES
from gradlab_core.records import Finding, Severity


def finding(
    code: str,
    severity: Severity,
    *,
    step: int,
    seen: str,
    paths: Sequence[str] = (),
    evidence: Mapping[str, float] | None = None,
    remedies: Sequence[str] | None = None,
) -> Finding:
    """A finding; `seen` says in one sentence what this run showed. The catalogue explains it, and gives the remedies
    unless `remedies` holds ones that suit this run better."""
    known = CODES[code]
    return Finding(
        code=code,
        severity=severity,
        paths=tuple(paths),
        first_step=step,
        evidence=dict(evidence or {}),
        remedies=known.remedies if remedies is None else tuple(remedies),
        explanation=f"{seen} {known.explanation}",
    )


def some(paths: Sequence[str], most: int = 3) -> str:
    """The first few paths, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(paths[:most])
    return shown + (f" and {len(paths) - most} more" if len(paths) > most else "")
