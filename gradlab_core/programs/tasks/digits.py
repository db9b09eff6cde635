"""The handwritten digits that scikit-learn contains, with their 8x8 pixels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core.programs.data import digits
from gradlab_core.programs.data.dataset import ImageData, Images
from gradlab_core.programs.tasks.task import pick

_CLASSES = 10
_SIDE = 8


class Digits:
    """Ten classes; `layout` is one of `gradlab_core.programs.program.LAYOUTS`. Pixels are standardised
    with a single mean and standard deviation, those of the training part (1438 images; 359 are for testing). The split
    keeps the share of every class.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """

    outputs, is_regression = _CLASSES, False

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.features = {"flat": _SIDE**2, "image": 3 * _SIDE**2, "rows": _SIDE}[layout]

    def draw(self, rng: np.random.Generator, size: int, *, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        data = _load()
        images, labels = (data.test_images, data.test_labels) if test else (data.train_images, data.train_labels)
        chosen = pick(rng, size, len(labels), test=test)
        x = data.normalise(_small(images[chosen]))
        if self.layout != "image":
            x = x[:, 0]  # one channel, since all three are equal
        return x.reshape(len(x), -1) if self.layout == "flat" else x, labels[chosen]


@functools.cache
def _load() -> ImageData:
    return digits.load()


def _small(images: Images) -> Images:
    """Take one pixel of each block of equal pixels that `gradlab_core.programs.data.digits` makes of one."""
    block = images.shape[-1] // _SIDE
    return images[:, :, ::block, ::block]
