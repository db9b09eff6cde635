"""A file that only grows, by one writer, and of which a killed process leaves everything that was appended.

Each piece goes to the system in one write and is not buffered here. The system may buffer it, so a power cut can still
lose the last seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from gradlab_core.errors import GradlabError
from gradlab_core.files import cannot_write

if sys.platform != "win32":
    import fcntl


class AppendedFile:
    """Opens a file or creates it. One that exists is continued after what `whole` calls whole; the rest, which a killed
    process left half written, is cut off.

    Args:
        path: the file.
        header: its first bytes, by which it is known as ours.
        whole: takes the open file and its size, and gives the number of bytes to keep.

    Raises:
        GradlabError: the file does not begin with the header (it is then left unchanged), another writer has it open,
            or it cannot be written.
    """

    def __init__(self, path: Path, header: bytes, whole: Callable[[int, int], int]) -> None:
        self.path = path
        try:
            # The access rights that `open` would give; the umask of the user applies.
            self._file: int | None = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            self._lock(self._file)
            self._size = self._continue(self._file, header, whole)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):  # a pipe or a device, which cannot be read back or cut
                raise cannot_write(path, error) from error
            raise

    def append(self, data: bytes) -> None:
        """Append all of the data, or nothing where an error comes."""
        file = self._file
        if file is None:
            raise GradlabError(f"{self.path} is closed; open it again to write more")
        rest = memoryview(data)
        try:
            while rest:  # one write may take only a part
                rest = rest[os.write(file, rest) :]
        except BaseException as error:
            # The disk is full, or an interrupt came between two parts: the next piece must not follow half a piece.
            os.ftruncate(file, self._size)
            if isinstance(error, OSError):
                raise cannot_write(self.path, error) from error
            raise
        self._size += len(data)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)  # closing the file also unlocks it
            self._file = None

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

    def _continue(self, file: int, header: bytes, whole: Callable[[int, int], int]) -> int:
        """Check or write the header, and cut off what is half written. Returns the size in bytes."""
        start, size = os.pread(file, len(header), 0), os.fstat(file).st_size
        if header.startswith(start) and size < len(header):
            # A new file, or one whose process was killed while it wrote the header.
            os.ftruncate(file, 0)
            self._size = 0
            self.append(header)
            return len(header)
        if start != header:
            raise GradlabError(
                f"{self.path} exists and does not begin with {header.decode().strip()}, so this gradlab has not "
                "written it; it was left as it is: name another file"
            )
        complete = whole(file, size)
        if complete < size:
            os.ftruncate(file, complete)
        return complete
