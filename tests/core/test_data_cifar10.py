"""The whole way of CIFAR-10 on small archives in the original binary format: prepare, load, and every refusal."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.programs.data import load_data, prepare_cifar10, prepared_summary
from gradlab_core.programs.data.cifar_binary import NAMES_MEMBER, RECORD, TEST_MEMBER, TRAIN_MEMBERS, read_archive
from gradlab_core.programs.data.prepare import ORIGINAL

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


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("archive") / "cifar-10-binary.tar.gz", members())


@pytest.fixture
def prepared(archive: Path, tmp_path: Path) -> Path:
    """A data_dir with a prepared copy."""
    prepare_cifar10(archive, tmp_path / "data")
    return tmp_path / "data"


def version_folder(data_dir: Path) -> Path:
    return next((data_dir / "cifar10").iterdir())


def records(contents: Mapping[str, bytes], names: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, RECORD)


def test_loads_the_bytes_of_the_archive(prepared: Path) -> None:
    data = load_data("cifar10", prepared)
    for names, images, labels in (
        (TRAIN_MEMBERS, data.train_images, data.train_labels),
        ((TEST_MEMBER,), data.test_images, data.test_labels),
    ):
        expected = records(members(), names)
        np.testing.assert_array_equal(images.reshape(len(images), -1), expected[:, 1:])
        np.testing.assert_array_equal(labels, expected[:, 0])
        assert images.shape[1:] == (3, 32, 32)
        assert images.flags.c_contiguous
    assert data.class_names == NAMES
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert data.augment


def test_returns_the_folder_reports_progress_and_leaves_nothing_else(archive: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        calls.append((done, total))
        # Anything written elsewhere could lie on another file system, where a rename fails.
        assert [path.name for path in tmp_path.iterdir()] == ["new"]
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["data"]

    folder = prepare_cifar10(archive, tmp_path / "new" / "data", progress)
    assert folder == version_folder(tmp_path / "new" / "data")
    assert calls == [(n, 6 * PER_MEMBER) for n in range(1, 6 * PER_MEMBER + 1)]
    assert [path.name for path in (tmp_path / "new" / "data").iterdir()] == ["cifar10"]


def test_the_summary_tells_a_part_from_the_whole(prepared: Path) -> None:
    folder = version_folder(prepared)
    assert prepared_summary(folder) == (
        "100 training and 20 test images; the original has 50,000 and 10,000, so this is not the full set"
    )
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["shardLengths"] = [str(ORIGINAL[split["name"]])]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert prepared_summary(folder) == "50,000 training and 10,000 test images"


def test_tfds_itself_reads_the_copy(prepared: Path) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10", data_dir=prepared)
    assert builder.is_prepared()
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 100, "test": 20}
    example = builder.as_data_source("test")[3]
    assert example["id"] == b"test_00003"
    expected = records(members(), (TEST_MEMBER,))[3]
    np.testing.assert_array_equal(example["image"], expected[1:].reshape(3, 32, 32).transpose(1, 2, 0))


def test_the_order_does_not_depend_on_who_wrote_the_copy(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    from gradlab_core.programs.data import prepare

    def backwards(tfds: Any, info: Any, split: str, images: Any, labels: Any, tick: Any) -> object:
        """Write in another order, each record with the id of its place in the archive, as TFDS does."""
        serialize = info.features.serialize_example
        ids = itertools.count(len(labels) - 1, -1)
        with monkeypatch.context() as patch:
            patch.setattr(
                info.features, "serialize_example", lambda e: serialize({**e, "id": f"{split}_{next(ids):05d}"})
            )
            return original(tfds, info, split, images[::-1], labels[::-1], tick)

    original = prepare._write_split
    monkeypatch.setattr(prepare, "_write_split", backwards)
    prepare_cifar10(archive, tmp_path)
    first = tfds.data_source("cifar10", split="train", data_dir=tmp_path, download=False)[0]
    assert first["id"] == b"train_00099"
    np.testing.assert_array_equal(load_data("cifar10", tmp_path).train_images, read_archive(archive).train_images)


def test_works_in_silence_without_tensorflow_and_without_a_framework(archive: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("tensorflow", "jax", "torch"):
        (planted / f"{name}.py").write_text("print(__name__, 'was imported')")
    code = """
import sys
sys.path.insert(0, sys.argv[3])
from gradlab_core.programs.data import load_data, prepare_cifar10
heavy = {"sklearn", "tensorflow_datasets", "array_record", "PIL"} & set(sys.modules)
assert not heavy, f"imported too early: {heavy}"
prepare_cifar10(sys.argv[1], sys.argv[2])
assert len(load_data("cifar10", sys.argv[2]).train_labels) == 100
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive), str(tmp_path / "data"), str(planted)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("library", ["tensorflow_datasets", "array_record", "importlib_resources", "PIL"])
def test_a_missing_library_is_named_with_its_remedy(
    archive: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for call in (lambda: prepare_cifar10(archive, prepared), lambda: load_data("cifar10", prepared)):
        with pytest.raises(
            MissingDependency, match=rf"{library} is not installed: install with pip install .*\[tfds\]"
        ):
            call()


# --- what is wrong with the archive -----------------------------------------------------------------------------


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


# --- what is wrong with the target ------------------------------------------------------------------------------


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


# --- what is wrong with the copy --------------------------------------------------------------------------------


def test_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match=r"none is not a folder.*gradlab data prepare cifar10 --from"):
        load_data("cifar10", tmp_path / "none")


def test_data_set_not_there(tmp_path: Path) -> None:
    with pytest.raises(GradlabError, match=f"holds no cifar10.*gradlab data prepare cifar10 --from .*{tmp_path}"):
        load_data("cifar10", tmp_path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000:5050] = bytes(50)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (TRAIN_SHARD, flip),
        (TRAIN_SHARD, lambda path: path.write_bytes(path.read_bytes()[:100_000])),
        (TRAIN_SHARD, lambda path: path.write_bytes(b"")),
        (TRAIN_SHARD, lambda path: path.write_bytes(b"x" * 300_000)),
        (TRAIN_SHARD, lambda path: path.unlink()),
        ("dataset_info.json", lambda path: path.write_text("{")),
        ("dataset_info.json", lambda path: path.write_text(path.read_text().replace('"array_record"', '"tfrecord"'))),
    ],
    ids=["bytes", "truncated", "empty", "garbage", "missing", "json", "tfrecord"],
)
def test_a_damaged_copy_is_one_sentence(
    prepared: Path, capfd: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object]
) -> None:
    damage(version_folder(prepared) / name)
    with pytest.raises(GradlabError, match=r"cifar10 cannot be read: .*gradlab data prepare cifar10") as caught:
        load_data("cifar10", prepared)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
