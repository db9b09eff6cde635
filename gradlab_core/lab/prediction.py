"""What mean-field theory expects of every layer in a chain of layers and activations: in the limit of infinite width,
and to first order in 1/width for nets of the given width.

The limit holds for the variances of a wide net. For a net of n units it holds only on average: the variance after each
activation is a mean over n units, which differs between nets by a share of about 1/√n, and the shares of all layers
add up. So theory expects a centre and a spread for the logarithm of a measured second moment. Both are found by
carrying the mean and variance of ln q, for one input, from layer to layer (the delta method). They are rough if the
spread exceeds about 1.5. For a batch of several inputs the spread is an upper bound, which is reached if all inputs are
alike. Weights and biases are taken to be Gaussian and independent; orthogonal weights have less spread.

On the way back, the limit takes weights to be independent of those of the forward pass, as all mean-field theory of
gradients does (Schoenholz et al. 2017). To first order this is wrong in one of n directions: the part of Wᵀδ along a,
the input of the layer, is not random but is δ·Wa/|a|. The size of δ·z on the way back also enters the centre. The idea
comes from Hanin & Nica 2020, Products of many large random matrices and gradients in deep neural networks, for ReLU;
here it is used for any activation.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gradlab_core.definitions import kinds
from gradlab_core.lab import gaussian
from gradlab_core.lab.numeric import log

Array = NDArray[np.float64]
LAYERS = (kinds.LINEAR, kinds.CONV)
_STEP = 1e-2  # the step of the derivatives with respect to ln q
_POWER_LAW = gaussian.REACH + 1
_APART = 256  # with more distinct values in a map, expectations are read off a table
_TABLE = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What theory expects of the natural logarithm of a second moment.

    Attributes:
        limit: the value in a net of infinite width.
        centre: the mean over nets of this width.
        spread: the standard deviation over nets of this width; about 95 % of them lie within centre ± 2·spread.
    """

    limit: float
    centre: float
    spread: float


@dataclasses.dataclass(frozen=True)
class Link:
    """One link of a chain, in which each link feeds only the next.

    Attributes:
        kind: `linear` or `conv`, or the name of an activation.
        units: number of outputs or channels of a layer.
        push: for a layer, the linear map from second moments of inputs to those of outputs without bias, averaged over
            random weights.
        pull: the transpose of `push`, from second moments of the gradients in outputs to those in inputs.
        bias: for a layer, the mean square of its biases.
    """

    kind: str
    units: int = 0
    push: Callable[[Array], Array] | None = None
    pull: Callable[[Array], Array] | None = None
    bias: float = 0.0


@dataclasses.dataclass
class _State:
    """The state of a chain after a link: ln of the mean second moment, the map over places divided by that mean, and
    the mean and variance over nets of the difference of ln from the limit."""

    log: float
    places: Array
    mean: float = 0.0
    variance: float = 0.0


@dataclasses.dataclass
class _Step:
    """The numbers of a link that the way back needs."""

    expected: Expected
    state: _State  # after the link; for a layer, of the variance with which its outputs are drawn
    share: float = 1.0  # for a layer, the part of its variance that does not come from biases


@dataclasses.dataclass
class _Local:
    """An activation at one variance: the derivatives of ln E[φ²] and ln E[φ′²] with respect to ln q, the noise, and
    E[φ²]/(q·E[φ′²])."""

    value: tuple[float, float]
    slope: tuple[float, float]
    value_noise: float
    slope_noise: float
    together: float
    bend: float


def predict_chain(
    links: Sequence[Link], inputs: Array, log_gradient: float | None = None
) -> tuple[list[Expected], list[Expected | None]]:
    """The expectation for the outputs of every link, and for the gradient of the loss in them.

    Args:
        links: the links of the chain. The first is a layer, and there is a layer between two activations.
        inputs: second moments of the inputs, in any shape that the first link can push.
        log_gradient: ln of the second moment of the gradient in the output of the last link; None for no way back.

    >>> layer = Link("linear", 100, lambda q: 2 * q, lambda g: 2 * g)
    >>> forward, backward = predict_chain([layer, Link("relu"), layer], np.ones(1), 0.0)
    >>> [round(math.exp(e.limit), 9) for e in forward], [round(math.exp(e.limit), 9) for e in backward if e]
    ([2.0, 1.0, 2.0], [1.0, 2.0, 1.0])
    """
    state = _State(*_scaled(np.asarray(inputs, np.float64)))
    steps: list[_Step] = []
    before: Link | None = None
    for link in links:
        if link.push is not None:
            if before is not None and before.push is not None:
                state = _drawn(state, before.units)
            steps.append(_through_layer(link, state))
        else:
            assert before is not None, "a chain starts with a layer"
            steps.append(_through_activation(link.kind, before.units, state))
        state, before = steps[-1].state, link
    backward: list[Expected | None] = [None] * len(links)
    if log_gradient is not None:
        backward = list(_back(links, steps, log_gradient))
    return [step.expected for step in steps], backward


def _through_layer(link: Link, before: _State) -> _Step:
    assert link.push is not None
    pushed = link.push(before.places)
    mean = float(np.mean(pushed))
    without = before.log + log(mean)
    level = float(np.logaddexp(without, log(link.bias)))
    if level == -math.inf:
        return _Step(Expected(limit=level, centre=level, spread=0.0), _State(level, np.zeros_like(pushed)))
    share = math.exp(without - level)
    places = pushed / mean * share + (1 - share) if mean else np.ones_like(pushed)
    drift = share * before.mean + share * (1 - share) * before.variance / 2
    state = _State(level, places, drift, share**2 * before.variance)
    seen = _drawn(state, link.units)
    return _Step(Expected(limit=level, centre=level + seen.mean, spread=math.sqrt(seen.variance)), state, share)


