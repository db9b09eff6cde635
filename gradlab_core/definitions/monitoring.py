"""Makes the record of a step from the numbers that a twin measured: the twins measure, the decisions are made here."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from gradlab_core import fields
from gradlab_core.definitions import promise, reference
from gradlab_core.definitions.quantities import EXTRAS, Quantity, problems_of
from gradlab_core.definitions.states import gradient_state
from gradlab_core.errors import refuse
from gradlab_core.records import GradientState, Probe, QuantityValues, StepRecord, TensorNorms
from gradlab_core.records.later import build


def check_monitor(every: int, extras: Sequence[str | Quantity], look_every: int | None = None) -> None:
    """Refuse options that a monitor cannot have.

    >>> check_monitor(0, ["cosine"])
    Traceback (most recent call last):
    gradlab_core.errors.GradlabError: monitor: 2 problems
      - every is 0; expected a whole number of at least 1
      - extra 'cosine' is unknown; expected some of grad_cosine, update_cosine, distance, or a Quantity
    """
    problems: list[str] = []
    fields.whole_number(problems, "every", every, 1)
    if look_every is not None:
        fields.whole_number(problems, "look_every", look_every, 1)
    refuse("monitor", problems + problems_of(extras))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Norms as plain numbers, one per tensor in the order of `names`; `sizes` counts elements.

    A gradient is None where there is no gradient path. `lost`: an update was proposed and moved nothing. `extras` holds
    `{quantity: {path: value}}` for the extras that were asked for, `before` the norms of the tensors that the cosines
    compare with, under the same names. `quantities` are the extras of the user's own.

    `grad_updates` and `param_updates` hold the inner products of the updates with gradients and parameters; one with a
    gradient is None where there is none, or where it is not known any more.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    params: Sequence[float]
    grads: Sequence[float | None]
    updates: Sequence[float]
    lost: Sequence[bool]
    raw_grad_norm: float | None = None
    extras: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    before: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    quantities: Sequence[Quantity] = ()
    grad_updates: Sequence[float | None] | None = None
    param_updates: Sequence[float | None] | None = None

    @functools.cached_property
    def grad_norm(self) -> float:
        """The norm of all gradients together."""
        return reference.global_norm([[g for g in self.grads if g is not None]])


def step_record(
    measured: Measured,
    *,
    step: int,
    loss: float | None,
    learning_rate: float | None,
    anomaly: float | None,
    known: Mapping[str, GradientState] | None = None,
    probe: Probe | None = None,
) -> StepRecord:
    """The record of one step; `known` holds the states that the program decides, in the order of the model.

    The entries of the tensors are made from `measured` when they are first read, so it must not change afterwards.
    """
    m = measured
    # The norm of all tensors is the norm of their norms.
    param_norm, update_norm = reference.global_norm([m.params]), reference.global_norm([m.updates])
    of_all = {
        "step": step,
        "loss": loss,
        "learning_rate": learning_rate,
        "grad_norm": m.grad_norm,
        "param_norm": param_norm,
        "update_norm": update_norm,
        "update_ratio": reference.ratio(update_norm, param_norm),
        "raw_grad_norm": m.raw_grad_norm,
        "clipped": None if m.raw_grad_norm is None else m.raw_grad_norm > m.grad_norm * (1 + 1e-6),
        "skipped": update_norm == 0.0 and m.grad_norm != 0.0 and not any(m.lost),
        "anomaly": anomaly,
        "grad_cosine": _over_all(m, "grad_cosine", m.grads),
        "update_cosine": _over_all(m, "update_cosine", m.updates),
        "distance": reference.global_norm([list(m.extras["distance"].values())]) if "distance" in m.extras else None,
        "probe": probe,
        "quantities": {q.name: _values(q, m.extras.get(q.name, {})) for q in m.quantities},
        "grad_update": _product(m.grad_updates, m.grads),
        "param_update": _product(m.param_updates, m.params),
    }
    return build(StepRecord, of_all, {"tensors": lambda: _tensors(m), "states": lambda: _states(m, known or {})})


def _tensors(m: Measured) -> dict[str, TensorNorms]:
    nothing: Mapping[str, float] = {}
    extras = [(quantity, m.extras.get(quantity, nothing)) for quantity in EXTRAS]
    missing: Sequence[float | None] = [None] * len(m.names)
    products = m.grad_updates or missing, m.param_updates or missing
    return {
        name: TensorNorms(
            param=p,
            grad=g,
            update=u,
            ratio=reference.ratio(u, p),
            grad_update=None if g is None else gu,
            param_update=pu,
            **{quantity: v.get(name) for quantity, v in extras},
        )
        for name, p, g, u, gu, pu in zip(m.names, m.params, m.grads, m.updates, *products, strict=True)
    }


def _states(m: Measured, known: Mapping[str, GradientState]) -> dict[str, GradientState]:
    judged = {
        name: gradient_state(g, size, lost=lost)
        for name, size, g, lost in zip(m.names, m.sizes, m.grads, m.lost, strict=True)
    }
    return {**known, **judged}


def _product(products: Sequence[float | None] | None, norms: Sequence[float | None]) -> float | None:
    """The inner product over all tensors: a missing gradient adds nothing, one that is not known leaves all unknown."""
    if products is None or all(norm is None for norm in norms):
        return None
    there = [product for product, norm in zip(products, norms, strict=True) if norm is not None]
    known = [product for product in there if product is not None]
    return promise.total(known) if len(known) == len(there) else None


def _values(quantity: Quantity, tensors: Mapping[str, float]) -> QuantityValues:
    return QuantityValues(tensors=tensors, whole=quantity.of_all(list(tensors.values())))


def _over_all(m: Measured, quantity: str, norms: Sequence[float | None]) -> float | None:
    """The cosine between all tensors taken as two vectors, from the cosines and the norms of the tensors."""
    cosines, then = m.extras.get(quantity, {}), m.before.get(quantity, {})
    if not cosines:
        return None
    now = dict(zip(m.names, norms, strict=True))
    parts = [(c, a, b) for path, c in cosines.items() if (a := now[path]) and (b := then[path])]
    sizes = reference.global_norm([[a for _, a, _ in parts]]), reference.global_norm([[b for _, _, b in parts]])
    return sum(c * (a / sizes[0]) * (b / sizes[1]) for c, a, b in parts) if parts else math.nan
