"""Image data as plain NumPy arrays, the same for every framework."""

from __future__ import annotations

from pathlib import Path

from gradlab_core.errors import GradlabError
from gradlab_core.programs.data import cifar10, digits
from gradlab_core.programs.data.batches import Batch, Batches, evaluation_batches, probe
from gradlab_core.programs.data.dataset import ImageData
from gradlab_core.programs.data.prepare import prepare_cifar10, prepared_summary

__all__ = [
    "DATA_NAMES",
    "Batch",
    "Batches",
    "ImageData",
    "evaluation_batches",
    "load_data",
    "prepare_cifar10",
    "prepared_summary",
    "probe",
]

DATA_NAMES = ("digits", "cifar10")


def load_data(name: str, data_dir: str | Path | None = None) -> ImageData:
    """Load a data set by name, from this machine only.

    Args:
        name: one of `DATA_NAMES`.
        data_dir: the folder that `prepare_cifar10` wrote to. It is needed for cifar10 and ignored for digits, which
            come with scikit-learn.

    Raises:
        GradlabError: if the name is unknown, or cifar10 has no `data_dir` or no readable copy there.

    >>> load_data("digits").train_images.shape
    (1438, 3, 32, 32)
    """
    if name == "digits":
        return digits.load()
    if name != "cifar10":
        raise GradlabError(f"data set {name!r} is unknown; expected one of {', '.join(DATA_NAMES)}")
    if data_dir is None:
        raise GradlabError("cifar10 needs the folder of its prepared copy; give it with --data-dir")
    return cifar10.load(data_dir)
