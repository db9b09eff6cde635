"""Read recorded runs back from their files."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gradlab_core.errors import GradlabError
from gradlab_core.records import RecordedRun, StepRecord, codec
from gradlab_core.records.decoding import decode
from gradlab_core.sinks import columns
from gradlab_core.sinks.jsonl import HEADER, KIND

BESIDE = "hyperparameters.json"
EXPECTED = "expected a file that a ColumnSink, a JsonlSink or `gradlab train` wrote"
CHANGED = "the file was changed after it was written: repair the line or take it out"


def load_records(path: str | os.PathLike[str]) -> list[StepRecord]:
    """The records of a run, in the order in which they were written; `load_run` gives them by step, each step once.

    Reads the columns of `ColumnSink`, the JSON lines of `JsonlSink` and the JSON document of `gradlab train --out`. A
    record that was being written when its process was killed is left out. A run that was continued may hold a step
    twice.

    Raises:
        GradlabError: the file cannot be read, was not written by gradlab, or is broken; the message names the line, or
            the record in a file of columns, of which tensors and states are checked when they are looked at.
    """
    return _load(Path(path)).records


def load_run(path: str | os.PathLike[str]) -> RecordedRun:
    """A recorded run: its records by step, each step once, and its hyperparameters: those that were given to
    `ColumnSink`, or else the object in `hyperparameters.json` beside the file. Reads what `load_records` reads.

    Raises:
        GradlabError: as `load_records`, or `hyperparameters.json` holds no JSON object.
    """
    loaded = _load(Path(path))
    run = RecordedRun(loaded.records, config=loaded.config or _beside(Path(path)), cut_off=loaded.cut_off)
    if loaded.paths is not None:
        run.paths = loaded.paths(run)
    return run


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """What a file holds. `paths` gives those of the tensors of some of the records, where they are known beforehand."""

    records: list[StepRecord]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    cut_off: bool = False
    paths: Callable[[Iterable[StepRecord]], tuple[str, ...]] | None = None


def _beside(path: Path) -> dict[str, Any]:
    beside = path.parent / BESIDE
    if not beside.is_file():
        return {}
    config = codec.loads(beside.read_bytes(), str(beside), "expected an object of hyperparameters by name")
    if not isinstance(config, dict):
        raise GradlabError(f"{beside} holds no object; expected hyperparameters by name")
    return config


def _load(where: Path) -> _Loaded:
    try:
        with where.open("rb") as file:
            first = file.readline()
            if first == columns.HEADER:
                return _columns(first + file.read(), str(where))
            header = _header(first, str(where))
            if header is not None:
                return _lines(header, file, str(where))
            if any(own.startswith(first) for own in (HEADER, columns.HEADER)):
                return _Loaded([])  # the process was killed while it wrote the header, before any record
            text = (first + file.read()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise GradlabError(f"cannot read {where}: {reason}; {EXPECTED}") from error
    one_line = "\n" not in text.rstrip("\n")  # `gradlab train` writes its document as one line
    return _Loaded(codec.parse(text, "step", StepRecord, f"{where}, line 1" if one_line else str(where)))


def _columns(data: bytes, where: str) -> _Loaded:
    from gradlab_core.sinks.column_file import ColumnFile
    from gradlab_core.sinks.column_records import ColumnRecords

    file = ColumnFile(data, where)
    with _no_collection():
        held = ColumnRecords(file)
    return _Loaded(held.records, file.config, file.cut_off, held.paths)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Thousands of records are made at once and none is garbage: looking for some would take as long as making them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def holds_records(path: str | os.PathLike[str]) -> bool:
    """Whether the beginning of a file says that it holds records for `load_records`."""
    try:
        with Path(path).open("rb") as file:
            return re.search(rb'"kind"\s*:\s*"step(-log|-columns)?"', file.read(200)) is not None
    except OSError:  # reading it will raise an error that says why
        return False


def _header(first: bytes, where: str) -> dict[str, Any] | None:
    """The header of a file of JSON lines; None if the first line is not a header."""
    try:
        body = codec.loads(first, where, EXPECTED) if first.endswith(b"\n") else None
    except GradlabError:  # parsing the whole document will raise a better error
        return None
    # A document of rows also names its kind, but it is not a header.
    return body if isinstance(body, dict) and body.get("kind") in (KIND, columns.KIND) and "rows" not in body else None


def _lines(header: dict[str, Any], file: BinaryIO, where: str) -> _Loaded:
    version = header.get("schema_version")
    if version != codec.SCHEMA_VERSION:
        raise GradlabError(
            f"{where} has schema version {version!r}; this gradlab reads {codec.SCHEMA_VERSION}: read it with the "
            "version that wrote it"
        )
    if header["kind"] == columns.KIND:
        raise GradlabError(f"{where} does not begin with {columns.HEADER.decode().strip()} as it was written")
    records: list[StepRecord] = []
    for number, line in enumerate(file, start=2):
        if not line.endswith(b"\n"):
            return _Loaded(records, cut_off=True)
        body = codec.loads(line, f"{where}, line {number}", CHANGED)
        records.append(decode(StepRecord, body, f"{where}, line {number}"))
    return _Loaded(records)
