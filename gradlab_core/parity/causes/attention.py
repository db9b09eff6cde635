"""Attention, where it is written out: from queries, keys and values to what the output projection takes in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import special

from gradlab_core.parity.batch import each
from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Settings, Target, search, to
from gradlab_core.parity.causes.products import kernel_and_bias
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_BASES = (10_000.0, 500_000.0)
_NEAREST = 5
_EXAMPLES = 2
"""Attention treats each example by itself: so many are enough."""


def after_attention(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """Of the linear layer after attention: y = attend(q, k, v)·Wᵀ + b, or of what follows it without a layer."""
    weight, bias = kernel_and_bias(weights, 2)
    width = weight.shape[1]
    if target.truth.ndim != 3:
        return
    target = Target(target.truth[:_EXAMPLES], target.value[:_EXAMPLES], target.limit)
    for q, k, v in ((a[:_EXAMPLES] for a in found) for found in _projections(local, key, width)):
        for heads in (h for h in range(1, width + 1) if width % h == 0):
            for settings in _guesses(q, k, v, heads, local):
                settings |= {"w": weight, "b": bias}
                if target.is_reference(_projected(settings)):
                    yield from search(_projected, settings, list(_changes(settings, local)), target)
                    return


def _projections(local: Local, key: Key, width: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Three tensors before the layer, or one that holds three."""
    before: list[np.ndarray] = []
    for other, value in local.truth.items():
        if other == key:
            break
        if other.quantity == "activation" and value is not None and value.ndim == 3:
            before.append(value)
    near = before[-_NEAREST:]
    for array in reversed(near):
        if array.shape[-1] == 3 * width:
            q, k, v = np.split(array, 3, axis=-1)
            yield q, k, v
        elif array.shape[-1] > width and (array.shape[-1] - width) % 2 == 0:
            small = (array.shape[-1] - width) // 2
            yield array[..., :width], array[..., width : width + small], array[..., width + small :]
    for q, k, v in itertools.permutations(near, 3):
        if q.shape[-1] == width and k.shape[-1] == v.shape[-1] <= width and k.shape[:2] == v.shape[:2]:
            yield q, k, v


