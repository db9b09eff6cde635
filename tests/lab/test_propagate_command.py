"""`gradlab lab propagate` as a command: random nets, a model of the user, bad input."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_the_command(console: Run) -> None:
    done = console("lab", "propagate", "--depth", "6", "--width", "20", "--nets", "5", "-f", "torch", "--out", "p.html")
    assert done.returncode == 0, done.stderr
    assert "6 layers of 20 tanh units, xavier_uniform; 5 nets." in done.stdout
    assert "PyTorch, in float64 on the same nets, is at most" in done.stdout
    vanishing = ("lab", "propagate", "--depth", "30", "--width", "10", "--nets", "2", "--sigma-w", "0.2", "--json")
    done = console(*vanishing)
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["rows"]
    assert row["log_gradient"] < -3 * math.log(10)
    assert row["edge"]["sigma_w"] == 1.0


BUILDS = """
import torch

def deep():
    torch.manual_seed(0)
    layers = [part for _ in range(12) for part in (torch.nn.Linear(16, 16), torch.nn.Sigmoid())]
    return torch.nn.Sequential(*layers, torch.nn.Linear(16, 3)), torch.randn(8, 16), torch.arange(8) % 3

def shallow():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    return {"model": net, "x": torch.randn(8, 16), "y": torch.arange(8) % 3}

def wide():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    return net, torch.randn(2, 3, 32, 32), torch.arange(2)

def broken():
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    torch.nn.init.constant_(net[0].weight, float("inf"))
    return net, torch.randn(8, 16), torch.arange(8) % 3

def zero():
    net, x, y = shallow().values()
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    return net, x, y

def cut():
    class Cut(torch.nn.Module):
        def forward(self, x):
            return x.detach()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(16, 16), Cut(), torch.nn.Linear(16, 16), torch.nn.Linear(16, 3))
    return net, torch.randn(8, 16), torch.arange(8) % 3

def bare():
    return torch.nn.Linear(16, 3), torch.randn(8, 16), torch.arange(8) % 3

def wrong():
    return torch.nn.Linear(5, 3), torch.randn(8, 16), torch.arange(8) % 3
"""


def test_a_users_model(console: Run, tmp_path: Any) -> None:
    (tmp_path / "prop_builds.py").write_text(BUILDS)
    done = console("lab", "propagate", "prop_builds:deep", "--out", "deep.html")
    assert done.returncode == 1
    assert "The gradient vanishes" in done.stdout
    assert "3 × 16" in done.stdout
    assert console("lab", "propagate", "prop_builds:shallow").returncode == 0
    done = console("lab", "propagate", "prop_builds:wide")
    assert "(estimated)" in done.stdout  # a Jacobian that is not written out
    done = console("lab", "propagate", "prop_builds:zero")
    assert done.returncode == 1
    assert "The signal vanishes: on its way" in done.stdout
    assert "NaN" not in done.stdout
    done = console("lab", "propagate", "prop_builds:cut", "--json")
    assert done.returncode == 1  # nothing vanishes, but a layer gets nothing
    (row,) = json.loads(done.stdout)["rows"]
    assert row["unreached"] == ["0"]
    first, *_, last = (layer["output"]["log_second_moment"] for layer in row["propagation"]["layers"])
    assert row["log_signal"] == pytest.approx((last - first) / 2)
    done = console("lab", "propagate", "prop_builds:bare")
    assert done.returncode == 0
    assert "fewer than two dense or convolutional layers" in done.stdout
    done = console("lab", "propagate", "prop_builds:broken", "--json")
    assert done.returncode == 1
    (row,) = json.loads(done.stdout)["rows"]
    assert row["nonfinite"] == ["0", "1", "2"]
    assert row["propagation"]["layers"][0]["output"]["log_second_moment"] in ("NaN", "Infinity")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", "0", "--width", "-1"), ("2 problems", "depth is 0", "width is -1")),
        (("--depth", "1000000", "--width", "1000"), ("1,000,000,000,000 weights", "at most")),
        (("--init", "constant"), ("value is missing",)),
        (("--init", "normal", "--sigma-w", "1"), ("sigma_w is 1.0", "one of the two")),
        (("--sigma-b", "0.3"), ("sigma_w",)),
        (("--activation", "swish"), ("'swish'",)),
        (("--nets", "1"), ("nets is 1", "at least 2")),
        (("--nets", "1000000"), ("too many", "17,179 nets")),
        (("--depth", "20000", "--width", "1"), ("depth is 20,000", "10,000")),
        (("--sigma-w", "1e300"), ("sigma_w is 1e+300",)),
        (("--init", "normal", "--init-number", "1e-300"), ("init_number is 1e-300",)),
        (("--seed", "-1"), ("-1",)),
        (("run.jsonl",), ("MODULE:FUNCTION",)),
        (("prop_builds:wrong",), ("its model failed on its batch", "mat1 and mat2")),
        (("prop_builds:deep", "--depth", "3", "-f", "torch"), ("2 problems", "--depth", "--framework", "prop_builds")),
    ],
)
def test_bad_input_is_refused(console: Run, tmp_path: Any, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    (tmp_path / "prop_builds.py").write_text(BUILDS)
    done = console("lab", "propagate", *arguments)
    assert done.returncode == 2, done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
