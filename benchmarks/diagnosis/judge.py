"""Every run before the judges: what became of it, what the diagnosis says, and what the rules of other tools say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.judge.diagnosis import diagnose

from . import store, truth
from .draw import Drawn
from .others import TOOLS
from .score import Judged, Said, scored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opinion:
    """What is said of one run by all, before anyone knows what was done to it."""

    outcome: truth.Outcome
    findings: tuple[Said, ...]
    others: Mapping[str, tuple[str, ...]]


def opinion(run: store.Run) -> Opinion:
    """Of a run that was made."""
    return Opinion(
        outcome=truth.outcome(run.spec, run.records),
        findings=tuple(scored(finding) for finding in diagnose(run.records)),
        others={name: tuple(sorted(tool(run.records))) for name, tool in TOOLS.items()},
    )


def judge(folder: Path, drawn: Sequence[Drawn], *, on_run: Callable[[str], Any] = lambda name: None) -> list[Judged]:
    """All pairs, in their order; a run that has an error is dropped, and with a healthy one its pair."""
    known: dict[str, Opinion | str] = {}
    for run in drawn:
        if run.name not in known:
            stored = store.load(folder, run.name)
            known[run.name] = stored.error or opinion(stored)
            on_run(run.name)
    healthy = {run.pair: known[run.name] for run in drawn if run.fault is None}
    return [_judged(run, known[run.name], healthy[run.pair]) for run in drawn]


def _judged(drawn: Drawn, mine: Opinion | str, base: Opinion | str) -> Judged:
    for which in (mine, base):
        if isinstance(which, str):
            return Judged(drawn=drawn, status=truth.DROPPED, why=f"the program failed: {which}")
    assert isinstance(mine, Opinion)
    assert isinstance(base, Opinion)
    faulty = None if drawn.fault is None else mine.outcome
    status, why = truth.status(base.outcome, faulty, structural=drawn.structural)
    return Judged(drawn=drawn, status=status, why=why, findings=mine.findings, others=mine.others)
