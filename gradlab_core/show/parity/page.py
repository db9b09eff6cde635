"""The page of parity reports: the verdict, the first divergence with its numbers, and every tensor as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradlab_core.parity import ParityReport
from gradlab_core.parity.advice import next_move
from gradlab_core.parity.causes import Fault
from gradlab_core.show.parity.cells import LEVELS, MISSING, NOTHING, ODD, SCALE, SIDES, columns, figure
from gradlab_core.show.parity.tree import numbers, tree
from gradlab_core.show.rendering import fill, version
from gradlab_core.text import listed

MOST = 10
"""Failures that are listed beside the first; the tree shows all."""
DEFINITIONS = (
    ("Oracle", "The reference in float64: the truth that everything else is held against."),
    ("Error", "The length of the difference from the oracle over the length of the oracle's tensor, whole tensors."),
    ("In float64", "The candidate must equal the oracle but for rounding: a larger difference is another definition."),
    ("In float32", "Each side's own rounding error, held against what is expected of that tensor."),
    (
        "Expected (σ)",
        "How far float64 runs lie from the oracle whose every operation carries a random error of float32's size.",
    ),
    ("Limit", "So many σ that of 10,000 healthy pairs fewer than one would raise an alarm; in float64 at least 1e-9."),
    (
        "Fault",
        "A tensor that differs although all that goes into it is the reference's: after each layer the candidate goes "
        "on with what the reference computed, so that no fault hides another.",
    ),
    (
        "Cause",
        "A hypothesis that computes from the reference's tensors what the candidate has, up to rounding.",
    ),
    (
        "Colours",
        "The largest of a tensor's three errors over its limit, in powers of ten: blue holds, orange with a cross is "
        "broken. A branch has the colour of the worst tensor in it.",
    ),
    (ODD, "The other side has a finite number there, or a number at all: the error is infinite and fails."),
    (MISSING, "One side has no such tensor, or no gradient path to it, where the other has a value."),
    (NOTHING, "The loss does not depend on it, and both sides say so: they agree."),
)


def render(reports: Mapping[str, ParityReport]) -> str:
    """The whole HTML page; a section a report."""
    return fill(Path(__file__).with_name("page.html.j2"), content(reports))


def content(reports: Mapping[str, ParityReport]) -> dict[str, Any]:
    """Everything the template shows, under the names it uses."""
    sections = [_section(f"pair-{i}", name, report) for i, (name, report) in enumerate(reports.items())]
    broken = [section["name"] for section in sections if section["level"] == "bad"]
    if len(sections) == 1:
        title = "Parity is broken" if broken else "Parity holds"
    else:
        title = f"Parity is broken in {len(broken)} of {len(sections)} pairs" if broken else "Parity holds in all pairs"
    return {
        "title": title,
        "sections": sections,
        "legend": [(LEVELS.index(name), name) for name in (*SCALE, ODD, MISSING, NOTHING)],
        "definitions": DEFINITIONS,
        "version": version(),
        "figures": {},
    }


def _section(key: str, name: str, report: ParityReport) -> dict[str, Any]:
    first, failures = report.first_divergence, report.failures
    steps = max(row.step for row in report.rows) + 1
    before = report.rows.index(first) if first is not None else 0
    return {
        "key": key,
        "name": name,
        "level": "good" if first is None else "bad",
        "verdict": "Parity holds." if first is None else f"Parity is broken at {first.name}.",
        "facts": _facts(report, steps),
        "first": None if first is None else numbers(first),
        "first_name": "" if first is None else first.name,
        "before": f"{before:,} tensor{'s' if before != 1 else ''} before it agree{'s' if before == 1 else ''}.",
        "move": next_move(report),
        "faults": [_fault(fault) for fault in report.faults],
        "others": [(row.name, row.problem) for row in failures[1 : MOST + 1]],
        "more": max(0, len(failures) - 1 - MOST),
        "sentences": report.notes,
        "explained": "Notes" if first is None else "What may explain it",
        "tree": tree(report),
        "steps": steps,
        "columns": len(columns(steps)),
        "width": len(columns(steps)[0]),
    }


def _fault(fault: Fault) -> dict[str, Any]:
    """Where it is, what it is, what mends it, and how much follows from it."""
    many = len(fault.follow)
    return {
        "place": fault.place,
        "said": fault.said,
        "fix": fault.fix,
        "others": [" and ".join(cause.words for cause in e.causes) for e in fault.explanations[1:]],
        "follow": f"{many:,} tensor{'s' if many != 1 else ''} differ{'s' if many == 1 else ''} because of it"
        if many
        else "",
    }


def _facts(report: ParityReport, steps: int) -> list[str]:
    reference, candidate = report.arithmetic
    made = reference.words if reference == candidate else f"{reference.words} and {candidate.words}"
    worst = [figure(report.worst(f"{side}_error")) for side in SIDES]
    facts = [
        f"{len(report.rows):,} tensors of {steps} training step{'s' if steps != 1 else ''} compared, "
        f"{len(report.failures):,} beyond their limit.",
        f"The largest difference in float64 is {worst[0]}; the largest error in float32 {worst[1]} of the reference, "
        f"{worst[2]} of the candidate.",
        f"Products are made in {made}.",
    ]
    if report.failures:
        kinds = dict.fromkeys(row.quantity.replace("_", " ") for row in report.failures)
        facts.append(f"Beyond their limit are tensors of these kinds: {listed(list(kinds))}.")
    if report.unresolved:
        facts.append(
            f"{len(report.unresolved):,} tensors have no correct digit in float32: only their magnitude is compared."
        )
    return facts
