"""`gradlab lab chain`: what is said of a model, and its page."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from gradlab_core.lab.pages.chain_rule import chain_section
from gradlab_core.lab.pages.page import render
from gradlab_core.lab.studies.chain_rule import study_chain

Run = Callable[..., subprocess.CompletedProcess[str]]

BUILDS = """
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(16, 16)

    def forward(self, x):
        return x + torch.tanh(self.inner(x))

class Cut(torch.nn.Module):
    def forward(self, x):
        return x.detach()

def batch():
    return torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3

def net(*layers):
    return torch.nn.Sequential(torch.nn.Linear(16, 16), *layers, torch.nn.Linear(16, 3)), *batch()

def plain():
    torch.manual_seed(0)
    return net(torch.nn.ReLU())

def residual():
    torch.manual_seed(0)
    return net(Block(), torch.nn.ReLU())

def deep():
    torch.manual_seed(0)
    return net(*(part for _ in range(12) for part in (torch.nn.Sigmoid(), torch.nn.Linear(16, 16))))

def cut():
    torch.manual_seed(0)
    model, x, y = net(Cut())
    return {"model": model, "x": x, "y": torch.randn(8, 3), "loss": torch.nn.functional.mse_loss}

def wrong():
    return torch.nn.Linear(5, 3), *batch()
"""


@pytest.fixture
def builds(tmp_path: Any) -> dict[str, Any]:
    (tmp_path / "chain_builds.py").write_text(BUILDS)
    names: dict[str, Any] = {}
    exec(BUILDS, names)
    return names


def test_a_plain_chain_is_the_product_of_its_layers(builds: dict[str, Any]) -> None:
    study = study_chain("torch", *builds["plain"]())
    assert study.parts == study.cut == study.unreached == ()
    assert study.chain.log_whole == pytest.approx(study.chain.log_product, abs=1e-6)
    section = chain_section("mine", study)
    assert section.level == "good"
    assert any("the net is a plain chain" in sentence for sentence in section.said)
    page = render([section])
    assert "The chain rule on mine" in page
    assert 'data-chart="chain"' in page


def test_where_paths_part_and_meet_is_said(builds: dict[str, Any]) -> None:
    study = study_chain("torch", *builds["residual"]())
    assert study.parts == ("0",)
    assert study.chain.log_whole is not None
    assert study.log_between == pytest.approx(study.chain.log_whole - study.chain.log_product)
    said = " ".join(chain_section("mine", study).said)
    assert "arises where paths part or meet, or at steps that are no layer: after 0." in said


def test_what_vanishes_or_is_cut_off_is_bad(builds: dict[str, Any]) -> None:
    deep = chain_section("mine", study_chain("torch", *builds["deep"]()))
    assert deep.level == "bad"
    assert any("the gradient vanishes" in sentence for sentence in deep.said)
    model, x, y, loss = (builds["cut"]()[name] for name in ("model", "x", "y", "loss"))
    study = study_chain("torch", model, x, y, loss=loss)
    assert (study.cut, study.unreached) == (("1",), ("0",))
    said = " ".join(chain_section("mine", study).said)
    assert "Nothing comes through 1. No gradient comes to 0." in said


def test_the_command(console: Run, builds: dict[str, Any]) -> None:
    done = console("lab", "chain", "chain_builds:residual", "--out", "chain.html")
    assert done.returncode == 0, done.stderr
    assert "PyTorch, 5 layer calls, train mode." in done.stdout
    assert "report: chain.html" in done.stdout
    done = console("lab", "chain", "chain_builds:deep", "--json")
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["rows"]
    assert row["chain"]["log_whole"] < -3 * math.log(10)
    assert len(row["chain"]["layers"]) == 26


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("target",)),
        (("run.jsonl",), ("MODULE:FUNCTION",)),
        (("chain_builds:nobody",), ("has no nobody",)),
        (("chain_builds:wrong",), ("its model failed on its batch", "mat1 and mat2")),
    ],
)
def test_bad_input_is_refused(
    console: Run, builds: dict[str, Any], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = console("lab", "chain", *arguments)
    assert done.returncode == 2, done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
