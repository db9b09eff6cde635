"""The judgement: do two models train the same, and if not, where do they first differ?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.parity import tolerance
from gradlab_core.parity.arithmetic import ARITHMETICS, BETWEEN, Arithmetic, check_precision, coarsest
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.causes import Fault, find_faults, other_points
from gradlab_core.parity.chance import refuse_chance
from gradlab_core.parity.correspondence import Correspondence, Rules, correspond, corresponding
from gradlab_core.parity.hiding import refuse_hiding_places
from gradlab_core.parity.local import local_steps
from gradlab_core.parity.matching import layer_names, one_sided, renamed
from gradlab_core.parity.report import ParityReport, ParityRow
from gradlab_core.parity.rounding import Draws, Spread, draw_more
from gradlab_core.parity.trace import Key, LocalSubject, Subject, Trace

Batch = tuple[Inputs, Any]


def compare(
    reference: Subject,
    candidate: Subject,
    batch: Batch,
    *,
    steps: int = 3,
    precision: str | None = None,
    rules: Rules | None = None,
) -> ParityReport:
    """Train both from the reference's weights on one batch, and compare every tensor of every step.

    Each subject runs in float64 and in its own float32; beside them run perturbed copies of the reference, whose spread
    is the rounding expected of each tensor. Only one step's tensors are held at a time.

    Args:
        reference, candidate: a `Subject` of either twin; neither is changed.
        batch: canonical `(x, y)`, the same for both; x is one array or several, by name or by place, y what the losses
            take.
        steps: training steps, in train mode.
        precision: the arithmetic of both sides, one of `highest`, `tf32`, `bfloat16`, `float16`, `as-is`; by default
            each subject's own, which is `highest` unless it says otherwise.
        rules: `{candidate's weight: reference's weight or a Link}` where names and layouts differ and `correspond`
            would not find out.

    Raises:
        GradlabError: weights that correspond to nothing, an unknown precision, a batch or weights in which an error
            could hide, or a broken parity of subjects that draw random numbers.
    """
    x, _ = batch
    if steps < 1:
        raise GradlabError(f"steps is {steps}; expected at least 1")
    if precision is not None:
        check_precision(precision)
        reference, candidate = reference.at(precision), candidate.at(precision)
    start = reference.state()
    refuse_hiding_places(x, start)
    correspondence = correspond(reference, candidate, batch, rules=rules)
    correspondence.check()
    if not correspondence.is_identity:
        reference, candidate = corresponding(reference, candidate, correspondence)
    arithmetic = reference.arithmetic(), candidate.arithmetic()
    spreads = {a: Spread() for a in arithmetic}
    measured, unpaired, names = _run(reference, candidate, batch, steps, start, spreads, correspondence)
    rows = judged_rows(measured, arithmetic, spreads)
    drawn = 0
    while (first := next((row for row in rows if row.problem), None)) is not None:
        if first.is_saturated and BETWEEN not in spreads:
            spreads[BETWEEN] = Spread()
            draw_more(reference, start, batch, steps, range(tolerance.DRAWS[1]), {BETWEEN: spreads[BETWEEN]})
        elif first.is_rounding and drawn + 1 < len(tolerance.DRAWS):
            more = range(tolerance.DRAWS[drawn], tolerance.DRAWS[drawn + 1])
            draw_more(reference, start, batch, steps, more, {a: spreads[a] for a in arithmetic})
            drawn += 1
        else:
            break
        rows = judged_rows(measured, arithmetic, spreads)
    report = ParityReport(rows=rows, arithmetic=arithmetic, correspondence=correspondence, unpaired=unpaired)
    if report.failures:
        refuse_chance({"reference": reference, "candidate": candidate}, batch, start)
    if report.failures and all(row.is_rounding for row in report.failures):
        explained = _explanation(reference, batch, steps, start, measured, arithmetic, spreads)
        report = dataclasses.replace(report, explanation=explained)
    elif report.failures and isinstance(reference, LocalSubject) and isinstance(candidate, LocalSubject):
        report = dataclasses.replace(
            report, faults=_faults(reference, candidate, batch, steps, start, arithmetic, names)
        )
    return report


def assert_parity(
    reference: Subject,
    candidate: Subject,
    batch: Batch,
    *,
    steps: int = 3,
    precision: str | None = None,
    rules: Rules | None = None,
) -> ParityReport:
    """`compare`, and an AssertionError that names the first divergence if there is one."""
    report = compare(reference, candidate, batch, steps=steps, precision=precision, rules=rules)
    if report.failures:
        raise AssertionError(str(report))
    return report


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Of one tensor at one step: the norm of the truth, and how far from it the candidate's float64 and both float32
    runs are; None where there is nothing to compare, for the reason in `missing` if that is a fault."""

    step: int
    key: Key
    scale: float
    errors: tuple[float, float, float] | None
    missing: str | None


