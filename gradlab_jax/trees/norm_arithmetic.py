"""The arithmetic of norms, right over the whole range of the type; pure.

Plain sums of squares in float32 overflow at 1e19 and underflow at 1e-20. On a CPU the plain sum is taken at full
memory speed, and only when it says that range was lost does one `lax.cond` run a second pass, rescaled by a power of
two. On an accelerator a branch waits for the host, and three sums in one pass cost no more than one: there is none.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_ROW = 128  # elements: of shorter rows the first of two sums would leave much to the second
_LINE = 1024  # elements of a row of an array that has but one axis
_SMALL = 1 << 16  # elements; smaller arrays share one branch, so that the program stays short


def wide(x: jax.Array) -> jax.Array:
    """The array as real numbers of at least float32."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], axis=-1)
    return x if x.dtype in (jnp.float32, jnp.float64) else x.astype(jnp.float32)


def joint_norm(arrays: list[jax.Array]) -> jax.Array:
    """‖·‖₂ of several arrays taken as one vector; differentiable, with x/‖x‖ and 0 where the norm is 0."""
    return _joint([wide(x) for x in arrays])


@jax.custom_jvp
def _joint(real: list[jax.Array]) -> jax.Array:
    norm: jax.Array = lax.platform_dependent(real, cpu=_joint_branching, default=_joint_binned)
    return norm


def _joint_binned(real: list[jax.Array]) -> jax.Array:
    """One pass into three sums, no branch."""
    dtype = jnp.result_type(*real) if real else jnp.float32
    parts = [[partial_sums(part).ravel() for part in binned_squares(x.astype(dtype))] for x in real]
    if not parts:
        return jnp.zeros((), dtype)
    lines = jnp.stack([jnp.concatenate(part) for part in zip(*parts, strict=True)])
    return from_bins(jnp.sum(lines, axis=1, keepdims=True))[0]


def _joint_branching(real: list[jax.Array]) -> jax.Array:
    """One plain pass, one branch."""
    dtype = jnp.result_type(*real) if real else jnp.float32
    total = sum((_squares(x.astype(dtype), 1.0) for x in real), jnp.zeros((), dtype))
    count = sum(x.size for x in real)

    def rescaled(arrays: list[jax.Array]) -> jax.Array:
        scale = _scale(total)
        return jnp.sqrt(sum((_squares(x.astype(dtype), scale) for x in arrays), jnp.zeros((), dtype))) / scale

    return lax.cond(_kept(total, count), lambda _: jnp.sqrt(total), rescaled, real)