def _guesses(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, local: Local) -> Iterator[dict[str, Any]]:
    head = q.shape[-1] // heads
    if k.shape[-1] % head or heads % (k.shape[-1] // head):
        return
    for rope, causal, scale, joined in itertools.product(
        ("none", "halves", "pairs") if head % 2 == 0 else ("none",),
        (False, True),
        (1 / math.sqrt(head), 1.0, 1 / math.sqrt(q.shape[-1])),
        ("one after the other", "head by head"),
    ):
        if joined == "head by head" and not (k.shape == q.shape and heads > 1):
            continue
        for base in _BASES if rope != "none" else _BASES[:1]:
            how = {"rope": rope, "causal": causal, "scale": scale, "base": base, "joined": joined}
            usual = {"repeat": "each", "cap": 0.0, "first": 0, "mask": _mask(local, k.shape[:2])}
            yield {"q": q, "k": k, "v": v, "heads": heads, **how, **usual}


def _mask(local: Local, shape: tuple[int, ...]) -> np.ndarray | None:
    """The padding mask among the inputs: 0 where nothing may look."""
    for array in each(local.batch[0]).values():
        array = np.asarray(array)[: shape[0]]
        if array.shape == shape and array.dtype.kind in "biu" and set(np.unique(array)) <= {0, 1}:
            return array.astype(bool)
    return None


def _projected(s: Settings) -> np.ndarray | None:
    out = _attended(s) @ s["w"].T
    return np.asarray(out if s["b"] is None else out + s["b"])


def _attended(s: Settings) -> np.ndarray:
    q, k, v = s["q"], s["k"], s["v"]
    if s["joined"] == "head by head":
        fused = np.concatenate([q, k, v], axis=-1)
        parts = fused.reshape(*fused.shape[:2], s["heads"], 3, -1)
        q, k, v = (parts[..., i, :].reshape(q.shape) for i in range(3))
    head = q.shape[-1] // s["heads"]
    q, k, v = (a.reshape(*a.shape[:2], -1, head).swapaxes(1, 2) for a in (q, k, v))
    q, k = (_rotated(a, s) for a in (q, k))
    times = s["heads"] // k.shape[1]
    if times > 1:
        k, v = (np.repeat(a, times, axis=1) if s["repeat"] == "each" else np.tile(a, (1, times, 1, 1)) for a in (k, v))
    scores = s["scale"] * q @ k.swapaxes(-1, -2)
    if s["cap"]:
        scores = s["cap"] * np.tanh(scores / s["cap"])
    if s["causal"]:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    if s["mask"] is not None:
        scores = np.where(s["mask"][:, None, None, :], scores, -1e300)
    out = special.softmax(scores, axis=-1) @ v
    return np.asarray(out.swapaxes(1, 2).reshape(*out.shape[:1], out.shape[2], -1))


def _rotated(x: np.ndarray, s: Settings) -> np.ndarray:
    """Rotary position embedding of (N, heads, T, d), of halves or of neighbouring pairs."""
    if s["rope"] == "none":
        return x
    half = x.shape[-1] // 2
    angles = np.outer(np.arange(x.shape[2]) + s["first"], s["base"] ** (-np.arange(half) / half))
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = (x[..., :half], x[..., half:]) if s["rope"] == "halves" else (x[..., ::2], x[..., 1::2])
    turned = a * cos - b * sin, b * cos + a * sin
    return np.concatenate(turned, -1) if s["rope"] == "halves" else np.stack(turned, -1).reshape(x.shape)


def _changes(settings: Settings, local: Local) -> Iterator[Change]:
    heads, width = settings["heads"], settings["q"].shape[-1]
    head, scale = width // heads, settings["scale"]
    names = {
        1 / math.sqrt(head): "1/√d of a head",
        1 / math.sqrt(width): "1/√d of the model",
        1.0: "1",
        1 / head: "1/d",
    }
    for value, name in names.items():
        if not math.isclose(value, scale):
            words = f"scores are multiplied by {name}, in the reference by {names.get(scale, f'{scale:.4g}')}"
            yield Cause("attn-scale", words, "scale them alike: once, by the size of a head"), to(scale=value)
    twice = Cause("attn-scale", "scores are scaled twice", "scale them once: queries or scores")
    if scale != 1.0:
        yield twice, to(scale=scale * scale)
    for rope in ("none", "halves", "pairs"):
        if rope != settings["rope"] and head % 2 == 0:
            said = {"none": "are not rotated", "halves": "are rotated in halves", "pairs": "are rotated in pairs"}
            words = f"queries and keys {said[rope]}, in the reference they {said[settings['rope']]}"
            yield (
                Cause("rope-layout", words, "rotate them alike, or permute their rows when weights are converted"),
                to(rope=rope),
            )
    if settings["rope"] != "none":
        yield Cause("rope-offset", "rotations begin at position 1, in the reference at 0", "count from 0"), to(first=1)
        for base in (b for b in (*_BASES, 1_000_000.0) if b != settings["base"]):
            words = f"the base of the rotation is {base:g}, in the reference {settings['base']:g}"
            yield Cause("rope-base", words, f"give both {settings['base']:g}"), to(base=base)
    if settings["k"].shape[-1] < width:
        words = "heads of keys are tiled, in the reference each is repeated"
        yield Cause("gqa-repeat", words, "use repeat (repeat_interleave), not tile"), to(repeat="all")
    words = "every position looks at all others" if settings["causal"] else "positions look back only"
    yield (
        Cause("causal-mask", f"{words}, in the reference not", "give both the same causal mask"),
        to(causal=not settings["causal"]),
    )
    if settings["mask"] is not None:
        yield Cause("mask", "padding is not masked", "hand the mask to attention"), to(mask=None)
        yield (
            Cause("mask", "the mask is turned round", "1 stands for what may be looked at"),
            to(mask=~settings["mask"]),
        )
    for cap in (20.0, 30.0, 50.0, 5.0, 10.0):
        yield (
            Cause("logit-softcap", f"scores are capped at {cap:g}", "leave the cap out, or give it to both"),
            to(cap=cap),
        )
    for other in (h for h in range(1, width + 1) if width % h == 0 and h != heads and settings["k"].shape[-1] == width):
        words = f"it has {other} heads, the reference {heads}"
        yield Cause("heads", words, f"give both {heads} heads"), to(heads=other, scale=1 / math.sqrt(width // other))
    other_joined = "head by head" if settings["joined"] != "head by head" else "one after the other"
    if heads > 1 and settings["k"].shape[-1] == width:
        words = f"queries, keys and values are split {other_joined}, in the reference {settings['joined']}"
        yield Cause("qkv-fused-order", words, "split them the way the weights were fused"), to(joined=other_joined)
    for a, b in (("q", "k"), ("k", "v"), ("q", "v")):
        if settings[a].shape == settings[b].shape:
            full = {"q": "queries", "k": "keys", "v": "values"}
            words = f"{full[a]} and {full[b]} are exchanged"
            yield Cause("another-input", words, "hand them over by name"), to(**{a: settings[b], b: settings[a]})
