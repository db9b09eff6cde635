"""The published experiment on residual blocks: what it ran, what it measured, and its errors.

The figures are taken from its text, and each error was confirmed by running its code. `gradlab compare --as-published`
repeats errors 1 to 4.
"""

from __future__ import annotations

import dataclasses

BLOCKS = ("plain_unpadded", "postact", "preact_noskip")
"""The blocks that were run under the names plain, v1 and v2."""

NAMES = {"plain_unpadded": "plain", "postact": "v1", "preact_noskip": "v2"}

MEASURED = {
    "plain_unpadded": {"global_norm": 19.27, "ratio": 4.15, "mean_std": 0.648, "sensitivity": 0.00297},
    "postact": {"global_norm": 7.19, "ratio": 0.71, "mean_std": 0.804, "sensitivity": 0.00198},
    "preact_noskip": {"global_norm": 12.80, "ratio": 6.82, "mean_std": 0.730, "sensitivity": 0.00221},
}
"""Published measurements on CIFAR-10, base 32, after one epoch (which the text calls untrained), one seed."""

ONE_EPOCH = {
    "plain_unpadded": {"test_accuracy": 0.3753, "grad_norm_mean": 3.98},
    "postact": {"test_accuracy": 0.4398, "grad_norm_mean": 3.30},
    "preact_noskip": {"test_accuracy": 0.3437, "grad_norm_mean": 2.87},
}

LEARNING_RATE = 0.1
"""The rate as stated, which `milestones(1)` turned into 0.001."""

PARAMETERS = {"plain_unpadded": 685_994, "postact": 696_618, "preact_noskip": 696_042}
TRACKED_CALLS = {"plain_unpadded": 39, "postact": 43, "preact_noskip": 41}


def milestones(epochs: int) -> tuple[int, int]:
    """The published schedule: milestones at one half and three quarters of the training, in whole epochs. With one
    epoch they are (0, 0), and a milestone at 0 applies at once, so the run trained at 0.001 and not at 0.1.

    >>> milestones(1), milestones(8)
    ((0, 0), (4, 6))
    """
    return epochs // 2, 3 * epochs // 4


@dataclasses.dataclass(frozen=True)
class PublishedError:
    """One error: what was claimed or intended, what happened, and where gradlab shows this."""

    number: int
    title: str
    what_happened: str
    shown_by: str


ERRORS = (
    PublishedError(
        1,
        "The pre-activation block had no skip",
        "It returned before adding the identity, so the projections of stages 2 and 3 got no gradient at all.",
        "gradlab compare --as-published: disconnected parameters of preact_noskip",
    ),
    PublishedError(
        2,
        "The plain block lost its padding",
        "Its first convolution is unpadded: the image shrinks 32 → 28 → 11 → 3 instead of 32 → 32 → 16 → 8, so the "
        "comparison differs in geometry and not only in the skip.",
        "gradlab compare --as-published: FLOPs and layer shapes of plain_unpadded beside plain",
    ),
    PublishedError(
        3,
        "The learning rate was a hundred times smaller than stated",
        "With one epoch its milestones are (0, 0), and both apply at once: 0.1 · 0.1² = 0.001.",
        "gradlab compare --as-published: the learning rate of the runs",
    ),
    PublishedError(
        4,
        "The analysis 'without training' was of trained nets",
        "It was run after the epoch of training. Truly untrained nets in eval mode are nowhere near its bands, since "
        "the running statistics of batch normalisation are still 0 and 1.",
        "gradlab compare --as-published: the same nets untrained in eval mode",
    ),
    PublishedError(
        5,
        "One seed, one epoch, no error bars",
        "Differences between the blocks cannot be told from chance.",
        "gradlab compare: mean ± standard deviation over seeds",
    ),
    PublishedError(
        6,
        "Its thresholds for a vanishing gradient contradict each other",
        "A text says 1e-4 and below, its example has 8e-4, another text says far below 1e-6.",
        "tests/core/test_published.py: the published example under each of the published thresholds",
    ),
    PublishedError(
        7,
        "A variance that is a standard deviation",
        "A text gives 'variance 0.01' for a default initialisation whose standard deviation is 0.01.",
        "tests/core/test_published.py: the variance of N(0, 0.01²) is 0.0001",
    ),
)
