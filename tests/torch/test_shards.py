"""The record of a run is the same from one process, from two and from four."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torch import shared_runs

ROOT = Path(__file__).parents[2]
WAYS = ("rows", "columns", "rows and columns", "rows twice", "replicas of columns", "columns of replicas", "mixed")


@pytest.fixture(scope="module")
def one() -> dict[str, list[dict[str, Any]]]:
    return shared_runs.run_of_one()


@pytest.fixture(scope="module", params=[2, 4])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of several processes recorded."""
    world = request.param
    store = str(tmp_path_factory.mktemp("ranks") / "store")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", shared_runs.__name__, str(rank), str(world), store],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    try:
        done = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (_, errors) in zip(ranks, done, strict=True):
        assert rank.returncode == 0, errors.decode()[-3000:]
    return [json.loads(out) for out, _ in done]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], to: float = 1e-9) -> None:
    """To `to` of each number, or of the norms whose product it is; words, None, NaN and Inf alike."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert list(a) == list(b)
        for name, wanted in b.items():
            if not isinstance(wanted, float) or not math.isfinite(wanted):
                assert a[name] == pytest.approx(wanted, nan_ok=True), name
            else:
                assert a[name] == pytest.approx(wanted, rel=to, abs=1e-12 if "update" in name else 0.0), name


@pytest.mark.parametrize("way", ["fsdp", "hsdp", "tensor parallel", "replicated", "both"])
def test_a_net_is_recorded_alike(one, many, way):
    for rank in many:
        assert_same(rank["nets"][way], one["net"])
    states = {k: v for k, v in one["net"][-1].items() if k.endswith("state")}
    assert {"ok", "frozen", "disconnected"} == set(states.values())


@pytest.mark.parametrize("spoil", shared_runs.SPOILED)
@pytest.mark.parametrize("way", WAYS)
def test_however_parameters_lie_they_are_recorded_alike(one, many, way, spoil):
    for rank in many:
        recorded = rank["bares"][way][f"bare {spoil}"]
        assert_same(recorded, one[f"bare {spoil}"], to=1e-6 if spoil == "beyond float32" else 1e-9)


def test_the_runs_have_what_they_are_to_show(one):
    last = {spoil: one[f"bare {spoil}"][-1] for spoil in shared_runs.SPOILED}
    assert last[""]["none state"] == "ok"
    assert last["lost"]["uneven state"] == "lost"
    assert last["partly lost"]["uneven state"] == "ok"
    assert last["zero"]["few state"] == "zero"
    assert last["nan"]["cube state"] == "nonfinite"
    assert 1e200 < last["large"]["grad_norm"] < 1e202
    assert 1e-200 < last["small"]["grad_norm"] < 1e-198
    assert last["beyond float32"]["uneven state"] == "nonfinite"
    assert last["beyond float32"]["one grad"] > 1e38


def test_a_recorded_step_has_one_collective(many):
    assert [rank["collectives"] for rank in many] == [[1, 0]] * len(many)


def test_what_cannot_be_added_up_is_refused(many):
    for rank in many:
        assert "Partial" in rank["refusals"]["partial"]
        assert "distance needs whole tensors" in rank["refusals"]["extras"]
        assert "different parameters" in rank["refusals"]["other"]


def test_nobody_looks_into_a_sharded_model_which_is_said_once(many):
    for rank in many:
        (said,) = rank["looks"]
        assert "DTensors" in said


def test_who_takes_a_step_alone_gets_an_error_and_does_not_wait_for_ever(many):
    first, *others = [rank["alone"] for rank in many]
    assert first.startswith("error: ")
    assert others == ["done"] * len(others)
