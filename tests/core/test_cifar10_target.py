"""Whatever stops a preparation of CIFAR-10, the copy that was there stays readable, alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data import load_data, prepare_cifar10
from gradlab_core.programs.data.cifar_binary import read_archive
from tests.core.cifar10 import PER_MEMBER, members, pack


def test_target_is_a_file(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(GradlabError, match=r"data cannot be written.*expected a folder with write permission"):
        prepare_cifar10(archive, tmp_path / "data")
    assert (tmp_path / "data").read_text() == "in the way"


class DiskFull:
    def __init__(self, path: str, options: str) -> None:
        pass

    def write(self, record: bytes) -> None:
        raise RuntimeError("write() failed: No space left on device")

    def close(self) -> None:
        pass


def test_a_full_disk_is_said_and_keeps_the_old_copy(
    archive: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("array_record.python.array_record_module.ArrayRecordWriter", DiskFull)
    assert_keeps(prepared, archive, GradlabError, match="cannot be written: .*No space left on device")


def assert_keeps(
    data_dir: Path, archive: Path, error: type[BaseException], match: str | None = None, **more: object
) -> None:
    """A failed preparation leaves the earlier copy readable and nothing else."""
    other = pack(archive.with_name("other.tar.gz"), members(seed=1))
    with pytest.raises(error, match=match):
        prepare_cifar10(other, data_dir, **more)  # type: ignore[arg-type]
    assert [path.name for path in data_dir.iterdir()] == ["cifar10"]
    np.testing.assert_array_equal(load_data("cifar10", data_dir).train_images, read_archive(archive).train_images)


@pytest.mark.parametrize("at", [1, 60, 6 * PER_MEMBER])
def test_an_interruption_keeps_the_old_copy(archive: Path, prepared: Path, at: int) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    assert_keeps(prepared, archive, KeyboardInterrupt, progress=interrupt)


def test_an_interruption_of_the_first_preparation_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_cifar10(archive, tmp_path / "data", interrupt)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_interruption_between_the_two_renames_keeps_the_old_copy(
    archive: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename
    calls = 0

    def second_fails(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    assert_keeps(prepared, archive, KeyboardInterrupt)
    assert calls == 3


def test_a_new_preparation_replaces_the_old_copy(prepared: Path, tmp_path: Path) -> None:
    other = pack(tmp_path / "other.tar.gz", members(seed=1))
    prepare_cifar10(other, prepared)
    assert [path.name for path in prepared.iterdir()] == ["cifar10"]
    np.testing.assert_array_equal(load_data("cifar10", prepared).train_images, read_archive(other).train_images)