def _drawn(state: _State, units: int) -> _State:
    """The mean of so many squares of Gaussians with the variance of the state."""
    noise = 2 / units
    return _State(state.log, state.places, state.mean - noise / 2, state.variance + noise)


def _through_activation(kind: str, units: int, before: _State) -> _Step:
    local = _local(kind, before.log)
    largest, shares = _at_places(kind, before, "log_value")
    scale, places = _scaled(shares)
    mapped = largest + scale
    noise = local.value_noise / units
    first, second = local.value
    state = _State(
        mapped,
        places,
        first * before.mean + (second * before.variance - noise) / 2,
        first**2 * before.variance + noise,
    )
    return _Step(Expected(limit=mapped, centre=mapped + state.mean, spread=math.sqrt(state.variance)), state)


def _back(links: Sequence[Link], steps: Sequence[_Step], log_gradient: float) -> list[Expected]:
    """Go back through the chain. `tie` is the derivative of ln of the gradient with respect to ln of the second moment
    of the output of this link, through the slopes of all later activations. `noise` is the part of its variance that
    comes from later draws. `overlap` is the amount by which (δ·z)² of a layer exceeds |δ|²|z|²/n, its value for a
    random δ, and `excess` is the same for δ·Wa."""
    level, places = log_gradient, np.ones_like(steps[-1].state.places)
    mean = tie = noise = overlap = excess = 0.0
    expected = [Expected(limit=level, centre=level, spread=0.0)]
    for i in reversed(range(1, len(links))):
        link, below = links[i], links[i - 1]
        if link.pull is not None:
            scale, places = _scaled(link.pull(places))
            level, tie, excess = level + scale, tie * steps[i].share, overlap * steps[i].share
            units = below.units or links[i - 2].units
            drawn = _IDENTITY if below.push is not None else None  # otherwise the activation draws, below
        else:
            units, drawn = below.units, _local(link.kind, steps[i - 1].state.log)
            largest, shares = _at_places(link.kind, steps[i - 1].state, "log_slope")
            scale, places = _scaled(places * shares)
            level += largest + scale
        state = steps[i - 1].state
        if drawn is not None:
            first, second = drawn.slope
            mean += first * state.mean + (second * state.variance - drawn.slope_noise / units) / 2
            mean += excess * (1 + drawn.together) / units
            overlap = 2 * first + excess * drawn.value[0] ** 2 * drawn.bend
            noise += (drawn.slope_noise + 2 * tie * drawn.together + tie**2 * drawn.value_noise) / units
            tie = first + drawn.value[0] * tie
        # At the output of an activation the gradient is a mean of squares without the weights of its slopes.
        loose = 2 / units if drawn is None else 0.0
        variance = max(noise + tie**2 * state.variance + loose, 0.0)
        seen = mean - loose / 2 + (excess / units if drawn is None else 0.0)
        expected.append(Expected(limit=level, centre=level + seen, spread=math.sqrt(variance)))
    return expected[::-1]


_IDENTITY = _Local((1.0, 0.0), (0.0, 0.0), 2.0, 2.0, 0.0, 1.0)


def _local(kind: str, log_q: float) -> _Local:
    # For a power law all places give the same result.
    return _local_at(kind, min(max(log_q, -_POWER_LAW), _POWER_LAW))


@functools.lru_cache(maxsize=4096)
def _local_at(kind: str, log_q: float) -> _Local:
    moments = gaussian.moments(kind, [log_q - _STEP, log_q, log_q + _STEP])

    def derivatives(values: Array) -> tuple[float, float]:
        low, middle, high = values.tolist()
        return (high - low) / (2 * _STEP), (high - 2 * middle + low) / _STEP**2

    return _Local(
        derivatives(moments.log_value),
        derivatives(moments.log_slope),
        float(moments.value_spread[1]),
        float(moments.slope_spread[1]),
        float(moments.together[1]),
        math.exp(float(moments.log_value[1] - moments.log_slope[1]) - log_q),
    )


def _at_places(kind: str, state: _State, name: str) -> tuple[float, Array]:
    """E[φ²] or E[φ′²] at every place, as ln of the largest and the shares of it."""
    with np.errstate(divide="ignore"):
        logs = state.log + np.log(state.places)
    apart, index = np.unique(logs, return_inverse=True)
    if len(apart) <= _APART:
        values = np.asarray(getattr(gaussian.moments(kind, apart), name))[index].reshape(logs.shape)
    else:
        finite = apart[np.isfinite(apart)]
        table = np.linspace(finite[0], finite[-1], _TABLE)
        values = np.interp(logs, table, getattr(gaussian.moments(kind, table), name))
        if apart[0] == -math.inf:
            values = np.where(np.isfinite(logs), values, getattr(gaussian.moments(kind, -math.inf), name))
    largest = float(values.max())
    return largest, np.exp(values - largest) if largest > -math.inf else np.zeros_like(values)


def _scaled(values: Array) -> tuple[float, Array]:
    """ln of the mean, and the values divided by the mean."""
    mean = float(np.mean(values))
    return log(mean), values / mean if mean else np.zeros_like(values)
