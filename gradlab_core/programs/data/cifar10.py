"""CIFAR-10 from a copy on this machine, read by TFDS without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data.dataset import ImageData, Images, Labels
from gradlab_core.programs.data.tfds_tools import quiet, require_tfds

NAME = "cifar10"
CLASSES = 10
# The normalisation of the experiment that this project reproduces.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)

Split = tuple[Images, Labels]


def load(data_dir: str | Path) -> ImageData:
    """Read the copy of CIFAR-10 below `data_dir` that `prepare_cifar10`, or TFDS itself, wrote. Nothing is downloaded.

    Images come in the order of their ids, which is that of the original archive. TFDS shuffles what it writes, but the
    same seed must give the same batches, whoever prepared the copy.

    Args:
        data_dir: the folder that holds `cifar10/<version>/`.

    Returns:
        50,000 training and 10,000 test images of 32x32 pixels (fewer if the archive held fewer).

    Raises:
        GradlabError: if the folder or the copy is missing, or the copy cannot be read.
        MissingDependency: if the extra `tfds` is not installed.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    folder = Path(data_dir).expanduser()
    advice = f"run: gradlab data prepare {NAME} --from cifar-10-binary.tar.gz --data-dir {folder}"
    if not os.path.isdir(folder):  # unlike `Path.is_dir`, this takes names of any length
        raise GradlabError(f"{folder} is not a folder; expected one with a prepared {NAME}; {advice}")
    if not any(folder.glob(f"{NAME}/*/dataset_info.json")):
        raise GradlabError(f"{folder} holds no {NAME}; expected {NAME}/<version>/dataset_info.json; {advice}")
    tfds = require_tfds()
    try:
        with quiet():
            sources = tfds.data_source(NAME, split=["train", "test"], data_dir=folder, download=False)
            names = sources[0].dataset_info.features["label"].names
            train, test = (_arrays(source) for source in sources)
    # TFDS raises many unrelated errors for a damaged copy, and the user needs one sentence instead of a traceback.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GradlabError(
            f"{folder / NAME} cannot be read: {reason}; expected the array_record files of TFDS; to write them again, "
            f"{advice}"
        ) from error
    return image_data(train, test, names)


def image_data(train: Split, test: Split, class_names: Sequence[str]) -> ImageData:
    """CIFAR-10 as `ImageData`: images uint8 (N, 3, 32, 32) and labels int64 (N,) of each split, ten names."""
    return ImageData(
        name=NAME,
        train_images=train[0],
        train_labels=train[1],
        test_images=test[0],
        test_labels=test[1],
        class_names=tuple(class_names),
        mean=MEAN,
        std=STD,
        augment=True,
    )


def _arrays(source: Any) -> Split:
    # All records are requested at once, since one request for each takes several times as long.
    examples = sorted(source.__getitems__(range(len(source))), key=lambda example: example["id"])
    images = np.stack([example["image"] for example in examples])
    labels = np.array([example["label"] for example in examples], dtype=np.int64)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels
