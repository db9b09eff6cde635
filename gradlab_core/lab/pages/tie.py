"""The section that demonstrates that SGD never breaks a tie, that dropout does, and that a random start is better."""

from __future__ import annotations

import math

from gradlab_core.lab.pages.section import Section, Sheet
from gradlab_core.lab.pages.symmetry import ABOUT, share
from gradlab_core.lab.studies.symmetry import TieRun, TieStudy
from gradlab_core.lab.tie import TieStep
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.text import number

_PARTS = 8  # the shares of the training that have a row
_GROWN = 10.0
"""A loss has diverged if it ends at so many times its start."""


def tie_section(study: TieStudy) -> Section:
    """The section of the demonstration. It is good as long as it shows what it is meant to show."""
    kept, broken, free = map(_diverged, study.runs)
    sentences = [_constant(study), _dropout(study), *_losses(study)]
    parted = any(step.distinct > 1 for step in _sound(study.constant))
    still_tied = any(run.steps[-1].distinct < study.units for run in (study.dropout, study.normal))
    level = "bad" if parted or kept or broken or free else "watch" if still_tied else "good"
    return Section(
        key="symmetry",
        title="Symmetry",
        about=ABOUT,
        level=level,
        said=sentences,
        sheets=[_tie_table(study)],
        charts=[
            Illustration(
                "tie",
                "A tie, and what breaks it",
                f"One net of {study.units} tanh units, trained three times. From a constant start, plain SGD leaves "
                "all units copies of one another; their distance is exactly 0, below the plot. Dropout, from the same "
                "start, gives each unit a gradient of its own, so it parts them, but from next to one another. "
                "Healthy: as many distinct units as there are, far apart from the start on.",
                _tie_chart(study),
            )
        ],
    )


def _constant(study: TieStudy) -> str:
    run, sound = study.constant, _sound(study.constant)
    parted = [step for step in sound if step.distinct > 1]
    if parted:
        return (
            f"SGD broke the tie, which it cannot: from the constant start {parted[0].distinct} units are distinct at "
            f"step {parted[0].step:,}. Something is wrong with the arithmetic."
        )
    if _diverged(run):
        return f"The constant start diverged by step {_first_odd(run)}: so many units need a smaller learning rate."
    return f"From a constant start plain SGD never breaks the tie: after {_after(run)} the {study.units} units are one."


def _dropout(study: TieStudy) -> str:
    run = study.dropout
    what = f"dropout {number(run.dropout)}"
    if _diverged(run):
        return f"With {what} the net diverged by step {_first_odd(run)}."
    last = run.steps[-1]
    parted = next((step for step in run.steps if step.distinct == study.units), None)
    if parted is None or last.distinct < study.units:
        return f"With {what}, after {_after(run)}, {study.units} units are worth {last.distinct}: ties are left."
    free = study.normal.steps[-1].closest or 0.0
    near = last.closest is not None and last.closest < free / 2
    apart = f"{'; but' if near else ', and'} after {_after(run)} the nearest two are {share(last.closest)} apart"
    seen = "after the first step" if parted.step == 1 else f"by step {parted.step:,}"
    return f"With {what} the tie is broken: {seen} all {study.units} units are distinct{apart}."


def _losses(study: TieStudy) -> list[str]:
    if any(_diverged(run) for run in study.runs):
        diverged = {_run_name(run): _first_odd(run) for run in study.runs if run is study.normal and _diverged(run)}
        return [f"The {name} diverged by step {step}." for name, step in diverged.items()]
    constant, dropout, normal = (run.steps[-1] for run in study.runs)
    best = min((constant, dropout, normal), key=lambda step: step.loss)
    what = "A random start needs no such help" if best is normal else "A random start is not the better one here"
    return [
        f"{what}: its loss ends at {number(normal.loss)}, that of the constant one at {number(constant.loss)}, with "
        f"dropout at {number(dropout.loss)}; its nearest two units are {share(normal.closest)} apart."
    ]


def _tie_table(study: TieStudy) -> Sheet:
    last = study.constant.steps[-1].step
    picked = [i for i, step in enumerate(study.constant.steps) if step.step in (0, 1, last)]
    for part in range(1, _PARTS):
        picked.append(max(i for i, step in enumerate(study.constant.steps) if step.step <= last * part / _PARTS))
    picked = sorted(set(picked))
    return Sheet(
        f"Distinct units of {study.units}, loss on all data, distance of the nearest two",
        ["step", *(_run_name(run) for run in study.runs)],
        [
            [
                f"{study.constant.steps[i].step:,}",
                *(_cell(run.steps[i]) for run in study.runs),
            ]
            for i in picked
        ],
        levels=["bad" if _odd_tie(study.constant.steps[i]) else "" for i in picked],
    )


def _tie_chart(study: TieStudy) -> Chart:
    canvas = Canvas(
        [
            Panel("Distinct units", "units", from_zero=True),
            Panel("Loss on all data", "loss", log=True),
            Panel("Distance of the nearest two", "share of the larger", log=True),
        ],
        "step",
    )
    for place, run in enumerate(study.runs):
        name = _run_name(run)
        # Dropout has open marks, since it shares its loss with one run and its distinct units with the other.
        line = Line(name, style.sequence(place, len(study.runs)), style.DOTTED if run.dropout else style.SOLID)
        for panel, (label, field) in enumerate(
            (("distinct units", "distinct"), ("loss", "loss"), ("nearest two", "closest"))
        ):
            canvas.line(panel, line, [_point(step, getattr(step, field), name, label) for step in run.steps])
    return canvas.figure()


def _point(step: TieStep, value: float | None, name: str, label: str) -> Point:
    value = math.nan if step.closest is None else value  # units that are NaN are not distinct in any sense
    return Point(
        step.step, Spread(value, value, value), f"{name}, step {step.step:,}<br>{label}: <b>{number(value)}</b>"
    )


def _cell(step: TieStep) -> str:
    if step.closest is None:
        return f"loss {number(step.loss)}"
    return f"{step.distinct}, {number(step.loss)}, {share(step.closest)}"


def _run_name(run: TieRun) -> str:
    """The name of a run.

    >>> _run_name(TieRun(start="constant", dropout=0.5, steps=()))
    'dropout 0.5'
    """
    return f"dropout {number(run.dropout)}" if run.dropout else f"{run.start} start"


def _after(run: TieRun) -> str:
    last = run.steps[-1].step
    return f"{last:,} step{'s' if last > 1 else ''}"


def _odd_tie(step: TieStep) -> bool:
    """What is wrong with the constant start without dropout, which should keep its tie."""
    return _is_odd(step) or step.distinct > 1


def _is_odd(step: TieStep) -> bool:
    return not math.isfinite(step.loss) or step.closest is None


def _sound(run: TieRun) -> list[TieStep]:
    """The steps until nothing is finite. Units that are NaN equal no other, but they are still tied."""
    return [step for step in run.steps if not _is_odd(step)]


def _diverged(run: TieRun) -> bool:
    return any(map(_is_odd, run.steps)) or run.steps[-1].loss > _GROWN * run.steps[0].loss


def _first_odd(run: TieRun) -> str:
    return f"{next(step.step for step in run.steps if _is_odd(step) or step.loss > _GROWN * run.steps[0].loss):,}"
