"""The page of recorded runs: one section a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradlab_core.records import StepRecord
from gradlab_core.report.charts import Illustration
from gradlab_core.report.recorded.heat import heatmap
from gradlab_core.report.recorded.lines import curves
from gradlab_core.report.recorded.steps import RecordedRun, recorded_run
from gradlab_core.report.recorded.summary import state_rows, summary
from gradlab_core.report.rendering import fill, version
from gradlab_core.report.values import number
from gradlab_core.report.words import DEFINITIONS
from gradlab_core.thresholds import ANOMALY_SCORE, ANOMALY_WARM_UP, HEALTHY_UPDATE_RATIO

_WORDS = ("Gradient norm", "Update ratio", "No gradient path", "not measured, NaN, Inf, 0")
_SCORE = (
    "Anomaly score",
    "How many standard deviations the logarithm of the gradient norm is away from its moving mean over the steps "
    f"before. From {ANOMALY_SCORE:g} on a step is called an anomaly.",
)


def render(runs: Mapping[str, Sequence[StepRecord]]) -> str:
    """The whole HTML page."""
    return fill("recorded.html.j2", content(runs))


def content(runs: Mapping[str, Sequence[StepRecord]]) -> dict[str, Any]:
    """Everything the template shows, under the names it uses."""
    sections = [_section(i, recorded_run(name, records)) for i, (name, records) in enumerate(runs.items())]
    return {
        "sections": sections,
        "figures": {item.key: item.figure for section in sections for item in section["charts"]},
        "definitions": [pair for pair in DEFINITIONS if pair[0] in _WORDS] + [_SCORE],
        "version": version(),
    }


def _section(index: int, run: RecordedRun) -> dict[str, Any]:
    rows, always_ok = state_rows(run)
    said = summary(run)
    return {
        "key": f"run-{index}", "name": run.name, "summary": said, "level": said.level, "states": rows,
        "always_ok": always_ok, "charts": _charts(index, run),
    }  # fmt: skip


def _charts(index: int, run: RecordedRun) -> list[Illustration]:
    low, high = (number(edge) for edge in HEALTHY_UPDATE_RATIO)
    charts = [
        Illustration(
            f"run-{index}-curves",
            "Step by step",
            "Healthy: the loss falls, the gradient norm neither collapses nor explodes, the update ratio stays in the "
            f"shaded zone from {low} to {high} (a lead, not a law: fine-tuning and the end of a schedule lie below), "
            f"the anomaly score between ±{ANOMALY_SCORE:g}. The score begins after {ANOMALY_WARM_UP} steps; anomalies "
            "are marked on every curve. What is no number leaves a gap and is marked below.",
            curves(run),
        )
    ]
    if run.paths:
        what = (
            "One row a parameter, from the input (top) to the output (bottom), one column a step drawn; the colour is "
            "logarithmic. NaN, Inf, no gradient path and exactly 0 have colours of their own, named above the chart."
        )
        charts += [
            Illustration(
                f"run-{index}-gradients",
                "Gradient norm of every parameter",
                f"{what} Healthy: rows keep their colour and neighbours differ little. Fading upwards is a vanishing "
                "gradient.",
                heatmap(run, "grad"),
            ),
            Illustration(
                f"run-{index}-ratios",
                "Update ratio of every parameter",
                f"{what} Inf says that a parameter that was 0 has moved, as biases do at their first step. A row that "
                "stays much lighter than the others hardly learns.",
                heatmap(run, "ratio"),
            ),
        ]
    return charts
