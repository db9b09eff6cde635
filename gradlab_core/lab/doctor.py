"""The init doctor: which layers start wrong, by how much, and what to change before the first step.

The output of a layer should have the variance that the next layer can use: `target`, by default 1. The gain of a layer
is σ_w = √(fan_in·mean w²). After an activation φ two gains are right, which are the same only for ReLU: √(q/E[φ²])
keeps the variance and √(1/E[φ′²]) keeps gradients, both at q = target.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core import fields
from gradlab_core.definitions import kinds
from gradlab_core.definitions.initializers import fans
from gradlab_core.definitions.thresholds import START_BAD, START_FINE
from gradlab_core.errors import refuse
from gradlab_core.lab import gaussian
from gradlab_core.lab.activations import ACTIVATIONS
from gradlab_core.lab.prediction import LAYERS
from gradlab_core.lab.propagation import Signal
from gradlab_core.lab.words import advise

_DIRECT = 2.5
"""A layer is taken to have read what ran before it if its second moment is within this factor of what its gain
predicts. Biases, padding and chance stay within it; a pooling, an addition or a recurrent layer does not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerStart:
    """How one dense or convolutional layer starts.

    Attributes:
        path, kind: path and kind of the layer.
        activation: what was executed last before the layer, which in a net with branches may belong to another branch;
            `input` for the first layer, `norm` after a normalisation, None after another layer.
        variance: variance of the output, over batch, units and positions.
        ratio: variance/target.
        growth: variance over that of the layer before, or of the input.
        gain: √(fan_in·mean w²); None if the layer has no weight of its own.
        wanted_gain, critical_gain: the gains that keep the variance, and gradients, at the target after `activation`.
        normalised: whether a normalisation takes the output and removes its scale.
        level: `good`, `watch` or `bad`.
        advice: what is wrong and what to change, in words.
    """

    path: str
    kind: str
    activation: str | None
    variance: float
    ratio: float
    growth: float
    gain: float | None
    wanted_gain: float
    critical_gain: float
    normalised: bool
    level: str
    advice: str


def check_target(name: str, target: Any) -> None:
    """Refuse a variance that is not a finite number above 0.

    >>> check_target("lsuv", 0)
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: lsuv: target is 0; expected a finite variance above 0
    """
    problems: list[str] = []
    fields.real(problems, "target", target, 0.0)
    wrong = bool(problems) or target == 0
    refuse(name, [f"target is {target!r}; expected a finite variance above 0"] if wrong else [])


def weight_of(path: str) -> str:
    """The path of a layer's weight.

    >>> weight_of("fc"), weight_of("")
    ('fc.weight', 'weight')
    """
    return f"{path}.weight" if path else "weight"


def judge_start(
    calls: Sequence[tuple[str, str, int]],
    signals: Sequence[Signal],
    inputs: Signal,
    weights: Mapping[str, NDArray[Any]],
    *,
    target: float,
) -> list[LayerStart]:
    """The rows of a model's dense and convolutional layers.

    Args:
        calls: `(path, kind, call)` of every layer call in execution order.
        signals: the signals of their outputs.
        inputs: the signal of the batch.
        weights: canonical parameters by path.
        target: the variance that outputs should have.

    >>> signal = Signal(mean=0.0, log_second_moment=0.0, log_variance=math.log(9.0), nonfinite=0)
    >>> (row,) = judge_start([("fc", "linear", 0)], [signal], signal, {"fc.weight": np.eye(4)}, target=1.0)
    >>> row.level, round(row.ratio, 9), row.gain
    ('watch', 9.0, 1.0)
    """
    rows: list[LayerStart] = []
    before, last, reached = "input", inputs.log_variance, inputs.log_second_moment
    for index, ((path, kind, call), signal) in enumerate(zip(calls, signals, strict=True)):
        if kind in LAYERS and call == 0:
            after = calls[index + 1][1] if index + 1 < len(calls) else None
            weight = weights.get(weight_of(path))
            normalised = after == kinds.NORM
            rows.append(_judge(path, kind, before, signal, last, reached, weight, normalised=normalised, target=target))
            last = signal.log_variance
        before, reached = kind, signal.log_second_moment
    return rows


def _judge(
    path: str,
    kind: str,
    before: str,
    signal: Signal,
    last: float,
    reached: float,
    weight: NDArray[Any] | None,
    *,
    normalised: bool,
    target: float,
) -> LayerStart:
    activation = None if before in LAYERS else before
    through = before if before in ACTIVATIONS else "identity"
    moments = gaussian.moments(through, math.log(target))
    gain = alike = None
    if weight is not None and weight.ndim > 1:
        values = np.asarray(weight, np.float64)
        gain = math.sqrt(fans(weight.shape)[0] * float(np.mean(np.square(values))))
        alike = bool(values.size > 1 and np.ptp(values) == 0)
    # If the second moment is not what the gain makes of the last signal, the layer has read something else.
    direct = not gain or abs(signal.log_second_moment - reached - 2 * math.log(gain)) <= math.log(_DIRECT)
    ratio = _exp(signal.log_variance - math.log(target))
    row = LayerStart(
        path=path,
        kind=kind,
        activation=activation,
        variance=_exp(signal.log_variance),
        ratio=ratio,
        growth=_exp(signal.log_variance - last) if last > -math.inf else math.nan,
        gain=gain,
        wanted_gain=math.exp((math.log(target) - float(moments.log_value)) / 2),
        critical_gain=math.exp(-float(moments.log_slope) / 2),
        normalised=normalised,
        level="good",
        advice="",
    )
    level, advice = advise(
        row, nonfinite=signal.nonfinite, alike=bool(alike), direct=direct, fine=START_FINE, bad=START_BAD
    )
    return dataclasses.replace(row, level=level, advice=advice)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf if not math.isnan(value) else math.nan
