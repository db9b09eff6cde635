"""How often the diagnosis is right: recall, precision, false alarms and places on many drawn runs, beside other tools.

python -m benchmarks.bench_diagnosis --runs diagnosis-runs --jobs 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.records import codec

from .diagnosis import store
from .diagnosis.draw import FRAMEWORKS, PARTS, draw
from .diagnosis.judge import judge
from .diagnosis.others import TOOLS
from .diagnosis.overhead import Overhead
from .diagnosis.score import Judged, Row, misses, score
from .diagnosis.tables import counts, missed, tables

PROGRAMS = 440
"""So many pairs that more than 300 healthy and 300 faulty runs count."""

MANIFEST = "manifest.json"


def run(
    *,
    runs: Path,
    programs: int = PROGRAMS,
    seed: int = 0,
    framework: str = "both",
    jobs: int = 2,
    on_run: Callable[[str], Any] = lambda name: None,
) -> tuple[list[Judged], list[Row]]:
    """Draw pairs, make the runs that the folder `runs` does not hold yet, judge all of them and score the judgements.

    The folder gets one file a run, and a manifest of what was drawn. Runs do not depend on the diagnosis: after a
    change of a rule they are judged again without being made again.

    Raises:
        GradlabError: a number out of range, a framework that is missing, a folder that cannot be written.
    """
    if framework not in (*FRAMEWORKS, "both"):
        raise GradlabError(f"framework is {framework!r}; expected one of {', '.join(FRAMEWORKS)}, both")
    drawn = draw(programs, seed=seed, frameworks=FRAMEWORKS if framework == "both" else (framework,))
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


if __name__ == "__main__":
    from .script import main

    main("diagnosis")
