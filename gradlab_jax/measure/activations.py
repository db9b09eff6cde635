"""Statistics of every activation, computed where it arises, inside one compiled program."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradlab_core.definitions import kinds
from gradlab_core.records import LayerStats, Rows, TensorStats
from gradlab_jax.model.inputs import Inputs, checked_inputs
from gradlab_jax.model.modules import Functional, functional
from gradlab_jax.model.taps import Tap, run_tapped


def activation_stats(model: Any, x: Inputs, *, mode: str) -> list[LayerStats]:
    """Statistics of each call of each convolution, normalisation and activation, in execution order.

    Activations called as functions (`nnx.relu(x)`) count, under the path of the module that called them; a layer
    called twice gives two rows. The model is left as it was, running statistics included.

    Args:
        model: of NNX, Linen (bound: `module.bind(variables)`) or Equinox, or a `Function`.
        x: input batch, native layout (N, spatial…, C); several inputs by name in a mapping, by
            place in a tuple or a list.
        mode: `train` (batch statistics) or `eval` (running statistics).

    Raises:
        GradlabError: not a model, an unknown mode, or a batch with NaN or Inf.

    >>> from flax import nnx
    >>> net = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), nnx.relu)
    >>> [(row.path, row.kind, row.shape) for row in activation_stats(net, jnp.ones((2, 8, 8, 3)), mode="eval")]
    [('0', 'conv', (2, 4, 8, 8)), ('', 'relu', (2, 4, 8, 8))]
    """
    f, params, rest = functional(model, mode)
    x = checked_inputs(x)
    rows = jax.device_get(_all_stats(f, params, rest, x))
    return Rows([row.record(mode) for row in rows])


@functools.partial(jax.jit, static_argnums=0)
def _all_stats(f: Functional, params: Any, rest: Any, x: jax.Array) -> list[Row]:
    return rows_of(run_tapped(f, params, rest, x, tracked)[2])


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
    count = jnp.sum(finite)
    low = jnp.min(jnp.where(finite, wide, jnp.inf), initial=jnp.inf)
    high = jnp.max(jnp.where(finite, wide, -jnp.inf), initial=-jnp.inf)

    def mean(values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(finite, values, 0)) / count  # 0/0 is NaN: nothing finite, no statistic

    def fraction(condition: jax.Array) -> jax.Array:
        return (jnp.sum(finite & condition) / count).astype(wide.dtype)

    # Squares of large or small elements leave the type; a power of two brings them back and costs no digit.
    limit = 120 if wide.dtype == jnp.float32 else 1000  # keeps 2^±exponent itself inside the type
    exponent = jnp.clip(jnp.frexp(jnp.maximum(jnp.abs(low), jnp.abs(high)))[1], -limit, limit)
    scaled = jnp.ldexp(wide, -exponent)
    centre = mean(scaled)
    spread = jnp.sqrt(mean(jnp.square(scaled - centre)))
    numbers = {
        "mean": jnp.ldexp(centre, exponent),
        "std": jnp.ldexp(spread, exponent),
        "min": jnp.where(count > 0, low, jnp.nan),
        "max": jnp.where(count > 0, high, jnp.nan),
        "rms": jnp.ldexp(jnp.hypot(centre, spread), exponent),  # E[x²] = E[x]² + Var[x]: no pass of its own
        "zero_frac": fraction(wide == 0),
        "nonfinite": wide.size - count,
    }
    if tap.kind in kinds.BOUNDS:
        floor, ceiling = kinds.BOUNDS[tap.kind]
        margin = kinds.SATURATION_MARGIN * (ceiling - floor)
        numbers["saturated_frac"] = fraction((wide <= floor + margin) | (wide >= ceiling - margin))
    if tap.kind in kinds.RELU_LIKE:
        # Without an axis besides the batch there is one unit.
        channel = tap.channel_axis(wide)
        dead = jnp.all(wide == 0, axis=tuple(i for i in range(wide.ndim) if i != channel) if wide.ndim > 1 else None)
        numbers["dead_unit_frac"] = jnp.mean(dead.astype(wide.dtype))
    return Row(tap, tap.canonical_shape(x.shape), numbers)
