"""A recurrent layer with PyTorch's parameters. Flax's own cells lack the second bias, of which a GRU's n gate needs
its own, and every other takes its own step in training."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from gradlab_core.definitions.recurrent import BOUNDED, CELLS
from gradlab_jax.model.modules import PATH

_observed = threading.local()

Seen = tuple[str, str, jax.Array, dict[str, jax.Array]]
"""Path, cell, states (T, N, H) and gates of one call of a layer."""


class Recurrent(nnx.Module):
    """Sequences (N, T, F) → states (N, T, H), from h_0 = 0; one layer in one direction. Weights in canonical layout."""

    def __init__(self, cell: str, features: int, hidden: int) -> None:
        gates = len(CELLS[cell])
        self.cell = cell
        self.weight_ih_l0 = nnx.Param(jnp.zeros((gates * hidden, features)))  # `build` draws the weights
        self.weight_hh_l0 = nnx.Param(jnp.zeros((gates * hidden, hidden)))
        self.bias_ih_l0 = nnx.Param(jnp.zeros(gates * hidden))
        self.bias_hh_l0 = nnx.Param(jnp.zeros(gates * hidden))

    def __call__(self, x: jax.Array) -> jax.Array:
        held = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        weights = tuple(variable.get_value() for variable in held)
        watch: tuple[jax.Array | None, list[Seen]] | None = getattr(_observed, "watch", None)
        if watch is None:
            return recurrent_layer(self.cell, weights, x)
        drift, seen = watch
        states, gates = unrolled(self.cell, weights, x, drift)
        seen.append((getattr(self, PATH), self.cell, states, gates))
        return jnp.swapaxes(states, 0, 1)


@contextlib.contextmanager
def observed(drift: jax.Array | None) -> Iterator[list[Seen]]:
    """While this holds, a recurrent layer adds `drift` (T, N, H) to its states and tells what it computed."""
    seen: list[Seen] = []
    _observed.watch = (drift, seen)
    try:
        yield seen
    finally:
        _observed.watch = None


# A call with a name: the gates inside are steps of this layer and no layers of their own (`_activation_patterns`).
@functools.partial(jax.jit, static_argnums=0)
def recurrent_layer(cell: str, weights: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    return jnp.swapaxes(unrolled(cell, weights, x, None)[0], 0, 1)


def unrolled(
    cell: str, weights: tuple[jax.Array, ...], x: jax.Array, drift: jax.Array | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`gradlab_core.definitions.recurrent.run` as one scan: states and gates, (T, N, H)."""
    w_ih, w_hh, b_ih, b_hh = weights
    inputs = jnp.swapaxes(x, 0, 1) @ w_ih.T + b_ih  # of all time steps at once, since no state takes part

    def turn(carry: tuple[jax.Array, jax.Array], step: Any) -> Any:
        a, d = step
        h, c, row = _step(cell, a, carry[0] @ w_hh.T + b_hh, *carry)
        h = h if d is None else h + d
        return (h, c), (h, row)

    start = jnp.zeros((x.shape[0], w_hh.shape[1]), inputs.dtype)
    _, (states, rows) = lax.scan(turn, (start, start), (inputs, drift))
    return states, dict(zip(BOUNDED[cell], rows, strict=True))


def _step(cell: str, a: jax.Array, b: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
    """`(h, c, gates)` from what the input and the state before bring to the gates."""
    if cell == "lstm":
        i, f, g, o = jnp.split(a + b, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        c = f * c + i * g
        bounded = jnp.tanh(c)
        return o * bounded, c, (i, f, g, o, bounded)
    if cell == "gru":
        (ar, az, an), (br, bz, bn) = jnp.split(a, 3, axis=-1), jnp.split(b, 3, axis=-1)
        r, z = jax.nn.sigmoid(ar + br), jax.nn.sigmoid(az + bz)
        n = jnp.tanh(an + r * bn)
        return (1 - z) * n + z * h, c, (r, z, n)
    h = jnp.tanh(a + b) if cell == "rnn_tanh" else jax.nn.relu(a + b)
    return h, c, (h,) if cell == "rnn_tanh" else ()
