"""Records of a run: every step, every epoch."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Annotated

from gradlab_core.records.later import made_later
from gradlab_core.records.model import Probe
from gradlab_core.records.ranges import Cosine, Count, Framework, Norm, Quotient, Share
from gradlab_core.records.shown import step_table


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
class TensorNorms:
    """Norms of one parameter at one step, and of its gradient and applied update (gradient None: disconnected).

    `grad_cosine` and `update_cosine` compare with the record before, `distance` is ‖θ − θ₀‖ from where the monitor
    began; None where they were not asked for, or there is no record before.

    `grad_update` is ⟨g, Δθ⟩, the change of the loss that the step promised to first order, and `param_update` ⟨θ, Δθ⟩;
    None in records of before they were measured, `grad_update` also without a gradient, or where the optimizer changed
    it in place and nobody kept it.
    """

    param: Norm
    grad: Norm | None
    update: Norm
    ratio: Annotated[Norm, Quotient("update", "param")]
    grad_cosine: Cosine | None = None
    update_cosine: Cosine | None = None
    distance: Norm | None = None
    grad_update: float | None = None
    param_update: float | None = None

    @property
    def grad_update_cosine(self) -> float | None:
        """The cosine of gradient and update: −1 straight downhill, above 0 uphill; NaN where either is 0."""
        return _cosine(self.grad_update, self.grad, self.update)

    @property
    def param_update_cosine(self) -> float | None:
        """The cosine of parameter and update: −1 where the step does nothing but make the parameter shorter."""
        return _cosine(self.param_update, self.param, self.update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantityValues:
    """The values of a user's quantity: one for each tensor, and `whole` for all of them if the quantity defines it."""

    tensors: Mapping[str, float]
    whole: float | None = None


@made_later()
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer step: norms of all parameters before it, of their gradients and of the update it applied.

    `tensors` holds the parameters that the optimizer moves; `states` holds the `GradientState` of every known parameter
    of the model. `loss` and `learning_rate` are None if the monitor was not given them, `learning_rate` also if groups
    of parameters have different ones.

    `raw_grad_norm` is the gradient norm before clipping, `clipped` whether clipping made it smaller; both are None
    unless requested. `skipped`: the optimizer moved nothing, though there were gradients and no update was lost.
    `anomaly` is how many standard deviations the log of the gradient norm is away from its moving mean; None while
    there are too few steps to tell. `grad_cosine`, `update_cosine`, `distance`, `grad_update` and `param_update` are
    those of `TensorNorms`, over all.
    `probe` was taken on the batch of this step, before the step; None at steps without a probe.
    `quantities` are those that the user added to the monitor. `attempt` counts how often the file of the records had
    been opened before to go on with the run; a monitor leaves it at 0, a sink that writes such a file fills it in.
    """

    step: Count
    loss: float | None
    learning_rate: float | None
    grad_norm: Norm
    param_norm: Norm
    update_norm: Norm
    update_ratio: Annotated[Norm, Quotient("update_norm", "param_norm")]
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
    quantities: Mapping[str, QuantityValues] = dataclasses.field(default_factory=dict)
    attempt: Count = 0
    grad_update: float | None = None
    param_update: float | None = None

    @property
    def promised(self) -> float | None:
        """−⟨g, Δθ⟩, by how much the loss would fall if it were as straight as its gradient says."""
        return None if self.grad_update is None else -self.grad_update

    @property
    def grad_update_cosine(self) -> float | None:
        """The cosine of gradient and update, over all tensors."""
        return _cosine(self.grad_update, self.grad_norm, self.update_norm)

    @property
    def param_update_cosine(self) -> float | None:
        """The cosine of parameters and update, over all tensors."""
        return _cosine(self.param_update, self.param_norm, self.update_norm)

    def _repr_html_(self) -> str:
        return step_table(self)


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


def _cosine(product: float | None, norm: float | None, other: float) -> float | None:
    """From an inner product and the norms of its two sides: None where the product is missing, NaN where a side is zero
    or something is not finite."""
    if product is None or norm is None:
        return None
    if not (0 < norm < math.inf and 0 < other < math.inf and math.isfinite(product)):
        return math.nan
    # By their powers of two, since the product of two norms may leave the range where the cosine does not.
    (p, power), (a, of_a), (b, of_b) = map(math.frexp, (product, norm, other))
    return math.ldexp(p / (a * b), min(power - of_a - of_b, 1000))
