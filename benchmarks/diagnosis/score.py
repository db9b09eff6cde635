"""From judged runs to figures: what was found, what was not, what was said where nothing is wrong, and where."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gradlab_core.records import Finding, Severity

from .draw import PARTS, Drawn
from .truth import BY_CONSTRUCTION, DROPPED, HEALTHY, HINDERS

OURS = "gradlab"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """A finding, as far as it is scored."""

    code: str
    severity: Severity
    paths: tuple[str, ...]
    first_step: int

    @property
    def is_alarm(self) -> bool:
        """Whether it says that something is wrong; a note does not."""
        return self.severity is not Severity.NOTE


def scored(finding: Finding) -> Said:
    """What of a finding is scored."""
    return Said(code=finding.code, severity=finding.severity, paths=finding.paths, first_step=finding.first_step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """A run, what it counts as (`truth.status`) and what was said of it; `others` has the codes of each other tool."""

    drawn: Drawn
    status: str
    why: str = ""
    findings: tuple[Said, ...] = ()
    others: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def alarms(self, tool: str = OURS) -> tuple[str, ...]:
        """Codes of what a tool says is wrong."""
        if tool != OURS:
            return self.others.get(tool, ())
        return tuple(f.code for f in self.findings if f.is_alarm)

    def is_found(self, tool: str = OURS) -> bool:
        """Whether the fault was found as what it is."""
        return any(code in self.drawn.codes for code in self.alarms(tool))

    @property
    def located(self) -> bool | None:
        """Whether the first place named by the finding that counts lies in a true layer; None where there is no such
        finding, or the fault is nowhere in particular."""
        hits = [f for f in self.findings if f.is_alarm and f.code in self.drawn.codes]
        if not hits or not self.drawn.where:
            return None
        first = next((f.paths[0] for f in hits if f.paths), "")
        return any(first == layer or first.startswith(f"{layer}.") for layer in self.drawn.where)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A share, `hits` of `total`, with its Wilson interval of 95 %; None where there is nothing to count.

    `measure` is what is counted of `subject` (a code, a fault, a family or `all`) on one part of the programs.
    """

    tool: str
    part: str
    measure: str
    subject: str
    hits: int
    total: int
    share: float | None
    low: float | None
    high: float | None


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float] | None:
    """The interval of 95 % of a share. Source: Wilson 1927.

    >>> [round(x, 3) for x in wilson(95, 100)]
    [0.888, 0.978]
    """
    if not total:
        return None
    share, shift = hits / total, z * z / total
    middle = (share + shift / 2) / (1 + shift)
    half = z / (1 + shift) * math.sqrt(share * (1 - share) / total + shift / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def score(judged: Sequence[Judged], tools: Sequence[str]) -> list[Row]:
    """All figures of all tools on both parts; those by code, fault and family of our own alone."""
    rows: list[Row] = []
    for part in PARTS:
        mine = [j for j in judged if j.drawn.part == part and j.status != DROPPED]
        for tool in (OURS, *tools):
            rows += _row_set(tool, part, mine)
        rows += _details(part, mine)
    return rows


def _row_set(tool: str, part: str, judged: Sequence[Judged]) -> Iterator[Row]:
    hinder, built = _of(judged, HINDERS), _of(judged, BY_CONSTRUCTION)
    healthy = _of(judged, HEALTHY)

    def row(measure: str, runs: Sequence[Judged], hit: Callable[[Judged], bool], subject: str = "all") -> Row:
        return _row(tool, part, measure, subject, map(hit, runs))

    yield row("recall", hinder, lambda j: j.is_found(tool))
    yield row("any alarm", hinder, lambda j: bool(j.alarms(tool)))
    yield row("recall, by construction", built, lambda j: j.is_found(tool))
    yield row("false alarms", healthy, lambda j: bool(j.alarms(tool)))
    yield row("false alarms, hard", [j for j in healthy if j.drawn.hard], lambda j: bool(j.alarms(tool)))


def _details(part: str, judged: Sequence[Judged]) -> Iterator[Row]:
    faulty = _of(judged, HINDERS, BY_CONSTRUCTION)
    healthy = _of(judged, HEALTHY)
    hinder = _of(judged, HINDERS)
    # Other tools have no order.
    yield _row(OURS, part, "named first", "all", [any(c in j.drawn.codes for c in j.alarms()[:1]) for j in hinder])
    placed = [j.located for j in faulty if j.located is not None]
    yield _row(OURS, part, "located", "all", placed)
    codes = dict.fromkeys([j.drawn.codes[0] for j in faulty] + [c for j in judged for c in j.alarms()])
    for code in codes:
        mine = [j for j in faulty if j.drawn.codes[0] == code]
        yield _row(OURS, part, "recall of code", code, [j.is_found() for j in mine])
        yield _row(OURS, part, "exact code", code, [code in j.alarms() for j in mine])
        raised = [j for j in judged if code in j.alarms()]
        yield _row(OURS, part, "precision", code, [code in (*j.drawn.codes, *j.drawn.follows) for j in raised])
        yield _row(OURS, part, "located of code", code, [j.located for j in mine if j.located is not None])
    for fault in dict.fromkeys(j.drawn.fault for j in faulty):
        mine = [j for j in faulty if j.drawn.fault == fault]
        yield _row(OURS, part, "recall of fault", str(fault), [j.is_found() for j in mine])
    for family in dict.fromkeys(j.drawn.family for j in healthy):
        mine = [j for j in healthy if j.drawn.family == family]
        yield _row(OURS, part, "false alarms of family", family, [bool(j.alarms()) for j in mine])


def misses(judged: Sequence[Judged], part: str = "tuning") -> list[Judged]:
    """Runs of one part that were misjudged: a fault not found or not located, an alarm on a healthy run."""
    mine = [j for j in judged if j.drawn.part == part and j.status != DROPPED]
    return [j for j in mine if (bool(j.alarms()) if j.status == HEALTHY else not j.is_found() or j.located is False)]


def _of(judged: Sequence[Judged], *status: str) -> list[Judged]:
    return [j for j in judged if j.status in status]


def _row(tool: str, part: str, measure: str, subject: str, outcomes: Iterable[bool]) -> Row:
    counted = list(outcomes)
    hits, total = sum(counted), len(counted)
    low, high = wilson(hits, total) or (None, None)
    return Row(
        tool=tool, part=part, measure=measure, subject=subject, hits=hits, total=total,
        share=hits / total if total else None, low=low, high=high,
    )  # fmt: skip
