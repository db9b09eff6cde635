"""The original CIFAR-10 archive in its binary version, read in memory without extracting anything to disk."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gradlab_core.errors import GradlabError, refuse
from gradlab_core.programs.data.cifar10 import CLASSES, Split, image_data
from gradlab_core.programs.data.dataset import ImageData

ARCHIVE = "cifar-10-binary.tar.gz"
HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
FOLDER = "cifar-10-batches-bin/"
TRAIN_MEMBERS = tuple(f"{FOLDER}data_batch_{number}.bin" for number in range(1, 6))
TEST_MEMBER = f"{FOLDER}test_batch.bin"
NAMES_MEMBER = f"{FOLDER}batches.meta.txt"
RECORD = 1 + 3 * 32 * 32

_GZIP_MAGIC = b"\x1f\x8b"


def read_archive(archive: str | Path) -> ImageData:
    """Read and check the whole archive: its checksum, its members, the size of each, and every label.

    A record is one byte of label and 3072 bytes of pixels, channel by channel (R, G, B), each row by row. A member
    may hold any number of records from one up.

    Args:
        archive: path of `cifar-10-binary.tar.gz`.

    Raises:
        GradlabError: if it is missing, damaged, another archive, or holds a malformed member; the message lists
            every problem of the members.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    path = Path(archive).expanduser()
    members = _members(path)
    refuse(f"{path} is not {ARCHIVE}", _missing(members))
    names = members[NAMES_MEMBER].decode("utf-8", errors="replace").split()
    problems = [problem for name in (*TRAIN_MEMBERS, TEST_MEMBER) for problem in _record_problems(name, members[name])]
    if len(names) != CLASSES:
        problems.append(f"{NAMES_MEMBER} names {len(names)} classes; expected {CLASSES}, one a line")
    refuse(f"{path} is malformed (take {ARCHIVE} from {HOMEPAGE} again)", problems)
    train = b"".join(members[name] for name in TRAIN_MEMBERS)
    return image_data(_split(train), _split(members[TEST_MEMBER]), names)


def _members(path: Path) -> dict[str, bytes]:
    """The content of every member that is needed, and empty content for each other member."""
    if not os.path.isfile(path):  # unlike `Path.is_file`, this takes names of any length
        raise GradlabError(f"{path} is not a file; expected {ARCHIVE}, to be had at {HOMEPAGE}")
    try:
        with path.open("rb") as raw:
            if raw.read(2) != _GZIP_MAGIC:
                raise GradlabError(f"{path} is not a gzip file; expected {ARCHIVE}, to be had at {HOMEPAGE}")
        with gzip.open(path) as unzipped:
            # A stream ("r|") moves only forward; to go back would decompress everything again.
            with tarfile.open(fileobj=unzipped, mode="r|") as tar:
                members = dict(_contents(tar))
            # gzip compares its checksum at the very end, after the last member.
            while unzipped.read(1 << 20):
                pass
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise GradlabError(
            f"{path} is truncated or damaged: {error}; expected a whole {ARCHIVE}; take it from {HOMEPAGE} again"
        ) from error
    except OSError as error:
        raise GradlabError(f"{path} cannot be read: {error.strerror or error}") from error
    return members


def _contents(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    wanted = {*TRAIN_MEMBERS, TEST_MEMBER, NAMES_MEMBER}
    for member in tar:
        content = tar.extractfile(member) if member.isreg() and member.name in wanted else None
        yield member.name, content.read() if content else b""


def _missing(members: Mapping[str, bytes]) -> Iterator[str]:
    missing = [name for name in (*TRAIN_MEMBERS, TEST_MEMBER, NAMES_MEMBER) if not members.get(name)]
    if not missing:
        return
    first = next(iter(members), "nothing")
    kinds = {"cifar-10-batches-py": "Python", "cifar-10-batches-mat": "Matlab", "cifar-100": "CIFAR-100"}
    for start, kind in kinds.items():
        if first.startswith(start):
            yield f"it is the {kind} version; expected the CIFAR-10 binary version, {ARCHIVE}, from {HOMEPAGE}"
            return
    yield (
        f"it holds {len(members)} members, the first {first!r}, but nothing under {', '.join(missing)}; "
        f"take the original from {HOMEPAGE}"
    )


def _record_problems(name: str, content: bytes) -> Iterator[str]:
    if len(content) % RECORD:
        yield f"{name} has {len(content)} bytes; expected a multiple of {RECORD}, the size of a record"
        return
    labels = np.frombuffer(content, np.uint8)[::RECORD]
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        yield f"{name}: record {wrong[0]} has label {labels[wrong[0]]}; expected 0..{CLASSES - 1} ({wrong.size} such)"


def _split(content: bytes) -> Split:
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)
