"""A framework below what is supported is told by name with what to do, in the library and on the command line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gradlab_core.backends import BACKENDS, NEEDS, is_below

ROOT = Path(__file__).parents[2]
INSTALL = ": install with pip install 'gradlab-parity[{}]'"
OLD = {
    "torch": ({"torch": "2.5.1+cu124"}, "torch is 2.5.1+cu124, expected at least 2.6"),
    "jax": (
        {"jax": "0.7.2", "optax": "0.2"},
        "jax is 0.7.2, expected at least 0.8; optax is 0.2, expected at least 0.2.5",
    ),
}


def python(code: str, **versions: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which those libraries say that they are of those versions."""
    patched = "".join(f"import {m}\n" for m in versions) + "".join(
        f"{m}.__version__ = {versions[m]!r}\n" for m in versions
    )
    return subprocess.run([sys.executable, "-c", patched + code], capture_output=True, text=True, cwd=ROOT)


def command_line(*arguments: str, **versions: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv = {['gradlab', *arguments]!r}; from gradlab_core.cli.main import run; run()"
    return python(code, **versions)


def test_the_bounds_are_those_of_the_metadata():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stated = {name: dict(re.fullmatch(r"(\w+)>=([\d.]+)", need).groups() for need in extras[name]) for name in BACKENDS}
    assert stated == NEEDS


@pytest.mark.parametrize("name", BACKENDS)
def test_an_old_framework_is_told_at_import(name):
    versions, told = OLD[name]
    code = f"""
from gradlab_core.errors import GradlabError
for _ in range(2):  # a second try says the same, and not that a name is missing
    try:
        import {BACKENDS[name]}
    except ImportError as error:
        print(isinstance(error, GradlabError), error)
"""
    done = python(code, **versions)
    assert done.stdout == f"True {told}{INSTALL.format(name)}\n" * 2, done.stderr


@pytest.mark.parametrize("name", BACKENDS)
def test_an_old_framework_is_bad_input_on_the_command_line(name):
    versions, told = OLD[name]
    done = command_line("train", "--framework", name, "--base", "2", "--depth", "1,1,1", **versions)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"gradlab: {told}{INSTALL.format(name)}\n"


def test_a_library_that_breaks_beside_an_old_framework_is_not_the_reason():
    """Flax imports names that an old JAX does not have: what is told is JAX."""
    code = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "flax":
            raise AttributeError("module 'jax' has no attribute 'new'")
sys.meta_path.insert(0, Broken())
import gradlab_jax
"""
    done = python(code, jax="0.4.30")
    assert done.stderr.splitlines()[-1].endswith(f"jax is 0.4.30, expected at least 0.8{INSTALL.format('jax')}")
    assert "has no attribute 'new'" in python(code, jax="0.8.0").stderr.splitlines()[-1]  # then it is


@pytest.mark.parametrize(
    ("found", "lowest", "below"),
    [
        ("2.13.0+cpu", "2.6", False),
        ("2.6.0", "2.6", False),
        ("2.6", "2.6", False),
        ("2.6.0a0+ecf3bae40a.nv25.01", "2.6", False),
        ("2.6.0.dev20250101", "2.6", False),
        ("2.5.1", "2.6", True),
        ("1.13", "2.6", True),
        ("3.0", "2.6", False),
        ("0.12.0.1", "0.12", False),
        ("0.8.0.dev20250901+1f3", "0.8", False),
        ("0.2.5rc1", "0.2.5", False),
        ("0.2.4", "0.2.5", True),
        ("0.2", "0.2.5", True),
        ("0.10.2", "0.2.5", False),
        ("", "2.6", False),
        ("unknown", "2.6", False),
    ],
)
def test_numbers_of_versions(found, lowest, below):
    assert is_below(found, lowest) is below
