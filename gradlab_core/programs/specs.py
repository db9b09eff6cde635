"""Specs of what to build and how to train it. They determine a run completely, and both twins read them."""

from __future__ import annotations

import dataclasses

from gradlab_core import fields
from gradlab_core.definitions.initializers import INITIALIZERS, number_problems
from gradlab_core.definitions.recurrent import CELLS
from gradlab_core.errors import refuse

BLOCKS = ("plain", "plain_unpadded", "postact", "preact", "preact_noskip")
USES = {
    "tinynet": {"block", "base", "layers"},
    "residual_toy": {"base", "image_size", "skip"},
    "mlp": {"features", "widths", "activation"},
    "recurrent": {"features", "cell", "hidden"},
    "transformer": {"features", "hidden", "heads", "depth"},
}
"""The fields of a `ModelSpec` that each kind reads, besides those that all kinds read."""
KINDS = tuple(USES)
MLP_ACTIVATIONS = ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "identity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The network both twins build, layer for layer and name for name.

    Attributes:
        kind: `tinynet` (three stages of residual blocks), `residual_toy` (the smallest net with a skip and a flatten),
            `mlp` (dense layers with an activation between), `recurrent` (one recurrent layer and a dense one on its
            last state) or `transformer` (an encoder and a dense layer on its mean over time). A field that a kind does
            not use is refused unless it has its default.
        block: the residual block, one of `BLOCKS`. `preact_noskip` and `plain_unpadded` are the two blocks that the
            published experiment ran by mistake; `preact` and `plain` are the right ones.
        base: channels of the first stage; stages two and three have twice and four times as many.
        layers: blocks in each stage.
        num_classes: width of the last layer; 1 for a regression, whose output is the number itself and not a logit.
        image_size: height and width in pixels; only the `residual_toy` depends on it, because it flattens.
        skip: whether the `residual_toy` adds its identity.
        features: numbers in an example of an `mlp`, or in a time step of a `recurrent` net or a `transformer`.
        widths: widths of the hidden layers of the `mlp`; an empty tuple leaves one dense layer.
        activation: activation of the `mlp`, one of `MLP_ACTIVATIONS`; `gelu` is the exact one.
        cell: cell of the `recurrent` net, one of `rnn_tanh`, `rnn_relu`, `lstm`, `gru`.
        hidden: width of the state of the `recurrent` net, or of the `transformer`.
        heads: number of attention heads of the `transformer`, which must divide `hidden`.
        depth: number of blocks of the `transformer`.
        init: how the net starts, one of `gradlab_core.definitions.initializers.INITIALIZERS`.
        init_number: the number that this initialiser takes: the value of `constant`, the standard deviation of
            `normal`, or the gain of those that have one. None stands for its default.

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
    features: int = 64
    widths: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    cell: str = "lstm"
    hidden: int = 32
    heads: int = 4
    depth: int = 2
    init: str = "torch_default"
    init_number: float | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        choices = {"kind": KINDS, "block": BLOCKS, "activation": MLP_ACTIVATIONS, "cell": CELLS, "init": INITIALIZERS}
        unused = self._unused()
        for name in (name for name in choices if name not in unused):
            fields.one_of(problems, name, getattr(self, name), choices[name])
        sizes: list[str] = []
        sizes_of = ("base", "num_classes", "image_size", "features", "hidden", "heads", "depth")
        for name in (name for name in sizes_of if name not in unused):
            fields.whole_number(sizes, name, getattr(self, name), 1)
        if self.kind == "transformer" and not sizes and self.hidden % self.heads:
            sizes.append(f"hidden is {self.hidden}; expected a multiple of heads, which is {self.heads}")
        problems += sizes
        for name in sorted(unused):
            problems.append(f"{name} is {getattr(self, name)!r}; expected it left out, as a {self.kind} has none")
        for name, of in (("layers", "stage"), ("widths", "layer")):
            if name not in unused:
                fields.whole_numbers(problems, name, of, getattr(self, name))
        if self.layers == () and "layers" not in unused:
            problems.append("layers is (); expected a tuple with the number of blocks of each stage")
        if self.init in INITIALIZERS:
            problems += [f"init_number: {problem}" for problem in number_problems(self.init, self.init_number)]
        refuse("ModelSpec", problems)

    def _unused(self) -> set[str]:
        """Fields of other kinds that are set, though a reader would take them for part of the net."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        of_others = set().union(*USES.values()) - USES.get(self.kind, set(defaults))
        return {name for name in of_others if getattr(self, name) != defaults[name]}


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
        fields.whole_number(problems, "epochs", self.epochs, 0)
        fields.real(problems, "learning_rate", self.learning_rate, 0.0)
        fields.real(problems, "momentum", self.momentum, 0.0, 1.0)
        fields.real(problems, "weight_decay", self.weight_decay, 0.0)
        fields.real(problems, "gamma", self.gamma, 0.0)
        for milestone in self.milestones:
            fields.whole_number(problems, "milestones", milestone, 0)
        refuse("TrainSpec", problems)

    def rate(self, epoch: int) -> float:
        """The learning rate during `epoch` (the first is 0)."""
        passed = sum(milestone <= epoch for milestone in self.milestones)
        # Rounded to 12 digits, so that 0.1 · 0.1² is shown as 0.001 in a table.
        return float(f"{self.learning_rate * self.gamma**passed:.12g}")
