"""Recorded runs, read back."""

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

    Reads the JSON lines of `JsonlSink` and the JSON document of `gradlab train --out`. A last line without its end is
    what a killed process was writing: it is left out. A run that was continued may hold a step twice.

    Raises:
        GradlabError: the file cannot be read, is not one of ours, or is broken; with the number of the line.
    """
    where = Path(path)
    try:
        with where.open("rb") as file:
            first = file.readline()
            header = _header(first, str(where))
            if header is not None:
                return _lines(header, file, str(where))
            if HEADER.startswith(first):  # killed while the header was written, before any record
                return []
            text = (first + file.read()).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise GradlabError(f"cannot read {where}: {reason}; {EXPECTED}") from error
    one_line = "\n" not in text.rstrip("\n")  # as `gradlab train` writes it
    return codec.parse(text, "step", StepRecord, f"{where}, line 1" if one_line else str(where))


def holds_records(path: str | os.PathLike[str]) -> bool:
    """Whether a file says at its beginning that it is for `load_records`."""
    try:
        with Path(path).open("rb") as file:
            return re.search(rb'"kind"\s*:\s*"step(-log)?"', file.read(200)) is not None
    except OSError:  # who reads it will say why
        return False


def _header(first: bytes, where: str) -> dict[str, Any] | None:
    """The header of a file of JSON lines; None for a first line that is none."""
    try:
        body = codec.loads(first, where, EXPECTED) if first.endswith(b"\n") else None
    except GradlabError:  # the document as a whole will say so
        return None
    # A document of rows names its kind too, but is no header.
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
