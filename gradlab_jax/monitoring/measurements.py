"""What a monitor measures of one step, on the device: pure functions, and a result whose structure never changes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.definitions.quantities import Quantity
from gradlab_core.definitions.states import STRUCTURAL
from gradlab_core.definitions.thresholds import ANOMALY_DECAY, ANOMALY_LEAST_STD, ANOMALY_WARM_UP
from gradlab_core.errors import refuse
from gradlab_core.records import GradientState
from gradlab_jax.model.modules import canonical_name
from gradlab_jax.monitoring import extras as _extras
from gradlab_jax.monitoring.applied import POWERS, PRODUCTS, applied, step_norms
from gradlab_jax.trees.leaves import Tree, named_leaves
from gradlab_jax.trees.norm_arithmetic import stacked_norms
from gradlab_jax.trees.norms import global_norm

Known = Mapping[str, GradientState]
FIRST_RMS = 1e-9
"""What the first gradient and update of a large array are taken to be near: then a root mean square from 1e-24 to 1e6
is right at the first record too."""
Moving = tuple[jax.Array, jax.Array, jax.Array]
"""Mean and variance of log ‖g‖, and of how many steps: `gradlab_core.definitions.anomaly.MovingScore`."""


_NUMBERS = ["step", "loss", "has_loss", "has_before", "norms", "extras", "before", "score", "is_scored"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=_NUMBERS,
    meta_fields=["names", "sizes", "known", "quantities"],
)
@dataclasses.dataclass(frozen=True)
class Measurements:
    """What was measured at the newest recorded step, on the device; `step` is −1 before the first.

    `norms` holds a value per tensor, in the order of `names`: of parameter, gradient and applied update, `proposed`,
    above 0 where an update was, and what the step promised, as `step_norms` gives it; `before` the norms of gradient
    and update at the record before, for the cosines; `quantities` describe the `extras`.
    """

    step: jax.Array
    loss: jax.Array
    has_loss: jax.Array
    has_before: jax.Array
    norms: dict[str, jax.Array]
    extras: dict[str, jax.Array]
    before: dict[str, jax.Array]
    score: jax.Array
    is_scored: jax.Array
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    known: tuple[tuple[str, GradientState], ...]
    quantities: tuple[Quantity, ...]


def _to_state_dict(measurements: Measurements) -> dict[str, Any]:
    return {name: flax.serialization.to_state_dict(getattr(measurements, name)) for name in _NUMBERS}


def _from_state_dict(measurements: Measurements, stored: dict[str, Any]) -> Measurements:
    restore = flax.serialization.from_state_dict
    stored = {**stored, "norms": {**measurements.norms, **stored["norms"]}}  # a checkpoint may be older than a quantity
    return dataclasses.replace(
        measurements, **{name: restore(getattr(measurements, name), stored[name]) for name in _NUMBERS}
    )


# So that a train state with a monitor in it can be written as a checkpoint.
flax.serialization.register_serialization_state(Measurements, _to_state_dict, _from_state_dict)


def leaves_of(tree: Tree, paths: Mapping[str, str]) -> dict[str, jax.Array]:
    """`{canonical path: array}` in the order of the tree. Flax's kernel and scale are called weight, as in PyTorch;
    `paths` has the last word."""
    leaves = {path: leaf for path, leaf in named_leaves(tree) if leaf is not None}
    heads = [path.rpartition(".") for path in leaves]
    names = [f"{head}{dot}{canonical_name(last)}" for head, dot, last in heads]
    if len(set(names)) < len(names):  # two would be called alike
        names = list(leaves)
    names = [paths.get(path, paths.get(name, name)) for path, name in zip(leaves, names, strict=True)]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    refuse("paths", [f"{name} stands for several arrays; expected one" for name in twice])
    return dict(zip(names, leaves.values(), strict=True))


def named_values(names: Sequence[str], vector: Any, cut: Collection[str] = ()) -> dict[str, float]:
    """`{name: value}` of a vector on the host, without those that are `cut`."""
    return {name: v for name, v in zip(names, vector.tolist(), strict=True) if name not in cut}


def products_of(norms: Mapping[str, Any]) -> dict[str, list[float]]:
    """The inner products of a step from its `norms` on the host."""
    pairs = [(f"{product}s", norms[product], norms[power]) for product, power in zip(PRODUCTS, POWERS, strict=True)]
    return {name: np.ldexp(np.float64(values), np.int64(powers)).tolist() for name, values, powers in pairs}


def in_order(tree: Tree, names: Sequence[str], paths: Mapping[str, str]) -> list[jax.Array]:
    """The arrays of those names: JAX sorts the keys of a dictionary when it goes through a jitted function."""
    leaves = leaves_of(tree, paths)
    missing = [n for n in names if n not in leaves]
    refuse("monitor", [f"{n} is missing among {', '.join(leaves)}; expected what `init` saw" for n in missing])
    return [leaves[name] for name in names]


def nothing_yet(leaves: Mapping[str, jax.Array], extras: Sequence[Quantity], known: Known) -> Measurements:
    """Measurements before the first record: their types and shapes, each a buffer of its own, and no numbers but
    those that say in what range to measure first."""
    if known and not set(known) & set(leaves):
        refuse("known states", [f"{p} is no parameter here; expected some of {', '.join(leaves)}" for p in known])
    # What can be trained and is not here is not in the optimizer.
    states = {
        path: state if state in STRUCTURAL else GradientState.OK if path in leaves else GradientState.UNREGISTERED
        for path, state in known.items()
    }
    names = [path for path in known if path in leaves] + [path for path in leaves if path not in known]
    params = stacked_norms([leaves[name] for name in names])
    dtype = params.dtype

    def vectors(quantities: Sequence[str]) -> dict[str, jax.Array]:
        return {quantity: jnp.full(len(names), jnp.nan, dtype) for quantity in quantities}

    def guess() -> jax.Array:
        return jnp.array([leaves[name].size ** 0.5 * FIRST_RMS for name in names], dtype)

    return Measurements(
        step=jnp.full((), -1, jnp.int32),
        loss=jnp.full((), jnp.nan, dtype),
        has_loss=jnp.full((), False),
        has_before=jnp.full((), False),
        norms={"param": params, "grad": guess(), "update": guess(), **vectors(["proposed", *PRODUCTS, *POWERS])},
        extras=vectors([q.name for q in extras]),
        before=vectors([q.name for q in extras if q.name in ("grad_cosine", "update_cosine")]),
        score=jnp.full((), jnp.nan, dtype),
        is_scored=jnp.full((), False),
        names=tuple(names),
        sizes=tuple(leaves[name].size for name in names),
        known=tuple(states.items()),
        quantities=tuple(q.without_functions() for q in extras),
    )


def still(dtype: Any) -> Moving:
    """The moving figures before the first step."""
    return jnp.zeros((), dtype), jnp.zeros((), dtype), jnp.zeros((), jnp.int32)


def measure(
    quantities: Sequence[Quantity],
    last: Measurements,
    memory: _extras.Memory,
    moving: Moving,
    step: jax.Array,
    loss: jax.Array | None,
    params: list[jax.Array],
    grads: list[jax.Array],
    updates: list[jax.Array],
) -> tuple[Measurements, _extras.Memory, Moving]:
    """The record of this step, and what the next one is compared with."""
    if loss is not None and jnp.size(loss) != 1:
        refuse("monitor", [f"the loss handed on as value has shape {jnp.shape(loss)}; expected one number"])
    dtype = last.score.dtype
    found_norms = step_norms(params, grads, updates, last.norms)
    norms = {quantity: found_norms[quantity].astype(dtype) for quantity in last.norms}
    moving_ones = any(q.of == "update" for q in quantities)
    moves = [applied(p, u) for p, u in zip(params, updates, strict=True)] if moving_ones else []
    kinds = {"param": params, "grad": grads, "update": moves}
    named = {of: dict(zip(last.names, arrays, strict=True)) for of, arrays in kinds.items() if arrays}
    extras, memory = _extras.compare(quantities, memory, named)
    score, is_scored, moving = _scored(moving, global_norm([norms["grad"]]))
    before = {"grad_cosine": last.norms["grad"], "update_cosine": last.norms["update"]}
    measurements = dataclasses.replace(
        last,
        step=step,
        loss=last.loss if loss is None else jnp.asarray(loss, dtype).reshape(()),
        has_loss=jnp.full((), loss is not None),
        has_before=last.step >= 0,
        norms=norms,
        extras={quantity: vector.astype(dtype) for quantity, vector in extras.items()},
        before={quantity: before[quantity] for quantity in last.before},
        score=score,
        is_scored=is_scored,
    )
    return measurements, memory, moving


def _scored(moving: Moving, norm: jax.Array) -> tuple[jax.Array, jax.Array, Moving]:
    """`gradlab_core.definitions.anomaly.MovingScore`, on the device."""
    mean, variance, count = moving
    log = jnp.log(norm)
    away = log - mean
    score = away / jnp.maximum(jnp.sqrt(variance), ANOMALY_LEAST_STD)
    weight = jnp.maximum(1.0 - ANOMALY_DECAY, 1.0 / (count + 1)).astype(mean.dtype)
    after = mean + weight * away, (1.0 - weight) * (variance + weight * away * away), count + 1
    usual = jnp.isfinite(log)
    mean, variance, counted = (jnp.where(usual, new, old) for new, old in zip(after, moving, strict=True))
    return score, count >= ANOMALY_WARM_UP, (mean, variance, counted)
