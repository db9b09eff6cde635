"""The fixture `parity` in the tests of somebody who ported a model: a pytest of its own for each case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = """
from tests.core.test_parity_judge import FAULTS, GRADIENT, Stub, X, Y

def test_port(parity):
    report = parity(Stub(), Stub({candidate}), (X, Y){options})
    assert not report.failures
    assert max(row.step for row in report.rows) == {last}
"""


@pytest.fixture
def run(tmp_path):
    def call(*options, test=None, candidate="", last=2, given=""):
        text = TEST.format(candidate=candidate, last=last, options=given) if test is None else test
        (tmp_path / "test_port.py").write_text(text)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "pytest", "-p", "gradlab_core.pytest_plugin", "-p", "no:cacheprovider"]
        done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return call


def test_two_that_agree_pass(run):
    status, said = run()
    assert status == 0, said


def test_two_that_differ_fail_with_the_tensor_its_error_and_what_to_do(run):
    status, said = run("-rN", candidate="change=lambda g, dtype: g * 1.01")
    assert status == 1
    for words in ("parity broken at step 0, gradient w", "differs in float64 1.00e-02", "what to do: the gradients of"):
        assert words in said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said


def test_what_cannot_be_judged_says_so(run):
    status, said = run("--parity-precision", "fp8")
    assert status == 1
    assert "parity cannot be judged: precision is 'fp8'" in said
    assert "pytest_plugin.py" not in said


@pytest.mark.parametrize(("options", "given", "last"), [((), "", 2), (("--parity-steps", "5"), "", 4)])
def test_options_are_defaults(run, options, given, last):
    assert run(*options, last=last)[0] == 0
    assert run(*options, given=", steps=1, precision='highest'", last=0)[0] == 0


def test_it_is_silent_and_loads_nothing_where_nobody_asks(run):
    test = """
import sys

def test_nothing():
    assert "gradlab_core.pytest_plugin" in sys.modules
    assert not {"numpy", "scipy", "torch", "jax", "gradlab_core.parity"} & set(sys.modules)
"""
    status, said = run("-q", test=test)
    assert status == 0, said
    assert "gradlab" not in said.lower().replace("gradlab_core.pytest_plugin", "")
    assert "parity of two models" in run("--help")[1]
