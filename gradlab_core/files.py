"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gradlab_core.errors import GradlabError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`. It replaces `path` if the block ends without an error, and is deleted otherwise.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     (Path(folder) / "a.txt").read_text()
    'all of it'

    Raises:
        GradlabError: the folder does not exist or cannot be written.
    """
    try:
        # A short name of its own: `path` may already be as long as the system allows.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:20]}.")
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: str | os.PathLike[str], error: OSError) -> GradlabError:
    """The error for a file that the system does not let us write."""
    return GradlabError(
        f"cannot write {path}: {error.strerror or error}; name another place, or make the folder writable"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
