"""The parity suite and the tests of the kernels on a device, with what came of each test as soon as it is known."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUITE, KERNELS = ROOT / "parity_tests", ROOT / "tests" / "torch" / "interpreted.py"
_WORKERS = 12
_GIB_A_WORKER = 4  # two frameworks' contexts and small nets
_REASON = 300  # characters of a failure's first line: a machine with a GPU is not there to be asked again
_EVERY = 1.0  # seconds between two writes


def why_no_suite() -> str | None:
    """The reason for which the suite cannot run here, if there is one."""
    if not SUITE.is_dir():
        return "the suite is part of a checkout, and this is an installed package"
    return None if importlib.util.find_spec("pytest") is not None else "pytest is not installed"


def workers(cores: int, free_gib: float, xdist: bool) -> int:
    """Processes that the suite runs in; 0 is this one alone.

    >>> workers(26, 75.0, True), workers(26, 20.0, True), workers(26, 75.0, False), workers(1, 75.0, True)
    (12, 5, 0, 0)
    """
    count = min(cores, _WORKERS, int(free_gib / _GIB_A_WORKER)) if xdist else 0
    return count if count > 1 else 0


class Outcomes:
    """A pytest plugin that counts; with xdist it sees what all workers report."""

    def __init__(self, on_change: Callable[[Mapping[str, Any]], Any], processes: int) -> None:
        self.on_change = on_change
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failed: set[str] = set()
        self.failures: list[str] = []
        self.processes = processes
        self.reported = 0.0

    def pytest_runtest_logreport(self, report: Any) -> None:
        # A test fails in its set-up or tear-down too; it passes when its call does.
        if report.failed:
            self._failed(report.nodeid, report.longreprtext)
        elif report.skipped or report.when == "call":
            self.counts[report.outcome] += 1
        if time.monotonic() - self.reported > _EVERY:
            self.tell(ended=False)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._failed(report.nodeid, report.longreprtext)

    def _failed(self, nodeid: str, text: str) -> None:
        if nodeid not in self.failed:
            self.failed.add(nodeid)
            reason = next((line for line in text.splitlines() if line.strip()), "no reason was given")
            self.failures.append(f"{nodeid}: {reason.strip()[:_REASON]}")
            self.counts["failed"] += 1

    def tell(self, *, ended: bool) -> None:
        self.reported = time.monotonic()
        self.on_change({**self.counts, "failures": self.failures, "processes": max(1, self.processes), "ended": ended})


def run_suite(*, cpu: bool, on_change: Callable[[Mapping[str, Any]], Any]) -> None:
    """Run the parity suite, on the CPU one small file of it; red tests are findings and no error of this part.

    Raises:
        RuntimeError: pytest itself could not run.
    """
    places = ["--jax-platform", "cpu", "--torch-device", "cpu"] if cpu else ["--jax-platform", "gpu"]
    places += [] if cpu else ["--torch-device", "cuda"]
    count = 0 if cpu else workers(_cores(), _free_gib(), importlib.util.find_spec("xdist") is not None)
    files = str(SUITE / "test_norms.py" if cpu else SUITE)
    _run([files, *places, *(["-n", str(count), "--dist", "worksteal"] if count else [])], count, on_change)


def run_kernels(*, cpu: bool, on_change: Callable[[Mapping[str, Any]], Any]) -> None:
    """Run the tests of PyTorch's kernels, on the CPU a few of them by Triton's interpreter."""
    if cpu:
        os.environ["TRITON_INTERPRET"] = "1"
    few = ["-k", "layout or graph"] if cpu else []
    _run([str(KERNELS), "--noconftest", *few], 0, on_change)  # tests/conftest.py needs what users' machines lack


def _run(arguments: Sequence[str], processes: int, on_change: Callable[[Mapping[str, Any]], Any]) -> None:
    import pytest

    outcomes = Outcomes(on_change, processes)
    usual = ["-q", "--tb=line", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    code = pytest.main([*arguments, *usual], plugins=[outcomes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise RuntimeError(f"pytest ended with {pytest.ExitCode(code).name}")
    outcomes.tell(ended=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_gib() -> float:
    import torch

    return float(torch.cuda.mem_get_info()[0] / 2**30)
