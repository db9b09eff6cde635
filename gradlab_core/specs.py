"""What to build and how to train it: one spec, read by both twins, says everything that decides a run."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gradlab_core.errors import refuse

BLOCKS = ("plain", "plain_unpadded", "postact", "preact", "preact_noskip")
KINDS = ("tinynet", "residual_toy")


def _whole(problems: list[str], name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        problems.append(f"{name} is {value!r}; expected a whole number of at least {least}")


def _real(problems: list[str], name: str, value: Any, least: float, below: float = math.inf) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value < below:
        limit = f"at least {least:g}" + (f" and below {below:g}" if below < math.inf else "")
        problems.append(f"{name} is {value!r}; expected a finite number of {limit}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The network both twins build, layer for layer and name for name.

    Attributes:
        kind: `tinynet` (three stages of residual blocks) or `residual_toy` (the smallest with a skip and a flatten).
        block: the residual block, one of `BLOCKS`. `preact_noskip` and `plain_unpadded` are the two blocks that the
            published experiment ran by mistake; `preact` and `plain` are the right ones.
        base: channels of the first stage; stages two and three have twice and four times as many.
        layers: blocks in each stage.
        num_classes: width of the last layer.
        image_size: height and width in pixels; only the `residual_toy`, which flattens, depends on it.
        skip: whether the `residual_toy` adds its identity.

    Raises:
        GradlabError: a field is out of range; the message lists every such field.

    >>> ModelSpec(block="postact", base=8).block
    'postact'
    >>> ModelSpec(block="postakt")
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: ModelSpec: block is 'postakt'; expected one of \
plain, plain_unpadded, postact, preact, preact_noskip
    """

    kind: str = "tinynet"
    block: str = "preact"
    base: int = 32
    layers: tuple[int, ...] = (2, 2, 2)
    num_classes: int = 10
    image_size: int = 8
    skip: bool = True

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.kind not in KINDS:
            problems.append(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.block not in BLOCKS:
            problems.append(f"block is {self.block!r}; expected one of {', '.join(BLOCKS)}")
        _whole(problems, "base", self.base, 1)
        _whole(problems, "num_classes", self.num_classes, 2)
        _whole(problems, "image_size", self.image_size, 1)
        if not isinstance(self.layers, tuple) or not self.layers:
            problems.append(f"layers is {self.layers!r}; expected a tuple with the number of blocks of each stage")
        else:
            for stage, blocks in enumerate(self.layers, 1):
                _whole(problems, f"layers (stage {stage})", blocks, 1)
        refuse("ModelSpec", problems)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """SGD with momentum, L2 weight decay and a milestone schedule, in PyTorch's conventions in both twins.

    Attributes:
        epochs: passes over the training set.
        learning_rate: the rate before any milestone.
        momentum: weight of the old velocity, v ← momentum·v + g.
        weight_decay: added to the gradient as weight_decay·θ, before the momentum.
        milestones: epochs at whose start the rate is multiplied by `gamma`. A repeated milestone counts each time and
            milestone 0 applies at once, as in `torch.optim.lr_scheduler.MultiStepLR`.
        gamma: the factor of one milestone.

    >>> TrainSpec(epochs=4, milestones=(2, 3)).rate(3)
    0.001
    >>> TrainSpec(epochs=1, milestones=(0, 0)).rate(0)  # the schedule of the published one-epoch run
    0.001
    """

    epochs: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        problems: list[str] = []
        _whole(problems, "epochs", self.epochs, 0)
        _real(problems, "learning_rate", self.learning_rate, 0.0)
        _real(problems, "momentum", self.momentum, 0.0, 1.0)
        _real(problems, "weight_decay", self.weight_decay, 0.0)
        _real(problems, "gamma", self.gamma, 0.0)
        for milestone in self.milestones:
            _whole(problems, "milestones", milestone, 0)
        refuse("TrainSpec", problems)

    def rate(self, epoch: int) -> float:
        """The learning rate during `epoch` (the first is 0)."""
        passed = sum(milestone <= epoch for milestone in self.milestones)
        # Rounded to 12 digits so that 0.1 · 0.1² is 0.001 and reads so in a table.
        return float(f"{self.learning_rate * self.gamma**passed:.12g}")
