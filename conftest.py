"""What all tests share: one thread a process, what was compiled, and the devices on which parity is proven."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from gradlab_core.parity import PRECISIONS

# The suite runs a process a core; more threads than cores wait for each other. Set before a framework is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

STORE = "JAX_COMPILATION_CACHE_DIR"
FOLDER = pytest.StashKey[str]()
KEEP_ALL = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jax-platform", default="cpu", help="JAX platform for the parity suite: cpu, gpu or tpu.")
    parser.addoption("--torch-device", default="cpu", help="PyTorch device for the parity suite: cpu, cuda, mps.")
    parser.addoption(
        "--precision",
        default="highest",
        choices=PRECISIONS,
        help="What products of float32 are made in when both twins train side by side.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """What one test compiles, no other test, worker or command of this run compiles again.

    The folder is new each time, so no run sees what another compiled. A program is found by what it computes, its
    options and the versions at work: what is tested stays the same, only the compiler has less to do.
    """
    if not hasattr(config, "workerinput"):  # the workers and the commands they start inherit it
        for twin, option in (("torch", "--torch-device"), ("jax", "--jax-platform")):
            if config.getoption(option) != "cpu":
                _check_device(twin, option, config.getoption(option))
        config.stash[FOLDER] = tempfile.mkdtemp(prefix="gradlab-tests-")
        os.environ |= {STORE: config.stash[FOLDER], **KEEP_ALL}


def _check_device(twin: str, option: str, name: str) -> None:
    """A device that is not there ends the run before it begins. Asked in a process of its own: JAX takes most of a
    GPU's memory, which the workers need."""
    code = (
        f"from gradlab_core.errors import GradlabError\ntry:\n    from gradlab_{twin}.trees.devices import device\n"
        f"    device({name!r})\nexcept GradlabError as error:\n    raise SystemExit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=os.path.dirname(__file__))
    if done.returncode:
        raise pytest.UsageError(f"{option}: {done.stderr.strip()}")


@pytest.fixture(autouse=True, scope="module")
def _let_programs_go() -> Iterator[None]:
    """What a module compiled is let go after it: a worker that keeps the programs of 3,000 tests takes gigabytes, and
    so many maps of memory that the process may die. The next one finds them on disk."""
    yield
    clear = getattr(sys.modules.get("jax"), "clear_caches", None)
    if clear is not None:
        clear()


def pytest_unconfigure(config: pytest.Config) -> None:
    if FOLDER in config.stash:  # and never the one of a run that this run is part of
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)
