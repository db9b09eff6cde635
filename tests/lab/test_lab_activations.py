"""`gradlab lab activations`: rows against plain differences, the texts, the chart, the command."""

from __future__ import annotations

import json
import math
import subprocess
import types
from collections.abc import Callable

import numpy as np
import pytest

from gradlab_core import backends
from gradlab_core.lab.activations import ACTIVATIONS, activation_gradient, activation_value
from gradlab_core.lab.pages.activations import activation_section
from gradlab_core.lab.studies.activations import study_activations

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_rows_are_what_plain_numbers_say() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(1.0, 2.0, 200_000)
    for row in study_activations(mean=1.0, std=2.0).rows:
        slopes = np.abs(activation_gradient(row.name, inputs))
        share = np.mean((slopes >= 0.5) & (slopes <= 2))
        assert abs(row.share - share) < 5 * math.sqrt(0.25 / len(inputs)), row.name
        x = np.linspace(-8, 8, 100_001)
        slope = np.diff(activation_value(row.name, x)) / np.diff(x)
        assert abs(slope.min() - row.gradient_min) < 2e-3, row.name
        assert abs(slope.max() - row.gradient_max) < 2e-3, row.name
        middle = (x[1:] + x[:-1]) / 2
        inside = np.any([(middle > a) & (middle < b) for a, b in row.vanishing], axis=0) if row.vanishing else False
        off = np.mean(inside != (np.abs(slope) < 0.01 - 1e-9))
        assert off < 1e-3, row.name


def twin(change: Callable[[np.ndarray], np.ndarray]) -> types.SimpleNamespace:
    """A framework whose derivatives are changed."""
    return types.SimpleNamespace(
        to_native=np.asarray, activation_gradient=lambda name, x: change(activation_gradient(name, x))
    )


def test_another_derivative_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "load", lambda name: twin(lambda slope: slope))
    right = activation_section(study_activations(["tanh", "relu"], frameworks=["torch"]))
    assert right.level == "good"
    assert "those of the definition, to rounding" in right.said[-1]
    monkeypatch.setattr(backends, "load", lambda name: twin(lambda slope: slope * (1 + 1e-7)))
    wrong = activation_section(study_activations(["tanh", "relu"], frameworks=["torch"]))
    assert wrong.level == "bad"
    assert wrong.said[-1] == "Not the definition's derivative: PyTorch's tanh and PyTorch's relu."
    monkeypatch.setattr(backends, "load", lambda name: twin(lambda slope: slope * math.nan))
    assert activation_section(study_activations(["tanh"], frameworks=["torch"])).level == "bad"


def test_kinks_are_shown_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(slope: np.ndarray) -> np.ndarray:
        return np.concatenate([slope[:-1], slope[-1:] + 1])  # the last point is a kink

    monkeypatch.setattr(backends, "load", lambda name: twin(moved))
    section = activation_section(study_activations(["relu"], frameworks=["jax"]))
    assert section.level == "good"
    assert section.sheets[1].rows == [["relu at 0", "0", "1"]]


def test_the_chart_draws_all_and_shows_a_few() -> None:
    traces = activation_section(study_activations()).charts[0].figure["data"]
    assert {trace["name"] for trace in traces} == set(ACTIVATIONS)
    shown = {trace["name"] for trace in traces if trace["visible"] is True}
    assert shown == {"sigmoid", "tanh", "relu", "elu", "gelu", "silu"}
    sigmoid = [trace for trace in traces if trace["name"] == "sigmoid"]
    assert (min(sigmoid[1]["x"]), max(sigmoid[1]["x"]), max(sigmoid[1]["y"])) == (-8.0, 8.0, 0.25)
    looks = {(trace["line"]["color"], trace["line"]["dash"]) for trace in traces}
    assert len(looks) == len(ACTIVATIONS)


def test_the_command(console: Run) -> None:
    done = console("lab", "activations", "sigmoid", "relu")
    assert done.returncode == 0
    assert "sigmoid shrinks every gradient: |f′| is nowhere above 0.25." in done.stdout
    rows = json.loads(console("lab", "activations", "gelu", "--json").stdout)
    assert rows["kind"] == "activation"
    assert rows["rows"][0]["vanishing"][0][0] == "-Infinity"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("relux", "tan"), ("2 problems", "'relux'", "'tan'")),
        (("relu", "--std", "-1"), ("std is -1.0", "at least 0")),
        (("relu", "-f", "tensorflow"), ("'tensorflow'", "torch, jax")),
    ],
)
def test_bad_input_is_refused(console: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = console("lab", "activations", *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
