"""A run as JSON lines, the form that keeps everything: a header, then one record a line.

A process that is killed loses at most the record it was writing: each line goes to the system in one write, nothing
waits in a buffer of ours. (The system may still hold it: a power cut can take the last seconds.)
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
    r"""One line of the file. ASCII, so that no path, however odd, can fail to encode in the middle of a training.

    >>> line({"path": "lin\u2028ear"})
    b'{"path": "lin\\u2028ear"}\n'
    """
    return json.dumps(codec.encode(body), allow_nan=False).encode("ascii") + b"\n"


HEADER = line({"schema_version": codec.SCHEMA_VERSION, "kind": KIND})


class JsonlSink(Sink):
    """Appends records to a file of JSON lines, which is made if it is not there.

    A file that a killed process left is continued: what is left of a half-written last line is cut off first.

    Raises:
        GradlabError: the file is not one of ours (it stays as it is), another sink has it open, it cannot be written.
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
            if isinstance(error, OSError):  # not a file one can read and cut: a pipe, a device
                raise cannot_write(self.path, error) from error
            raise

    def __call__(self, record: StepRecord) -> None:
        if self._file is None:
            raise GradlabError(f"{self.path} is closed; open it again to write more")
        self._append(self._file, line(record))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)  # which unlocks it too
            self._file = None

    def _append(self, file: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:  # the system may take less than all of it
                rest = rest[os.write(file, rest) :]
        except BaseException as error:
            # Disk full, or an interrupt between two parts: what follows must not be glued to half a line.
            os.ftruncate(file, self._size)
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self._size += len(data)

    def _lock(self, file: int) -> None:
        if sys.platform == "win32":  # there, two writers of one file are not noticed
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GradlabError(
                f"{self.path} is being written by another process or sink; name another file, one for each"
            ) from error
        except OSError:
            pass  # a file system without locks

    def _continue(self, file: int) -> int:
        """Check the header, or write it, and cut off a half-written last line. Returns the size."""
        start, size = os.pread(file, len(HEADER), 0), os.fstat(file).st_size
        if HEADER.startswith(start) and size < len(HEADER):  # new, or killed while it was new
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
    """How many bytes there are up to the end of the last whole line, looked for from the end."""
    while size:
        begin = max(0, size - _BLOCK)
        newline = os.pread(file, size - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        size = begin
    return 0
