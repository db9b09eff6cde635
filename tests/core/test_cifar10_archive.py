"""Every archive of CIFAR-10 that is not as it should be is refused before anything is written."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data import prepare_cifar10
from gradlab_core.programs.data.cifar_binary import NAMES_MEMBER, RECORD, TEST_MEMBER, TRAIN_MEMBERS, read_archive
from tests.core.cifar10 import FIRST, PER_MEMBER, members, pack


def refused(archive: Path, data_dir: Path, match: str) -> None:
    with pytest.raises(GradlabError, match=match):
        prepare_cifar10(archive, data_dir)
    assert not data_dir.exists(), "a bad archive must be refused before anything is written"


def test_archive_missing(tmp_path: Path) -> None:
    refused(tmp_path / "none.tar.gz", tmp_path / "data", r"none.tar.gz is not a file; expected cifar-10-binary.tar.gz")
    refused(tmp_path, tmp_path / "data", "is not a file")


def test_archive_not_gzip(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"<html>")
    refused(tmp_path / "a", tmp_path / "data", "is not a gzip file")


def test_archive_gzip_but_no_tar(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"text" * 1000))
    refused(tmp_path / "a", tmp_path / "data", "truncated or damaged")


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.9, 0.9999])
def test_archive_truncated(archive: Path, tmp_path: Path, share: float) -> None:
    whole = archive.read_bytes()
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * share)])
    refused(tmp_path / "a", tmp_path / "data", "truncated or damaged")


def test_archive_whose_checksum_alone_is_wrong(archive: Path, tmp_path: Path) -> None:
    whole = bytearray(archive.read_bytes())
    whole[-8] ^= 1
    (tmp_path / "a").write_bytes(whole)
    refused(tmp_path / "a", tmp_path / "data", "truncated or damaged: CRC check failed")


@pytest.mark.parametrize(
    ("member", "match"),
    [
        ("cifar-10-batches-py/data_batch_1", "Python version; expected the CIFAR-10 binary version, cifar-10-binary"),
        ("cifar-10-batches-mat/data_batch_1.mat", "Matlab version"),
        ("cifar-100-binary/train.bin", "CIFAR-100 version"),
        ("../../etc/passwd", "it holds 1 members, the first '../../etc/passwd', but nothing under"),
    ],
)
def test_archive_foreign(tmp_path: Path, member: str, match: str) -> None:
    refused(pack(tmp_path / "a", {member: b"some"}), tmp_path / "data", match)


def test_archive_empty(tmp_path: Path) -> None:
    refused(pack(tmp_path / "a", {}), tmp_path / "data", "is not cifar-10-binary.tar.gz|truncated or damaged")


def test_archive_without_one_member(tmp_path: Path) -> None:
    contents = members()
    del contents[TRAIN_MEMBERS[3]]
    refused(pack(tmp_path / "a", contents), tmp_path / "data", f"nothing under {TRAIN_MEMBERS[3]};")


def test_archive_with_a_link_for_a_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w:gz") as tar:
        for name in (*TRAIN_MEMBERS, TEST_MEMBER, NAMES_MEMBER):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    refused(tmp_path / "a", tmp_path / "data", f"nothing under {FIRST}")


def test_members_malformed_are_listed_all_at_once(tmp_path: Path) -> None:
    contents = members()
    contents[FIRST] = contents[FIRST][:-1]
    label = bytearray(contents[TEST_MEMBER])
    label[7 * RECORD] = 10
    contents[TEST_MEMBER] = bytes(label)
    contents[NAMES_MEMBER] = b"airplane\nbird\n"
    archive = pack(tmp_path / "a", contents)
    refused(archive, tmp_path / "data", "3 problems")
    refused(archive, tmp_path / "data", f"{FIRST} has {PER_MEMBER * RECORD - 1} bytes; expected a multiple of 3073")
    refused(archive, tmp_path / "data", rf"{TEST_MEMBER}: record 7 has label 10; expected 0\.\.9")
    refused(archive, tmp_path / "data", "names 2 classes; expected 10")


def test_the_first_wrong_label_is_the_first_above_9(tmp_path: Path) -> None:
    contents = members()
    label = bytearray(contents[FIRST])
    label[3 * RECORD] = 9
    contents[FIRST] = bytes(label)
    assert read_archive(pack(tmp_path / "a", contents)).train_labels[3] == 9
