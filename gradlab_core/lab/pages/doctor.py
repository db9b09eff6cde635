"""The section of the init doctor: layers that start wrong, what to change, the effect of a repair, and first steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gradlab_core.definitions.thresholds import START_FINE
from gradlab_core.lab.doctor import LayerStart
from gradlab_core.lab.pages.scale import magnitude, verdict
from gradlab_core.lab.pages.section import WHOLE, Section, Sheet
from gradlab_core.lab.repair import LayerStepSize
from gradlab_core.lab.studies.doctor import DoctorStudy, Look
from gradlab_core.lab.studies.symmetry import tied_layers
from gradlab_core.show import style
from gradlab_core.show.canvas import Canvas, Chart, Illustration, Line, Panel, Point
from gradlab_core.show.spread import Spread
from gradlab_core.show.words import framework_name
from gradlab_core.text import listed, number, percent

_ORDER = ("good", "watch", "bad")
_UNLIKE = 10.0  # from this factor between them, the shares by which layers move are worth a sentence


def doctor_section(name: str, study: DoctorStudy) -> Section:
    """The section of a model, with the name that the user gave. After a repair the repaired model is judged."""
    judged = study.after or study.before
    level = max([row.level for row in judged.layers], key=_ORDER.index, default="good")
    lost = judged.log_gradient is not None and verdict(judged.log_gradient) != "survives"
    charts = [
        Illustration(
            "doctor",
            "Variance of every layer's output",
            "In execution order, on the batch, before training; the shaded zone is fine. A line that leaves it layer "
            "by layer is a signal that fades or blows up with depth.",
            _variances(study),
        ),
        Illustration(
            "doctor-steps",
            "How far the first step moves every layer",
            "‖Δθ‖/‖θ‖ of one step. Plain SGD moves layers by as much as their gradients differ; LARS, which scales "
            "each layer's step to its weights, moves all alike. It cannot make up for a signal that was lost on its "
            "way: it then steps along noise.",
            _steps_chart(study),
        ),
    ]
    return Section(
        key="doctor",
        title=f"Init doctor: {name}",
        about="A layer's output should vary as much as the next can use. Which layers start wrong, by how much, and "
        "what to change; the advice supposes that the layers before are mended first, and that a layer reads what ran "
        "before it: a repair measures instead.",
        level="bad" if lost or judged.ties.defect else level,
        said=list(_sentences(study)),
        sheets=[_table(judged.layers, repaired=study.after is not None), *_repair(study), _steps(study)],
        charts=charts,
    )


def _sentences(study: DoctorStudy) -> Iterable[str]:
    framework, rows = framework_name(study.framework), study.before.layers
    if rows:
        yield f"{framework}: {_count(rows, study.target)}"
    else:
        yield f"{framework}: no dense or convolutional layer found, so there is nothing to judge."
    yield from _gradient(study.before, "The gradient")
    ties = study.before.ties
    if ties.defect:
        paths = listed(list(tied_layers(ties)))
        yield (
            f"{percent(ties.defect)} of the hidden units are copies that training cannot tell apart ({paths}): draw "
            "the weights from a distribution."
        )
    yield from _apart("In its first step", study.before.steps)
    if study.repair is not None and study.after is not None:
        changed = sum(row.factor is not None for row in study.repair)
        if rows:
            scaled = f"{changed} layer{'s' * (changed != 1)}"
            yield f"After the repair (LSUV), which scaled {scaled}: {_count(study.after.layers, study.target)}"
        yield from _gradient(study.after, "After the repair the gradient")
        if study.after.ties.defect:
            share = percent(study.after.ties.defect)
            yield f"After the repair {share} of the hidden units are copies still, since scaling tells no units apart."
        yield from _apart("After the repair", study.after.steps)


def _count(rows: Sequence[LayerStart], target: float) -> str:
    """Say how many layers have the variance that they should have."""
    wrong, off = ([row.path or WHOLE for row in rows if row.level == level] for level in ("bad", "watch"))
    goal = "1" if target == 1 else f"the target, {number(target)}"
    parts = []
    if wrong:
        parts.append(f"{len(wrong)} of {len(rows)} layers start wrong, the first is {wrong[0]}")
    if off:
        low, high = (number(bound * target) for bound in START_FINE)
        parts.append(f"{len(off)} of {len(rows)} vary less than {low} or more than {high}, the first is {off[0]}")
    return (
        "; ".join(parts) + "."
        if parts
        else f"all {len(rows)} layers start well, near a variance of {goal} or normalised."
    )


def _gradient(look: Look, what: str) -> Iterable[str]:
    """Say whether the gradient survives its way back, which variances do not show."""
    log = look.log_gradient
    if log is not None and verdict(log) != "survives":
        way = f"{what} {verdict(log)} on its way from the last layer to the first"
        if log == -math.inf:
            yield f"{way}, to exactly 0."
        else:
            cure = "another activation, fewer layers, normalisations or residual connections"
            yield f"{way}, by a factor of {magnitude(log)}: where scales do not help, {cure} do."


def _apart(when: str, steps: Sequence[LayerStepSize]) -> Iterable[str]:
    """Say how much the steps of layers differ, if some layers would move and others would not."""
    known = [(row.plain, row.path or WHOLE) for row in steps if row.plain is not None and 0 < row.plain < math.inf]
    if len(known) > 1:
        (least, slow), (most, fast) = min(known), max(known)
        if most / least > _UNLIKE:
            yield f"{when} plain SGD changes {fast} by {_share(most)} and {slow} by {_share(least)}; LARS both alike."


def _share(value: float) -> str:
    """A share of any order of magnitude, as text.

    >>> _share(0.0179), _share(3e-15), _share(700.0)
    ('1.8 %', '3e−13 %', '7.0e+04 %')
    """
    return f"{100 * value:.2g} %".replace("e-", "e−") if value < 100 else f"{100 * value:.1e} %"


def _table(rows: Sequence[LayerStart], *, repaired: bool) -> Sheet:
    return Sheet(
        "Layers after the repair" if repaired else "Layers",
        ["layer", "variance", "gain", "wanted", "advice"],
        [
            [row.path or WHOLE, number(row.variance), number(row.gain), number(row.wanted_gain), row.advice]
            for row in rows
        ],
        words=["advice"],
        levels=[row.level for row in rows],
    )


def _repair(study: DoctorStudy) -> list[Sheet]:
    if study.repair is None:
        return []
    rows = []
    for row in study.repair:
        factor = "none" if row.factor is None else number(row.factor)
        rows.append([row.path or WHOLE, number(row.before), number(row.after), factor, row.note])
    headings = ["layer", "variance before", "after", "factor", "note"]
    return [Sheet("What LSUV did to the weights", headings, rows, words=["note"])]


def _steps(study: DoctorStudy) -> Sheet:
    rows = []
    for row in (study.after or study.before).steps:
        cells = [row.gradient_norm, row.trust_ratio, row.plain, row.lars]
        shown = ["no gradient path"] * 4 if row.gradient_norm is None else [_factor(cell) for cell in cells]
        rows.append([row.path or WHOLE, _factor(row.param_norm), *shown])
    headings = ["layer", "‖θ‖", "‖g‖", "trust ratio", "step of SGD", "of LARS"]
    when = " after the repair" if study.after else ""
    return Sheet(f"The first step{when} as ‖Δθ‖/‖θ‖, learning rate {number(study.learning_rate)}", headings, rows)


def _factor(value: float | None) -> str:
    """A number of any order of magnitude, as text.

    >>> _factor(51.4), _factor(5.14e17), _factor(math.inf), _factor(None)
    ('51.4', '5.1e+17', 'Inf', 'not measured')
    """
    return f"{value:.1e}" if value is not None and math.isfinite(value) and abs(value) >= 1e5 else number(value)


def _variances(study: DoctorStudy) -> Chart:
    canvas = Canvas([Panel("Variance of the output", "variance", log=True)], "layer")
    sides = [("as it starts", study.before.layers), ("after the repair", study.after.layers if study.after else ())]
    for i, (name, rows) in enumerate(sides):
        if rows:
            points = [_point(row.path or WHOLE, row.variance, f"{name}<br>variance") for row in rows]
            canvas.line(0, Line(name, style.sequence(2 - 2 * i, 3)), points)
    low, high = (bound * study.target for bound in START_FINE)
    zone = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": low, "y1": high, "layer": "below"}
    canvas.shapes.append(zone | {"fillcolor": style.ZONES["good"], "line": {"width": 0}})
    return _by_path(canvas.figure(), [row.path or WHOLE for row in study.before.layers])


def _steps_chart(study: DoctorStudy) -> Chart:
    canvas = Canvas([Panel("Step", "‖Δθ‖/‖θ‖", log=True)], "layer", missing="no gradient path")
    steps = study.before.steps
    lines = [("plain SGD", steps, "plain", style.SOLID), ("LARS", steps, "lars", style.SOLID)]
    if study.after is not None:
        lines.append(("plain SGD after the repair", study.after.steps, "plain", style.DOTTED))
    for i, (name, rows, figure, dash) in enumerate(lines):
        points = [_point(row.path or WHOLE, getattr(row, figure), f"{name}<br>step") for row in rows]
        canvas.line(0, Line(name, style.sequence((2, 0, 1)[i], 3), dash), points)
    return _by_path(canvas.figure(), [row.path or WHOLE for row in steps])


def _point(path: str, value: float | None, what: str) -> Point:
    text = f"{style.text(path, 80)}<br>{what} <b>{_factor(value)}</b>"
    return Point(style.text(path, 60), Spread(value, value, value), text)


def _by_path(figure: Chart, paths: Sequence[str]) -> Chart:
    """An axis with as many names as there is room for, in their order."""
    names = [style.text(path, 60) for path in paths]
    step = max(1, math.ceil(len(names) / 16))
    figure["layout"]["xaxis"] |= {"type": "category", "categoryorder": "array", "categoryarray": names}
    figure["layout"]["xaxis"] |= {"tickvals": names[::step], "ticktext": [style.text(p, 18) for p in paths[::step]]}
    return figure
