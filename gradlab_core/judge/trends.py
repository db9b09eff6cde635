"""Trends: where norms go over the iterations, of every tensor and of groups of them, and whether that is beyond noise.

The slope is that of ln(norm) against the step, by least squares, for 100 steps. Successive norms are alike, which makes
the usual standard error too small; it is enlarged by √((1 + ρ)/(1 − ρ)), ρ the correlation of neighbouring residuals.
Source: Box, Jenkins, Reinsel & Ljung, Time Series Analysis, on the variance of a mean of an AR(1) series.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from gradlab_core.definitions import reference
from gradlab_core.definitions.thresholds import TREND_ERRORS, TREND_LEAST_CHANGE, TREND_LEAST_POINTS
from gradlab_core.errors import GradlabError
from gradlab_core.records import RecordedRun, StepRecord, TensorNorms

QUANTITIES = {"param": "Parameter norm", "grad": "Gradient norm", "ratio": "Update ratio"}
RISES, FALLS, STEADY, UNKNOWN = "rises", "falls", "steady", "unknown"
MOST = 1000
"""Records looked at: of a longer run every k-th and the last, which changes a slope by less than its error."""
_LARGEST_RHO = 0.99

DEFINITIONS = (
    (
        "Trend",
        "The slope of the logarithm of a norm over the steps (least squares), for 100 steps, ± its standard error, "
        "which allows for successive norms being alike. A norm rises or falls where the slope is beyond "
        f"{TREND_ERRORS:g} standard errors and the change over the run at least {100 * TREND_LEAST_CHANGE:g} %; else "
        "it is steady. What is 0, NaN, Inf or missing does not enter.",
    ),
    (
        "Early, late",
        "The first and the last third of the weights, in the order of the model, each third as one vector.",
    ),
)

Series = Sequence[tuple[int, float | None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
    """Where one quantity goes over the iterations.

    Attributes:
        path: path of the tensor, or name of the group.
        quantity: a key of `QUANTITIES`.
        first_step, last_step: the first and last records that have the tensor.
        first, last: the values there, as they are: NaN, Inf, 0 and None (no gradient path) too.
        slope: of the natural logarithm, for 100 steps; None with fewer than `TREND_LEAST_POINTS` positive numbers.
        error: the standard error of the slope.
        direction: `rises`, `falls`, `steady` (neither beyond the noise, or 0 throughout) or `unknown` (no slope).
        points: how many positive numbers the slope is fitted to; all other values are left out.
    """

    path: str
    quantity: str
    first_step: int
    last_step: int
    first: float | None
    last: float | None
    slope: float | None
    error: float | None
    direction: str
    points: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trends:
    """Trends of every tensor, in the order of the model, of groups, and of the ratios of two groups.

    Groups: `weights` (all but the biases) and `biases`; `early` and `late`, the first and the last third of the
    weights. `contrasts` holds `weights / biases` and `early / late`, whose trend says whether one gains on the other.
    `members` says which tensors are in each group.
    """

    tensors: tuple[Trend, ...]
    groups: tuple[Trend, ...]
    contrasts: tuple[Trend, ...]
    members: Mapping[str, tuple[str, ...]]


def trend(path: str, quantity: str, series: Series) -> Trend:
    """The trend of `(step, value)` pairs in the order of their steps.

    >>> found = trend("fc1.weight", "param", [(i, 0.1 * 1.01**i) for i in range(50)])
    >>> found.direction, round(found.slope, 6)  # 100·ln 1.01
    ('rises', 0.995033)
    >>> trend("fc1.bias", "param", [(0, 0.0), (1, 0.1)]).direction
    'unknown'
    """
    (first_step, first), (last_step, last) = series[0], series[-1]
    used = [(step, value) for step, value in series if value is not None and math.isfinite(value) and value > 0]
    slope, error, direction = None, None, UNKNOWN
    if len(used) >= TREND_LEAST_POINTS:
        slope, error = _line(*np.array(used, dtype=np.float64).T)
        change = abs(slope) * (used[-1][0] - used[0][0]) / 100
        moves = abs(slope) > TREND_ERRORS * error and change >= math.log1p(TREND_LEAST_CHANGE)
        direction = STEADY if not moves else RISES if slope > 0 else FALLS
    elif len(series) >= TREND_LEAST_POINTS and all(value == 0 for _, value in series):
        direction = STEADY
    return Trend(
        path=path,
        quantity=quantity,
        first_step=first_step,
        last_step=last_step,
        first=first,
        last=last,
        slope=slope,
        error=error,
        direction=direction,
        points=len(used),
    )


def trends(records: Iterable[StepRecord]) -> Trends:
    """All trends of a run.

    Raises:
        GradlabError: there is no record.
    """
    run = RecordedRun(records)
    if not run:
        raise GradlabError("trends: no record; expected at least one")
    stride = -(-len(run) // MOST)
    looked = [record for i, record in enumerate(run) if i % stride == 0 or i == len(run) - 1]
    paths = list(dict.fromkeys(path for record in looked for path in record.tensors))
    members = _members(paths)
    series = {(name, q): _group(looked, own, q) for name, own in members.items() for q in QUANTITIES}
    pairs = [(a, b) for a, b in (("weights", "biases"), ("early", "late")) if a in members and b in members]
    return Trends(
        tensors=tuple(trend(path, q, _tensor(looked, path, q)) for path in paths for q in QUANTITIES),
        groups=tuple(trend(name, q, values) for (name, q), values in series.items() if values),
        contrasts=tuple(
            trend(f"{a} / {b}", q, both)
            for a, b in pairs
            for q in QUANTITIES
            if (both := _over(series[a, q], series[b, q]))
        ),
        members=members,
    )


def is_bias(path: str) -> bool:
    """Whether a parameter is a bias, by its name.

    >>> is_bias("fc1.bias"), is_bias("rnn.bias_hh_l0"), is_bias("fc1.weight")
    (True, True, False)
    """
    return path.rpartition(".")[2].startswith("bias")


def _members(paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    weights = tuple(path for path in paths if not is_bias(path))
    third = -(-len(weights) // 3)
    ends = {"early": weights[:third], "late": weights[-third:]} if len(weights) > 1 else {}
    groups = {"weights": weights, "biases": tuple(path for path in paths if is_bias(path)), **ends}
    return {name: own for name, own in groups.items() if own}


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of ln y per 100 units of x, and its standard error."""
    x, y = (x - x.mean()) / 100, np.log(y)
    y = y - y.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    rest = y - slope * x
    square = float(rest @ rest)
    # Residuals that are nothing but rounding have no meaningful correlation.
    rho = min(max(float(rest[1:] @ rest[:-1]) / square, 0.0), _LARGEST_RHO) if square > 0 else 0.0
    return slope, math.sqrt(square / (len(x) - 2) / spread * (1 + rho) / (1 - rho))


