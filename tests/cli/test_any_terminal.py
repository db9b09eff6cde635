"""Terminals that lack a sign, paths that no system takes, machines with one framework: an answer or exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlab_core.records import codec
from tests.recorded import eventful

RUN = "from gradlab_core.cli.main import run; run()"
LONG = "x" * 3000


def without(*blocked: str) -> str:
    """Code for an interpreter in which these packages do not exist."""
    return (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
    )


def python(code: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, cwd=cwd, env={**os.environ, **environment}
    )


@pytest.fixture
def record(tmp_path: Path) -> str:
    (tmp_path / "run.json").write_text(codec.document("step", eventful(40, paths=("é→θ‖.weight", *"bcdef"))))
    return "run.json"


VERBS = {
    "lab": ["lab", "activations", "relu"],
    "findings": ["diagnose", "RECORD", "--norms"],
    "findings as JSON": ["diagnose", "RECORD", "--json"],
    "scenarios": ["diagnose", "--list"],
    "report": ["report", "RECORD", "--out", "σ.html"],
    "help": ["lab", "propagate", "--help"],
    "an error": ["diagnose", "θ→σ.jsonl"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_terminal_that_lacks_a_sign(verb: str, record: str, tmp_path: Path) -> None:
    arguments = [record if word == "RECORD" else word for word in VERBS[verb]]
    plain = python(RUN, *arguments, cwd=tmp_path, PYTHONIOENCODING="utf-8", PYTHONUTF8="1")
    for encoding in ("cp1252", "ascii"):
        done = python(RUN, *arguments, cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
        assert done.returncode == plain.returncode, done.stderr.decode(errors="replace")
        assert b"Traceback" not in done.stderr
        if "--json" in arguments:
            assert json.loads(done.stdout) == json.loads(plain.stdout)
        else:
            assert "?" in (done.stdout + done.stderr).decode(encoding)


@pytest.mark.parametrize("encoding", ["cp1254", "gbk"])
def test_other_terminals(encoding: str, tmp_path: Path) -> None:
    done = python(RUN, "lab", "activations", "relu", cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, b"")


PATHS = {
    "train --out": ["train", "--out", "PATH"],
    "train --sink jsonl": ["train", "--sink", "jsonl:PATH"],
    "train --sink tensorboard": ["train", "--sink", "tensorboard:PATH"],
    "train --sink csv": ["train", "--sink", "csv:PATH"],
    "train --sink parquet": ["train", "--sink", "parquet:PATH"],
    "train --data-dir": ["train", "--data", "cifar10", "--data-dir", "PATH"],
    "compare --out": ["compare", "--out", "PATH"],
    "compare --data-dir": ["compare", "--data", "cifar10", "--data-dir", "PATH"],
    "report": ["report", "PATH"],
    "report of several": ["report", "PATH", "RECORD"],
    "report --out": ["report", "RECORD", "--out", "PATH"],
    "report --out csv": ["report", "RECORD", "--out", "PATH.csv"],
    "diagnose": ["diagnose", "PATH"],
    "diagnose with a colon": ["diagnose", "PATH:build"],
    "diagnose --out": ["diagnose", "RECORD", "--out", "PATH"],
    "diagnose --sink": ["diagnose", "--scenario", "deep-sigmoid", "--sink", "jsonl:PATH"],
    "bench --out": ["bench", "norms", "--out", "PATH"],
    "bench --compilation-cache": ["bench", "norms", "--compilation-cache", "PATH"],
    "bench diagnosis --runs": ["bench", "diagnosis", "--runs", "PATH"],
    "data --from": ["data", "prepare", "cifar10", "--from", "PATH", "--data-dir", "d"],
    "lab symmetry": ["lab", "symmetry", "PATH.npz"],
    "lab doctor --save": ["lab", "doctor", "--repair", "--save", "PATH"],
    **{f"lab {study} --out": ["lab", study, "--out", "PATH"] for study in (
        "activations", "products", "symmetry", "init", "propagate", "doctor", "all"
    )},
}  # fmt: skip


@pytest.mark.parametrize("place", [LONG, "a-file/a.html"])
@pytest.mark.parametrize("case", PATHS)
def test_a_path_that_cannot_be(case: str, place: str, record: str, console: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    done = console(*[record if word == "RECORD" else word.replace("PATH", place) for word in PATHS[case]])
    assert done.returncode == 2
    assert done.stdout == ""
    assert "gradlab: " in done.stderr
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a-file", record}


@pytest.mark.parametrize("case", [case for case in PATHS if "--out" in case and "compare" not in case])
def test_a_folder_is_no_file(case: str, record: str, console: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    arguments = [record if word == "RECORD" else word.removesuffix(".csv") for word in PATHS[case]]
    done = console(*[word.replace("PATH", "folder.csv") for word in arguments])
    assert done.returncode == 2
    assert "is a folder" in " ".join(done.stderr.split())


@pytest.mark.parametrize(("twin", "gone"), [("jax", "jax"), ("torch", "torch")])
def test_a_twin_without_its_framework_says_how_to_install_it(twin: str, gone: str, tmp_path: Path) -> None:
    for module in (f"gradlab_{twin}", f"gradlab_{twin}.trees.norms"):
        code = f"try:\n    import {module}\nexcept ImportError as error:\n    print(error)"
        done = python(without(gone) + code, cwd=tmp_path)
        assert done.stdout.decode().strip() == (
            f"{gone} is not installed: install with pip install 'gradlab-parity[{twin}]'"
        ), done.stderr.decode()


ONLY_JAX = {
    "train": ["train", "--base", "2", "--depth", "1", "--batch-size", "700", "--probe-every", "0", "--json"],
    "diagnose": ["diagnose", "--scenario", "healthy-mlp", "--json"],
    "bench": ["bench", "norms", "--elements", "64", "--tensors", "2", "--rounds", "2", "--json"],
}


@pytest.mark.parametrize("verb", ONLY_JAX)
def test_the_framework_that_is_there_is_used(verb: str, tmp_path: Path) -> None:
    done = python(without("torch") + RUN, *ONLY_JAX[verb], cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    rows = json.loads(done.stdout)["rows"]
    assert rows == [] if verb == "diagnose" else rows  # a healthy net


@pytest.mark.parametrize(
    "verb",
    [
        "train",
        "compare",
        "diagnose --scenario healthy-mlp",
        "bench norms",
        "lab doctor",
        "lab activations relu",
        "lab all",
    ],
)
def test_a_framework_that_is_not_known(verb: str, console: Callable[..., Any]) -> None:
    done = console(*verb.split(), "--framework", "keras")
    assert (done.returncode, done.stdout) == (2, "")
    assert "keras" in done.stderr
    assert "torch" in done.stderr