def _run(
    reference: Subject,
    candidate: Subject,
    batch: Batch,
    steps: int,
    start: dict[str, np.ndarray],
    spreads: dict[Arithmetic, Spread],
    correspondence: Correspondence,
) -> tuple[list[_Measured], tuple[Key, ...], dict[Key, Key]]:
    """What every step measured, the layers' tensors that one side alone shows, where layers have other names, and the
    reference's names of the candidate's."""
    runs = [subject.cast(dtype) for dtype in ("float64", "float32") for subject in (reference, candidate)]
    for run in runs:
        run.load(start)
    seeds = range(tolerance.DRAWS[0])
    draws = [Draws(reference, start, arithmetic, seeds, spread) for arithmetic, spread in spreads.items()]
    measured: list[_Measured] = []
    unpaired: dict[Key, None] = {}
    names: dict[Key, Key] = {}
    modules = None if correspondence.is_identity else correspondence.modules()
    # Where layers have other names, or are no modules but were found in the program, one side may show more than both.
    loose = modules is not None or any(getattr(subject, "guesses_layers", False) for subject in (reference, candidate))
    for step in range(steps):
        traces = [run.step(*batch, step) for run in runs]
        of_step, alone, names = measure(step, traces, modules, loose=loose)
        measured += of_step
        unpaired |= dict.fromkeys(alone)
        for perturbed in draws:
            perturbed.step(*batch, step, traces[0])
    return measured, tuple(unpaired), names


def measure(
    step: int, traces: Sequence[Trace], modules: Mapping[str, str] | None, *, loose: bool
) -> tuple[list[_Measured], set[Key], dict[Key, Key]]:
    """One step: what was measured, the layers' tensors that one side alone shows, if such are passed over (`loose`),
    and the reference's names of the candidate's.

    Args:
        traces: oracle, candidate in float64, reference and candidate in float32.
        modules: as in `layer_names`.
    """
    oracle, candidate64, reference32, candidate32 = traces
    names = layer_names(oracle, candidate64, modules)
    sides = [oracle, renamed(candidate64, names), reference32, renamed(candidate32, names)]
    alone = one_sided(sides[0], sides[1]) if loose else set()
    if alone:
        sides = [{key: value for key, value in side.items() if key not in alone} for side in sides]
    return _measured(step, *sides), alone, names


def _measured(step: int, oracle: Trace, candidate64: Trace, reference32: Trace, candidate32: Trace) -> list[_Measured]:
    sides = (candidate64, reference32, candidate32)
    known = [{key.quantity for key in trace} for trace in (oracle, candidate64)]
    measured = []
    for key in [*oracle, *(key for key in candidate64 if key not in oracle)]:
        # A subject may not know these of an optimizer that is not gradlab's; then nobody is asked for them.
        if key.quantity in ("learning_rate", "optimizer") and not all(key.quantity in side for side in known):
            continue
        truth, values = oracle.get(key), [v for trace in sides if (v := trace.get(key)) is not None]
        if truth is None or len(values) < len(sides):
            measured.append(_Measured(step, key, 0.0, None, _missing(key, oracle, candidate64)))
        else:
            logic, first, second = (tolerance.distance(value, truth) for value in values)
            measured.append(_Measured(step, key, tolerance.size(truth), (logic, first, second), None))
    return measured


