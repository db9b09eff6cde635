"""Write CIFAR-10 in the layout of TFDS from the original archive, without TensorFlow and without the network."""

from __future__ import annotations

import io
import itertools
import json
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from gradlab_core.errors import GradlabError, require
from gradlab_core.programs.data.cifar10 import NAME
from gradlab_core.programs.data.cifar_binary import read_archive
from gradlab_core.programs.data.dataset import Images, Labels
from gradlab_core.programs.data.tfds_tools import EXTRA, quiet, require_tfds

FORMAT = "array_record"
ORIGINAL = {"train": 50_000, "test": 10_000}

Progress = Callable[[int, int], None]


def prepare_cifar10(archive: str | Path, data_dir: str | Path, progress: Progress | None = None) -> Path:
    """Turn `cifar-10-binary.tar.gz` into the copy that `load_data("cifar10", data_dir)` and TFDS read.

    The archive is read and checked whole before the first byte is written. Writing goes to a hidden folder inside
    `data_dir` that takes its final name at the end: an error or Ctrl-C leaves an earlier copy as it was.

    Args:
        archive: path of the original archive (binary version), with any number of records.
        data_dir: the folder for `cifar10/<version>/`, created if it does not exist. An earlier copy is replaced.
        progress: called after each image with the number of images written and the number of all images.

    Returns:
        The folder written, `data_dir/cifar10/<version of TFDS's builder>`.

    Raises:
        GradlabError: if the archive is not as expected (see `read_archive`) or `data_dir` cannot be written.
        MissingDependency: if the extra `tfds` is not installed.
    """
    tfds = require_tfds()
    data = read_archive(archive)
    splits = {"train": (data.train_images, data.train_labels), "test": (data.test_images, data.test_labels)}
    total = sum(len(labels) for _, labels in splits.values())
    written = itertools.count(1)

    def tick() -> None:
        if progress:
            progress(next(written), total)

    root = Path(data_dir).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # It is inside the final folder, because a rename is atomic only within one file system.
        with quiet(), tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=root) as temporary:
            info = tfds.builder(NAME, data_dir=temporary, file_format=FORMAT).info
            info.features["label"].names = data.class_names
            new = Path(info.data_dir)
            new.mkdir(parents=True)
            infos = [_write_split(tfds, info, split, *arrays, tick) for split, arrays in splits.items()]
            info.set_splits(tfds.core.SplitDict(infos))
            info.write_to_directory(new)
            target = root / new.relative_to(temporary)
            _replace(target, new, aside=Path(temporary) / "previous")
    # The writer of array_record reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise GradlabError(
            f"{root} cannot be written: {error}; expected a folder with write permission and about 200 MB free"
        ) from error
    return target


def prepared_summary(folder: Path) -> str:
    """Say how many images a prepared copy holds, and whether that is all of CIFAR-10.

    Args:
        folder: what `prepare_cifar10` returned.
    """
    counts = prepared_counts(folder)
    summary = f"{counts['train']:,} training and {counts['test']:,} test images"
    if counts == ORIGINAL:
        return summary
    return f"{summary}; the original has {ORIGINAL['train']:,} and {ORIGINAL['test']:,}, so this is not the full set"


def prepared_counts(folder: Path) -> dict[str, int]:
    """How many images each split of a prepared copy holds."""
    info = json.loads((folder / "dataset_info.json").read_text())
    return {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}


def _write_split(
    tfds: ModuleType, info: Any, split: str, images: Images, labels: Labels, tick: Callable[[], None]
) -> Any:
    """Write one split as one shard, the way TFDS does for a set of this size, and return its `SplitInfo`."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=info.data_dir, dataset_name=NAME, split=split, filetype_suffix=FORMAT
    )
    path = str(template.sharded_filepath(shard_index=0, num_shards=1))
    array_record = require("array_record.python.array_record_module", extra=EXTRA)
    size = 0
    # Each group holds one record, as TFDS writes it, so that reading one image does not decompress its neighbours.
    with closing(array_record.ArrayRecordWriter(path, "group_size:1")) as out:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            example = {"id": f"{split}_{index:05d}", "image": _png(image), "label": int(label)}
            record = info.features.serialize_example(example)
            out.write(record)
            size += len(record)
            tick()
    return tfds.core.SplitInfo(name=split, shard_lengths=[len(labels)], num_bytes=size)


def _png(image: Images) -> bytes:
    # TFDS encodes an array with TensorFlow, but takes bytes that are already a PNG.
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def _replace(target: Path, new: Path, *, aside: Path) -> None:
    """Rename `new` to `target`. If that fails or is interrupted, `target` is restored."""
    target.parent.mkdir(exist_ok=True)
    try:
        if target.exists():
            target.rename(aside)
        new.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
