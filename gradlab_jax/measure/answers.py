"""The loss that a model's answers went into, from the gradient at the answers:
`gradlab_core.definitions.answers`, on the device; pure."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from gradlab_core.definitions import answers as definition
from gradlab_core.records import Answers, TensorStats
from gradlab_jax.measure.statistics import NO_LAYER, Row, stats
from gradlab_jax.trees.norm_arithmetic import wide

Numbers = dict[str, jax.Array]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["numbers", "targets"], meta_fields=["shape", "columns", "half"]
)
@dataclasses.dataclass(frozen=True)
class Figures:
    """What speaks for each loss."""

    shape: tuple[int, ...]
    columns: tuple[tuple[str, int], ...]
    half: bool
    numbers: dict[str, Numbers]
    targets: Row | None  # of each hypothesis of a squared error a number

    def recognised(self, loss: float | None, *, is_squashed: bool) -> tuple[Answers | None, TensorStats | None]:
        """`gradlab_core.definitions.answers.recognised`, of figures that have arrived."""
        return definition.recognised(
            {name: {key: value.item() for key, value in part.items()} for name, part in self.numbers.items()},
            loss,
            columns=dict(self.columns),
            count=math.prod(self.shape),
            batch=self.shape[0],
            half=self.half,
            is_squashed=is_squashed,
            targets={} if self.targets is None else dict(zip(self._ways(), _each(self.targets), strict=True)),
        )

    def _ways(self) -> dict[str, float]:
        return definition.squared_factors(math.prod(self.shape), self.shape[0])


def _each(rows: Row) -> list[TensorStats]:
    numbers = {name: values.tolist() for name, values in rows.numbers.items()}
    return [
        TensorStats(shape=rows.shape, **dict(zip(numbers, values, strict=True)))
        for values in zip(*numbers.values(), strict=True)
    ]


def figures(z: jax.Array, g: jax.Array, *, squared: bool = True) -> Figures | None:
    """What speaks for each loss; `z` are the answers, (N, …), `g` is ∂L/∂z. None of a single number, which may be the
    loss itself. A squared error is looked for only if asked for."""
    if z.ndim == 0 or z.size < 2 or z.shape != g.shape or not jnp.issubdtype(z.dtype, jnp.floating):
        return None
    half = z.dtype.itemsize < 4 or g.dtype.itemsize < 4
    numbers = {"squared": {"square": jnp.sum(jnp.square(wide(g)))}}
    columns = {}
    for name, axis in (("softmax", -1), ("softmax1", 1)):
        if z.shape[axis if z.ndim > 1 else 0] > 1 and z.ndim > (1 if name == "softmax" else 2):
            numbers[name] = _softmax(*_rows(z, g, axis))
            columns[name] = z.shape[axis]
    numbers["sigmoid"] = _sigmoid(*(wide(t.reshape(-1)[: definition.SAMPLED]) for t in (z, g)))
    targets = None
    if squared and z.size <= definition.SAMPLED:
        factors = jnp.array(list(definition.squared_factors(z.size, len(z)).values()), wide(z).dtype)
        targets = jax.vmap(lambda factor: stats(wide(z) - wide(g) * factor, NO_LAYER))(factors)
    return Figures(z.shape, tuple(columns.items()), half, numbers, targets)


def _rows(z: jax.Array, g: jax.Array, axis: int) -> list[jax.Array]:
    columns = z.shape[axis]
    most = max(1, definition.SAMPLED // columns)
    # Whole examples first, so that no more is brought into order than is looked at.
    examples = max(1, most * columns // max(1, math.prod(z.shape[1:])))
    return [wide(jnp.moveaxis(t[:examples], axis, -1).reshape(-1, columns)[:most]) for t in (z, g)]


def _softmax(z: jax.Array, g: jax.Array) -> Numbers:
    used = jnp.any(g != 0, axis=1)
    label = jnp.argmin(g, axis=1)
    log_p = jax.nn.log_softmax(z, axis=1)
    chosen = jnp.arange(z.shape[1]) == label[:, None]
    expected = jnp.where(used[:, None], jnp.exp(log_p) - chosen.astype(z.dtype), 0.0)
    rows = jnp.sum(used).astype(z.dtype)
    likely = jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    return {
        "unexplained": _unexplained(g, expected),
        "loss": -jnp.sum(jnp.where(used, likely, 0.0)) / jnp.maximum(rows, 1),
        "rows": rows,
        "apart": jnp.maximum(jnp.max(jnp.abs(jnp.sum(z, axis=1) - 1.0)), _outside(z)),
    }


def _sigmoid(z: jax.Array, g: jax.Array) -> Numbers:
    used, y = g != 0, (g < 0).astype(z.dtype)
    expected = jnp.where(used, jax.nn.sigmoid(z) - y, 0.0)
    each = jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))
    rows = jnp.sum(used).astype(z.dtype)
    return {
        "unexplained": _unexplained(g, expected),
        "loss": jnp.sum(jnp.where(used, each, 0.0)) / jnp.maximum(rows, 1),
        "rows": rows,
        "apart": _outside(z),
    }


def _outside(z: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.maximum(-jnp.min(z), jnp.max(z) - 1.0), 0.0)


def _unexplained(g: jax.Array, expected: jax.Array) -> jax.Array:
    g = g / jnp.max(jnp.abs(g))  # its squares may be too small for the type
    scale = jnp.sum(g * expected) / jnp.sum(jnp.square(expected))
    share = jnp.linalg.norm((g - scale * expected).ravel()) / jnp.linalg.norm(g.ravel())
    return jnp.where(scale > 0, share, 1.0)  # uphill, or nothing to see
