"""`make device`, as far as a machine without a GPU can tell: every path but the card's own figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import device, device_parts
from benchmarks.device_run import Outcome, Part, limits, run_all, run_one
from benchmarks.device_suite import Outcomes

ROOT = Path(__file__).parents[2]
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.device", *arguments],
        cwd=ROOT,
        env={**HERE, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_without_a_gpu_it_says_so_and_an_older_file_stays(tmp_path):
    out = tmp_path / "device.json"
    out.write_text("what was measured before")
    done = run("--out", str(out), CUDA_VISIBLE_DEVICES="", JAX_PLATFORMS="cpu")
    assert done.returncode == 2
    assert "error: there is no accelerator here (torch: cpu; jax:" in done.stderr
    assert "expected a GPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_text() == "what was measured before"


def test_the_command_is_tried_on_the_cpu(tmp_path):
    out = tmp_path / "device.json"
    done = run("--cpu", "--only", "norms", "--out", str(out))
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert [(p["name"], p["framework"], p["state"]) for p in content["parts"]] == [
        (name, framework, "whole") for name in ("versions", "norms") for framework in ("torch", "jax")
    ]
    assert {goal["verdict"] for goal in content["goals"]} == {"not measured"}
    assert re.search(r"gradlab_torch\.global_norm +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+\n", done.stdout)
    assert "the figures mean nothing" in done.stdout
    assert re.search(r"^torch: .*torch 2\.", done.stdout, re.M)


def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path):
    done = run("--cpu", "--only", "norms", "--out", str(tmp_path / "no" / "device.json"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "norms" not in done.stderr  # it did not begin


PROGRAMS = {
    "good": "print('well')",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "raise ValueError('what went wrong')",
    "hangs": "import time; time.sleep(60)",
}


def command(part, path):
    written = json.dumps({"rows": [], "facts": {"seen": part.name}})
    before = f"import pathlib; pathlib.Path({str(path)!r}).write_text({written!r})\n"
    nothing = "" if part.framework == "jax" else before
    return [sys.executable, "-c", nothing + PROGRAMS[part.name]]


def test_a_part_that_dies_or_hangs_costs_the_others_nothing():
    outcomes = []
    parts = [Part(name=name, framework="torch") for name in ("crashes", "raises", "good", "hangs")]
    run_all(parts, command, seconds=12.0, environ=HERE, on_outcome=outcomes.append)
    assert [(o.state, o.reason) for o in outcomes[:3]] == [
        ("partial", "it died of SIGSEGV"),
        ("partial", "exit code 1: ValueError: what went wrong"),
        ("whole", ""),
    ]
    assert outcomes[3].state == "partial"
    assert outcomes[3].reason.startswith("it was stopped after its")
    assert all(o.facts == {"seen": o.name} for o in outcomes)


def test_a_part_that_leaves_nothing_has_failed():
    assert run_one(Part(name="good", framework="jax"), command, seconds=20, environ=HERE).state == "failed"


def test_what_cannot_run_is_said_and_not_started():
    outcomes = []
    parts = [Part(name="good", framework="torch"), Part(name="raises", framework="torch")]
    why = {"raises": "it is not installed"}
    run_all(parts, command, seconds=20, environ=HERE, on_outcome=outcomes.append, why_not=lambda p: why.get(p.name))
    assert [(o.state, o.reason) for o in outcomes] == [("whole", ""), ("not run", "it is not installed")]


def test_time_is_shared():
    parts = [Part(name=name, framework="torch", share=share) for name, share in (("a", 1), ("b", 3))]
    assert limits(parts, 80.0) == 20.0
    assert limits(parts[1:], 75.0) == 75.0  # what the first one left
    assert set(device.NAMES) == set(device_parts.PARTS)


def row(case, setting, **figures):
    return {"case": case, "setting": setting, "speedup": None, "share_of_copy": None, **figures}


def outcomes(time=1.04, waits=0.0, share=0.9, failed=0):
    rows = [
        row("gradlab_torch.Monitor", "GPT-2: 12 layers", speedup=1 / time),
        row("gradlab_jax.monitor", "GPT-2: 12 layers", speedup=1 / time),
        row("gradlab_torch.Monitor", "TinyNet", speedup=0.1),  # there is no goal for it
        *(row(f"gradlab_{twin}.global_norm", "64 tensors", share_of_copy=share) for twin in ("torch", "jax, jit")),
        row("gradlab_jax.global_norm, jit", "64 tensors", share_of_copy=share),
    ]
    facts = {"in a step of gpt2": {"waits": waits}}
    suite = {"passed": 500, "failed": failed, "skipped": 1, "failures": ["a"] * failed, "ended": True}
    return [
        Outcome(name="gpt2", framework="torch", state="whole", rows=rows, facts=facts),
        Outcome(name="parity", framework="both", state="whole", facts=suite),
    ]


def test_why_a_test_failed_is_told_and_once():
    """The machine with the card is gone when somebody reads it."""
    told = []
    outcomes = Outcomes(told.append, 0)
    for text in ("E   AssertionError: 3 is not 4\nmore", "the tear-down too"):
        outcomes.pytest_runtest_logreport(
            SimpleNamespace(failed=True, skipped=False, nodeid="a.py::t", longreprtext=f"\n{text}")
        )
    outcomes.tell(ended=True)
    assert told[-1]["failures"] == ["a.py::t: E   AssertionError: 3 is not 4"]
    assert told[-1]["failed"] == 1


@pytest.mark.parametrize(
    ("figures", "missed"),
    [
        ({}, []),
        ({"time": 1.055}, ["PyTorch monitor, GPT-2"]),
        ({"waits": 1.0}, ["PyTorch monitor: waits"]),
        ({"share": 0.7}, ["gradlab_torch.global_norm", "gradlab_jax.global_norm"]),
        ({"failed": 2}, ["parity suite"]),
    ],
)
def test_goals_are_met_or_missed(figures, missed):
    found = device.goals(outcomes(**figures), cpu=False)
    assert all(goal.is_met is not None for goal in found)
    away = [goal.text for goal in found if not goal.is_met]
    assert len(away) == len(missed)
    assert all(text.startswith(start) for text, start in zip(away, missed, strict=True))
    assert all(goal.is_met is None for goal in device.goals(outcomes(**figures), cpu=True))
    assert all(goal.is_met is None for goal in device.goals([], cpu=False))
