"""A device or a precision that is not there: a clear word and exit code 2, never a traceback or a silent CPU run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradlab_core.errors import GradlabError

ROOT = Path(__file__).parents[2]
USERS = """
def build():
    import jax.numpy as jnp
    from flax import nnx
    return nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 3)), jnp.zeros(4, int)


def away():
    import torch
    return torch.nn.Linear(3, 2).to("abacus"), torch.ones(4, 3), torch.zeros(4, dtype=int)
"""


def gradlab(folder: Path, *arguments: str, platforms: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv = {['gradlab', *arguments]!r}; from gradlab_core.cli.main import run; run()"
    env = os.environ | {"JAX_PLATFORMS": platforms, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=env)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--framework", "jax", "--base", "2", "--depth", "1,1,1"),
        ("parity", "--block", "preact", "--base", "2", "--depth", "1,1,1"),
        ("diagnose", "users:build"),
        ("bench", "norms", "--framework", "jax"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_platform_that_jax_cannot_start_is_bad_input(tmp_path, arguments):
    (tmp_path / "users.py").write_text(USERS)
    done = gradlab(tmp_path, *arguments, platforms="abacus")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("gradlab: JAX_PLATFORMS is 'abacus', of which JAX can start nothing here")
    assert last.endswith("expected a platform that is there: set JAX_PLATFORMS=cpu, or unset it")
    assert "Traceback" not in done.stderr


def test_a_model_put_on_a_device_that_is_not_there_is_bad_input(tmp_path):
    (tmp_path / "users.py").write_text(USERS)
    done = gradlab(tmp_path, "diagnose", "users:away")
    assert (done.returncode, done.stdout) == (2, "")
    assert "gradlab: users:away failed: RuntimeError: Expected one of cpu, cuda" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_precision_is_bad_input(tmp_path):
    done = gradlab(tmp_path, "parity", "--precision", "fp8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("gradlab: precision is 'fp8'; expected one of highest, tf32, bfloat16, float16, as-is\n")


@pytest.mark.parametrize(
    ("option", "framework"), [("--torch-device=abacus", "PyTorch"), ("--jax-platform=abacus", "JAX")]
)
def test_the_parity_suite_says_so_before_it_begins(option, framework):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "parity_tests/test_norms.py", option]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{option.partition('=')[0]}: device 'abacus' is not there; expected one that {framework} has here: cpu" in (
        done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


def test_meta_holds_no_numbers():
    torch = pytest.importorskip("torch")
    from gradlab_torch.trees.devices import device

    assert device() == device("cpu") == torch.device("cpu")
    with pytest.raises(GradlabError, match="device 'meta' is not there; expected one that PyTorch has here: cpu"):
        device("meta")


def test_a_platform_that_jax_platforms_shuts_out_is_told_so(monkeypatch):
    pytest.importorskip("jax")
    from gradlab_jax.trees.devices import device

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert device().platform == device("cpu").platform == "cpu"
    with pytest.raises(GradlabError, match=r"has here: cpu.*; JAX_PLATFORMS is 'cpu' and lets no other be used"):
        device("abacus")