def judged_rows(
    measured: list[_Measured], arithmetic: tuple[Arithmetic, Arithmetic], spreads: dict[Arithmetic, Spread]
) -> tuple[ParityRow, ...]:
    times = tolerance.factor(2 * len(measured))
    return tuple(_row(m, arithmetic, spreads, times) for m in measured)


def _row(
    m: _Measured, arithmetic: tuple[Arithmetic, Arithmetic], spreads: dict[Arithmetic, Spread], times: float
) -> ParityRow:
    where = {"step": m.step, "quantity": m.key.quantity, "path": m.key.path, "call": m.key.call, "missing": m.missing}
    numbers: dict[str, float | None] = dict.fromkeys(_NUMBERS)
    if m.errors is not None:
        expected = [spreads[a].expected(m.step, m.key, m.scale, a) for a in arithmetic]
        # Where the truth is exactly 0, an error is held against what rounding is expected to make of it.
        scale = m.scale or max(expected)
        errors = [tolerance.relative(e, scale) for e in m.errors]
        expected = [tolerance.relative(e, scale) for e in expected]
        logic = min(tolerance.logic_tolerance(e, a.products, times) for e, a in zip(expected, arithmetic, strict=True))
        if BETWEEN in spreads:
            finer = tolerance.relative(spreads[BETWEEN].expected(m.step, m.key, m.scale, BETWEEN), scale)
            logic = max(logic, tolerance.logic_tolerance(finer, BETWEEN.products, times))
        numbers = dict(zip(_NUMBERS, [*errors, *expected, logic, *(times * e for e in expected)], strict=True))
    return ParityRow(**where, **numbers)  # type: ignore[arg-type]


_NUMBERS = (
    "logic_error",
    "reference_error",
    "candidate_error",
    "reference_expected",
    "candidate_expected",
    "logic_tolerance",
    "reference_tolerance",
    "candidate_tolerance",
)


def _faults(
    reference: LocalSubject,
    candidate: LocalSubject,
    batch: Batch,
    steps: int,
    start: dict[str, np.ndarray],
    arithmetic: tuple[Arithmetic, Arithmetic],
    names: dict[Key, Key],
) -> tuple[Fault, ...]:
    """What is wrong by itself. Where a layer may be shown at another point of the program, the search is repeated
    without it, and the one that leaves less unexplained counts."""
    how = reference, candidate, batch, steps, start, coarsest(arithmetic), names
    faults = find_faults(local_steps(*how))
    own = other_points(faults, start)
    if not own:
        return faults
    again = find_faults(local_steps(*how, own))
    fewer = sum(not f.explanations for f in again) < sum(not f.explanations for f in faults)
    return again if again and fewer else faults


def _explanation(
    reference: Subject,
    batch: Batch,
    steps: int,
    start: dict[str, np.ndarray],
    measured: list[_Measured],
    arithmetic: tuple[Arithmetic, Arithmetic],
    spreads: dict[Arithmetic, Spread],
) -> Arithmetic | None:
    """The finest coarser arithmetic under which the candidate's rounding would be in order; the reference's is."""
    for coarser in (a for a in ARITHMETICS.values() if a.products > arithmetic[1].products):
        tried = {**spreads, coarser: Spread()}
        draw_more(reference, start, batch, steps, range(tolerance.DRAWS[0]), {coarser: tried[coarser]})
        if not any(row.problem for row in judged_rows(measured, (arithmetic[0], coarser), tried)):
            return coarser
    return None


def _missing(key: Key, oracle: Trace, candidate: Trace) -> str | None:
    """None when both sides agree that there is no gradient path. A path along which all is exactly 0 (through `round`
    or `sign`) is one in PyTorch and none in JAX; nothing follows from it. Of what the reference has frozen it keeps no
    gradient; whether the candidate has one is its own affair, as long as it does not move the parameter."""
    if all(key in trace and (trace[key] is None or not np.any(trace[key])) for trace in (oracle, candidate)):
        return None
    if key not in oracle and key.quantity in ("gradient", "activation_gradient"):
        return None
    sides = [
        "is absent" if key not in trace else "has no gradient path" if trace[key] is None else "has a value"
        for trace in (oracle, candidate)
    ]
    return None if sides[0] == sides[1] else f"{sides[0]} in the reference, {sides[1]} in the candidate"
