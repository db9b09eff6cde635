"""How often the diagnosis is right: recall, precision, false alarms and places, beside the rules of other tools.

Example: `gradlab bench diagnosis --runs diagnosis-runs --jobs 2`
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.records import codec

from . import environment
from .diagnosis import store
from .diagnosis.draw import PARTS, draw
from .diagnosis.judge import judge
from .diagnosis.others import TOOLS
from .diagnosis.overhead import Overhead
from .diagnosis.overhead import overhead as cost_of_judging
from .diagnosis.score import Judged, Row, misses, score
from .diagnosis.tables import counts, missed, tables
from .options import Answer, Framework

PROGRAMS = 440
"""So many pairs that more than 300 healthy and 300 faulty runs count."""

SEEN: dict[str, dict[str, int]] = {
    "probes": {},
    "looks": {"probe_every": 0, "look_every": 20},
    "norms": {"probe_every": 0, "look_every": 0},
}
"""What the runs show beside norms: what a probe finds, what the monitor sees for itself, nothing."""

MANIFEST = "manifest.json"


def run(
    *,
    runs: Path,
    programs: int = PROGRAMS,
    seed: int = 0,
    framework: str | None = None,
    jobs: int = 2,
    seen: str = "probes",
    on_run: Callable[[str], Any] = lambda name: None,
) -> tuple[list[Judged], list[Row]]:
    """Draw pairs, make the runs that the folder `runs` does not hold yet, judge all of them and score the judgements.

    The folder gets one file a run, and a manifest of what was drawn. Runs do not depend on the diagnosis: after a
    change of a rule they are judged again without being made again.

    Raises:
        GradlabError: a number out of range, a framework that is missing, a folder that cannot be written.
    """
    if seen not in SEEN:
        raise GradlabError(f"seen is {seen!r}; expected one of {', '.join(SEEN)}")
    drawn = [
        dataclasses.replace(d, spec=dataclasses.replace(d.spec, **SEEN[seen]))
        for d in draw(programs, seed=seed, frameworks=environment.chosen(framework))
    ]
    store.complete(runs, drawn, jobs=jobs, on_run=on_run)
    with whole_file(runs / MANIFEST) as temporary:
        temporary.write_text(codec.document("diagnosis-drawn", drawn), encoding="utf-8")
    judged = judge(runs, drawn, on_run=on_run)
    return judged, score(judged, list(TOOLS))


def chosen(split: str) -> Sequence[str]:
    """The parts that `--split` names.

    >>> chosen("both")
    ('tuning', 'held-out')
    """
    if split not in (*PARTS, "both"):
        raise GradlabError(f"split is {split!r}; expected one of {', '.join(PARTS)}, both")
    return PARTS if split == "both" else (split,)


def report(rows: Sequence[Any], judged: Sequence[Judged]) -> Iterator[RenderableType]:
    """What a console prints of the rows of a benchmark."""
    for row in rows:
        if isinstance(row, Overhead):
            yield (
                f"{row.steps:,} steps × {row.layers} layers judged in {row.seconds:.2f} s; live, memory peaks at "
                f"{row.live_bytes_tenth / 2**20:.1f} MiB over {row.steps // 10:,} steps and at "
                f"{row.live_bytes / 2**20:.1f} MiB over {row.steps:,}"
            )
    if judged:
        yield from counts(judged)
        yield from tables(rows, list(dict.fromkeys(row.part for row in rows)))


def misjudged(judged: Sequence[Judged]) -> Iterator[RenderableType]:
    """The misjudged runs of the tuning part. Those of the other are not shown, lest rules be fitted to them."""
    return missed(misses(judged))


def command(
    *,
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs: those in it are judged again, missing ones are made and stay."),
    ] = None,
    programs: Annotated[int, typer.Option(help="Pairs of a healthy and a faulty run.")] = PROGRAMS,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 0,
    framework: Framework = None,
    jobs: Annotated[int, typer.Option(help="Processes that make runs at a time.")] = 2,
    seen: Annotated[
        str, typer.Option(help="What the runs show beside norms: probes, looks (of the monitor itself) or norms.")
    ] = "probes",
    split: Annotated[str, typer.Option(help="tuning, held-out or both.")] = "both",
    misses: Annotated[bool, typer.Option("--misses", help="List the misjudged runs, of the tuning part only.")] = False,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Measure what judging costs instead: 10,000 steps × 200 layers.")
    ] = False,
    on_call: Callable[[str], Any] = lambda name: None,
) -> Answer:
    """The parts of the runs that were asked for, or what judging costs."""
    parts = chosen(split)
    judged: list[Judged] = []
    rows: list[Any] = []
    if overhead:
        rows = [cost_of_judging()]
    else:
        with contextlib.nullcontext(runs) if runs else tempfile.TemporaryDirectory() as folder:
            judged, scored = run(
                runs=Path(folder),
                programs=programs,
                seed=seed,
                framework=framework,
                jobs=jobs,
                seen=seen,
                on_run=on_call,
            )
        rows = [row for row in scored if row.part in parts]
    shown = itertools.chain(report(rows, judged), misjudged(judged) if misses else [])
    return Answer("diagnosis-benchmark", rows, shown)


if __name__ == "__main__":
    from .script import main

    main("diagnosis")
