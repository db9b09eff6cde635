"""Two traces on disk, judged where neither framework is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from gradlab_core.errors import refuse
from gradlab_core.parity.arithmetic import BETWEEN, Arithmetic, coarsest
from gradlab_core.parity.causes import find_faults
from gradlab_core.parity.judge import judged_rows, measure
from gradlab_core.parity.local import Held, Local
from gradlab_core.parity.matching import layer_names, renamed
from gradlab_core.parity.report import ParityReport
from gradlab_core.parity.rounding import Spread
from gradlab_core.parity.trace import Key, weights_after
from gradlab_core.parity.trace_file import Reader
from gradlab_core.parity.traces import File


def compare_traces(reference: File, candidate: File) -> ParityReport:
    """`compare`, of what was recorded: the same rows, with the spread of 24 perturbed runs.

    Raises:
        GradlabError: a file is no trace or is cut off, it is not one of a reference and one of a candidate, or they
            were recorded from other weights or on another batch.
    """
    with Reader(reference) as ours, Reader(candidate) as theirs:
        _refuse_strangers(ours, theirs)
        measured = []
        unpaired: dict[Key, None] = {}
        modules = theirs.header.modules
        for step in range(ours.header.steps):
            traces = [side.trace(dtype, step) for dtype in ("float64", "float32") for side in (ours, theirs)]
            of_step, alone, _ = measure(step, traces, modules, loose=modules is not None)
            measured += of_step
            unpaired |= dict.fromkeys(alone)
        arithmetic = ours.header.arithmetic, theirs.header.arithmetic
        drawn = ours.spreads()
        spreads = {a: drawn[a] for a in arithmetic}
        rows = judged_rows(measured, arithmetic, spreads)
        if BETWEEN in drawn and (first := next((row for row in rows if row.problem), None)) and first.is_saturated:
            spreads[BETWEEN] = drawn[BETWEEN]
            rows = judged_rows(measured, arithmetic, spreads)
        report = ParityReport(rows=rows, arithmetic=arithmetic, unpaired=tuple(unpaired))
        if report.failures and all(row.is_rounding for row in report.failures):
            for coarser in (a for a in drawn if a.products > arithmetic[1].products):
                tried = judged_rows(measured, (arithmetic[0], coarser), {**spreads, coarser: drawn[coarser]})
                if not any(row.problem for row in tried):
                    return dataclasses.replace(report, explanation=coarser)
        elif report.failures and theirs.header.local:
            report = dataclasses.replace(report, faults=find_faults(_locals(ours, theirs, drawn, coarsest(arithmetic))))
        return report


def _locals(
    ours: Reader, theirs: Reader, drawn: Mapping[Arithmetic, Spread], arithmetic: Arithmetic
) -> Iterator[Local]:
    """The steps that the candidate recorded beside its own run, each layer given what the reference's trace holds."""
    before = start = ours.weights()
    held = Held(ours.batch(), start, drawn[arithmetic], arithmetic)
    for step in range(ours.header.steps):
        truth, value = dict(ours.trace("float64", step)), dict(theirs.trace("local", step))
        names = layer_names(truth, theirs.trace("float64", step), theirs.header.modules)
        yield held.local(step, before, truth, renamed(value, names))
        before = before | weights_after(truth)


def _refuse_strangers(reference: Reader, candidate: Reader) -> None:
    """Two traces that do not belong together: all reasons at once."""
    ours, theirs = reference.header, candidate.header
    problems = [
        f"{side.path} is a {side.header.role}'s trace; expected a {role}'s"
        for side, role in ((reference, "reference"), (candidate, "candidate"))
        if side.header.role != role
    ]
    if not problems:
        again = f"; record it again with --like {reference.path}"
        if ours.weights_digest != theirs.weights_digest:
            problems.append(f"{candidate.path} started from other weights{again}")
        if ours.batch_digest != theirs.batch_digest:
            problems.append(f"{candidate.path} was recorded on another batch{again}")
        if ours.steps != theirs.steps:
            problems.append(f"{candidate.path} holds {theirs.steps} steps, the reference {ours.steps}{again}")
        known = [drawn.arithmetic for drawn in ours.drawn]
        problems += [
            f"the {role} multiplies in {side.arithmetic.words}, and {reference.path} holds what rounding to expect of "
            f"{', '.join(a.words for a in known if a != BETWEEN)}; record the reference with precision as-is, "
            "which holds all"
            for role, side in (("reference", ours), ("candidate", theirs))
            if side.arithmetic not in known
        ]
    refuse("compare traces", problems)
