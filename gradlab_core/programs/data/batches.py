"""The batches of an epoch as a pure function of the seed and the number of the epoch.

Nothing is remembered between epochs. So two frameworks, or a run that starts again in the middle, see exactly the
same numbers, whatever ran before. This holds within a version of NumPy, whose generators may change with the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from gradlab_core.errors import refuse
from gradlab_core.programs.data.augment import random_crop_flip
from gradlab_core.programs.data.dataset import ImageData, Labels

Batch = tuple[NDArray[np.float32], Labels]

# Each purpose has its own independent stream of random numbers, so augmentation does not change the order.
_ORDER, _AUGMENT, _PROBE = range(3)


@dataclass(frozen=True)
class Batches:
    """The training set in shuffled batches of one size.

    The last incomplete batch of an epoch is left out: a compiler would have to build another program for its shape,
    and its gradient would be noisier. Shuffling leaves out other images in the next epoch.

    Attributes:
        data: where the training images come from.
        batch_size: images in a batch, at least 1 and at most the size of the training set.
        seed: at least 0; fixes the order and the augmentation of every epoch.
        augment: whether to apply `random_crop_flip`, which happens only if `data.augment` says that it keeps the class.

    Raises:
        GradlabError: if `batch_size` or `seed` is out of range; the message lists every problem.

    >>> from gradlab_core.programs.data import load_data
    >>> batches = Batches(load_data("digits"), batch_size=64, seed=0)
    >>> images, labels = next(batches.epoch(0))
    >>> len(batches), images.shape, images.dtype, labels.shape, labels.dtype
    (22, (64, 3, 32, 32), dtype('float32'), (64,), dtype('int64'))
    """

    data: ImageData
    _: KW_ONLY
    batch_size: int
    seed: int
    augment: bool = False

    def __post_init__(self) -> None:
        refuse("bad batches", [*_size_problems("batch_size", self.batch_size, self.data), *_seed_problems(self.seed)])

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.data.train_labels) // self.batch_size

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of epoch 0, 1, ...: images float32 (B, 3, H, W) normalised, labels int64 (B,).

        Raises:
            GradlabError: if `epoch` is negative.
        """
        refuse("bad epoch", [f"epoch is {epoch}; expected 0 or more"] if epoch < 0 else [])
        return self._epoch(epoch)

    def _epoch(self, epoch: int) -> Iterator[Batch]:
        order = _generator(self.seed, _ORDER, epoch).permutation(len(self.data.train_labels))
        augmenting = _generator(self.seed, _AUGMENT, epoch)
        for index in range(len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            images = self.data.train_images[chosen]
            if self.augment and self.data.augment:
                images = random_crop_flip(images, augmenting)
            yield self.data.normalise(images), self.data.train_labels[chosen]


def evaluation_batches(data: ImageData, batch_size: int = 512) -> Iterator[Batch]:
    """Yield the whole test set in its order: float32 (B, 3, H, W) and int64 (B,). The last batch may be smaller.

    Raises:
        GradlabError: if `batch_size` is below 1.

    >>> from gradlab_core.programs.data import load_data
    >>> [len(labels) for _, labels in evaluation_batches(load_data("digits"), 200)]
    [200, 159]
    """
    refuse("bad batches", [f"batch_size is {batch_size}; expected 1 or more"] if batch_size < 1 else [])
    return (
        (data.normalise(data.test_images[start : start + batch_size]), data.test_labels[start : start + batch_size])
        for start in range(0, len(data.test_labels), batch_size)
    )


def probe(data: ImageData, size: int, seed: int) -> Batch:
    """Draw one fixed batch of different training images, never augmented, to measure a network on.

    Returns:
        Images, float32 (size, 3, H, W), normalised, and labels, int64 (size,).

    Raises:
        GradlabError: if `size` is not 1 to the size of the training set, or `seed` is negative.

    >>> from gradlab_core.programs.data import load_data
    >>> probe(load_data("digits"), 8, seed=0)[0].shape
    (8, 3, 32, 32)
    """
    refuse("bad probe", [*_size_problems("size", size, data), *_seed_problems(seed)])
    chosen = _generator(seed, _PROBE, 0).permutation(len(data.train_labels))[:size]
    return data.normalise(data.train_images[chosen]), data.train_labels[chosen]


def _generator(seed: int, stream: int, epoch: int) -> np.random.Generator:
    # This is a spawn key and not a list of entropy words, in which a large seed takes several words and two different
    # pairs could coincide.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, epoch)))


def _size_problems(field: str, size: int, data: ImageData) -> Iterator[str]:
    available = len(data.train_labels)
    if not 1 <= size <= available:
        yield f"{field} is {size}; expected 1 to {available}, the training images of {data.name}"


def _seed_problems(seed: int) -> Iterator[str]:
    if seed < 0:
        yield f"seed is {seed}; expected 0 or more"
