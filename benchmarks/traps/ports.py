"""Ports of the nets as pure functions of JAX. Each trap is a name in a set; without one, the port is right."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .sizes import Sizes

Traps = frozenset[str]


def convolutional(params: Any, state: Any, x: Any, *, sizes: Sizes, traps: Traps) -> Any:
    """Channels last, as Flax has them; weights in PyTorch's layout."""

    def conv(x: Any, name: str, stride: int, pads: tuple[int, int], groups: int = 1) -> Any:
        w = params[name]["weight"]
        if f"{name} transposed" in traps:
            w = w.swapaxes(0, 1)
        if f"{name} flipped" in traps:
            w = w[:, :, ::-1, ::-1]
        out = lax.conv_general_dilated(
            x, w.transpose(2, 3, 1, 0), (stride, stride), (pads, pads), dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip
        return out if f"{name} without bias" in traps else out + params[name]["bias"]

    def dense(x: Any, name: str) -> Any:
        w, b = params[name]["weight"], params[name]["bias"]
        out = x @ (w if f"{name} transposed" in traps else w.T)
        if f"{name} without bias" in traps:
            return out
        return out + (2.0 * b if f"{name} bias twice" in traps else b)

    x = conv(x, "conv1", 1, (1, 1))
    x, state = _batch_norm(params["bn1"], state, x, traps)
    x = _gelu(x, traps)
    side = (0, 1) if "pool padded at the end" in traps else (1, 1)
    fill = 0.0 if "zero padded pool" in traps else -jnp.inf
    x = jnp.pad(x, ((0, 0), side, side, (0, 0)), constant_values=fill)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
    x = conv(x, "conv2", 2, (0, 1) if "SAME" in traps else (1, 1))
    x = jax.nn.leaky_relu(x) if "leaky" in traps else jax.nn.relu(x)
    x = conv(x, "conv3", 1, (1, 1), groups=sizes.channels)
    x = jnp.tanh(x)
    x = (x if "flattened channels last" in traps else x.transpose(0, 3, 1, 2)).reshape(len(x), -1)
    hidden = dense(x, "fc1")
    x = dense(jax.nn.relu(hidden) if "skipped activation" not in traps else hidden, "fc2")
    x = jax.nn.sigmoid(x) if "sigmoid for silu" in traps else jax.nn.silu(x)
    return dense(x, "head"), state


def _gelu(x: Any, traps: Traps) -> Any:
    if "quick gelu" in traps:
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate="tanh gelu" in traps)


def _batch_norm(params: Any, state: Any, x: Any, traps: Traps) -> Any:
    keep = 0.99 if "kept 0.99" in traps else 0.9
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    count = x.size // x.shape[-1]
    sample = var if "biased running variance" in traps else var * count / (count - 1)
    old = state["bn1"]
    new = {
        "running_mean": keep * old["running_mean"] + (1 - keep) * mean,
        "running_var": keep * old["running_var"] + (1 - keep) * sample,
    }
    epsilon = 1e-3 if "batch norm's ε" in traps else 1e-5
    x = (x - mean) / jnp.sqrt(var + epsilon) * params["weight"]
    return (x if "batch norm without bias" in traps else x + params["bias"]), {**state, "bn1": new}


def decoder(params: Any, ids: Any, *, sizes: Sizes, traps: Traps) -> Any:
    """The language model."""

    def dense(x: Any, name: str) -> Any:
        out = x @ params[name]["weight"].T
        return out + params[name]["bias"] if "bias" in params[name] else out

    def layer_norm(x: Any, name: str) -> Any:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True, ddof="sample variance" in traps)
        epsilon = 1e-6 if "layer norm's ε" in traps else 1e-5
        return (x - mean) / jnp.sqrt(var + epsilon) * params[name]["weight"] + params[name]["bias"]

    first = 2 if "positions from 2" in traps else 0
    x = params["embed"]["weight"][ids]
    if "embeddings scaled" in traps:
        x = x * math.sqrt(sizes.width)
    x = x + params["places"]["weight"][jnp.broadcast_to(jnp.arange(ids.shape[1]) + first, ids.shape)]
    weight = params["norm1"]["weight"] + (1.0 if "one plus weight" in traps else 0.0)
    h = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight
    q, k, v = dense(h, "q"), dense(h, "k"), dense(h, "v")
    a = dense(_attend(q, k, v, sizes, traps), "out")
    x = a if "no residual" in traps else x + a
    h = layer_norm(x, "norm2")
    x = x + dense(jax.nn.silu(dense(h, "gate")) * dense(h, "up"), "down")
    out = dense(layer_norm(x, "norm3"), "head")
    return out / sizes.width if "logits divided" in traps else out


def _attend(q: Any, k: Any, v: Any, sizes: Sizes, traps: Traps) -> Any:
    heads, head = sizes.heads, sizes.width // sizes.heads
    q, k, v = (a.reshape(*a.shape[:2], -1, head).swapaxes(1, 2) for a in (q, k, v))
    q, k = _rotated(q, traps), _rotated(k, traps)
    times = heads // k.shape[1]
    k, v = (jnp.tile(a, (1, times, 1, 1)) if "tiled heads" in traps else jnp.repeat(a, times, axis=1) for a in (k, v))
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(sizes.width if "scaled by the model" in traps else head)
    if "capped" in traps:
        scores = 5.0 * jnp.tanh(scores / 5.0)
    if "not causal" not in traps:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    out = jax.nn.softmax(scores, axis=-1) @ v
    return out.swapaxes(1, 2).reshape(*out.shape[:1], out.shape[2], -1)


def _rotated(x: Any, traps: Traps) -> Any:
    if "not rotated" in traps:
        return x
    half = x.shape[-1] // 2
    base = 500_000.0 if "another base" in traps else 10_000.0
    places = jnp.arange(x.shape[2]) + (1 if "rotated from 1" in traps else 0)
    angles = places.astype(x.dtype)[:, None] * base ** (-jnp.arange(half, dtype=x.dtype) / half)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if "rotated in pairs" in traps:
        a, b = x[..., ::2], x[..., 1::2]
        return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def plain(params: Any, x: Any, *, sizes: Sizes, traps: Traps) -> Any:
    """The two linear layers."""
    x = jnp.tanh(x @ params["fc1"]["weight"].T + params["fc1"]["bias"])
    return x @ params["fc2"]["weight"].T + params["fc2"]["bias"]
