"""What a sweep costs: a folder of made-up runs is written, then judged and drawn as `gradlab report FOLDER` does it.

Example: `gradlab bench sweep --runs 20 --steps 1000`
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from gradlab_core.errors import GradlabError
from gradlab_core.judge.sweep import sweep
from gradlab_core.show.sweep import page
from gradlab_core.sinks.folder import recorded_files

from .options import answering
from .swept_runs import write_sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One sweep: bytes of its files, seconds to judge all runs with so many `jobs` and to draw the page, the seconds of
    processors that the jobs took together, the peak of memory in bytes of this process and of the largest of the jobs,
    and how many runs had each verdict."""

    runs: int
    steps: int
    tensors: int
    jobs: int
    file_bytes: int
    judged_seconds: float
    page_seconds: float
    job_cpu_seconds: float
    own_peak_bytes: int
    job_peak_bytes: int
    verdicts: dict[str, int]


def run(
    *,
    runs: Annotated[int, typer.Option(help="Runs in the folder.")] = 20,
    steps: Annotated[int, typer.Option(help="Records of each run.")] = 10_000,
    tensors: Annotated[int, typer.Option(help="Tensors of each net.")] = 100,
    jobs: Annotated[int, typer.Option(help="Processes that judge.")] = 2,
    folder: Annotated[Path | None, typer.Option(help="Where the runs are written and stay. Default: nowhere.")] = None,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Write the folder, judge it, draw it.

    Raises:
        GradlabError: a number out of range.
    """
    if min(runs, steps, tensors, jobs) < 1:
        raise GradlabError(f"runs, steps, tensors and jobs are {runs}, {steps}, {tensors}, {jobs}; expected at least 1")
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as where:
        root = Path(where)
        on_call("writing")
        write_sweep(root, runs, steps, tensors)
        on_call("judging")
        before = _cpu()
        began = time.perf_counter()
        files = recorded_files(root)
        judged = sweep(files, jobs=jobs)
        seconds = time.perf_counter() - began
        cpu = _cpu() - before
        page.render(str(root), judged)
        drawn = time.perf_counter() - began - seconds
        size = sum(path.stat().st_size for path in files.values())
    verdicts = [run.verdict for run in judged]
    return [
        Row(
            runs=len(judged), steps=steps, tensors=tensors, jobs=jobs, file_bytes=size, judged_seconds=seconds,
            page_seconds=drawn, job_cpu_seconds=cpu, own_peak_bytes=_peak(resource.RUSAGE_SELF),
            job_peak_bytes=_peak(resource.RUSAGE_CHILDREN), verdicts={v: verdicts.count(v) for v in {*verdicts}},
        )
    ]  # fmt: skip


def report(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """What a console prints."""
    for row in rows:
        size, own, job = (f"{n / 2**20:,.0f} MiB" for n in (row.file_bytes, row.own_peak_bytes, row.job_peak_bytes))
        yield (
            f"{row.runs:,} runs of {row.steps:,} steps × {row.tensors} tensors, {size}: judged by {row.jobs} jobs in "
            f"{row.judged_seconds:.1f} s, which took {row.job_cpu_seconds:.1f} s of processors, drawn in "
            f"{row.page_seconds:.1f} s; memory peaks at {own}, and at {job} in a job"
        )
        yield ", ".join(f"{count} {verdict}" for verdict, count in sorted(row.verdicts.items()))


def _cpu() -> float:
    """Seconds of processors that this process and those that it has waited for took."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _peak(who: int) -> int:
    """The most memory that was in use, in bytes."""
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


command = answering(run, "sweep-benchmark", report)

if __name__ == "__main__":
    from .script import main

    main("sweep")
