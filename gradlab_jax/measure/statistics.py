"""The statistics of one tensor, on its device: layers' outputs get a row of them, inputs and answers too."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_core.definitions import kinds
from gradlab_core.records import LayerStats, TensorStats
from gradlab_jax.model.taps import Tap

NO_LAYER = Tap("", "", 0, False)
"""Where a tensor is from that is no layer's output."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["numbers"], meta_fields=["tap", "shape"])
@dataclasses.dataclass(frozen=True)
class Row:
    """One row on the device; where it is from travels as static data, so one transfer brings all there is to know."""

    tap: Tap
    shape: tuple[int, ...]
    numbers: dict[str, jax.Array]

    def record(self, mode: str) -> LayerStats:
        numbers: dict[str, Any] = {name: value.item() for name, value in self.numbers.items()}
        numbers = {"saturated_frac": None, "dead_unit_frac": None, **numbers}
        return LayerStats(
            path=self.tap.path, kind=self.tap.kind, call=self.tap.call, shape=self.shape, mode=mode, **numbers
        )

    def of_tensor(self) -> TensorStats:
        """As the statistics of any tensor, which is no layer's."""
        return TensorStats(shape=self.shape, **{name: value.item() for name, value in self.numbers.items()})


def tracked(tap: Tap, value: jax.Array) -> tuple[jax.Array, Row | None]:
    """The output of a layer as it is, and its row, None for a layer of a kind that gets none."""
    return value, stats(value, tap) if tap.kind in kinds.TRACKED else None


def rows_of(handed: list[tuple[Tap, Row | None]]) -> list[Row]:
    """The rows that `tracked` handed out."""
    # The tap is set anew: inside a loop a row could not know which turn it is of.
    return [dataclasses.replace(row, tap=tap) for tap, row in handed if row is not None]


def stats(x: jax.Array, tap: Tap) -> Row:
    """The statistics of one tensor in native layout, over its finite elements; pure."""
    wide = x if x.dtype == jnp.float64 else x.astype(jnp.float32)
    finite = jnp.isfinite(wide)
    # What can be reduced together is: one loop for each pass, to compile and to run.
    parts = [
        (jnp.where(finite, wide, jnp.inf), jnp.inf, lax.min),
        (jnp.where(finite, wide, -jnp.inf), -jnp.inf, lax.max),
        (finite.astype(jnp.int32), 0, lax.add),
        ((wide == 0).astype(jnp.int32), 0, lax.add),
    ]
    if tap.kind in kinds.BOUNDS:
        floor, ceiling = kinds.SATURATED[tap.kind]
        outside = (wide <= floor) | (wide >= ceiling)
        parts.append(((finite & outside).astype(jnp.int32), 0, lax.add))
    low, high, count, zeros, *saturated = _reduced(parts)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(finite, values, 0)) / count  # 0/0 is NaN: nothing finite, no statistic

    # Squares of large or small elements leave the type; a power of two brings them back and costs no digit.
    limit = 120 if wide.dtype == jnp.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = jnp.clip(jnp.frexp(jnp.maximum(jnp.abs(low), jnp.abs(high)))[1], -limit, limit)
    scaled = wide * jnp.ldexp(jnp.ones((), wide.dtype), -exponent)
    centre = mean(scaled)
    spread = jnp.sqrt(mean(jnp.square(scaled - centre)))
    numbers = {
        "mean": jnp.ldexp(centre, exponent),
        "std": jnp.ldexp(spread, exponent),
        "min": jnp.where(count > 0, low, jnp.nan),
        "max": jnp.where(count > 0, high, jnp.nan),
        "rms": jnp.ldexp(jnp.hypot(centre, spread), exponent),  # E[x²] = E[x]² + Var[x]: no pass of its own
        "zero_frac": zeros.astype(wide.dtype) / count,
        "nonfinite": wide.size - count,
    }
    if saturated:
        numbers["saturated_frac"] = saturated[0].astype(wide.dtype) / count
    if tap.kind in kinds.RELU_LIKE:
        # Without an axis besides the batch there is one unit.
        channel = tap.channel_axis(wide)
        dead = jnp.all(wide == 0, axis=tuple(i for i in range(wide.ndim) if i != channel) if wide.ndim > 1 else None)
        numbers["dead_unit_frac"] = jnp.mean(dead.astype(wide.dtype))
    return Row(tap, tap.canonical_shape(x.shape), numbers)


def _reduced(parts: list[tuple[jax.Array, float, Any]]) -> list[jax.Array]:
    """Each array reduced to one number, from its first value by its operation."""
    arrays = [array for array, _, _ in parts]
    starts = [jnp.asarray(start, array.dtype) for array, start, _ in parts]

    def together(left: Any, right: Any) -> Any:
        return tuple(operation(a, b) for (_, _, operation), a, b in zip(parts, left, right, strict=True))

    return list(lax.reduce(tuple(arrays), tuple(starts), together, tuple(range(arrays[0].ndim))))
