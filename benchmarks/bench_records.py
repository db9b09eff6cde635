"""What a file of records costs, as columns and as JSON lines: room, time to write, to load, and to diagnose.

Example: `gradlab bench records --steps 1000`
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import RenderableType
from rich.table import Table

from gradlab_core.errors import GradlabError
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.sinks import ColumnSink, JsonlSink, load_run

from .diagnosis.overhead import synthetic
from .options import answering
from .swept_runs import made_up

SINKS = {"columns": ColumnSink, "JSON lines": JsonlSink}
NUMBERS = ("float32", "float64")
ROUNDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One file. `numbers` says whether norms have the digits of float32, as monitors measure them, or of float64;
    `bytes_each` is for one tensor at one step; seconds are for all records, those of reading the least of `ROUNDS`;
    `full_seconds` are with every tensor looked at."""

    form: str
    numbers: str
    steps: int
    tensors: int
    bytes_each: float
    write_seconds: float
    load_seconds: float
    diagnose_seconds: float
    full_seconds: float


def run(
    *,
    steps: Annotated[int, typer.Option(help="Records of the run.")] = 10_000,
    tensors: Annotated[int, typer.Option(help="Tensors of the net.")] = 24,
    on_call: Callable[[str], Any] = lambda name: None,
) -> list[Row]:
    """Write and read one made-up run in each form.

    Raises:
        GradlabError: a number out of range.
    """
    if steps < 1 or tensors < 2:
        raise GradlabError(f"steps is {steps} and tensors is {tensors}; expected at least 1 and at least 2")
    importlib.import_module("gradlab_core.sinks.column_records")  # with NumPy, which is else loaded by the first file
    rows = []
    for numbers in NUMBERS:
        drawn = made_up("healthy", steps, tensors, 0) if numbers == "float32" else synthetic(steps, tensors // 2)
        records = list(drawn)
        for form in SINKS:
            on_call(f"{form}, {numbers}")
            with tempfile.TemporaryDirectory() as folder:
                rows.append(_measured(form, numbers, records, Path(folder) / "run"))
    return rows


def _measured(form: str, numbers: str, records: Sequence[Any], path: Path) -> Row:
    began = time.perf_counter()
    with SINKS[form](path) as sink:
        for record in records:
            sink(record)
    written = time.perf_counter() - began
    load, judged, full = (min(times) for times in zip(*(_read(path) for _ in range(ROUNDS)), strict=True))
    cells = len(records) * len(records[0].tensors)
    return Row(
        form=form, numbers=numbers, steps=len(records), tensors=len(records[0].tensors),
        bytes_each=path.stat().st_size / cells, write_seconds=written, load_seconds=load,
        diagnose_seconds=load + judged, full_seconds=load + full,
    )  # fmt: skip


def _read(path: Path) -> list[float]:
    """Seconds to load a file, to diagnose it, and to look at every tensor."""
    times = [time.perf_counter()]
    loaded = load_run(path)
    times.append(time.perf_counter())
    diagnose(loaded)
    times.append(time.perf_counter())
    for record in loaded:
        assert record.tensors
    times.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(times)]


def report(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """What a console prints: times in milliseconds for 1,000 records."""
    steps, tensors = rows[0].steps, rows[0].tensors
    title = f"{steps:,} steps × {tensors} tensors; ms for 1,000 records"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for heading in (
        "form",
        "numbers",
        "bytes a tensor and step",
        "write",
        "load",
        "load, diagnose",
        "load, look at all",
    ):
        table.add_column(heading, justify="left" if heading in ("form", "numbers") else "right")
    for row in rows:
        seconds = row.write_seconds, row.load_seconds, row.diagnose_seconds, row.full_seconds
        times = [f"{1e6 * each / row.steps:,.1f}" for each in seconds]
        table.add_row(row.form, row.numbers, f"{row.bytes_each:.1f}", *times)
    yield table


command = answering(run, "records-benchmark", report)

if __name__ == "__main__":
    from .script import main

    main("records")
