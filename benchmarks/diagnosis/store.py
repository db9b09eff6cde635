"""Runs on disk, one file each: what was run once is judged as often as rules change.

Runs are made in processes of their own, a few runs each: what a framework keeps (compiled programs above all) goes with
the process, and a run that takes its process down takes no other with it.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gradlab_core import backends
from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.programs.program import ProgramSpec
from gradlab_core.records import StepRecord, codec

from .draw import Drawn

KIND = "diagnosis-run"
CHUNK = 32  # runs a process makes

_CHILD = "from gradlab_core.cli import bench; bench.benchmarks('diagnosis.store').child()"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A program that was run; `error` says why there are no records, else it is empty."""

    name: str
    framework: str
    spec: ProgramSpec
    records: tuple[StepRecord, ...] = ()
    seconds: float = 0.0
    error: str = ""


def path_of(folder: Path, name: str, *, failed: bool = False) -> Path:
    """Where the run of that name lies; one that failed lies elsewhere, so that it is tried again next time."""
    return folder / f"{name}{'.failed' if failed else ''}.json.gz"


def load(folder: Path, name: str) -> Run:
    """A run that was made.

    Raises:
        GradlabError: it is not there, or the file is broken.
    """
    path = path_of(folder, name)
    path = path if path.exists() else path_of(folder, name, failed=True)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise GradlabError(f"cannot read {path}: {error}; remove it, and it is run again") from error
    return codec.parse(text, KIND, Run, str(path))[0]


def save(folder: Path, run: Run) -> None:
    """Write a run, whole or not at all."""
    path = path_of(folder, run.name, failed=bool(run.error))
    with whole_file(path) as temporary, gzip.open(temporary, "wt", compresslevel=4) as file:
        file.write(codec.document(KIND, [run]))


def complete(
    folder: Path, drawn: Sequence[Drawn], *, jobs: int, on_run: Callable[[str], Any] = lambda name: None
) -> None:
    """Make those of the runs that are not there yet.

    Args:
        jobs: processes at a time.
        on_run: told the name of every run as soon as it is there.

    Raises:
        GradlabError: jobs below 1, a framework that is missing, or a folder that cannot be written.
    """
    if jobs < 1:
        raise GradlabError(f"jobs is {jobs}; expected a whole number of at least 1")
    wanted = {d.name: Run(name=d.name, framework=d.framework, spec=d.spec) for d in drawn}
    missing = [run for run in wanted.values() if not path_of(folder, run.name).exists()]
    for framework in {run.framework for run in missing} - set(backends.available()):
        backends.load(framework)  # refuses, and says how to get it
    with ThreadPoolExecutor(jobs) as pool:
        for made in pool.map(lambda part: _in_process(folder, part, on_run), list(_chunks(missing))):
            for run in made:
                save(folder, run)


def _chunks(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """A few runs of one framework, so that no process loads both."""
    for framework in dict.fromkeys(run.framework for run in runs):
        mine = [run for run in runs if run.framework == framework]
        yield from (mine[i : i + CHUNK] for i in range(0, len(mine), CHUNK))


def _in_process(folder: Path, runs: list[Run], on_run: Callable[[str], Any]) -> list[Run]:
    """Make them in one process; gives back, as failed, the run in which the process ended, and runs those behind it."""
    failed = []
    while runs:
        environ = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environ,
        )  # fmt: skip
        with process:
            assert process.stdin is not None  # both were asked for
            assert process.stdout is not None
            process.stdin.write(codec.document(KIND, runs))
            process.stdin.close()
            named = set()
            for line in process.stdout:
                named.add(line.strip())
                on_run(line.strip())
        left = [run for run in runs if run.name not in named]
        if left:
            failed.append(dataclasses.replace(left[0], error=f"its process ended with code {process.returncode}"))
        runs = left[1:]
    return failed


def child() -> None:
    """What such a process does: read runs from standard input, make and save each, and name it when it is done."""
    folder = Path(sys.argv[1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a framework prints is no name of a run
    for run in codec.parse(sys.stdin.read(), KIND, Run):
        save(folder, made(run))
        print(run.name, file=out, flush=True)


def made(run: Run) -> Run:
    """Run it. A program that the framework refuses has an error and no records."""
    began = time.perf_counter()
    try:
        records: Iterable[StepRecord] = backends.load(run.framework).run_program(run.spec)
    except Exception as error:
        return dataclasses.replace(run, error=f"{type(error).__name__}: {error}")
    return dataclasses.replace(run, records=tuple(records), seconds=time.perf_counter() - began)
