"""Many runs at once: what was found in each, one line a run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import Finding, Severity
from gradlab_core.sinks import load_run

LEVELS = ("critical", "warning", "fine", "unreadable")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweptRun:
    """One run of a sweep.

    Attributes:
        name: of the run.
        config: its hyperparameters; those of a mapping within are called `outer.inner`.
        records: how many it has.
        first_loss, last_loss: of its first and its last record, None where the loss was not recorded.
        findings: of the diagnosis.
        verdict: `critical`, `warning` or `fine`, after the most severe finding; `unreadable`.
        problem: why it could not be read.
    """

    name: str
    config: Mapping[str, Any]
    records: int
    first_loss: float | None
    last_loss: float | None
    findings: tuple[Finding, ...]
    verdict: str
    problem: str | None = None

    @property
    def alarms(self) -> dict[str, Finding]:
        """The findings that are more than a note, by their code."""
        return {f.code: f for f in reversed(self.findings) if f.severity is not Severity.NOTE}


def sweep(
    files: Mapping[str, Path], *, jobs: int | None = None, on_run: Callable[[SweptRun], Any] = lambda run: None
) -> list[SweptRun]:
    """Diagnose every run.

    Args:
        files: the files of the runs, by the name of the run.
        jobs: processes that share the work; by default one for each processor. 1 does it in this process.
        on_run: called with each run, in the order of `files`, as it is done.
    """
    jobs = min(jobs or os.cpu_count() or 1, len(files))
    runs = []
    if jobs < 2:
        for run in map(swept, files, files.values()):
            on_run(run)
            runs.append(run)
        return runs
    with concurrent.futures.ProcessPoolExecutor(jobs, initializer=_begin_job) as pool:
        for run in pool.map(_swept_alone, files, files.values()):
            on_run(run)
            runs.append(run)
    return runs


def swept(name: str, file: Path) -> SweptRun:
    """One run, read from its file and judged."""
    try:
        run = load_run(file)
        findings = tuple(diagnose(run))
    except GradlabError as error:
        return _unreadable(name, str(error))
    if not run:
        return _unreadable(name, f"{file} holds no record")
    alarms = {finding.severity for finding in findings}
    verdict = next((level for level in ("critical", "warning") if Severity(level) in alarms), "fine")
    return SweptRun(
        name=name,
        config=flat(run.config),
        records=len(run),
        first_loss=run[0].loss,
        last_loss=run[-1].loss,
        findings=findings,
        verdict=verdict,
    )


def _begin_job() -> None:
    """What is there already is no garbage, and is not looked through again and again."""
    gc.disable()
    gc.freeze()


def _swept_alone(name: str, file: Path) -> SweptRun:
    """In a process that does nothing else: looking for garbage while a run is loaded takes as long as the loading."""
    run = swept(name, file)
    gc.collect()
    return run


def _unreadable(name: str, problem: str) -> SweptRun:
    nothing: dict[str, Any] = {"config": {}, "records": 0, "first_loss": None, "last_loss": None, "findings": ()}
    return SweptRun(name=name, verdict="unreadable", problem=problem, **nothing)


def flat(config: Mapping[str, Any], outer: str = "") -> dict[str, Any]:
    """Hyperparameters by one name each.

    >>> flat({"rate": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.999]}})
    {'rate': 0.1, 'optimizer.name': 'adam', 'optimizer.betas': '[0.9, 0.999]'}
    """
    one: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            one |= flat(value, f"{outer}{name}.")
        else:
            one[outer + str(name)] = (
                value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
            )
    return one


def varying(runs: Sequence[SweptRun]) -> list[str]:
    """The hyperparameters that are not the same in all runs."""
    read = [run for run in runs if run.problem is None]
    names = dict.fromkeys(name for run in read for name in run.config)
    return [name for name in names if len({repr(run.config.get(name)) for run in read}) > 1]
