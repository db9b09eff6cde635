"""What was measured: frozen records that carry numbers, and where and in which mode they were taken.

Four things are never mixed up: a number (which may be zero), NaN, ±Inf, and *missing*, which is None.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated

from gradlab_core.later import made_later
from gradlab_core.ranges import Cosine, Count, Framework, Level, Norm, OneOf, Share

MODES = ("train", "eval")
Mode = Annotated[str, OneOf(MODES)]


class GradientState(enum.StrEnum):
    """What can be said of one parameter's gradient; no two of these are ever reported alike."""

    OK = "ok"
    DISCONNECTED = "disconnected"  # no gradient path from the loss to the parameter
    ZERO = "zero"  # a path, but every element is 0
    TINY = "tiny"  # below `thresholds.TINY_GRADIENT_RMS`
    NONFINITE = "nonfinite"  # a NaN or an Inf
    FROZEN = "frozen"  # not trainable
    UNREGISTERED = "unregistered"  # trainable, but the optimizer does not know it
    LOST = "lost"  # the update is below the parameter's rounding step


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerStats:
    """Statistics of one call of one tracked layer (DESIGN: activation stats), over its finite elements.

    `call` counts the calls of the same path from 0; `shape` is canonical (NCHW). `saturated_frac` is None unless the
    activation has bounds on both sides, `dead_unit_frac` is None unless it is ReLU-like.
    """

    path: str
    kind: str
    call: Count
    shape: tuple[Count, ...]
    mode: Mode
    mean: float
    std: Norm
    min: float
    max: float
    rms: Norm
    zero_frac: Share
    nonfinite: Count
    saturated_frac: Share | None
    dead_unit_frac: Share | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationSummary:
    """One line for a whole net; the ReLU fields are None when the net has no ReLU or SiLU."""

    layers_tracked: Count
    mean_mean: float | None
    mean_std: Norm | None
    min_std: Norm | None
    max_std: Norm | None
    relu_zero_frac_mean: Share | None
    relu_zero_frac_max: Share | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientFlow:
    """Gradient norms from the last layer back to the first.

    `layers` maps every parameter path to the norm of its gradient, None where there is no gradient path; those paths
    stand in `disconnected` too. `first` and `last` are None when the layer is disconnected or there is none.
    """

    mode: Mode
    loss: float
    first: Norm | None
    last: Norm | None
    ratio: Norm | None
    global_norm: Norm
    layers: Mapping[str, Norm | None]
    disconnected: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One figure judged: `level` is `good`, `watch`, `bad` or `unknown`; `band` names the band set, None where the
    verdict holds whatever the set-up (a parameter that gets no gradient is wrong in any net)."""

    figure: str
    value: float | None
    level: Level
    band: str | None
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArchitectureRecord:
    """Everything `analyze` measures on one net, one batch, in one mode."""

    name: str
    framework: Framework
    mode: Mode
    params: Count
    flops: Count
    activations: ActivationSummary
    layers: tuple[LayerStats, ...]
    flow: GradientFlow
    sensitivity: Norm
    verdicts: tuple[Verdict, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenStateNorms:
    """The hidden state h_t of one recurrent layer on one batch; every tuple has one value a time step, t = 1 … T.

    `states` is the mean over the batch of ‖h_t‖₂, `gradients` that of ‖∂L/∂h_t‖₂, by every way from h_t to the loss
    except an LSTM's c_t; 0 where there is no way. L is the loss as it is, so a mean over the batch makes the gradients
    of a larger batch smaller. `saturated` says of every gate and tanh which share of it lies within 1 % of its range
    from a bound: `i, f, g, o, tanh_c` (LSTM), `r, z, n` (GRU), `h` (tanh RNN); empty where nothing is bounded.
    """

    path: str
    cell: str
    mode: Mode
    loss: float
    states: tuple[Norm, ...]
    gradients: tuple[Norm, ...]
    saturated: Mapping[str, tuple[Share, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorStats:
    """Statistics of one tensor over its finite elements; `nonfinite` counts the others. NaN where nothing is finite."""

    shape: tuple[Count, ...]
    mean: float
    std: Norm
    min: float
    max: float
    rms: Norm
    zero_frac: Share
    nonfinite: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class NonfiniteOrigin:
    """The operation that turned finite numbers into a NaN or an Inf which then reached the loss or a gradient.

    `phase` is `forward`, `loss` or `backward`; `path` is the module in which it happened, None outside of any and where
    that cannot be known; `operation` is the framework's own name, as `log`, `div`, `exp`; `value` is `nan` or `inf`.
    """

    phase: Annotated[str, OneOf(("forward", "loss", "backward"))]
    path: str | None
    operation: str
    value: Annotated[str, OneOf(("nan", "inf"))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """What a model does on one batch, between two steps: what norms cannot say.

    Attributes:
        mode: `train` or `eval`.
        batch: examples in the batch.
        classes: width of the logits, None under a loss that is no classification.
        loss: on this batch, as it is.
        input: statistics of the input batch, None where it holds whole numbers (tokens).
        output: of what the model gave.
        target: of what it should have given, None for labels.
        layers: every tracked layer call, in execution order.
        shapes: of every parameter, canonical, in the order of the model.
        copies: of every weight with two axes or more, the share of its units (rows) that are copies of another one.
        hidden: the states of a recurrent net, None for any other.
        origin: where a NaN or an Inf was born; None where there is none, or nobody looked.
    """

    mode: Mode
    batch: Count
    classes: Count | None
    loss: float
    input: TensorStats | None
    output: TensorStats
    target: TensorStats | None
    layers: tuple[LayerStats, ...]
    shapes: Mapping[str, tuple[Count, ...]]
    copies: Mapping[str, Share]
    hidden: HiddenStateNorms | None = None
    origin: NonfiniteOrigin | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorNorms:
    """Norms of one parameter at one step, and of its gradient and applied update (gradient None: disconnected).

    `grad_cosine` and `update_cosine` compare with the record before, `distance` is ‖θ − θ₀‖ from where the monitor
    began; None where they were not asked for, or there is no record before.
    """

    param: Norm
    grad: Norm | None
    update: Norm
    ratio: Norm
    grad_cosine: Cosine | None = None
    update_cosine: Cosine | None = None
    distance: Norm | None = None


@made_later()
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer step: norms of all parameters before it, of their gradients and of the update it applied.

    `tensors` holds the parameters that the optimizer moves; `states` says of every parameter of the model that is
    known what `GradientState` says of its gradient. `loss` and `learning_rate` are None where nobody told the monitor,
    `learning_rate` also where the groups of parameters have several.

    `raw_grad_norm` is the gradient norm before clipping, `clipped` whether clipping made it smaller; None where that
    was not asked for. `skipped` says that the optimizer moved nothing, though there were gradients and none was lost.
    `anomaly` is how many standard deviations the log of the gradient norm is away from its moving mean; None while
    there are too few steps to tell. `grad_cosine`, `update_cosine` and `distance` are those of `TensorNorms`, over all.
    `probe` is what the model did on the batch of this step, before it; None at the steps where nobody looked.
    """

    step: Count
    loss: float | None
    learning_rate: float | None
    grad_norm: Norm
    param_norm: Norm
    update_norm: Norm
    update_ratio: Norm
    tensors: Mapping[str, TensorNorms]
    states: Mapping[str, GradientState]
    raw_grad_norm: Norm | None = None
    clipped: bool | None = None
    skipped: bool = False
    anomaly: float | None = None
    grad_cosine: Cosine | None = None
    update_cosine: Cosine | None = None
    distance: Norm | None = None
    probe: Probe | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One pass over the training set; `test_accuracy` is None when no test set was given. Time in seconds."""

    epoch: Count
    learning_rate: float
    train_loss: float
    test_accuracy: Share | None
    grad_norm_mean: Norm
    seconds: Norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """A whole run. `diverged_at` is the first step whose loss or gradient norm was NaN or Inf, None if there was none;
    its record is the last one and `epochs` holds only those that were finished."""

    framework: Framework
    steps: tuple[StepRecord, ...]
    epochs: tuple[EpochRecord, ...]
    diverged_at: Count | None


class Severity(enum.StrEnum):
    """How much a finding matters."""

    CRITICAL = "critical"  # as it is, the run cannot learn
    WARNING = "warning"  # it learns worse than it could, or will fail
    NOTE = "note"  # worth knowing, and often meant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong with a run.

    Attributes:
        code: stable name, as `vanishing-gradient`; `gradlab_core.diagnose.CODES` lists them.
        severity: how much it matters.
        paths: the parameters or layers concerned, the first culprit first; empty where it is the whole net.
        first_step: the first step at which it shows.
        evidence: the numbers that speak for it, by their names.
        remedies: what to do, the likeliest to help first.
        explanation: what it is and why it hinders, with what was seen in this run.
    """

    code: str
    severity: Severity
    paths: tuple[str, ...]
    first_step: Count
    evidence: Mapping[str, float]
    remedies: tuple[str, ...]
    explanation: str
