"""A run as JSON lines, the form that keeps everything: a header, then one record a line.

A process that is killed loses at most the record it was writing, because each line goes to the system in one write
and is not buffered here. The system may buffer it, so a power cut can still lose the last seconds.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from gradlab_core.errors import GradlabError
from gradlab_core.files import cannot_write
from gradlab_core.records import StepRecord, codec
from gradlab_core.sinks.base import Sink

if sys.platform != "win32":
    import fcntl

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
    """Appends records to a file of JSON lines, which is created if it does not exist.

    A file that a killed process left behind is continued after its half-written last line is cut off.

    Raises:
        GradlabError: the file was not written by this sink (it is then left unchanged), another sink has it open, or
            it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            # The access rights that `open` would give; the umask of the user applies.
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            self._lock(self._file)
            self._size = self._continue(self._file)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):  # a pipe or a device, which cannot be read back or cut
                raise cannot_write(self.path, error) from error
            raise

    def __call__(self, record: StepRecord) -> None:
        if self._file is None:
            raise GradlabError(f"{self.path} is closed; open it again to write more")
        self._append(self._file, line(record))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)  # closing the file also unlocks it
            self._file = None

    def _append(self, file: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:  # one write may take only a part
                rest = rest[os.write(file, rest) :]
        except BaseException as error:
            # The disk is full, or an interrupt came between two parts: the next line must not follow half a line.
            os.ftruncate(file, self._size)
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self._size += len(data)

    def _lock(self, file: int) -> None:
        if sys.platform == "win32":  # without fcntl, two writers of one file go unnoticed
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GradlabError(
                f"{self.path} is being written by another process or sink; name another file, one for each"
            ) from error
        except OSError:
            pass  # the file system has no locks

    def _continue(self, file: int) -> int:
        """Check or write the header, and cut off a half-written last line. Returns the size in bytes."""
        start, size = os.pread(file, len(HEADER), 0), os.fstat(file).st_size
        if HEADER.startswith(start) and size < len(
            HEADER
        ):  # a new file, or one whose process was killed while it wrote the header
            os.ftruncate(file, 0)
            self._size = 0
            self._append(file, HEADER)
            return len(HEADER)
        if start != HEADER:
            raise GradlabError(
                f"{self.path} exists and does not begin with {HEADER.decode().strip()}, so this gradlab has not "
                "written it; it was left as it is: name another file"
            )
        complete = _whole_lines(file, size)
        if complete < size:
            os.ftruncate(file, complete)
        return complete


def _whole_lines(file: int, size: int) -> int:
    """The number of bytes up to the end of the last whole line, which is searched for from the end of the file."""
    while size:
        begin = max(0, size - _BLOCK)
        newline = os.pread(file, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0
