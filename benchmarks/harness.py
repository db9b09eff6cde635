"""Cases to rows: warm up, take the first call apart, interleave the rounds, compare with a named baseline."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError

from .memory import peak_bytes

Call = Callable[[], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        prepare: builds all that is not timed, and returns the call, which comes back when the device is done.
        baseline: the case of the same setting that this one is compared with.
        compiles: the first call compiles; what it takes beyond a median call is the compile time.
        steps: so many steps are one call, with one wait for the device at the end; all times are of one step.
        reads: bytes that one step has to move, for a bandwidth.
        copy: the case of the same setting that copies, whose bandwidth this one's is held against.
        error: the relative error of what a call returned.
    """

    name: str
    framework: str
    prepare: Callable[[], Call]
    baseline: str | None = None
    compiles: bool = False
    steps: int = 1
    reads: int | None = None
    copy: str | None = None
    error: Callable[[Any], float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one case; None is missing, and `failure` says why there is no time.

    `seconds` holds the rounds in their order; `speedup` is median(baseline) / median(this): above 1, this is faster;
    `memory_bytes` is how far the memory in use rose during one call; `share_of_copy` is the bandwidth over that of a
    plain copy in the same rounds, which reads and writes.
    """

    benchmark: str
    setting: str
    case: str
    framework: str
    device: str
    seconds: tuple[float, ...]
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    compile_seconds: float | None
    memory_bytes: int | None
    bytes_per_second: float | None
    share_of_copy: float | None
    relative_error: float | None
    baseline: str | None
    speedup: float | None
    failure: str | None
    environment: Mapping[str, str]


class _Run:
    """One case on its way: it either holds a call, or the reason why not."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.call: Call | None = None
        self.first = 0.0
        self.seconds: list[float] = []
        self.memory: int | None = None
        self.error: float | None = None
        self.failure: str | None = None

    def warm_up(self, clock: Callable[[], float]) -> None:
        self.call = self.case.prepare()
        began = clock()
        result = self.call()
        self.first = clock() - began
        self.error = None if self.case.error is None else self.case.error(result)
        self.memory = peak_bytes(self.case.framework, self.call)  # a second warm call

    def once(self, clock: Callable[[], float]) -> None:
        if self.call is not None:
            began = clock()
            self.call()
            self.seconds.append((clock() - began) / self.case.steps)

    def attempt(self, stage: Callable[[Callable[[], float]], None], clock: Callable[[], float]) -> None:
        """A case that fails says why, and the others go on."""
        try:
            stage(clock)
        except Exception as error:
            lines = str(error).strip().splitlines()
            self.failure = f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"
            self.call, self.seconds = None, []

    @property
    def median(self) -> float | None:
        return float(np.median(self.seconds)) if self.seconds else None

    @property
    def bandwidth(self) -> float | None:
        return self.case.reads / self.median if self.case.reads and self.median else None


def measure(
    benchmark: str,
    setting: str,
    cases: Sequence[Case],
    *,
    rounds: int,
    environment: Mapping[str, str],
    only: Sequence[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Time the cases in turn, round after round, every second round backwards, so that drift of the machine meets all.

    Args:
        only: keep the cases whose name is one of these or, where it is no case's whole name, contains it; all if none.
        on_call: told the name of a case before each of its calls.

    Raises:
        GradlabError: rounds below 1, or `only` matches nothing.
    """
    if rounds < 1:
        raise GradlabError(f"rounds is {rounds}; expected a whole number of at least 1")
    names = {case.name for case in cases}
    runs = [
        _Run(case)
        for case in cases
        if not only or any(part == case.name or (part in case.name and part not in names) for part in only)
    ]
    if not runs:
        raise GradlabError(f"no case named {' or '.join(only)}; expected part of: {'; '.join(c.name for c in cases)}")
    for run in runs:
        on_call(f"{run.case.name}: warm-up")
        run.attempt(run.warm_up, clock)
    for index in range(rounds):
        for run in runs if index % 2 == 0 else reversed(runs):
            on_call(f"{run.case.name}: round {index + 1} of {rounds}")
            run.attempt(run.once, clock)
    by_name = {run.case.name: run for run in runs}
    return [_row(benchmark, setting, run, by_name, environment) for run in runs]


def _row(benchmark: str, setting: str, run: _Run, by_name: Mapping[str, _Run], environment: Mapping[str, str]) -> Row:
    case, median, bandwidth = run.case, run.median, run.bandwidth
    against, copy = by_name.get(case.baseline or ""), by_name.get(case.copy or "")
    quartiles = [float(q) for q in np.percentile(run.seconds, (25, 75))] if run.seconds else [None, None]
    return Row(
        benchmark=benchmark,
        setting=setting,
        case=case.name,
        framework=case.framework,
        device=environment.get(f"{case.framework} device", "unknown"),
        seconds=tuple(run.seconds),
        median=median,
        lower_quartile=quartiles[0],
        upper_quartile=quartiles[1],
        compile_seconds=max(run.first - case.steps * median, 0.0) if case.compiles and median is not None else None,
        memory_bytes=run.memory,
        bytes_per_second=bandwidth,
        share_of_copy=bandwidth / copy.bandwidth if bandwidth and copy is not None and copy.bandwidth else None,
        relative_error=run.error,
        baseline=case.baseline,
        speedup=against.median / median if against is not None and against.median is not None and median else None,
        failure=run.failure,
        environment=environment,
    )
