"""A run on disk: a zip of .npy members and one JSON, `trace.json`, that says which member is which tensor.

Written one tensor at a time, the JSON last; read one member at a time, when somebody looks at it. Nothing is pickled
and nothing is extracted: the names of members are only looked up.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.files import whole_file
from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import mapped
from gradlab_core.parity.rounding import Spread
from gradlab_core.parity.trace import Key, Trace
from gradlab_core.parity.trace_header import Arrays, Header, Stored, plain, shape_of
from gradlab_core.records import codec
from gradlab_core.records.decoding import decode

FORMAT, VERSION = "gradlab parity trace", 1
HEADER = "trace.json"
EXPECTED = "expected what gradlab parity record writes"


class Writer:
    """Puts arrays into an open archive, and at last the header."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.written = archive, 0

    def array(self, value: Any) -> str:
        """The member that the array was written to."""
        array = plain(value)
        name = f"{self.written}.npy"
        self.written += 1
        # ZipInfo's own date, so that the same run gives the same file.
        with self.archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
            np.lib.format.write_array(cast(Any, member), array, allow_pickle=False)
        return name

    def arrays(self, x: Any) -> Arrays:
        """One array or several."""
        members: dict[str, str | None] = {}
        if isinstance(x, (Mapping, tuple, list)):
            names = map(str, x) if isinstance(x, Mapping) else map(str, range(len(x)))
            members = dict.fromkeys(names)
        mapped(x, lambda name, array: members.__setitem__(name, self.array(array)))
        return Arrays(shape_of(x), members)

    def trace(self, step: int, trace: Trace) -> list[Stored]:
        """Every tensor of a step."""
        return [Stored(step, *key, member=None if value is None else self.array(value)) for key, value in trace.items()]

    def header(self, header: Header) -> None:
        body = {"format": FORMAT, "version": VERSION, **codec.encode(header)}
        self.archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(body, allow_nan=False))


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Writer]:
    """A `Writer` to a file that takes its name when all went well, and goes else."""
    with whole_file(Path(path)) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield Writer(archive)


class Reader:
    """A trace on disk; use it as a context manager.

    Raises:
        GradlabError: it is no trace, one of another version, or cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.archive = _opened(path)
        try:
            self.header = self._header()
        except BaseException:
            self.archive.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.archive.close()

    def array(self, member: str) -> np.ndarray:
        with self._intact(), self.archive.open(member) as file:
            array = np.lib.format.read_array(cast(Any, file), allow_pickle=False)
            return plain(array)

    def arrays(self, arrays: Arrays) -> Any:
        read = {name: None if member is None else self.array(member) for name, member in arrays.members.items()}
        return {"by name": read, "by place": tuple(read.values()), "one": next(iter(read.values()), None)}[arrays.shape]

    def weights(self) -> dict[str, np.ndarray]:
        return {path: self.array(member) for path, member in self.header.weights.items()}

    def batch(self) -> tuple[Any, Any]:
        assert self.header.x is not None
        assert self.header.y is not None
        return self.arrays(self.header.x), self.arrays(self.header.y)

    def trace(self, dtype: str, step: int) -> Trace:
        """The tensors of a step, each read when it is asked for and not kept."""
        members = {stored.key: stored.member for stored in getattr(self.header, dtype) if stored.step == step}
        return _Lazy(self, members)

    def spreads(self) -> dict[Arithmetic, Spread]:
        keys = [(stored.step, stored.key) for stored in self.header.float64]
        return {
            drawn.arithmetic: Spread(
                dict(zip(keys, drawn.totals, strict=True)), dict(zip(keys, drawn.counts, strict=True))
            )
            for drawn in self.header.drawn
        }

    def _header(self) -> Header:
        if HEADER not in self.archive.namelist():
            raise GradlabError(f"{self.path} is a zip, but no trace; {EXPECTED}")
        with self._intact():
            text = self.archive.read(HEADER)
        body = codec.loads(text, f"{self.path}, {HEADER}", EXPECTED)
        if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
            raise GradlabError(f"{self.path} is no trace; {EXPECTED}")
        if (version := body.pop("version", None)) != VERSION:
            raise GradlabError(
                f"{self.path} is a trace of version {version!r}; this gradlab reads {VERSION}: record it again"
            )
        header: Header = decode(Header, body, str(self.path))
        return header

    @contextlib.contextmanager
    def _intact(self) -> Iterator[None]:
        try:
            yield
        except GradlabError:
            raise
        except (
            *(OSError, ValueError, KeyError, EOFError, MemoryError, NotImplementedError, RuntimeError, TypeError),
            *(zipfile.BadZipFile, zlib.error),
        ) as error:
            raise GradlabError(f"{self.path} is damaged ({error}); record it again") from error


class _Lazy(Mapping[Key, "np.ndarray | None"]):
    def __init__(self, reader: Reader, members: Mapping[Key, str | None]) -> None:
        self.reader, self.members = reader, members

    def __getitem__(self, key: Key) -> np.ndarray | None:
        member = self.members[key]
        return None if member is None else self.reader.array(member)

    def __contains__(self, key: object) -> bool:
        return key in self.members

    def __iter__(self) -> Iterator[Key]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)


def _opened(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise GradlabError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        with open(path, "rb") as file:
            begun = file.read(4) == b"PK\x03\x04"
        what = "is cut off" if begun else "is no trace"
        raise GradlabError(f"{path} {what}; {EXPECTED}") from error
