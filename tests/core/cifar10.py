"""Small archives of CIFAR-10 in the original binary format."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gradlab_core.programs.data.cifar_binary import NAMES_MEMBER, RECORD, TEST_MEMBER, TRAIN_MEMBERS

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_MEMBER = 20
FIRST = TRAIN_MEMBERS[0]
TRAIN_SHARD = "cifar10-train.array_record-00000-of-00001"


def members(seed: int = 0) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    contents = {NAMES_MEMBER: ("\n".join(NAMES) + "\n\n").encode()}
    for name in (*TRAIN_MEMBERS, TEST_MEMBER):
        records = rng.integers(0, 256, (PER_MEMBER, RECORD), dtype=np.uint8)
        records[:, 0] = rng.integers(0, 10, PER_MEMBER)
        contents[name] = records.tobytes()
    return contents


def pack(path: Path, contents: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def version_folder(data_dir: Path) -> Path:
    return next((data_dir / "cifar10").iterdir())


def records(contents: Mapping[str, bytes], names: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, RECORD)
