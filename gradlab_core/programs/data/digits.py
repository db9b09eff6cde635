"""The handwritten digits that scikit-learn contains: a small data set that needs no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradlab_core.programs.data.dataset import CHANNELS, ImageData, Labels

_FULL_INK = 16
_SCALE = 4
_TEST_SHARE = 0.2
# The seed is part of the definition of the data set and not a setting, since every run shares one split.
_SPLIT_SEED = 0


def load() -> ImageData:
    """The 1797 digits of 8x8 pixels as 32x32 colour images, about 80 % of each class for training.

    Each of the 17 grey values becomes round(value * 255 / 16), each pixel a 4x4 block, and the three channels are
    equal, so networks made for CIFAR take these images. Mean and standard deviation are measured on the training part.
    There is no augmentation, since a mirrored digit is another glyph.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, the test part, as
    `sklearn.datasets.load_digits` ships it.

    >>> data = load()
    >>> data.train_images.shape, data.test_images.shape
    ((1438, 3, 32, 32), (359, 3, 32, 32))
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / _FULL_INK)).astype(np.uint8)
    large = grey.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    images = np.repeat(large[:, np.newaxis], CHANNELS, axis=1)
    labels = digits.target.astype(np.int64)
    test = _stratified(labels)
    pixels = large[~test] / 255
    return ImageData(
        name="digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(name) for name in digits.target_names),
        mean=(float(pixels.mean()),) * CHANNELS,
        std=(float(pixels.std()),) * CHANNELS,
        augment=False,
    )


def _stratified(labels: Labels) -> NDArray[np.bool_]:
    """Mark the test images, (N,) bool, which are the same share of every class, drawn with a fixed seed."""
    rng = np.random.default_rng(_SPLIT_SEED)
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(_TEST_SHARE * len(members))]] = True
    return test
