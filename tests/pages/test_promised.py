"""The chart of what steps promised: only of records that say it, with what came and how sure that is."""

from __future__ import annotations

import dataclasses
import json

from gradlab_core.judge.judged import JudgedRun
from gradlab_core.show.run.promised import promises
from gradlab_core.show.run.steps import drawn_run
from tests.runs import run


def drawn(loss, each, **more):
    records = run(loss=loss, change=lambda r: dataclasses.replace(r, grad_update=-each(r.step)), **more)
    return drawn_run("run", JudgedRun(records, findings=()))


def test_a_run_without_promises_has_no_such_chart():
    assert promises(0, drawn_run("run", JudgedRun(run(), findings=()))) == []


def test_what_was_promised_beside_what_came():
    (chart,) = promises(0, drawn(lambda step: 5 - 0.01 * step, lambda step: 0.02))
    assert "0.5 ± 0" in chart.caption
    assert "single losses" in chart.caption
    lines = {trace["name"]: trace for trace in chart.figure["data"]}
    assert list(lines) == ["promised", "came", "run"]
    ratios = {came / due for came, due in zip(lines["came"]["y"], lines["promised"]["y"], strict=True)}
    assert {round(ratio, 6) for ratio in ratios} == {0.5}
    assert len(lines["run"]["x"]) == 100
    json.dumps(chart.figure, allow_nan=False)


def test_noise_and_missing_losses_are_said():
    (chart,) = promises(0, drawn(lambda step: 5 + (-1) ** step * 40.0, lambda step: 1e-4))
    assert "noise of the losses exceeds" in chart.caption
    came = next(trace for trace in chart.figure["data"] if trace["name"] == "came")
    assert came["y"] == [None] * 6
    assert "below the noise" in [trace["name"] for trace in chart.figure["data"]]
    (chart,) = promises(0, drawn(lambda step: None, lambda step: 1e-4))
    assert "too few records" in chart.caption
    assert [trace["name"] for trace in chart.figure["data"]] == ["run"]
