"""A run as JSON lines, which anybody can read: a header, then one record a line."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from gradlab_core.records import StepRecord, codec
from gradlab_core.sinks.appending import AppendedFile
from gradlab_core.sinks.base import Sink

KIND = "step-log"
_BLOCK = 1 << 16


def line(body: object) -> bytes:
    r"""One line of the file. It is ASCII, so that no path, however odd, can fail to encode in the middle of a training.

    >>> line({"path": "lin\u2028ear"})
    b'{"path": "lin\\u2028ear"}\n'
    """
    return json.dumps(codec.encode(body), allow_nan=False).encode("ascii") + b"\n"


HEADER = line({"schema_version": codec.SCHEMA_VERSION, "kind": KIND})


class JsonlSink(Sink):
    """Appends records to a file of JSON lines, which is created if it does not exist. A `ColumnSink` keeps the same in
    a fifteenth of the room.

    A file that a killed process left behind is continued after its half-written last line is cut off; the records that
    follow are of the next attempt.

    Raises:
        GradlabError: the file was not written by this sink (it is then left unchanged), another sink has it open, or
            it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self._attempt = Path(path), 0
        self._file = AppendedFile(self.path, HEADER, self._whole_lines)

    def __call__(self, record: StepRecord) -> None:
        self._file.append(line(of_attempt(record, self._attempt)))

    def close(self) -> None:
        self._file.close()

    def _whole_lines(self, file: int, size: int) -> int:
        """The number of bytes up to the end of the last whole line, which also tells the attempt."""
        end = _line_end(file, size)
        begin = _line_end(file, end - 1)
        if begin:  # else the last whole line is the header
            try:
                self._attempt = json.loads(os.pread(file, end - begin, begin)).get("attempt", 0) + 1
            except (ValueError, AttributeError, TypeError):  # the line was changed: reading the run will say so
                self._attempt = 1
        return end


def of_attempt(record: StepRecord, attempt: int) -> StepRecord:
    """The record as one of that attempt."""
    return record if record.attempt == attempt else dataclasses.replace(record, attempt=attempt)


def _line_end(file: int, size: int) -> int:
    """Where the last whole line among the first `size` bytes ends, searched for from the end; 0 if there is none."""
    while size > 0:
        begin = max(0, size - _BLOCK)
        newline = os.pread(file, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0
