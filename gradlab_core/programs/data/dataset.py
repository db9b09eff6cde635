"""One image data set in memory, the same plain NumPy arrays for both frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradlab_core.errors import refuse

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
CHANNELS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """Colour images with their classes, split into a training and a test part.

    Attributes:
        name: what reports call the data set.
        train_images, test_images: uint8, (N, 3, H, W), channels R, G, B, values 0..255.
        train_labels, test_labels: int64, (N,), indices into `class_names`.
        class_names: one name per class.
        mean, std: three numbers each, per channel, in pixel units where 0 is black and 1 is full intensity.
        augment: whether a shifted or mirrored image still belongs to its class (true for photographs of things,
            false for digits). Where false, no batch is ever augmented.

    Raises:
        GradlabError: if anything above does not hold; the message lists every problem.

    >>> black = np.zeros((2, 3, 4, 4), np.uint8)
    >>> data = ImageData(name="black", train_images=black, train_labels=np.array([0, 1]), test_images=black,
    ...     test_labels=np.array([1, 0]), class_names=("a", "b"), mean=(0.5,) * 3, std=(0.25,) * 3, augment=False)
    >>> float(data.normalise(black).max())
    -2.0
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool

    def __post_init__(self) -> None:
        refuse(f"bad image data {self.name!r}", self._problems())

    def normalise(self, images: Images) -> NDArray[np.float32]:
        """Map uint8 (B, 3, H, W) to float32 (B, 3, H, W), C-contiguous: (pixel / 255 - mean) / std per channel.

        The float32 operations and their order are those of torchvision's ToTensor and Normalize.
        """
        # order="C" because a caller's array may be a transposed view, and NumPy would keep its layout.
        values = np.array(images, dtype=np.float32, order="C")
        values /= np.float32(255)
        values -= np.asarray(self.mean, np.float32).reshape(CHANNELS, 1, 1)
        values /= np.asarray(self.std, np.float32).reshape(CHANNELS, 1, 1)
        return values

    def _problems(self) -> Iterator[str]:
        if not self.class_names:
            yield "class_names is empty; expected one name per class"
        yield from _split_problems("train", self.train_images, self.train_labels, len(self.class_names))
        yield from _split_problems("test", self.test_images, self.test_labels, len(self.class_names))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            yield (
                f"train_images are {self.train_images.shape[1:]} and test_images {self.test_images.shape[1:]}; "
                "expected one image shape"
            )
        for field, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != CHANNELS or not np.isfinite(numbers).all():
                yield f"{field} is {numbers}; expected {CHANNELS} finite numbers, one per channel"
        if any(number <= 0 for number in self.std):
            yield f"std is {self.std}; expected numbers above 0, for pixels are divided by them"


def _split_problems(split: str, images: Images, labels: Labels, classes: int) -> Iterator[str]:
    if images.dtype != np.uint8:
        yield f"{split}_images has dtype {images.dtype}; expected uint8"
    if images.ndim != 4 or images.shape[1] != CHANNELS:
        yield f"{split}_images has shape {images.shape}; expected (N, {CHANNELS}, H, W)"
    if images.size == 0:
        yield f"{split}_images is empty; expected at least one image"
    if labels.dtype != np.int64:
        yield f"{split}_labels has dtype {labels.dtype}; expected int64"
    if labels.shape != images.shape[:1]:
        yield f"{split}_labels has shape {labels.shape}; expected {images.shape[:1]}, one label per image"
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        yield f"{split}_labels holds {outside.flat[0]}; expected 0..{classes - 1}, an index into class_names"
