"""The norm report and the trends of one run as tables of words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from gradlab_core.judge import norm_classes, norm_report, trend_words, trends
from gradlab_core.judge.judged import JudgedRun
from gradlab_core.judge.norm_report import NormReport, NormRow, Stretch
from gradlab_core.judge.trends import Trend
from gradlab_core.text import number

DEFINITIONS = (*norm_report.DEFINITIONS, *trends.DEFINITIONS)
LEVELS = {norm_classes.STABLE: "good", norm_classes.EXPLODING: "bad", norm_classes.VANISHING: "watch", None: "unknown"}
HEADINGS = (
    "Step", "Loss", "η", "‖g‖", "moving average of ‖g‖", "‖θ‖", "η‖g‖", "‖Δθ‖ applied", "η‖g‖/‖θ‖", "‖Δθ‖/‖θ‖ applied",
    "Class",
)  # fmt: skip
_MOST = 6


@dataclasses.dataclass(frozen=True)
class Row:
    """The figures of one step, its class, and the level of that class."""

    step: str
    figures: list[str]
    norm_class: str
    level: str


@dataclasses.dataclass(frozen=True)
class Way:
    """Where one quantity of one tensor went, in words."""

    ends: str
    direction: str


def norms(run: JudgedRun, diagnosis: str = "good") -> dict[str, Any]:
    """What the template shows of the norm report. If the diagnosis is not `good`, the class `stable` has no colour, for
    the norms of the whole net cannot show all that the diagnosis sees."""
    return {
        "headings": HEADINGS,
        "rows": [row(each, diagnosis) for each in run.norms.rows],
        "stretches": stretch_words(run.norms),
        "notes": run.norms.notes,
    }


def row(norms: NormRow, diagnosis: str = "good") -> Row:
    """One line of the table."""
    figures = (
        norms.loss, norms.learning_rate, norms.grad_norm, norms.moving_average, norms.param_norm,
        norms.estimated_update, norms.update_norm, norms.step_ratio, norms.update_ratio,
    )  # fmt: skip
    word = norms.norm_class or trend_words.NO_PATH
    level = LEVELS[norms.norm_class]
    level = "unknown" if level == "good" and diagnosis != "good" else level
    return Row(f"{norms.step:,}", [number(figure) for figure in figures], word, level)


def stretch_words(report: NormReport) -> str:
    """The classes one after the other; after the first few only how many more changes there are."""

    def words(stretch: Stretch) -> str:
        first, last = stretch.first_step, stretch.last_step
        steps = f"step {first:,}" if first == last else f"steps {first:,}–{last:,}"
        return f"{stretch.norm_class or trend_words.NO_PATH} at {steps}"

    more = len(report.stretches) - _MOST
    shown = "; ".join(words(stretch) for stretch in report.stretches[:_MOST])
    return f"{shown[:1].upper()}{shown[1:]}{f'; and {more:,} more changes' if more > 0 else ''}."


def trend_tables(run: JudgedRun) -> dict[str, Any]:
    """What the template shows of the trends, which need tensors in the records."""
    if not run.trends.tensors:
        return {"sentences": [], "rows": []}
    return {
        "sentences": trend_words.sentences(run.trends),
        "headings": list(trends.QUANTITIES.values()),
        "rows": [(path, ways(run.trends.tensors, path)) for path in dict.fromkeys(t.path for t in run.trends.tensors)],
    }


def ways(tensors: Sequence[Trend], path: str) -> list[Way]:
    """The ways of the parameter norm, the gradient norm and the update ratio of one tensor."""
    own = [trend for trend in tensors if trend.path == path]
    return [Way(trend_words.first_to_last(t), trend_words.direction(t)) for t in own]
