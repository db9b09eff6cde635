"""The usual CIFAR augmentation: shift each image a little, and mirror about every second one."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradlab_core.programs.data.dataset import Images

PADDING = 4


def random_crop_flip(images: Images, rng: np.random.Generator, padding: int = PADDING) -> Images:
    """Pad each image with zeros, crop it at random, and mirror it left to right with probability 1/2.

    Works on uint8 pixels before normalisation, as torchvision's RandomCrop(size, padding=4),
    RandomHorizontalFlip() and Normalize do in this order, so the border is black and does not have the mean colour.

    Args:
        images: uint8, (B, 3, H, W); it is not changed.
        rng: draws 2B offsets and B coin tosses; the same state gives the same result.
        padding: black pixels added on each of the four sides.

    Returns:
        uint8, (B, 3, H, W), a new array.

    Source: K. He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2.

    >>> image = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 2, 2)
    >>> [sorted(random_crop_flip(image, np.random.default_rng(s), padding=0)[0, 0, 0].tolist()) for s in (0, 1)]
    [[1, 2], [1, 2]]
    """
    count, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))
    top, left = rng.integers(0, 2 * padding + 1, size=(2, count))
    cropped: Images = windows[np.arange(count), :, top, left]
    mirrored = rng.random(count) < 0.5
    cropped[mirrored] = cropped[mirrored, ..., ::-1]
    return cropped
