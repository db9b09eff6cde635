"""`gradlab lab symmetry`: the demonstration and its verdict, a user's net, the command."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gradlab_core.cli.lab import app
from gradlab_core.errors import GradlabError
from gradlab_core.lab.pages.section import Section
from gradlab_core.lab.pages.symmetry import symmetry_section
from gradlab_core.lab.pages.tie import tie_section
from gradlab_core.lab.studies.symmetry import SymmetryStudy, TieRun, TieStudy, study_symmetry, study_tie
from gradlab_core.lab.tie import tie_over_steps
from gradlab_core.parity.weights import save_weights
from gradlab_core.records import codec

TIED = {"a.weight": np.ones((12, 3)), "b.weight": np.arange(60.0).reshape(5, 12) % 7, "c.weight": np.ones((2, 5))}


def words(section: Section) -> str:
    return " ".join(section.said)


def changed(study: TieStudy, run: str, at: int, **values: object) -> TieStudy:
    """The study with other values at one step of one run."""
    old: TieRun = getattr(study, run)
    steps = list(old.steps)
    steps[at] = dataclasses.replace(steps[at], **values)  # type: ignore[arg-type]
    return dataclasses.replace(study, **{run: dataclasses.replace(old, steps=tuple(steps))})


@pytest.mark.parametrize("units", [3, 5, 33])
def test_rounding_does_not_break_the_tie_over_thousands_of_steps(units: int):
    seen = tie_over_steps(units=units, steps=2500, every=250)
    assert {(step.distinct, step.closest) for step in seen} == {(1, 0.0)}


def test_a_net_that_diverges_is_no_crash():
    last = tie_over_steps(units=100, steps=400, every=400)[-1]
    assert math.isnan(last.loss)
    assert last.closest is None


def test_the_demonstration_shows_what_it_is_for():
    study = study_tie()
    assert [step.step for step in study.dropout.steps[:3]] == [0, 1, 5]
    assert study.dropout.steps[-1] == tie_over_steps(dropout=0.5, every=200)[-1]
    assert study.dropout.steps[1] == tie_over_steps(dropout=0.5, steps=1)[-1]
    section = tie_section(study)
    assert section.level == "good"
    assert "never breaks the tie: after 200 steps the 8 units are one" in section.said[0]
    assert "after the first step all 8 units are distinct; but after 200 steps the nearest two are 8.2 %" in words(
        section
    )
    assert "its loss ends at 0.0537, that of the constant one at 0.228, with dropout at 0.224" in section.said[2]
    rows = section.sheets[0].rows
    assert [row[0] for row in rows] == ["0", "1", "25", "50", "75", "100", "125", "150", "175", "200"]
    assert rows[-1][1:] == ["1, 0.228, 0 %", "8, 0.224, 8.2 %", "8, 0.0537, 56.3 %"]


def test_the_verdict_comes_from_the_numbers():
    study = study_tie(steps=40)
    broken = tie_section(changed(study, "constant", 20, distinct=3))
    assert broken.level == "bad"
    assert f"3 units are distinct at step {study.constant.steps[20].step}" in broken.said[0]
    assert "never" not in words(broken)
    kept = tie_section(changed(study, "dropout", -1, distinct=5))
    assert kept.level == "watch"
    assert "8 units are worth 5" in words(kept)
    assert "not the better one" in words(tie_section(changed(study, "normal", -1, loss=9.0)))
    assert "and after 40 steps" in words(tie_section(changed(study, "dropout", -1, closest=0.9)))
    for run, values in (
        ("constant", {"loss": math.nan, "closest": None, "distinct": 8}),
        ("dropout", {"loss": math.inf}),
        ("normal", {"loss": 1e9}),
    ):
        diverged = tie_section(changed(study, run, -1, **values))
        assert diverged.level == "bad"
        assert "diverged by step 40" in words(diverged)
        assert "broke the tie" not in words(diverged)


def test_the_chart_tells_zero_from_nan():
    study = changed(study_tie(steps=40), "constant", -1, loss=math.nan, closest=None, distinct=8)
    (chart,) = tie_section(study).charts
    figure = chart.figure
    distinct, loss, closest = (
        next(t for t in figure["data"] if t["name"] == "constant start" and t["yaxis"] == axis)
        for axis in ("y", "y2", "y3")
    )
    assert distinct["y"] == [*[1] * (len(distinct["y"]) - 1), None]
    assert loss["y"][-1] is None
    assert closest["y"] == [None] * len(closest["y"])
    marks = {t["name"]: t["x"] for t in figure["data"] if t["mode"] == "markers"}
    assert set(marks) == {"exactly 0", "NaN"}
    assert set(marks["NaN"]) == {40}
    assert set(marks["exactly 0"]) == set(range(40))
    assert marks["exactly 0"].count(0) == 2  # the start with dropout is tied too
    json.dumps(figure, allow_nan=False)


def test_the_verdict_on_a_net():
    tied = symmetry_section(study_symmetry("net.npz", TIED))
    found = study_symmetry("net.npz", TIED).found
    assert tied.level == "bad"
    assert f"17 hidden units are worth {found.distinct}" in tied.said[0]
    assert "a.weight" in tied.said[0]
    assert "start from random numbers" in words(tied)
    assert tied.sheets[0].levels == ["bad", ""]
    assert "…" not in tied.sheets[0].rows[1][3]
    drawn = {path: np.random.default_rng(0).standard_normal(weight.shape) for path, weight in TIED.items()}
    free = symmetry_section(study_symmetry("net.npz", drawn))
    assert free.level == "good"
    assert free.sheets[0].rows[0][1:4] == ["12", "12", "none"]
    copies = drawn | {"a.weight": np.ones((12, 3)), "b.weight": np.ones((5, 12))}
    assert symmetry_section(study_symmetry("net.npz", copies)).sheets[0].rows[0][2:] == [
        "1",
        "0, 1, 2, 3 … (12)",
        "0 %",
    ]
    odd = symmetry_section(study_symmetry("net.npz", drawn | {"a.weight": np.full((12, 3), np.nan)}))
    assert odd.level == "watch"
    assert "No two units can be compared in a.weight" in words(odd)
    unread = symmetry_section(
        study_symmetry("net.npz", drawn | {"d.weight": np.ones((9, 3)), "e.weight": np.ones((2, 9))})
    )
    assert unread.level == "bad"
    assert "not known which weight reads their units: c.weight" in words(unread)
    assert symmetry_section(study_symmetry("net.npz", {"a.weight": np.ones((4, 2))})).level == "watch"


def test_refusals():
    with pytest.raises(GradlabError, match="symmetry: 4 problems"):
        study_tie(steps=0, units=65, dropout=0.0, seed=-1)
    for dropout in (math.nan, 0.95, 1.0):
        with pytest.raises(GradlabError, match="dropout is"):
            study_tie(dropout=dropout)
    with pytest.raises(GradlabError, match="50,000 at most"):
        study_tie(steps=10**9)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*arguments: str):
        return CliRunner().invoke(app, ["symmetry", *arguments], catch_exceptions=False)

    shown = call("--steps", "30", "--out", "page.html")
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    assert '"tie"' in (tmp_path / "page.html").read_text()
    rows = codec.parse(call("--steps", "30", "--json").stdout, "tie", TieRun)
    assert tuple(rows) == study_tie(steps=30).runs

    save_weights("tied.npz", TIED)
    found = call("tied.npz", "--json")
    assert found.exit_code == 1
    assert codec.parse(found.stdout, "symmetry", SymmetryStudy) == [study_symmetry("tied.npz", TIED)]

    (tmp_path / "their_net.py").write_text(
        "import torch\n"
        "def build():\n"
        "    print('building')\n"
        "    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))\n"
        "    for p in net.parameters(): torch.nn.init.constant_(p, 0.5)\n"
        "    return net, torch.zeros(2, 4), torch.zeros(2, dtype=torch.long)\n"
    )
    model = call("their_net:build")
    assert model.exit_code == 1
    assert "(PyTorch): 6 hidden units are worth 1" in " ".join(model.stdout.split())
    assert "building" not in model.stdout

    (tmp_path / "empty.npz").touch()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile("huge.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    for arguments, message in (
        (("empty.npz",), "not a readable"),
        (("huge.npz",), "not a readable"),
        (("--out", "."), "it is a folder"),
        (("tied.npz", "--steps", "3", "--seed", "0"), "2 problems"),
        (("their_net:build", "--dropout", "0.5"), "--dropout is for gradlab.s own nets"),
        (("tied.txt",), "expected MODULE:FUNCTION"),
        (("missing.npz",), "not a readable"),
        (("their_net:nothing",), "has no nothing"),
    ):
        with pytest.raises(GradlabError, match=message):
            call(*arguments)
