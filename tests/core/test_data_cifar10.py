"""The way of CIFAR-10 on small archives: prepare, load, and what is wrong with a copy."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradlab_core.errors import GradlabError, MissingDependency
from gradlab_core.programs.data import load_data, prepare_cifar10, prepared_summary
from gradlab_core.programs.data.cifar_binary import TEST_MEMBER, TRAIN_MEMBERS, read_archive
from gradlab_core.programs.data.prepare import ORIGINAL
from tests.core.cifar10 import NAMES, PER_MEMBER, TRAIN_SHARD, members, records, version_folder


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