def _tensor(run: Sequence[StepRecord], path: str, quantity: str) -> Series:
    return [(record.step, getattr(record.tensors[path], quantity)) for record in run if path in record.tensors]


def _group(run: Sequence[StepRecord], own: Sequence[str], quantity: str) -> Series:
    """The joint norm of all members; None at a step at which none of them has one."""

    def joint_norm(norms: Sequence[TensorNorms], of: Callable[[TensorNorms], float | None]) -> float | None:
        values = [value for value in map(of, norms) if value is not None]
        # `math.hypot` takes Inf before NaN; a norm with a NaN in it is NaN.
        return None if not values else math.nan if any(map(math.isnan, values)) else math.hypot(*values)

    series: list[tuple[int, float | None]] = []
    for record in run:
        norms = [record.tensors[path] for path in own if path in record.tensors]
        if quantity == "ratio":
            moved, size = joint_norm(norms, lambda n: n.update), joint_norm(norms, lambda n: n.param)
            value = None if moved is None or size is None else reference.ratio(moved, size)
        elif quantity == "grad":
            value = joint_norm(norms, lambda n: n.grad)
        else:
            value = joint_norm(norms, lambda n: n.param)
        if norms:
            series.append((record.step, value))
    return series


def _over(above: Series, below: Series) -> Series:
    """One group over another where both have a value; x/0 is Inf, 0/0 NaN: neither enters a slope."""
    under = dict(below)
    series: list[tuple[int, float | None]] = []
    for step, a in above:
        if step in under:
            b = under[step]
            if a is None or b is None:
                series.append((step, None))
            else:
                series.append((step, math.nan if a == b == 0 else reference.ratio(a, b)))
    return series
