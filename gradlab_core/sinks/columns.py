"""A run as columns of numbers, the form that keeps everything in little room and is read fast.

The file holds a header line, then frames: four bytes each for the length, a checksum and the number of a layout, then
as many bytes. Layout 0 is a note in JSON: it says what rows of the next layout hold (`Layout`), or that an attempt
begins. All other frames are rows. A record is one row, after a row for each of its parts that few records have, such as
a probe. What is half written at the end of the file is no record.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab_core.records import StepRecord, codec
from gradlab_core.records.columns import Table, parts, table
from gradlab_core.sinks.appending import AppendedFile
from gradlab_core.sinks.base import Sink
from gradlab_core.sinks.jsonl import line, of_attempt

if TYPE_CHECKING:
    from gradlab_core.sinks.column_rows import Packer, Stored

KIND = "step-columns"
HEADER = line({"schema_version": codec.SCHEMA_VERSION, "kind": KIND})
FRAME, NUMBER = struct.Struct("<II"), struct.Struct("<I")
"""The length and the checksum of a frame; the number of its layout, which the checksum covers too."""
NOTE = 0
"""The number of a frame that is a note."""

Key = tuple[str, Any, "tuple[Stored, ...]"]
"""What makes a layout: the part of the record (empty for the record itself), its structure, its columns."""


def frame(number: int, data: bytes) -> bytes:
    """A frame of the file."""
    checked = NUMBER.pack(number) + data
    return FRAME.pack(len(data), zlib.crc32(checked)) + checked


class ColumnSink(Sink):
    """Appends records to a file of columns, which is created if it does not exist.

    Every record whose call has returned is in the file, whatever happens to the process. A file that a killed process
    left behind is continued: the records that follow are of the next attempt.

    Args:
        path: the file, by custom `NAME.gradlab`.
        config: hyperparameters of the run, by name, as for `wandb.init`; `gradlab report FOLDER` sets them beside what
            was found. Those of a later attempt take the place of earlier ones.

    Raises:
        GradlabError: the file was not written by this sink (it is then left unchanged), another sink has it open, or
            it cannot be written or is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None) -> None:
        self.path, self._attempt = Path(path), 0
        self._tables: dict[str, Table] = {name: table(kind) for name, kind in parts(StepRecord).items()}
        self._tables[""] = table(StepRecord, leave_out=tuple(self._tables))
        self._packers: dict[tuple[str, Any], Packer] = {}
        self._numbers: dict[Key, int] = {}
        self._file = AppendedFile(self.path, HEADER, self._whole_records)
        # What JSON does not know becomes text, as a path or a type among the hyperparameters.
        note = {"attempt": self._attempt, "config": codec.encode(dict(config or {}))}
        self._file.append(frame(NOTE, json.dumps(note, default=str).encode("ascii")))

    def __call__(self, record: StepRecord) -> None:
        record, new = of_attempt(record, self._attempt), dict[Key, int]()
        held = {name: getattr(record, name) for name in self._tables if name}
        rows = [self._row(name, part, new) for name, part in held.items() if part is not None]
        self._file.append(b"".join([*rows, self._row("", record, new)]))
        self._numbers |= new

    def close(self) -> None:
        self._file.close()

    def _row(self, name: str, value: Any, new: dict[Key, int]) -> bytes:
        """The frame of one row, after the note on its layout if that is new."""
        from gradlab_core.sinks.column_rows import Packer

        own = self._tables[name]
        lists: list[list[Any]] = [[] for _ in own.columns]
        structure = own.node.split(value, lists)
        packer = self._packers.get((name, structure))
        if packer is None:
            packer = self._packers[name, structure] = Packer(own.columns)
        stored, data = packer.pack(lists)
        key = name, structure, stored
        number = self._numbers.get(key) or new.get(key)
        if number is not None:
            return frame(number, data)
        new[key] = number = 1 + len(self._numbers) + len(new)
        return frame(NOTE, _described(own, key)) + frame(number, data)

    def _whole_records(self, file: int, size: int) -> int:
        """The number of bytes up to the end of the last record; what the file knows already is learned on the way."""
        from gradlab_core.sinks.column_file import ColumnFile

        known = ColumnFile(_all(file, size), str(self.path))
        self._attempt = known.attempt + 1 if known.rows else 0
        self._numbers = known.numbers()
        return known.end


def _all(file: int, size: int) -> bytes:
    pieces, at = [], 0
    while at < size and (piece := os.pread(file, size - at, at)):  # one read may give only a part
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _described(own: Table, key: Key) -> bytes:
    name, structure, stored = key
    layout = {
        "part": name,
        "structure": structure,
        "columns": [[column.name, column.form, column.width] for column in stored],
        "words": {column.name: column.words for column in own.columns if column.words},
    }
    return json.dumps({"layout": layout}).encode("ascii")
