"""The page of recorded runs: findings, the norm report, trends, and several runs together."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from gradlab_core.judge.examination import RangeTest
from gradlab_core.judge.judged import JudgedRun, judged_runs
from gradlab_core.records import Finding, Severity, StepRecord
from gradlab_core.show.run.diagnosis import level, onsets
from gradlab_core.show.run.heat import NO_PATH
from gradlab_core.show.run.layers import layer_norms
from gradlab_core.show.run.lines import curves
from gradlab_core.show.run.norms import norms, trend_tables
from gradlab_core.show.run.page import content, render
from gradlab_core.show.run.steps import drawn_run
from gradlab_core.show.run.together import losses
from tests.pages.test_report import EVIL, marks
from tests.recorded import CUT, DEAD, PATHS, eventful, healthy, step

LONG = tuple(f"layer{i}.{leaf}" for i in range(20) for leaf in ("weight", "bias"))
HAND_MADE = Finding(
    code="dead-relu", severity=Severity.WARNING, paths=(EVIL, *LONG), first_step=7,
    evidence={"dead_units": 0.9, "loss": math.nan}, remedies=("lower the rate", EVIL), explanation=f"Seen. {EVIL}",
)  # fmt: skip


def test_the_diagnosis_is_on_the_page() -> None:
    page = render(judged_runs({"run": eventful()}))
    for words in ("Parameters get no gradient", "disconnected-parameter", f"In {CUT}, since step 0", "What to do"):
        assert words in page
    assert "Nothing found" not in page
    assert "Nothing found" in render(judged_runs({"run": healthy()}, {"run": []}))


def test_findings_that_were_handed_in_are_shown_and_escaped() -> None:
    page = render(judged_runs({"run": healthy(), "other": healthy()}, {"run": [HAND_MADE]}))
    for words in ("1. ReLU units are dead", "and 29 more", "since step 7", "<dt>dead units</dt><dd>0.9</dd>", "NaN"):
        assert words in page
    assert EVIL not in page
    shown = content(judged_runs({"run": healthy(), "other": healthy()}, {"run": [HAND_MADE], "other": []}))["sections"]
    assert [(s["diagnosis_level"], len(s["findings"])) for s in shown] == [("watch", 1), ("good", 0)]


def test_the_beginning_of_findings_is_marked_on_the_curves() -> None:
    found = [HAND_MADE, dataclasses.replace(HAND_MADE, first_step=3), HAND_MADE]
    assert onsets(found) == {3: "2", 7: "1, 3"}
    layout = curves(drawn_run("run", JudgedRun(healthy())), onsets(found))["layout"]
    assert [shape["x0"] for shape in layout["shapes"] if shape["type"] == "line"] == [3, 7]
    assert [a["text"] for a in layout["annotations"] if a["xref"] == "x"] == ["2", "1, 3"]
    assert level(found) == "watch"
    assert level([dataclasses.replace(HAND_MADE, severity=Severity.NOTE)]) == "good"
    assert level([*found, dataclasses.replace(HAND_MADE, severity=Severity.CRITICAL)]) == "bad"


def test_the_norm_report_is_on_the_page() -> None:
    shown = norms(JudgedRun(eventful()))
    assert shown["stretches"] == "Stable at steps 0–29; exploding at step 30; stable at steps 31–59."
    row = next(row for row in shown["rows"] if row.step == "30")
    assert row.figures[:4] == ["NaN", "0.05", "Inf", "1.5"]
    assert (row.norm_class, row.level) == ("exploding", "bad")
    unknown = norms(JudgedRun([step(0, learning_rate=None)]))["rows"][0]
    assert unknown.figures[5] == "not measured"


def test_nothing_is_green_beside_a_finding() -> None:
    """The class and the summary look at less than the diagnosis does."""
    calm = [step(i) for i in range(60)]
    grave = Finding(
        code="vanishing-gradient", severity=Severity.CRITICAL, paths=("fc.weight",), first_step=0, evidence={},
        remedies=(), explanation="Seen.",
    )  # fmt: skip
    beside, alone = (content(judged_runs({"a": calm}, {"a": found}))["sections"][0] for found in ([grave], []))
    assert {(row.norm_class, row.level) for row in beside["norms"]["rows"]} == {("stable", "unknown")}
    assert {(row.norm_class, row.level) for row in alone["norms"]["rows"]} == {("stable", "good")}
    assert (beside["level"], alone["level"]) == ("unknown", "good")
    assert 'class="chip good"' not in render(judged_runs({"a": calm}, {"a": [grave]}))
    assert 'class="box good"' not in render(judged_runs({"a": calm}, {"a": [grave]}))


def test_trends_are_on_the_page() -> None:
    page = render(judged_runs({"run": eventful()}))
    for words in ("First → last of 6 parameters", "2 → 2", "Early against late layers, gradient norm"):
        assert words in page
    rows = dict(trend_tables(JudgedRun(eventful()))["rows"])
    assert (rows[CUT][1].ends, rows[CUT][1].direction) == (NO_PATH, "")
    assert (rows[DEAD][1].ends, rows[DEAD][1].direction) == ("0 → 0", "steady")


def test_the_layers_chart_tells_weights_from_biases_and_names_what_is_no_number() -> None:
    chart = layer_norms(drawn_run("run", JudgedRun(eventful())))
    lines = {t["name"]: t for t in chart["data"] if t["mode"] == "lines" and t["showlegend"]}
    assert {t["line"]["dash"] for name, t in lines.items() if name.endswith("weight")} == {"solid"}
    assert lines["fc.bias"]["line"]["dash"] == "dot"
    assert lines["fc.bias"]["line"]["color"] == lines["fc.weight"]["line"]["color"] != lines[PATHS[0]]["line"]["color"]
    assert marks(chart) == {"NaN", "Inf", NO_PATH, "exactly 0"}
    titles = [a["text"] for a in chart["layout"]["annotations"]]
    assert titles == ["<b>Parameter norm of weights</b>", "<b>Parameter norm of biases</b>", "<b>Gradient norm</b>"]
    long = layer_norms(drawn_run("run", JudgedRun([step(i, paths=LONG) for i in range(3)])))
    assert len({t["name"] for t in long["data"]}) == 12


def test_the_losses_of_several_runs_are_in_one_chart() -> None:
    def chart(*runs: list[StepRecord]) -> Any:
        return losses([drawn_run(f"run {i}", JudgedRun(records)) for i, records in enumerate(runs)])

    assert chart(healthy()) is None
    assert chart(healthy(), [step(0, loss=None)]) is None
    both = chart(healthy(), eventful())
    assert [t["name"] for t in both["data"][:2]] == ["run 0", "run 1"]
    assert both["data"][0]["line"]["color"] != both["data"][1]["line"]["color"]
    assert marks(both) == {"NaN"}
    assert "type" not in both["layout"]["yaxis"]
    assert chart(healthy(), [step(i, loss=1e30) for i in range(9)])["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize("suggested", [0.02, None])
def test_a_range_test_is_drawn_over_a_logarithmic_rate(suggested: float | None) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    found = RangeTest(rates=(1e-3, 0.1, 10.0), losses=(1.0, 0.5, math.inf), suggested=suggested, diverges_at=0.1)
    page = content(judged_runs({"run": healthy()}, range_tests={"run": found}))
    assert page["sections"][0]["charts"][0].title == "Range test of the learning rate"
    chart = page["figures"]["run-0-range"]
    go.Figure(chart)
    assert chart["data"][0]["y"] == [1.0, 0.5, None]
    assert marks(chart) == {"Inf"}
    # Plotly takes the place of a line as it is, and that of a text as its logarithm.
    assert [shape["x0"] for shape in chart["layout"]["shapes"]] == ([0.02] if suggested else [])
    assert [a["x"] for a in chart["layout"]["annotations"]] == ([pytest.approx(math.log10(0.02))] if suggested else [])
    assert content(judged_runs({"run": healthy()}))["sections"][0]["charts"][0].key == "run-0-curves"
