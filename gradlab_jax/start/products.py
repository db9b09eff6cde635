"""Singular values of long products of matrices, on the device: `gradlab_core.lab.graded`, which says how and why."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from gradlab_core.lab.graded import EPSILON, SWEEPS, rounds

_Pair = tuple[jax.Array, jax.Array]
_State = tuple[jax.Array, jax.Array, jax.Array]  # columns, basis, logs


@jax.jit
def log_singular_values(matrices: jax.Array) -> jax.Array:
    """ln of the singular values of A_1, A_2A_1, …, A_n⋯A_1 as rows (n, size), largest first; pure, in float64 if that
    is enabled and the matrices are."""
    size = matrices.shape[-1]
    pairs = jnp.asarray(rounds(size))
    scales = jnp.max(jnp.abs(matrices), axis=(1, 2))
    scales = jnp.where(scales > 0, scales, 1.0)

    def step(state: _Pair, factor: _Pair) -> tuple[_Pair, jax.Array]:
        basis, logs = _multiplied(factor[0], *state, pairs)
        logs = logs + factor[1]
        return (basis, logs), logs

    start = jnp.eye(size, dtype=matrices.dtype), jnp.zeros(size, matrices.dtype)
    return lax.scan(step, start, (matrices / scales[:, None, None], jnp.log(scales)))[1]


def _multiplied(factor: jax.Array, basis: jax.Array, logs: jax.Array, pairs: jax.Array) -> _Pair:
    basis, r = jnp.linalg.qr(_product(factor, basis))
    fall = jnp.nan_to_num(jnp.exp(jnp.minimum(logs - logs[:, None], 0)), nan=0.0)  # of singular values that are 0
    columns, logs = _unit(jnp.triu(r * fall).T, logs)

    def slanted(state: tuple[jax.Array, _State]) -> jax.Array:
        sweeps, (columns, _, _) = state
        cosines = _product(columns.T, columns) * (1 - jnp.eye(len(columns)))
        return (sweeps < SWEEPS) & (jnp.max(jnp.abs(cosines)) > len(columns) * 100 * EPSILON)

    def sweep(state: tuple[jax.Array, _State]) -> tuple[jax.Array, _State]:
        return state[0] + 1, lax.scan(_rotated, state[1], pairs)[0]

    _, (_, basis, logs) = lax.while_loop(slanted, sweep, (jnp.asarray(0), (columns, basis, logs)))
    order = jnp.argsort(-logs, stable=True)
    return basis[:, order], logs[order]


def _rotated(state: _State, pair: jax.Array) -> tuple[_State, None]:
    """Every pair of columns made orthogonal."""
    columns, basis, logs = state
    first, second = pair
    above = logs[first] >= logs[second]
    high, low = jnp.where(above, first, second), jnp.where(above, second, first)
    both = jnp.concatenate([high, low])
    ratio = jnp.nan_to_num(jnp.exp(logs[low] - logs[high]), nan=0.0)
    cosine = jnp.sum(columns[:, high] * columns[:, low], axis=0)
    apart = 1 - ratio**2
    root = apart + jnp.sqrt(apart**2 + (2 * ratio * cosine) ** 2)
    slope = jnp.where(jnp.abs(cosine) > EPSILON, 2 * cosine / root, 0.0)
    tangent = slope * ratio
    norm = lax.rsqrt(1 + tangent**2)
    turned, lengths = _unit(_turned(columns, high, low, norm, tangent * ratio, slope), logs[both])
    basis = basis.at[:, both].set(_turned(basis, high, low, norm, tangent, tangent))
    return (columns.at[:, both].set(turned), basis, logs.at[both].set(lengths)), None


def _turned(
    x: jax.Array, high: jax.Array, low: jax.Array, norm: jax.Array, up: jax.Array, down: jax.Array
) -> jax.Array:
    return jnp.concatenate([norm * (x[:, high] + up * x[:, low]), norm * (x[:, low] - down * x[:, high])], axis=1)


def _unit(columns: jax.Array, logs: jax.Array) -> _Pair:
    """Columns of length 1, their lengths moved to the logarithms; a column of zeros stays one."""
    largest = jnp.max(jnp.abs(columns), axis=0)  # first, or the squares of small ones would be 0
    columns = columns / jnp.where(largest > 0, largest, 1.0)
    lengths = jnp.sqrt(jnp.sum(jnp.square(columns), axis=0))
    return columns / jnp.where(lengths > 0, lengths, 1.0), logs + jnp.log(largest) + jnp.log(lengths)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
