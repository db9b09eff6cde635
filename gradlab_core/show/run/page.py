"""The page of recorded runs, with a section for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.definitions.thresholds import ANOMALY_SCORE, ANOMALY_WARM_UP, HEALTHY_UPDATE_RATIO
from gradlab_core.judge.examination import RangeTest
from gradlab_core.judge.judged import JudgedRun
from gradlab_core.records import Finding
from gradlab_core.show.canvas import Illustration
from gradlab_core.show.rendering import fill, version
from gradlab_core.show.run.diagnosis import diagnosed, level, onsets
from gradlab_core.show.run.heat import heatmap
from gradlab_core.show.run.layers import layer_norms, shown_layers
from gradlab_core.show.run.lines import curves
from gradlab_core.show.run.norms import DEFINITIONS as NORM_DEFINITIONS
from gradlab_core.show.run.norms import norms, trend_tables
from gradlab_core.show.run.promised import promises
from gradlab_core.show.run.range_test import range_chart
from gradlab_core.show.run.steps import DrawnRun, drawn_run
from gradlab_core.show.run.summary import state_rows, summary
from gradlab_core.show.run.together import losses
from gradlab_core.show.words import DEFINITIONS
from gradlab_core.text import number

_WORDS = ("Gradient norm", "Update ratio", "No gradient path", "not measured, NaN, Inf, 0")
_PARTS = (
    ("diagnosis", "Diagnosis"), ("recorded", "What was recorded"), ("charts", "Charts"), ("norms", "Norm report"),
    ("trends", "Trends"), ("states", "States of the parameters"),
)  # fmt: skip
_SCORE = (
    "Anomaly score",
    "How many standard deviations the logarithm of the gradient norm is away from its moving mean over the steps "
    f"before. From {ANOMALY_SCORE:g} on a step is called an anomaly.",
)


def render(runs: Mapping[str, JudgedRun]) -> str:
    """The whole HTML page."""
    return fill(Path(__file__).with_name("page.html.j2"), content(runs))


def content(runs: Mapping[str, JudgedRun]) -> dict[str, Any]:
    """Everything the template shows, under the names it uses."""
    every = [drawn_run(name, judged) for name, judged in runs.items()]
    sections = [_section(i, run) for i, run in enumerate(every)]
    shared = _shared_charts(every)
    charts = [*shared, *(item for section in sections for item in (*section["charts"], *section["trend_charts"]))]
    return {
        "short": len(sections) > 1,  # the findings of a single run stand at the top anyway
        "together": shared,
        "sections": sections,
        "figures": {item.key: item.figure for item in charts},
        "definitions": [*(pair for pair in DEFINITIONS if pair[0] in _WORDS), _SCORE, *NORM_DEFINITIONS],
        "version": version(),
    }


def _section(index: int, run: DrawnRun) -> dict[str, Any]:
    rows, always_ok = state_rows(run)
    findings = run.judged.findings
    facts, heaviest = summary(run), level(findings)
    tables = trend_tables(run.judged)
    parts = [part for part in _PARTS if part[0] != "trends" or tables["rows"]]
    charts = [*_range_charts(index, run.judged.range_test), *_charts(index, run, findings)]
    return {
        "key": f"run-{index}", "name": run.name, "parts": parts, "summary": facts, "states": rows,
        "level": _beside(heaviest, facts.level),
        "always_ok": always_ok, "charts": charts, "findings": diagnosed(findings),
        "diagnosis_level": heaviest, "norms": norms(run.judged, heaviest), "trends": tables,
        "trend_charts": _trend_charts(index, run),
    }  # fmt: skip


def _beside(diagnosis: str, own: str) -> str:
    """The level of a run's summary, which is not called good beside a finding that says otherwise."""
    return "unknown" if own == "good" and diagnosis != "good" else own


def _shared_charts(runs: Sequence[DrawnRun]) -> list[Illustration]:
    figure = losses(runs)
    words = (
        "The loss of every run on this page at every step drawn. What is no number leaves a gap and is marked below."
    )
    return [] if figure is None else [Illustration("together", "Loss of all runs", words, figure)]


def _range_charts(index: int, test: RangeTest | None) -> list[Illustration]:
    if test is None:
        return []
    words = (
        "One step with each rate, from the smallest up, on one batch: the loss before it. It stays while the rate is "
        "too small, falls where it is right, and jumps where it is too large."
    )
    return [Illustration(f"run-{index}-range", "Range test of the learning rate", words, range_chart(test))]


def _trend_charts(index: int, run: DrawnRun) -> list[Illustration]:
    if not run.paths:
        return []
    layers = shown_layers(run.paths)
    drawn = sum(map(len, layers))
    which = "" if drawn == len(run.paths) else f" {drawn} of {len(run.paths)} parameters are drawn, evenly by depth."
    words = (
        "Blue is near the input, red near the output; weights are solid, biases dotted; norms are on logarithmic axes. "
        "Healthy: parameter norms drift slowly, gradient norms of neighbouring layers stay together." + which
    )
    return [Illustration(f"run-{index}-layers", "Norms layer by layer", words, layer_norms(run))]


def _charts(index: int, run: DrawnRun, findings: Sequence[Finding]) -> list[Illustration]:
    low, high = (number(edge) for edge in HEALTHY_UPDATE_RATIO)
    charts = [
        Illustration(
            f"run-{index}-curves",
            "Step by step",
            "Healthy: the loss falls, the gradient norm neither collapses nor explodes, the update ratio stays in the "
            f"shaded zone from {low} to {high} (a lead, not a law: fine-tuning and the end of a schedule lie below), "
            f"the anomaly score between ±{ANOMALY_SCORE:g}. The score begins after {ANOMALY_WARM_UP} steps; anomalies "
            "are marked on every curve. What is no number leaves a gap and is marked below."
            + (" A dashed line says with its number where a finding begins." if findings else ""),
            curves(run, onsets(findings)),
        )
    ]
    charts += promises(index, run)
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
                "stays at the low end of the scale hardly learns.",
                heatmap(run, "ratio"),
            ),
        ]
    return charts
