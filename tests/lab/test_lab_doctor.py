"""`gradlab lab doctor`: the study of a model, what is said of it, and the repaired weights on disk."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import gradlab_torch
from gradlab_core.lab.pages.doctor import doctor_section
from gradlab_core.lab.studies.doctor import DoctorStudy, study_start
from gradlab_core.parity.weights import load_weights

Run = Callable[..., subprocess.CompletedProcess[str]]

BUILDS = """
import torch

def sigmoids():
    torch.manual_seed(0)
    layers = [part for _ in range(8) for part in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(16, 3)), torch.randn(64, 16), torch.arange(64) % 3

def tied():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    return {"model": net, "x": torch.randn(64, 4), "y": torch.arange(64) % 3, "learning_rate": 0.5}

def regression():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    return {"model": net, "x": torch.randn(64, 4), "y": torch.zeros(64, 1), "loss": torch.nn.functional.mse_loss}

def fails():
    return torch.nn.Linear(4, 3), torch.randn(8, 5), torch.arange(8) % 3
"""


def deep(scale: float = 1.0) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)
    )
    gradlab_torch.initialize(net, "kaiming_normal", seed=0)
    with torch.no_grad():
        net[2].weight.mul_(scale)
    return net, torch.randn(256, 32, generator=generator), torch.arange(256) % 4


def study(scale: float = 1.0, **options: object) -> DoctorStudy:
    return study_start("torch", *deep(scale), **options)  # type: ignore[arg-type]


def test_first_steps_are_those_that_optimizers_take() -> None:
    net, x, y = deep()
    rows = {row.path: row for row in study(learning_rate=0.3).before.steps}
    before = {path: p.detach().clone() for path, p in net.named_parameters()}
    torch.nn.functional.cross_entropy(net(x), y).backward()
    torch.optim.SGD(net.parameters(), lr=0.3).step()
    for layer in ("0", "2", "4"):
        own = [path for path in before if path.startswith(layer)]
        moved = math.sqrt(sum(float((net.get_parameter(p).detach() - before[p]).square().sum()) for p in own))
        size = math.sqrt(sum(float(before[path].square().sum()) for path in own))
        assert rows[layer].plain == pytest.approx(moved / size, rel=1e-5)
        assert rows[layer].lars == pytest.approx(0.3 * 0.001)


def test_a_layer_that_starts_wrong_is_named_and_repaired() -> None:
    healthy, loud = study(), study(scale=50.0)
    assert doctor_section("net", loud).level == "bad"
    assert "2 of 3 layers start wrong, the first is 2" in doctor_section("net", loud).said[0]
    assert "bad" not in {row.level for row in healthy.before.layers}
    repaired = study(scale=50.0, repair=True)
    section = doctor_section("net", repaired)
    assert section.level == "good"
    after = (
        "After the repair (LSUV), which scaled 3 layers: all 3 layers start well, near a variance of 1 or normalised."
    )
    assert after in section.said
    assert [row[0] for row in section.sheets[1].rows] == ["0", "2", "4"]
    assert all(float(row[2]) == pytest.approx(1.0) for row in section.sheets[1].rows)
    lines = {trace["name"]: trace["y"] for trace in section.charts[0].figure["data"]}
    assert min(lines["as it starts"][1:]) > 1000
    assert lines["after the repair"] == pytest.approx([1.0, 1.0, 1.0], rel=1e-4)


def test_the_zone_of_the_chart_is_that_of_the_variance_asked_for() -> None:
    (zone,) = doctor_section("net", study(target=9.0)).charts[0].figure["layout"]["shapes"]
    assert (zone["y0"], zone["y1"]) == (4.5, 18.0)


def test_what_no_factor_repairs_stays_wrong() -> None:
    net, x, y = deep()
    torch.nn.init.zeros_(net[2].weight)
    section = doctor_section("net", study_start("torch", net, x, y, repair=True))
    assert section.level == "bad"
    assert "After the repair (LSUV), which scaled 1 layer: 2 of 3 layers start wrong, the first is 2." in section.said
    assert section.sheets[1].rows[1][3] == "none"
    assert {"exactly 0"} <= {trace["name"] for trace in section.charts[0].figure["data"]}


def test_copies_that_scaling_leaves_are_still_bad() -> None:
    net, x, y = deep()
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = net[0].weight[0], net[0].bias[0]
        net[2].weight[:, 1] = net[2].weight[:, 0]
    section = doctor_section("net", study_start("torch", net, x, y, repair=True))
    assert section.level == "bad"
    assert "all 3 layers start well" in " ".join(section.said)
    assert "copies still" in " ".join(section.said)
    drawn = doctor_section("net", study_start("torch", net, x, y, repair=True, draw="orthogonal"))
    assert drawn.level == "good"


def test_a_model_that_is_one_layer_has_a_name() -> None:
    layer = torch.nn.Linear(8, 4)
    x = 20 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    section = doctor_section("net", study_start("torch", layer, x, torch.arange(8) % 4, repair=True))
    assert "the first is (the model)." in section.said[0]
    assert section.sheets[1].rows[0][0] == "(the model)"


def test_a_layer_without_a_gradient_has_no_step() -> None:
    class Loose(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loose = deep()[0], torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    section = doctor_section("net", study_start("torch", Loose(), *deep()[1:]))
    (row,) = [row for row in section.sheets[-1].rows if row[0] == "loose"]
    assert row[2:] == ["no gradient path"] * 4
    marks = [trace for trace in section.charts[1].figure["data"] if trace["name"] == "no gradient path"]
    assert marks[0]["x"] == ["loose", "loose"]
    json.dumps([chart.figure for chart in section.charts], allow_nan=False)


def test_a_model_without_layers_is_said_to_have_none() -> None:
    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    section = doctor_section("net", study_start("torch", Scale(), x, torch.arange(8) % 4, repair=True))
    assert "nothing to judge" in section.said[0]
    assert "start well" not in " ".join(section.said)
    assert section.sheets[-1].rows[0][0] == "(the model)"


def test_the_command(console: Run, tmp_path: Path) -> None:
    (tmp_path / "doctor_builds.py").write_text(BUILDS)
    done = console("lab", "doctor", "--depth", "4", "--width", "64", "--out", "d.html", "-f", "torch")
    assert done.returncode == 0, done.stderr  # tanh after Xavier shrinks, by less than ten
    assert "vary less than 0.5 or more than 2" in done.stdout
    assert "4 layers of 64 tanh units, xavier_uniform" in (tmp_path / "d.html").read_text()
    call = ("lab", "doctor", "doctor_builds:sigmoids", "--repair", "--draw", "orthogonal", "--save", "w.npz")
    done = console(*call)
    assert done.returncode == 1, done.stderr
    words = " ".join(done.stdout.split())
    assert "of 9 layers start wrong" in words
    assert "all 9 layers start well, near a variance of 1 or normalised." in words
    assert "After the repair the gradient vanishes on its way from the last layer to the first" in words
    saved = load_weights("w.npz")
    assert list(saved)[:2] == ["0.weight", "0.bias"]
    rows = saved["0.weight"] @ saved["0.weight"].T
    assert np.allclose(rows, rows[0, 0] * np.eye(16), atol=1e-5)  # scaled, and orthogonal still
    done = console("lab", "doctor", "doctor_builds:tied", "--repair", "--draw", "orthogonal", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["before"]["ties"]["defect"] == 0.875
    assert row["after"]["ties"]["defect"] == 0.0
    assert [layer["path"] for layer in row["repair"]] == ["0", "2"]
    assert row["learning_rate"] == 0.5
    assert console("lab", "doctor", "doctor_builds:regression").returncode in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--draw", "orthogonal", "--save", "w.npz"), ("2 problems", "--draw needs --repair", "--save needs --repair")),
        (("doctor_builds:tied", "--init", "normal", "--save", "w.npz"), ("2 problems", "--init", "--save")),
        (("--repair", "--save", "w.npz", "--out", "w.npz"), ("--save and --out both name w.npz",)),
        (("--repair", "--save", "."), ("it is a folder",)),
        (("--depth", "0"), ("depth",)),
        (("--activation", "mish"), ("activation is 'mish'",)),
        (("--activation", "x", "--init", "none"), ("2 problems", "activation", "init")),
        (("--variance", "0"), ("expected a finite variance above 0",)),
        (("--repair", "--draw", "constant"), ("value is missing",)),
        (("--lr", "-1"), ("learning_rate is -1.0",)),
        (("-f", "tensorflow"), ("'tensorflow'",)),
        (("doctor_builds:fails",), ("its model failed on its batch",)),
        (("doctor_builds:absent",), ("no absent",)),
    ],
)
def test_bad_input_is_refused(console: Run, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    (tmp_path / "doctor_builds.py").write_text(BUILDS)
    done = console("lab", "doctor", *arguments)
    assert done.returncode == 2, done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "w.npz").exists()
