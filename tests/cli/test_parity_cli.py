"""`gradlab parity` on subjects of a user's own: what is named, what comes of it, and every way in which it is wrong."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_cli import refused

PORTS = "tests.cli.users_ports:"


@pytest.fixture
def parity(console):
    def call(*arguments):
        return console("parity", *(a.replace("ports:", PORTS) for a in arguments))

    return call


def test_two_subjects_that_agree(parity):
    done = parity("ports:SUBJECT", "ports:port", "--batch", "ports:batch", "--steps", "2", "--precision", "highest")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("parity holds: ")


def test_the_batch_may_come_with_the_first_target(parity):
    done = parity("ports:with_batch", "ports:wrong_port", "--steps", "1")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("parity broken at step 0, ")


def test_a_batch_that_is_named_goes_first_and_json_holds_every_row(parity):
    done = parity("ports:with_batch", "ports:port", "--batch", "ports:BATCH", "--steps", "2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kind"] == "parity"
    assert {row["step"] for row in found["rows"]} == {0, 1}


def test_a_nan_is_a_finding(parity):
    done = parity("ports:with_batch", "ports:nan_port", "--steps", "1")
    assert done.returncode == 1, done.stderr
    assert "inf" in done.stdout


def test_the_report_as_a_page(parity, tmp_path):
    done = parity("ports:with_batch", "ports:wrong_port", "--steps", "1", "--html", "new/report.html")
    assert done.returncode == 1, done.stderr
    assert "fault 1: step 0, activation: the output is 1.001 × what it is in the reference" in done.stdout
    assert "what to do: look for a constant that one side multiplies or divides by" in done.stdout
    assert done.stdout.endswith("report: new/report.html\n")
    text = (tmp_path / "new/report.html").read_text()
    assert "Parity is broken at step 0, activation." in text
    assert f"{PORTS}with_batch and {PORTS}wrong_port" in text


TWO = ["ports:with_batch", "ports:port"]
BAD = {
    "one target": (["ports:SUBJECT"], ["came one target", "the reference and the candidate"]),
    "three targets": (["a:b", "c:d", "e:f"], ["came 3 targets"]),
    "no module": (["nowhere:x", "ports:port"], ["no module nowhere"]),
    "no such name": (["ports:nothing", "ports:port"], ["has no nothing; its functions are", "wrong_port"]),
    "no name at all": (["nowhere", "ports:port"], ["names no function"]),
    "a model": (["ports:MODEL", "ports:port"], ["MODEL is torch.nn.modules.linear.Linear", "gradlab_torch.Subject("]),
    "the class of a subject": (["gradlab_torch:Subject", "ports:port"], ["cannot be called without arguments"]),
    "something else": (["ports:THREE", "ports:port"], ["THREE is tuple", "expected a Subject"]),
    "a function with arguments": (["ports:needs_argument", "ports:port"], ["without arguments"]),
    "no batch": (["ports:SUBJECT", "ports:port"], ["there is no batch", "--batch"]),
    "a batch of three": ([*TWO, "--batch", "ports:THREE"], ["the batch of", "tuple of 3; expected (x, y)"]),
    "a constant batch": ([*TWO, "--batch", "ports:constant"], ["ties"]),
    "labels for half of it": ([*TWO, "--batch", "ports:short_labels"], ["failed"]),
    "weights that do not fit": (
        ["ports:with_batch", "ports:wider_port"],
        ["weight has shape (2, 4) in the candidate; expected (2, 3)"],
    ),
    "a loss that fails": (["ports:with_batch", "ports:failing_port"], ["RuntimeError: no such luck", "users_ports.py"]),
    "a loss that cannot be": (["ports:with_batch", "ports:misshapen_loss"], ["TypeError", "users_ports.py"]),
    "an unknown precision": ([*TWO, "--precision", "fp8"], ["precision is 'fp8'"]),
    "no step": ([*TWO, "--steps", "0"], ["steps is 0"]),
    "options of our nets": (
        [*TWO, "--block", "plain", "--seed", "1"],
        ["2 problems", "--block is for", "--seed is for"],
    ),
    "a batch for our nets": (["--batch", "ports:batch"], ["--batch is for subjects of your own"]),
    "a folder for a page": ([*TWO, "--html", "."], ["it is a folder"]),
    "an unknown option": ([*TWO, "--stepps", "3"], ["No such option"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(case, parity):
    arguments, words = BAD[case]
    refused(parity(*arguments), *words)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_is_that_of_the_bare_verb_and_names_the_others(arguments, parity):
    done = parity(*arguments)
    assert done.returncode == 0
    for word in ("[REFERENCE CANDIDATE]", "--block", "gradlab parity record", "gradlab parity compare"):
        assert word in done.stdout
