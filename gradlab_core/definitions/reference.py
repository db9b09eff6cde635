"""The definitions in float64 NumPy; both twins translate this file.

Every function takes anything `numpy.asarray` takes, in canonical layout (activations N, C, spatial…), computes in
float64 whatever comes in, on all elements, without ε and with population statistics (ddof 0), and returns Python
numbers. Scaling by powers of two keeps squares from over- and underflowing without changing a digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradlab_core.definitions import kinds
from gradlab_core.definitions.recurrent import PARAMETERS
from gradlab_core.records import ActivationSummary, GradientFlow, LayerStats

Array = NDArray[np.float64]
RATIO_EPSILON = 1e-12  # in first/(last + ε) of the gradient flow, and nowhere else


def _scaled(x: Array) -> tuple[Array, float]:
    """x divided by a power of two near its largest magnitude, and that power; (x, 1) when there is nothing to scale."""
    largest = float(np.max(np.abs(x), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return x, 1.0
    exponent = min(math.frexp(largest)[1], 1023)
    return np.ldexp(x, -exponent), math.ldexp(1.0, exponent)


def norm(x: ArrayLike) -> float:
    """‖x‖₂ = √Σx² of all elements; any NaN gives NaN, any ±Inf and no NaN gives Inf, an empty array gives 0.

    >>> norm([3e200, 4e200]) / 1e200, norm([]), norm([float("inf"), 1.0])
    (5.0, 0.0, inf)
    """
    return global_norm([x])


def global_norm(arrays: Iterable[ArrayLike | None]) -> float:
    """‖·‖₂ of several tensors taken as one vector; None (a missing gradient) contributes nothing.

    >>> global_norm([[3.0], None, [[4.0]]])
    5.0
    """
    flat = [np.asarray(a, dtype=np.float64).ravel() for a in arrays if a is not None]
    x = np.concatenate(flat) if flat else np.zeros(0)
    if np.isnan(x).any():
        return math.nan
    if np.isinf(x).any():
        return math.inf
    scaled, scale = _scaled(x)
    return math.sqrt(float(np.sum(np.square(scaled)))) * scale


def ratio(numerator: float, denominator: float) -> float:
    """numerator/denominator of two norms: 0/0 is 0, anything else over 0 is Inf, NaN stays NaN.

    >>> ratio(0.0, 0.0), ratio(1.0, 0.0), ratio(1.0, 4.0)
    (0.0, inf, 0.25)
    """
    if math.isnan(numerator) or math.isnan(denominator):
        return math.nan
    if denominator == 0.0:
        return 0.0 if numerator == 0.0 else math.inf
    return math.nan if math.isinf(numerator) and math.isinf(denominator) else numerator / denominator


def update_ratio(params: Iterable[ArrayLike], updates: Iterable[ArrayLike]) -> float:
    """‖Δθ‖/‖θ‖ for the update that was really applied, Δθ = θ_new − θ_old.

    >>> update_ratio([[3.0, 4.0]], [[0.0, 0.005]])
    0.001
    """
    return ratio(global_norm(updates), global_norm(params))


def step_ratio(params: Iterable[ArrayLike], grads: Iterable[ArrayLike | None], learning_rate: float) -> float:
    """η‖g‖/‖θ‖, what the update ratio would be under plain SGD.

    >>> f"{step_ratio([[69.77]], [[0.33]], 0.001):.3g}"
    '4.73e-06'
    """
    return ratio(learning_rate * global_norm(grads), global_norm(params))


def trust_ratio(params: Iterable[ArrayLike], grads: Iterable[ArrayLike | None]) -> float:
    """‖θ‖/‖g‖ of one layer. Source: You, Gitman & Ginsburg 2017 (LARS).

    >>> trust_ratio([[3.0, 4.0]], [[0.0, 0.5]])
    10.0
    """
    return ratio(global_norm(params), global_norm(grads))


def cosine_similarity(arrays: Sequence[ArrayLike], others: Sequence[ArrayLike]) -> float:
    """⟨a, b⟩/(‖a‖‖b‖) of several tensors taken as one vector each; NaN if either is zero or not finite.

    >>> cosine_similarity([[3.0], [4.0]], [[4.0], [3.0]]), cosine_similarity([[1.0]], [[0.0]])
    (0.96, nan)
    """
    a, b = (np.concatenate([np.asarray(x, dtype=np.float64).ravel() for x in tree]) for tree in (arrays, others))
    sizes = norm(a), norm(b)
    if not all(0 < size < math.inf for size in sizes):
        return math.nan
    return float(np.sum((a / sizes[0]) * (b / sizes[1])))


def distance(params: Sequence[ArrayLike], origin: Sequence[ArrayLike]) -> float:
    """‖θ − θ₀‖, how far parameters are from where they were.

    >>> distance([[3.0, 1.0]], [[0.0, 5.0]])
    5.0
    """
    pairs = zip(params, origin, strict=True)
    return global_norm([np.asarray(p, dtype=np.float64) - np.asarray(o, dtype=np.float64) for p, o in pairs])


def activation_stats(
    x: ArrayLike, *, path: str, kind: str, call: int = 0, mode: str = "eval", channel_axis: int = 1
) -> LayerStats:
    """Statistics of one activation tensor; over its finite elements, and `nonfinite` counts the rest.

    `saturated_frac` counts elements within 1 % of the range from a bound, `dead_unit_frac` the channels (along
    `channel_axis`) that are 0 everywhere. Without one finite element the statistics are NaN.

    >>> s = activation_stats([[0.0, 2.0], [0.0, -float("inf")]], path="act", kind="relu")
    >>> s.mean, s.nonfinite, s.dead_unit_frac
    (0.6666666666666666, 1, 0.5)
    """
    values = np.asarray(x, dtype=np.float64)
    finite = values[np.isfinite(values)]
    scaled, scale = _scaled(finite)
    some = finite.size > 0
    mean = float(np.mean(scaled)) if some else math.nan
    return LayerStats(
        path=path,
        kind=kind,
        call=call,
        shape=values.shape,
        mode=mode,
        mean=mean * scale,
        std=float(np.sqrt(np.mean(np.square(scaled - mean)))) * scale if some else math.nan,
        min=float(finite.min()) if some else math.nan,
        max=float(finite.max()) if some else math.nan,
        rms=float(np.sqrt(np.mean(np.square(scaled)))) * scale if some else math.nan,
        zero_frac=float(np.mean(finite == 0.0)) if some else math.nan,
        nonfinite=int(values.size - finite.size),
        saturated_frac=_saturated(finite, kind) if kind in kinds.BOUNDS else None,
        dead_unit_frac=_dead(values, channel_axis) if kind in kinds.RELU_LIKE else None,
    )


def _saturated(finite: Array, kind: str) -> float:
    low, high = kinds.SATURATED[kind]
    if finite.size == 0:
        return math.nan
    return float(np.mean((finite <= low) | (finite >= high)))


def _dead(values: Array, channel_axis: int) -> float:
    if values.size == 0:
        return math.nan
    # A scalar per example has no channel axis: the whole tensor is then one unit.
    units = np.moveaxis(values, channel_axis, 0).reshape(values.shape[channel_axis], -1) if values.ndim > 1 else values
    return float(np.mean(np.all(np.atleast_2d(units) == 0.0, axis=1)))


def activation_summary(rows: Sequence[LayerStats]) -> ActivationSummary:
    """One line for a net: each call of a tracked layer counts once.

    >>> rows = [activation_stats([[-1.0, 1.0]], path="a", kind="norm")]
    >>> rows += [activation_stats([[0.0, 1.0]], path="b", kind="relu")]
    >>> s = activation_summary(rows); s.layers_tracked, s.mean_std, s.relu_zero_frac_mean
    (2, 0.75, 0.5)
    """

    def over(reduce: object, values: list[float]) -> float | None:
        return float(reduce(np.array(values))) if values else None  # type: ignore[operator]

    stds = [row.std for row in rows]
    zeros = [row.zero_frac for row in rows if row.kind in kinds.ZERO_SUMMARY]
    return ActivationSummary(
        layers_tracked=len(rows),
        mean_mean=over(np.mean, [row.mean for row in rows]),
        mean_std=over(np.mean, stds),
        min_std=over(np.min, stds),
        max_std=over(np.max, stds),
        relu_zero_frac_mean=over(np.mean, zeros),
        relu_zero_frac_max=over(np.max, zeros),
    )


def gradient_flow(
    *, mode: str, loss: float, layers: Mapping[str, float | None], calls: Sequence[tuple[str, str]]
) -> GradientFlow:
    """The flow record from the gradient norm of every parameter (None: disconnected) and the `(path, kind)` of every
    layer call in execution order, which says which weight is first and which is last.

    >>> f = gradient_flow(mode="train", loss=2.3, layers={"a.weight": 3.0, "b.weight": None, "c.weight": 4.0},
    ...                   calls=[("a", "conv"), ("b", "conv"), ("c", "linear")])
    >>> round(f.ratio, 6), f.global_norm, f.disconnected
    (0.75, 5.0, ('b.weight',))
    """
    weights = [(f"{path}.weight" if path else "weight", kind) for path, kind in calls]
    weights = [(weight, kind) for weight, kind in weights if weight in layers]
    convolutions = [weight for weight, kind in weights if kind == kinds.CONV]
    linear = [weight for weight, kind in weights if kind == kinds.LINEAR]
    # Recurrent layers are not among the calls: one that comes first is known by its parameter, in definition order.
    recurrent = [name for name in list(layers)[:1] if name.rpartition(".")[2] == PARAMETERS[0]]
    entrance = next(iter(convolutions or recurrent or [weight for weight, _ in weights]), None)
    first = None if entrance is None else layers[entrance]
    last = layers[linear[-1]] if linear else None
    return GradientFlow(
        mode=mode,
        loss=loss,
        first=first,
        last=last,
        ratio=None if first is None or last is None else first / (last + RATIO_EPSILON),
        global_norm=global_norm([[g] for g in layers.values() if g is not None]),
        layers=dict(layers),
        disconnected=tuple(path for path, g in layers.items() if g is None),
    )


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean softmax cross-entropy of logits (N, classes) against integer labels (N,), the default loss.

    >>> round(cross_entropy([[0.0, 0.0]], [1]), 6)  # ln 2
    0.693147
    """
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    picked = np.take_along_axis(z, np.asarray(labels)[:, None], axis=1)[:, 0]
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - picked))


