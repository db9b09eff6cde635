"""`gradlab parity record` and `compare`: each framework by itself, and then neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_cli import GRADLAB, refused

PORTS = "tests.cli.users_ports:"
GONE = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {names!r}: raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Gone())
"""


def ran(code, *arguments, cwd):
    """The command in a process of its own, which finds the modules of the tests."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-c", code, "parity", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A reference's trace of PyTorch's, and a healthy and a wrong one of JAX's."""
    folder = tmp_path_factory.mktemp("traces")
    made = [
        ("with_batch", "--out", "reference.trace", "--steps", "2"),
        ("port", "--like", "reference.trace", "--out", "candidate.trace"),
        ("wrong_port", "--like", "reference.trace", "--out", "wrong.trace"),
    ]
    for target, *options in made:
        done = ran(GRADLAB[2], "record", PORTS + target, *options, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
    return folder


def test_traces_are_judged_where_neither_framework_is(traces):
    code = GONE.format(names=("torch", "jax", "flax", "optax")) + GRADLAB[2]
    for candidate, status in (("candidate.trace", 0), ("wrong.trace", 1)):
        done = ran(code, "compare", "reference.trace", candidate, cwd=traces)
        assert done.returncode == status, done.stderr
        assert ("parity holds", "parity broken at step 0, activation")[status] in done.stdout


def test_json_holds_every_row(traces, console):
    done = console("parity", "compare", str(traces / "reference.trace"), str(traces / "wrong.trace"), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["kind"] == "parity"
    assert {row["step"] for row in found["rows"]} == {0, 1}


def test_the_report_as_a_page(traces, console, tmp_path):
    done = console(
        "parity", "compare", *(str(traces / f"{n}.trace") for n in ("reference", "candidate")), "--html", "x"
    )
    assert done.returncode == 0
    assert "reference.trace and candidate.trace" in (tmp_path / "x").read_text()


BAD = {
    "no out": (["record", "ports:port"], ["Missing option '--out'"]),
    "no target": (["record", "--out", "x.trace"], ["Missing argument"]),
    "one trace": (["compare", "T/reference.trace"], ["Missing argument"]),
    "no batch": (["record", "ports:port", "--out", "x.trace"], ["there is no batch"]),
    "a batch and a reference": (
        ["record", "ports:port", "--out", "x.trace", "--like", "T/reference.trace", "--batch", "a:b", "--steps", "3"],
        ["2 problems", "--batch is that of", "--steps is that of"],
    ),
    "like a candidate": (
        ["record", "ports:port", "--out", "x.trace", "--like", "T/candidate.trace"],
        ["is a candidate's trace"],
    ),
    "weights that do not fit": (
        ["record", "ports:wider_port", "--out", "x.trace", "--like", "T/reference.trace"],
        ["weight has shape (2, 4) in the candidate; expected (2, 3)"],
    ),
    "a loss that fails": (
        ["record", "ports:failing_port", "--out", "x.trace", "--like", "T/reference.trace"],
        ["RuntimeError: no such luck"],
    ),
    "a folder": (["record", "ports:with_batch", "--out", "T/"], ["it is a folder"]),
    "two references": (["compare", "T/reference.trace", "T/reference.trace"], ["expected a candidate's"]),
    "nothing there": (["compare", "T/reference.trace", "none.trace"], ["cannot read none.trace"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(case, console, traces, tmp_path):
    arguments, words = BAD[case]
    refused(console("parity", *(a.replace("ports:", PORTS).replace("T/", f"{traces}/") for a in arguments)), *words)
    assert not list(tmp_path.rglob("*.trace"))


@pytest.mark.parametrize("verb", ["record", "compare"])
def test_help_has_an_example(verb, console):
    done = console("parity", verb, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"gradlab parity {verb}" in done.stdout