@_joint.defjvp
def _joint_slope(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (real,), (moves,) = primals, tangents
    norm = _joint(real)
    along = [_along(x[None], move[None], norm[None])[0] for x, move in zip(real, moves, strict=True)]
    return norm, sum(along, jnp.zeros((), norm.dtype))


def _along(rows: jax.Array, moves: jax.Array, norms: jax.Array) -> jax.Array:
    """How fast the norm of each row grows as it moves: ⟨x/‖x‖, move⟩, and 0 where the norm is 0."""
    over = tuple(range(1, rows.ndim))
    safe = jnp.expand_dims(jnp.where(norms == 0, 1, norms), over)
    return jnp.sum(rows.astype(norms.dtype) / safe * moves.astype(norms.dtype), axis=over)


def stacked_norms(arrays: list[jax.Array]) -> jax.Array:
    """‖·‖₂ of each array as one vector; differentiable, with x/‖x‖ and 0 where a norm is 0."""
    if not arrays:
        return jnp.zeros(0)
    groups = alike(arrays)
    rows = [wide(side_by_side([arrays[i] for i in group])) for group in groups]
    return joined(groups, _of_rows(tuple(is_large(arrays[group[0]]) for group in groups), rows))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_rows(large: tuple[bool, ...], rows: list[jax.Array]) -> list[jax.Array]:
    """The norms of the rows of matrices; `large` ones have but one row."""
    branching = functools.partial(_rows_branching, large)
    norms: list[jax.Array] = lax.platform_dependent(rows, cpu=branching, default=_rows_binned)
    return norms


def _rows_binned(rows: list[jax.Array]) -> list[jax.Array]:
    """One pass into three sums a row, no branch."""
    norms: dict[int, jax.Array] = {}
    alone: dict[object, list[int]] = {}
    for k, m in enumerate(rows):
        if len(m) == 1:
            alone.setdefault(kind_of(m), []).append(k)
        else:
            norms[k] = from_bins(jnp.stack([jnp.sum(part, axis=range(1, m.ndim)) for part in binned_squares(m)]))
    for members in alone.values():
        parts = zip(*(binned_squares(rows[k][0]) for k in members), strict=True)
        sizes = from_bins(jnp.stack([stacked_sums(list(part)) for part in parts]))
        norms |= {k: sizes[i : i + 1] for i, k in enumerate(members)}
    return [norms[k] for k in range(len(rows))]


def _rows_branching(large: tuple[bool, ...], rows: list[jax.Array]) -> list[jax.Array]:
    """A large array has a branch of its own; the small ones share one, since a bias that is all zero asks for the
    second pass at every step and must not drag the large ones along."""
    norms = {k: _joint_branching([m])[None] for k, m in enumerate(rows) if large[k]}
    small = [k for k in range(len(rows)) if k not in norms]
    if small:
        totals = [row_squares(rows[k], jnp.ones(1)) for k in small]
        kept = [_kept(total, rows[k].size // len(rows[k])) for k, total in zip(small, totals, strict=True)]

        def rescaled(rows: list[jax.Array]) -> list[jax.Array]:
            scales = [jnp.where(k, 1, _scale(total)) for k, total in zip(kept, totals, strict=True)]
            return [jnp.sqrt(row_squares(m, s)) / s for m, s in zip(rows, scales, strict=True)]

        all_kept = jnp.all(jnp.concatenate(kept))
        sizes = lax.cond(all_kept, lambda _: [jnp.sqrt(t) for t in totals], rescaled, [rows[k] for k in small])
        norms.update(zip(small, sizes, strict=True))
    return [norms[k] for k in range(len(rows))]


@_of_rows.defjvp
def _of_rows_slope(large: tuple[bool, ...], primals: Any, tangents: Any) -> tuple[list[jax.Array], list[jax.Array]]:
    (rows,), (moves,) = primals, tangents
    norms = _of_rows(large, rows)
    return norms, [_along(m, move, norm) for m, move, norm in zip(rows, moves, norms, strict=True)]


def binned_squares(x: jax.Array) -> list[jax.Array]:
    """x² in three arrays that are 0 elsewhere: of what is tiny, scaled up, of the rest, and of what is huge, scaled
    down. On an accelerator the pass over memory is what costs, and their three sums are one (Blue 1978)."""
    far, up, down = (2.0**48, 2.0**90, 2.0**-80) if x.dtype == jnp.float32 else (2.0**400, 2.0**600, 2.0**-600)
    size = jnp.abs(x)
    is_huge, is_tiny = size > far, size < 1 / far  # NaN is neither, and stays in the rest
    # Scaled within the choice: of (x·c)² XLA makes x²·c², and the square of such a constant is no number that fits.
    squares = jnp.square(jnp.where(is_tiny, x * up, jnp.where(is_huge, x * down, x)))
    return [jnp.where(which, squares, 0) for which in (is_tiny, ~(is_tiny | is_huge), is_huge)]


def partial_sums(x: jax.Array) -> jax.Array:
    """Sums along the last axes of an array."""
    axes, shape = _summed(x)
    return jnp.sum(x.reshape(shape), axis=axes)


def sums_together(*lists: list[jax.Array]) -> tuple[jax.Array, ...]:
    """`stacked_sums` of several lists of arrays that are computed from the same memory, which is read once."""
    sums: tuple[jax.Array, ...] = lax.platform_dependent(*lists, cpu=_together_on_cpu, default=_together)
    return sums


def _together(*lists: list[jax.Array]) -> tuple[jax.Array, ...]:
    parts = [_sums_of_one(arrays, *_summed(arrays[0])) for arrays in zip(*lists, strict=True)]
    lines = [jnp.stack(side) for side in zip(*parts, strict=True)]
    return tuple(jnp.sum(line, axis=range(1, line.ndim)) for line in lines)


def _together_on_cpu(*lists: list[jax.Array]) -> tuple[jax.Array, ...]:
    """A CPU adds several sums one number after the other, so that it must be along short lines."""
    x = lists[0][0]
    line = next((n for n in range(_ROW, _ROW // 4, -1) if x.size % n == 0), 0)
    placed = getattr(jax.typeof(x), "sharding", None)
    if not line or (placed is not None and any(axis is not None for axis in placed.spec)):
        return tuple(jnp.stack([jnp.sum(x) for x in arrays]) for arrays in lists)
    parts = [_sums_of_one(arrays, (1,), (x.size // line, line)) for arrays in zip(*lists, strict=True)]
    return tuple(jnp.stack([jnp.sum(line) for line in side]) for side in zip(*parts, strict=True))


def _sums_of_one(arrays: tuple[jax.Array, ...], axes: Sequence[int], shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    added: tuple[jax.Array, ...] = lax.reduce(
        tuple(x.reshape(shape) for x in arrays), zeros, lambda a, b: tuple(map(jnp.add, a, b)), axes
    )
    return added


def _summed(x: jax.Array) -> tuple[range, tuple[int, ...]]:
    """The last axes of an array, as many as make a row that is worth a sum of its own, and the shape they are of."""
    shape = (x.size // _LINE, _LINE) if x.ndim == 1 and x.size % _LINE == 0 else x.shape
    start = max((i for i in range(len(shape)) if math.prod(shape[i:]) >= _ROW), default=0)
    return range(start, len(shape)), shape


def stacked_sums(arrays: list[jax.Array]) -> jax.Array:
    """The sum of each of several arrays of one shape. Along the last axes XLA sums in the kernel that makes an array;
    what is left of all arrays is summed together, since each kernel costs its start."""
    parts = jnp.stack([partial_sums(x) for x in arrays])
    return jnp.sum(parts, axis=range(1, parts.ndim))


def from_bins(squares: jax.Array) -> jax.Array:
    """The roots of three sums each, put together without over- or underflow."""
    up, down = (2.0**90, 2.0**-80) if squares.dtype == jnp.float32 else (2.0**600, 2.0**-600)
    tiny, rest, huge = jnp.sqrt(squares) / jnp.array([[up], [1.0], [down]], squares.dtype)
    largest = jnp.maximum(jnp.maximum(tiny, rest), huge)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    parts = [jnp.square(part / scale) for part in (tiny, rest, huge)]
    return jnp.sqrt(sum(parts[1:], parts[0])) * scale


def alike(arrays: list[jax.Array]) -> list[list[int]]:
    """Which arrays can be measured together: small ones of one shape and type; a large one stays alone. A program of
    a thousand arrays is then as short as one of a few, and compiles as fast."""
    groups: OrderedDict[object, list[int]] = OrderedDict()
    for i, x in enumerate(arrays):
        groups.setdefault((x.shape, x.dtype) if not is_large(x) else i, []).append(i)
    return list(groups.values())


def kind_of(x: jax.Array) -> object:
    """Shape, type and place: arrays that have them alike can be summed together, whatever their size."""
    return x.shape, x.dtype, getattr(jax.typeof(x), "sharding", None)


def is_large(x: jax.Array) -> bool:
    """Whether an array is measured alone, in the shape it has: a long one, or one that is sharded."""
    placed = getattr(jax.typeof(x), "sharding", None)
    return bool(x.size >= _SMALL) or (placed is not None and any(axis is not None for axis in placed.spec))


def side_by_side(arrays: list[jax.Array]) -> jax.Array:
    """Small arrays of one shape as the rows of a matrix; a large one keeps its shape, which may be sharded."""
    if is_large(arrays[0]):
        return arrays[0][None]
    if arrays[0].ndim == 0:
        return jnp.stack(arrays)[:, None]
    # One operation for all: to stack them is one for each, which shows in the time to compile.
    return lax.concatenate(arrays, 0).reshape(len(arrays), arrays[0].size)


def joined(groups: list[list[int]], norms: list[jax.Array]) -> jax.Array:
    """The norms of `groups` in the order of the arrays: float64 if any is, else float32."""
    if not any(groups):
        return jnp.zeros(0)
    order = sorted(range(sum(map(len, groups))), key=[i for group in groups for i in group].__getitem__)
    dtype = jnp.result_type(*norms)
    vector = jnp.concatenate([n.astype(dtype) for n in norms])
    return vector if order == list(range(len(order))) else vector[jnp.array(order)]


def _squares(x: jax.Array, scale: float | jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x * scale))


def row_squares(rows: jax.Array, scales: jax.Array) -> jax.Array:
    """Σ(s·x)² of each row, whatever shape a row has."""
    over = tuple(range(1, rows.ndim))
    return jnp.sum(jnp.square(rows * jnp.expand_dims(scales, over).astype(rows.dtype)), axis=over)


def row_norms(x: jax.Array) -> jax.Array:
    """‖·‖₂ along the last axis, without a branch: rows that are tiny or huge keep their digits beside the others."""
    x = wide(x)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0)
    scale = jnp.where(jnp.isfinite(largest) & (largest >= jnp.finfo(x.dtype).tiny), largest, 1)
    return jnp.sqrt(jnp.sum(jnp.square(x / scale), axis=-1)) * scale[..., 0]


def _kept(total: jax.Array, count: int | jax.Array) -> jax.Array:
    """Whether a plain sum of `count` squares lost nothing: no overflow, and large beside all that can underflow."""
    floor = 2.0**-100 if total.dtype == jnp.float32 else 2.0**-960
    return jnp.isfinite(total) & (total >= count * floor)


def _scale(total: jax.Array) -> jax.Array:
    """A power of two that brings the squares back into range: down when they overflowed, up when they underflowed.

    Up by no more than has a finite square: where an array is known when the program is compiled, as a gradient of zeros
    is that no path leads to, XLA takes the scale out of the sum as its square, and 0 · Inf would be NaN. What is
    smallest in the type still has a square that fits.
    """
    down, up = (2.0**-70, 2.0**63) if total.dtype == jnp.float32 else (2.0**-540, 2.0**511)
    return jnp.where(total > 1, down, up).astype(total.dtype)