def input_sensitivity(logits: ArrayLike, perturbed: ArrayLike) -> float:
    """Mean over the batch of ‖f(x+δ) − f(x)‖₂ for two sets of logits (N, classes).

    >>> input_sensitivity([[0.0, 0.0]], [[3.0, 4.0]])
    5.0
    """
    difference = np.asarray(perturbed, dtype=np.float64) - np.asarray(logits, dtype=np.float64)
    return float(np.mean([norm(row) for row in difference]))


def nonfinite_count(x: ArrayLike) -> int:
    """How many elements are NaN or ±Inf.

    >>> nonfinite_count([1.0, float("nan"), float("inf")])
    2
    """
    return int(np.size(x) - np.isfinite(np.asarray(x, dtype=np.float64)).sum())


def clip_by_global_norm(arrays: Sequence[ArrayLike], max_norm: float) -> tuple[list[Array], float]:
    """The tensors times min(1, c/‖·‖), and the norm before. A norm that is not finite changes nothing: scaling would
    turn Inf into NaN and finite elements into 0, and hide where the trouble is.

    >>> clip_by_global_norm([[3.0], [4.0]], 1.0)
    ([array([0.6]), array([0.8])], 5.0)
    """
    size = global_norm(arrays)
    factor = max_norm / size if math.isfinite(size) and size > max_norm else 1.0
    return [np.asarray(a, dtype=np.float64) * factor for a in arrays], size
