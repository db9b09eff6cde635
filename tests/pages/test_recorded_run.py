"""The page of recorded runs: what it says, what it draws, and how it behaves in a browser without a network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.judge.judged import JudgedRun, judged_runs
from gradlab_core.records import GradientState, StepRecord
from gradlab_core.report import write_html
from gradlab_core.show.canvas import MOST
from gradlab_core.show.run.heat import NO_PATH, NOT_RECORDED, ZERO, heatmap
from gradlab_core.show.run.lines import curves
from gradlab_core.show.run.page import render
from gradlab_core.show.run.steps import DrawnRun, drawn_run
from gradlab_core.show.run.summary import state_rows, summary
from tests.pages.test_report import EVIL, marks, run
from tests.recorded import ANOMALY_AT, CUT, DEAD, NONFINITE_AT, PATHS, SKIPPED_AT, eventful, healthy, step, with_tensor


def drawn(records: list[StepRecord]) -> DrawnRun:
    return drawn_run("run", JudgedRun(records))


def said(records: list[StepRecord]) -> str:
    found = summary(drawn(records))
    return " ".join([*found.facts, *(sentence for _, sentence in found.found)])


def layer(chart: dict[str, Any], name: str) -> dict[str, Any]:
    return next(trace for trace in chart["data"] if trace.get("name") == name)


def cells(trace: dict[str, Any]) -> set[tuple[str, str]]:
    """`(path, step)` of all cells that a layer fills."""
    rows = zip(trace["y"], trace["z"], strict=True)
    return {(path, x) for path, row in rows for x, z in zip(trace["x"], row, strict=True) if z is not None}


# In words.


def test_a_healthy_run_has_nothing_that_stands_out() -> None:
    found = summary(drawn(healthy()))
    assert (found.found, found.level) == ([], "good")
    assert "30 steps recorded, from step 0 to step 29" in found.facts[0]
    assert "Nothing stands out" in render(judged_runs({"run": healthy()}))


def test_everything_odd_is_said_with_its_steps_and_paths() -> None:
    words = said(eventful())
    for part in (
        f"first NaN or Inf came at step {NONFINITE_AT}, in the loss, the gradient norm, {PATHS[0]} and {PATHS[1]}",
        f"nonfinite: 2 parameters (its gradient held a NaN or an Inf), at step {NONFINITE_AT}",
        f"disconnected: 1 parameter (no gradient path from the loss: it never learns), at every step: {CUT}",
        f"zero: 1 parameter (a gradient path, but every element was exactly 0), at every step: {DEAD}",
        f"6 σ or more off its moving mean at 2 steps: step {NONFINITE_AT} (Inf σ) and step {ANOMALY_AT} (9.5 σ)",
        f"moved nothing though there were gradients, at step {SKIPPED_AT}",
        "Whether gradients were clipped was not measured",
    ):
        assert part in words
    assert summary(drawn(eventful())).level == "bad"


def test_what_was_not_measured_is_said_and_not_drawn_as_a_number() -> None:
    records = [step(i, loss=None, learning_rate=None, anomaly=None) for i in range(5)]
    words = said(records)
    assert "Not measured: the loss, the learning rate, cosines between steps and the distance" in words
    assert "out of the ordinary was not measured (it needs more than 20 steps)" in words
    titles = [a["text"] for a in curves(drawn(records))["layout"]["annotations"]]
    assert titles == ["<b>Gradient norm</b>", "<b>Update ratio</b>"]


def test_clipping_is_counted() -> None:
    records = [step(i, raw_grad_norm=2.0, clipped=i < 3) for i in range(10)]
    assert "smaller at 3 of 10 steps" in said(records)


def test_states_have_a_row_each_with_their_stretches() -> None:
    records = [with_tensor(r, DEAD, GradientState.TINY) if r.step in (2, 3, 4, 9) else r for r in healthy(12)]
    rows, always_ok = state_rows(drawn(records))
    assert [(r.path, r.state, r.steps, r.count) for r in rows] == [(DEAD, "tiny", "at steps 2–4 and 9", "4")]
    assert always_ok == [path for path in PATHS if path != DEAD]


def test_an_infinite_ratio_of_a_parameter_that_was_zero_is_no_alarm() -> None:
    records = [with_tensor(step(0), "fc.bias", GradientState.OK, param=0.0, ratio=math.inf), *healthy()[1:]]
    assert summary(drawn(records)).found == []
    assert ("fc.bias", "0") in cells(layer(heatmap(drawn(records), "ratio"), "Inf"))


def test_a_run_that_was_continued_shows_the_later_record_of_a_step() -> None:
    records = [step(i, loss=9.0) for i in range(10)] + [step(i, loss=1.0) for i in range(6, 12)]
    found = drawn(records)
    assert [r.step for r in found.records] == list(range(12))
    assert [r.loss for r in found.records] == [9.0] * 6 + [1.0] * 6
    assert "4 steps were recorded more than once" in said(records)


# In charts.


def test_the_heatmap_names_what_is_no_number() -> None:
    chart = heatmap(drawn(eventful()), "grad")
    every = {str(r.step) for r in eventful()}
    at = str(NONFINITE_AT)
    assert cells(layer(chart, "NaN")) == {(PATHS[0], at)}
    assert cells(layer(chart, "Inf")) == {(PATHS[1], at)}
    assert cells(layer(chart, NO_PATH)) == {(CUT, s) for s in every}
    assert cells(layer(chart, ZERO)) == {(DEAD, s) for s in every}
    named = [trace for trace in chart["data"] if trace.get("showlegend")]
    assert [trace["name"] for trace in named] == ["NaN", "Inf", ZERO, NO_PATH]
    assert len({str(trace["colorscale"]) for trace in named}) == 4
    # Every cell is in one layer and in no two.
    filled = [cell for trace in chart["data"] if trace["type"] == "heatmap" for cell in cells(trace)]
    assert sorted(filled) == sorted((path, s) for path in PATHS for s in every)
    assert marks(chart) >= {"NaN or Inf", "anomaly", "skipped"}


def test_a_tensor_that_comes_later_is_not_recorded_before() -> None:
    records = [step(0), step(1, paths=(*PATHS, "late.weight"))]
    chart = heatmap(drawn(records), "grad")
    assert cells(layer(chart, NOT_RECORDED)) == {("late.weight", "0")}


def test_the_curves_have_healthy_zones_and_marked_anomalies() -> None:
    chart = curves(drawn(eventful()))
    zones = [(shape["yref"], shape["y0"], shape["y1"]) for shape in chart["layout"]["shapes"]]
    assert zones == [("y3", 1e-4, 1e-2), ("y4", -6.0, 6.0)]
    marked = [trace for trace in chart["data"] if trace["name"] == "anomaly"]
    assert len(marked) == 4  # one a panel
    assert all(ANOMALY_AT in trace["x"] for trace in marked)
    assert [t for t in curves(drawn(healthy()))["data"] if t["name"] == "anomaly"] == []
    assert marks(chart) == {"NaN", "Inf", "exactly 0"}


def test_long_runs_are_thinned_but_nothing_odd_is_dropped() -> None:
    records = [step(i) for i in range(20_000)]
    odd = [777, 3_333, 15_001]
    records[777] = step(777, loss=math.nan)
    records[3_333] = step(3_333, grad_norm=40.0, anomaly=9.0)
    records[15_001] = with_tensor(records[15_001], PATHS[0], GradientState.NONFINITE, grad=math.inf)
    found = drawn(records)
    steps = {r.step for r in found.drawn}
    assert {*odd, 0, 19_999} <= steps
    assert len(steps) <= MOST + len(odd) + 1
    assert "The charts show" in said(records)
    # The check can fail: the plain stride misses all three.
    assert not {i for i in odd if i % -(-20_000 // MOST) == 0}


def test_a_run_that_goes_on_for_long_after_it_broke_is_thinned_too() -> None:
    records = [step(i, loss=math.nan if i >= 5_001 else 1.0) for i in range(20_000)]
    steps = [r.step for r in drawn(records).drawn]
    assert {5_001, 19_999} <= set(steps)
    assert len(steps) <= MOST + 3


# As a page.


EVERY = {
    "eventful": {"run": eventful()},
    "healthy": {"run": healthy()},
    "one step": {"run": [step(0)]},
    "no tensors": {"run": [step(i, tensors={}, states={}) for i in range(3)]},
    "no number at all": {
        "run": [
            with_tensor(step(i, paths=("w",), loss=math.nan, grad_norm=math.nan, update_ratio=0.0, update_norm=0.0),
                        "w", GradientState.NONFINITE, grad=math.nan, update=math.nan, ratio=math.nan)
            for i in range(3)
        ]
    },
    "odd words": {EVIL: eventful(paths=(EVIL, *PATHS[1:])), "b": [step(0, paths=("w" * 500, "w" * 499 + "v", "7"))]},
}  # fmt: skip


@pytest.mark.parametrize("case", EVERY)
def test_every_kind_of_run_gives_a_page_with_valid_charts(case: str) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    page = render(judged_runs(EVERY[case]))
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    for figure in json.loads(found[1], parse_constant=pytest.fail).values():
        go.Figure(figure)  # plotly's own schema: a misspelt key raises
        assert figure["data"]
    assert EVIL not in page
    assert "<img src=x" not in page


def test_what_write_html_takes(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(healthy(), path)
    assert "Recorded run" in path.read_text()
    write_html([run()], path)
    assert "Training health of 1 architecture" in path.read_text()
    for bad, message in (
        ({"a": healthy(), "b": []}, "'b' holds no record"),
        ({}, "no runs"),
        ([run(), step(0)], "got Run, StepRecord; expected only"),
    ):
        with pytest.raises(GradlabError, match=message):
            write_html(bad, tmp_path / "no.html")  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser_without_a_network(opened: Callable[[Path, int], Any], tmp_path: Path, width: int) -> None:
    runs = {"run.jsonl": eventful(), EVIL: eventful(paths=(EVIL, *PATHS[1:]))}
    write_html(runs, tmp_path / "report.html")
    page = opened(tmp_path / "report.html", width)
    drawn = page.evaluate(
        "[...document.querySelectorAll('[data-chart]')].map(p => [p.dataset.chart, "
        "p.querySelectorAll('g.hm image').length, p.data.filter(t => t.type === 'heatmap').length, "
        "p.querySelector('.legend').textContent])"
    )
    charts = ("curves", "gradients", "ratios", "layers")
    assert [key for key, *_ in drawn] == ["together", *(f"run-{i}-{c}" for i in (0, 1) for c in charts)]
    assert all(images == layers for _, images, layers, _ in drawn), drawn
    for _, _, layers, legend in drawn:
        if layers:
            assert "NaN" in legend
    gradients = drawn[2][3]
    assert all(word in gradients for word in ("NaN", "Inf", "exactly 0", "no gradient path"))
    text = page.inner_text("body")
    for words in (
        "What stands out", "disconnected", "at every step", "States of the parameters", "not measured", "All runs",
        "1. The loss is NaN or Inf", "since step 30", "Norm report", "exploding", "Early against late layers",
    ):  # fmt: skip
        assert words in text
