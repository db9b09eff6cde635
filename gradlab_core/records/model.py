"""What was measured of a model: layers, gradients, hidden states, and what a probe saw on one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from gradlab_core.records.notebook import records_table
from gradlab_core.records.ranges import Count, Framework, Level, Norm, OneOf, Share

MODES = ("train", "eval")
Mode = Annotated[str, OneOf(MODES)]


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

    def _repr_html_(self) -> str:
        return records_table([self])


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

    `states` is the mean over the batch of ‖h_t‖₂, `gradients` that of ‖∂L/∂h_t‖₂ over every path from h_t to the loss
    except an LSTM's c_t; 0 if there is no path. L is the user's loss, so if it is a mean over the batch, a larger batch
    has smaller gradients. `saturated` holds, for every gate and tanh, the share of its elements within 1 % of its range
    from a bound: `i, f, g, o, tanh_c` (LSTM), `r, z, n` (GRU), `h` (tanh RNN); empty if the cell bounds nothing.
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
class Answers:
    """The loss that a model's answers went into, as the gradient at the answers shows it: nobody had to say.

    Attributes:
        loss: `cross-entropy` (softmax), `binary-cross-entropy` (sigmoid), `squared-error`.
        classes: of the softmax; 2 of a sigmoid; None of a squared error.
        mean_loss: that loss, as the mean over rows (cross-entropy) or over elements.
        reduction: whether the loss observed is the `mean` or the `sum`; None where it is neither, or was not observed.
        are_probabilities: whether the answers are probabilities already: a softmax, or a sigmoid, is taken of what is
            one.
    """

    loss: Annotated[str, OneOf(("cross-entropy", "binary-cross-entropy", "squared-error"))]
    classes: Count | None
    mean_loss: float
    reduction: Annotated[str, OneOf(("mean", "sum"))] | None
    are_probabilities: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """What a model does on one batch at one step, beyond what norms can tell: taken by `probe` between two steps, or by
    the monitor in the forward pass of the step.

    Attributes:
        mode: `train` or `eval`.
        batch: examples in the batch.
        classes: width of the logits; None if the loss is not a classification, as far as is known.
        loss: the value of the user's loss on this batch; None where the monitor was not told it.
        input: statistics of the input batch; None if it holds whole numbers (tokens).
        output: statistics of the model's output.
        target: statistics of the target; None for labels, and where nobody knows it.
        layers: every tracked layer call, in execution order.
        shapes: canonical shape of every parameter, in the order of the model.
        copies: for every weight with two axes or more, the share of its units (rows) that are copies of another one.
        hidden: the states of a recurrent net; None for any other net.
        origin: where a NaN or an Inf arose; None if there is none, or nobody looked.
        answers: the loss that explains the gradient at the output; None if none does, or nobody looked.
    """

    mode: Mode
    batch: Count
    classes: Count | None
    loss: float | None
    input: TensorStats | None
    output: TensorStats
    target: TensorStats | None
    layers: tuple[LayerStats, ...]
    shapes: Mapping[str, tuple[Count, ...]]
    copies: Mapping[str, Share]
    hidden: HiddenStateNorms | None = None
    origin: NonfiniteOrigin | None = None
    answers: Answers | None = None
