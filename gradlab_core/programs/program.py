"""A whole training program as one spec: the net, its task, the optimizer, and the fault planted in it, if any.

Both twins build and run it (`run_program`), so a fault looks in both as it does in a user's program.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gradlab_core import fields
from gradlab_core.errors import refuse
from gradlab_core.programs.specs import ModelSpec

TASKS = ("digits", "temporal_order", "adding", "blobs", "waves", "imdb")
LAYOUTS = ("flat", "image", "rows")
OPTIMIZERS = ("sgd", "adam", "adamw")
LOSSES = ("cross_entropy", "summed_cross_entropy", "naive_cross_entropy", "batch_softmax", "mse")
DTYPES = ("float32", "bfloat16", "float16")

FAULTS = {
    "stop_gradient": "the activation `at` is detached from the gradient",
    "integer_cast": "the activation `at` is rounded to whole numbers",
    "argmax": "the activation `at` is replaced by the one-hot of its largest element",
    "unused_branch": "the net has a dense layer `extra` that takes no part in its output",
    "left_out": "the parameters of the layers `at` are not given to the optimizer",
    "frozen": "the parameters of the layers `at` do not ask for a gradient",
    "uphill": "the layers `at`, or all, are moved along their gradient and not against it",
    "no_step": "gradients are computed and the update is never applied",
    "zeroed_gradients": "the gradients are gone before the step: zero_grad stands behind backward; in JAX the loss is "
    "computed behind a stop_gradient",
    "rectified_output": "the dense layer `at` passes its output through a ReLU, and its bias starts at −`amount`",
    "wild_batches": "the inputs of three batches in the middle of the run are `amount` times as large",
    "log_zero": "the activation `at` is replaced by log(relu(x))",
    "divide_by_zero": "the activation `at` is divided by its own standard deviation over the batch, without an ε; the "
    "first feature of it is 0 for all examples",
    "negative_bias": "the bias of the layers `at` starts at −`amount`",
    "saturated_start": "the weight of the layers `at` starts `amount` times as large",
}
"""Faults that can be planted in a program; whatever else may be wrong with one is a number in its spec."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What is to be learned. Batches are drawn anew for every step from the seed of the program; nothing is downloaded.

    Attributes:
        name: `digits` (10 classes), `temporal_order` (which of two signals came first: 2 classes; Hochreiter &
            Schmidhuber 1997, Pascanu et al. 2013), `adding` (the sum of two marked numbers: a regression; the same
            sources), `blobs` (Gaussian clusters), `waves` (a smooth function of the features: a regression), `imdb`
            (the sentiment of film reviews, 2 classes, from a copy that the user has).
        layout: how the digits are laid out: `flat` (N, 64), `image` (N, 3, 8, 8) or `rows`, a sequence (N, 8, 8).
        length: time steps of temporal order, adding and imdb.
        features: numbers in an example of blobs and waves, and in a word of imdb.
        classes: the number of blobs.
        input_scale, input_shift: the input is input_scale·x + input_shift, where x is standardised.
        target_scale: factor of regression targets.
        random_labels: whether labels (or targets) are drawn at random, independently of the input.
        data_dir: the folder in which TFDS wrote `imdb_reviews`; for imdb only.
    """

    name: str = "digits"
    layout: str = "flat"
    length: int = 20
    features: int = 16
    classes: int = 4
    input_scale: float = 1.0
    input_shift: float = 0.0
    target_scale: float = 1.0
    random_labels: bool = False
    data_dir: str | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        fields.one_of(problems, "name", self.name, TASKS)
        fields.one_of(problems, "layout", self.layout, LAYOUTS)
        for name, least in (("length", 10), ("features", 1), ("classes", 2)):
            fields.whole_number(problems, name, getattr(self, name), least)
        fields.real(problems, "input_scale", self.input_scale, 0.0)
        fields.real(problems, "input_shift", self.input_shift, -1e30)
        fields.real(problems, "target_scale", self.target_scale, 0.0)
        data_dir: Any = self.data_dir
        if not isinstance(data_dir, str | None):
            problems.append(f"data_dir is {data_dir!r}; expected the path of a folder as text, or None")
        refuse("TaskSpec", problems)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The optimizer, in PyTorch's conventions in both twins.

    Attributes:
        name: one of `OPTIMIZERS`.
        learning_rate: the rate after the warm-up.
        momentum: the momentum of SGD.
        weight_decay: L2 for sgd and adam, decoupled for adamw.
        clip: the largest gradient norm; None for no clipping.
        warm_up: the number of steps over which the rate rises linearly to `learning_rate`.
        decay: the number of steps behind the warm-up over which the rate falls linearly to 0; 0 if it stays.
    """

    name: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    warm_up: int = 0
    decay: int = 0

    def __post_init__(self) -> None:
        problems: list[str] = []
        fields.one_of(problems, "name", self.name, OPTIMIZERS)
        for name in ("learning_rate", "momentum", "weight_decay"):
            fields.real(problems, name, getattr(self, name), 0.0)
        if self.clip is not None:
            fields.real(problems, "clip", self.clip, 0.0)
        for name in ("warm_up", "decay"):
            fields.whole_number(problems, name, getattr(self, name), 0)
        refuse("OptimizerSpec", problems)

    def rate(self, step: int) -> float:
        """The learning rate at `step` (the first is 0).

        >>> [OptimizerSpec(learning_rate=0.4, warm_up=4).rate(step) for step in (0, 1, 3, 9)]
        [0.1, 0.2, 0.4, 0.4]
        >>> [OptimizerSpec(learning_rate=0.4, decay=4).rate(step) for step in (0, 1, 3, 9)]
        [0.4, 0.30000000000000004, 0.1, 0.0]
        """
        left = 1 - max(0, step - self.warm_up) / self.decay if self.decay else 1.0
        return self.learning_rate * min(1.0, (step + 1) / max(self.warm_up, 1)) * max(0.0, left)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramSpec:
    """One run: `run_program` of either twin gives its records.

    Attributes:
        model, task, optimizer: the net, what it learns, and how it is trained.
        steps: optimizer steps; a run ends earlier after a step whose loss or gradient is NaN or Inf.
        batch_size: examples in a batch.
        seed: the seed of weights and batches.
        loss: `naive_cross_entropy` computes a softmax as written and then its logarithm; `summed_cross_entropy` does
            not divide by the size of the batch; `batch_softmax` takes the softmax over the batch and is a constant.
        dtype: the type of parameters, activations and gradients.
        fault: one of `FAULTS`, planted at the activation or the layers `at` (separated by commas) with the size
            `amount`; None for a program without a fault.
        probe_every: there is a `Probe` at every so many steps and at the last; 0 for none.
        look_every: the monitor looks for itself at every so many steps that have no probe; 0 for none.
    """

    model: ModelSpec
    task: TaskSpec = TaskSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    steps: int = 200
    batch_size: int = 32
    seed: int = 0
    loss: str = "cross_entropy"
    dtype: str = "float32"
    fault: str | None = None
    at: str = ""
    amount: float = 1.0
    probe_every: int = 20
    look_every: int = 0

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, least in (("steps", 1), ("batch_size", 1), ("seed", 0), ("probe_every", 0), ("look_every", 0)):
            fields.whole_number(problems, name, getattr(self, name), least)
        fields.one_of(problems, "loss", self.loss, LOSSES)
        fields.one_of(problems, "dtype", self.dtype, DTYPES)
        if self.fault is not None:
            fields.one_of(problems, "fault", self.fault, FAULTS)
        refuse("ProgramSpec", problems)
