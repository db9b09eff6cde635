"""The page of a sweep, from the command line to the rows of its table."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.swept_runs import write_sweep
from gradlab_core.cli.main import app
from gradlab_core.errors import GradlabError
from gradlab_core.judge.sweep import SweptRun
from gradlab_core.show.sweep import page


def run(name: str, loss: float | None, verdict: str = "fine", **config: object) -> SweptRun:
    return SweptRun(name=name, config=config, records=10, first_loss=1.0, last_loss=loss, findings=(), verdict=verdict)


def test_a_folder_becomes_one_page_with_a_row_a_run(tmp_path: Path) -> None:
    write_sweep(tmp_path / "runs", runs=24, steps=60, tensors=6)
    (tmp_path / "runs" / "torn.gradlab").write_bytes(b'{"schema_version": 1, "kind": "step-columns"}\n' + b"x" * 40)
    out = tmp_path / "sweep.html"
    done = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert len(rows) == 25
    assert [row["verdict"] for row in rows if row["problem"]] == ["unreadable"]
    text = out.read_text("utf-8")
    assert text.count('<th scope="row" class="path">') == 24
    assert "The gradient vanishes on its way back</strong> goes with <code>activation</code>" in text
    assert "The same in all runs: optimizer adam." in text
    assert "torn" in text


def test_rows_go_by_final_loss_and_odd_ones_stand_last() -> None:
    runs = [run("a", math.nan), run("b", 0.5), run("c", None), run("d", 0.0), run("e", math.inf), run("<f>", -1.0)]
    content = page.content("runs", runs)
    assert [(row["name"], row["loss"]) for row in content["rows"]] == [
        ("<f>", "-1"), ("d", "0"), ("b", "0.5"), ("a", "NaN"), ("c", "not measured"), ("e", "Inf"),
    ]  # fmt: skip
    assert content["best"] == ("<f>", "-1")
    text = page.render("runs", runs)
    assert "<f>" not in text
    assert "No hyperparameter differs" in text


def test_losses_are_drawn_against_what_is_a_number() -> None:
    runs = [run(str(i), 1.0 + i, "fine" if i else "critical", rate=10.0**-i, net="mlp", bad=math.nan) for i in range(4)]
    (chart,) = page.content("runs", [*runs, run("n", math.nan, rate=1.0)])["charts"]
    assert chart.title == "Final loss against rate"
    assert "1 run without a finite final loss" in chart.caption
    assert [trace["name"] for trace in chart.figure["data"]] == ["fine", "critical"]
    assert chart.figure["layout"]["xaxis"]["type"] == "log"


@pytest.mark.parametrize("extra", [["--out", "x.csv"], ["--bands", "tinynet-cifar10"], ["."]])
def test_what_does_not_go_with_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["report", str(tmp_path), *extra])
    assert isinstance(done.exception, GradlabError)
    assert re.match("report: ", str(done.exception))
