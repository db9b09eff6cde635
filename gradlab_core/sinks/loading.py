"""Read recorded runs back from their files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO

from gradlab_core.errors import GradlabError
from gradlab_core.records import StepRecord, codec
from gradlab_core.records.decoding import decode
from gradlab_core.sinks.jsonl import HEADER, KIND

EXPECTED = "expected a file that JsonlSink or `gradlab train` wrote"
CHANGED = "the file was changed after it was written: repair the line or take it out"


def load_records(path: str | os.PathLike[str]) -> list[StepRecord]:
    """The records of a run, in the order in which they were written.

    Reads the JSON lines of `JsonlSink` and the JSON document of `gradlab train --out`. A last line without a
    line end was being written when its process was killed, and is left out. A run that was continued may hold a step
    twice.

    Raises:
        GradlabError: the file cannot be read, was not written by gradlab, or is broken; the message names the line.
    """
    where = Path(path)
    try:
        with where.open("rb") as file:
            first = file.readline()
            header = _header(first, str(where))
            if header is not None:
                return _lines(header, file, str(where))
            if HEADER.startswith(first):  # the process was killed while it wrote the header, before any record
                return []
            text = (first + file.read()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise GradlabError(f"cannot read {where}: {reason}; {EXPECTED}") from error
    one_line = "\n" not in text.rstrip("\n")  # `gradlab train` writes its document as one line
    return codec.parse(text, "step", StepRecord, f"{where}, line 1" if one_line else str(where))


def holds_records(path: str | os.PathLike[str]) -> bool:
    """Whether the beginning of a file says that it holds records for `load_records`."""
    try:
        with Path(path).open("rb") as file:
            return re.search(rb'"kind"\s*:\s*"step(-log)?"', file.read(200)) is not None
    except OSError:  # reading it will raise an error that says why
        return False


def _header(first: bytes, where: str) -> dict[str, Any] | None:
    """The header of a file of JSON lines; None if the first line is not a header."""
    try:
        body = codec.loads(first, where, EXPECTED) if first.endswith(b"\n") else None
    except GradlabError:  # parsing the whole document will raise a better error
        return None
    # A document of rows also names its kind, but it is not a header.
    return body if isinstance(body, dict) and body.get("kind") == KIND and "rows" not in body else None


def _lines(header: dict[str, Any], file: BinaryIO, where: str) -> list[StepRecord]:
    version = header.get("schema_version")
    if version != codec.SCHEMA_VERSION:
        raise GradlabError(
            f"{where} has schema version {version!r}; this gradlab reads {codec.SCHEMA_VERSION}: read it with the "
            "version that wrote it"
        )
    records = []
    for number, line in enumerate(file, start=2):
        if not line.endswith(b"\n"):
            break
        body = codec.loads(line, f"{where}, line {number}", CHANGED)
        records.append(decode(StepRecord, body, f"{where}, line {number}"))
    return records
