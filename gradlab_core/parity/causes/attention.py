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
from gradlab_core.parity.causes.sources import outputs
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_BASES = (10_000.0, 500_000.0)
_NEAREST = 5
_NEAR = 1e-5
"""Of the difference: rotary tables are often rounded to float32 before a net is run in float64."""
_JOINED = ("one after the other", "head by head")
_LONGEST = 64
"""Of longer sequences the first positions are looked at, which tell if positions look back only."""
_EXAMPLES = 2
"""Attention treats each example by itself: so many are enough."""


def after_attention(local: Local, key: Key, weights: Mapping[str, np.ndarray], target: Target) -> Iterator[Explanation]:
    """Of the linear layer after attention: y = attend(q, k, v)·Wᵀ + b, or of what follows it without a layer."""
    weight, bias = kernel_and_bias(weights, 2)
    width = weight.shape[1]
    if target.truth.ndim != 3:
        return
    whole = target.truth.shape[1] <= _LONGEST
    part = np.s_[:_EXAMPLES, :_LONGEST]
    target = Target(target.truth[part], target.value[part], target.limit, _NEAR)
    for q, k, v in ((a[part] for a in three) for three in _projections(local, key, width)):
        heads = [h for h in range(1, width + 1) if width % h == 0]
        # Where positions look back only, the first one sees itself alone, whatever all else is: then v is known.
        ways = [_looking(q, k, v, h, local) | {"w": weight, "b": bias} for h in heads if _fit(q, k, h)]
        back = any(_is_first_alone(s, target) for s in ways)
        if back or whole:
            for settings in _guesses(ways, windows=_windows(q.shape[1]) if back else (False,)):
                if target.is_reference(_projected(settings)):
                    yield from search(_projected, settings, list(_changes(settings, local)), target)
                    return


def _fit(q: np.ndarray, k: np.ndarray, heads: int) -> bool:
    """Whether the heads of the keys, as large as those of the queries, go evenly into so many."""
    head = q.shape[-1] // heads
    return k.shape[-1] % head == 0 and heads % (k.shape[-1] // head) == 0


def _looking(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, local: Local) -> dict[str, Any]:
    """Settings of plain attention that looks back, without rotation."""
    how = {"rope": "none", "causal": True, "scale": 1.0, "base": _BASES[0], "joined": _JOINED[0]}
    usual = {"repeat": "each", "cap": 0.0, "first": 0, "mask": _mask(local, k.shape[:2])}
    return {"q": q, "k": k, "v": v, "heads": heads, **how, **usual}


def _is_first_alone(settings: Settings, target: Target) -> bool:
    first = {**settings, **{name: settings[name][:, :1] for name in "qkv"}, "mask": None}
    start = Target(target.truth[:, :1], target.value[:, :1], target.limit, _NEAR)
    return any(start.is_reference(_projected({**first, "joined": joined})) for joined in _joins(settings))


def _joins(settings: Settings) -> tuple[str, ...]:
    fused = settings["k"].shape == settings["q"].shape and settings["heads"] > 1
    return _JOINED if fused else _JOINED[:1]


def _windows(length: int) -> tuple[bool | int, ...]:
    """True, all before it, and how many positions each may look at else."""
    return (True, *(w for w in (*range(1, 17), 24, 32, 48) if w < length))


def _projections(local: Local, key: Key, width: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Three tensors before the layer, or one that holds three."""
    near = [array for _, array in outputs(local, key) if array.ndim == 3][-_NEAREST:]
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


def _guesses(ways: list[dict[str, Any]], windows: tuple[bool | int, ...]) -> Iterator[dict[str, Any]]:
    for causal, settings in itertools.product(windows, ways):
        width = settings["q"].shape[-1]
        head = width // settings["heads"]
        ropes = ("none", "halves", "pairs") if head % 2 == 0 else ("none",)
        scales = (1 / math.sqrt(head), 1.0, 1 / math.sqrt(width))
        for rope, scale, joined in itertools.product(ropes, scales, _joins(settings)):
            for base in _BASES if rope != "none" else _BASES[:1]:
                yield settings | {"rope": rope, "causal": causal, "scale": scale, "base": base, "joined": joined}


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
    if s["joined"] == _JOINED[1]:
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
        seen = np.tril(np.ones(scores.shape[-2:], bool))
        seen = seen if s["causal"] is True else seen & ~np.tril(seen, -s["causal"])
        scores = np.where(seen, scores, -np.inf)
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
    ours = settings["causal"]
    for window in (w for w in _windows(settings["q"].shape[1]) if ours and w is not ours and w != ours):
        names = {
            w: "all positions before it" if w is True else f"{w} positions, its own among them" for w in (window, ours)
        }
        words = f"each position looks at {names[window]}, in the reference at {names[ours]}"
        yield Cause("attention-window", words, f"let it look at {names[ours]}"), to(causal=window)
    words = "every position looks at all others" if ours else "positions look back only"
    yield (
        Cause("causal-mask", f"{words}, in the reference not", "give both the same causal mask"),
        to(causal=not ours),
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
    other_joined = _JOINED[settings["joined"] == _JOINED[0]]
    if heads > 1 and settings["k"].shape[-1] == width:
        words = f"queries, keys and values are split {other_joined}, in the reference {settings['joined']}"
        yield Cause("qkv-fused-order", words, "split them the way the weights were fused"), to(joined=other_joined)
    for a, b in (("q", "k"), ("k", "v"), ("q", "v")):
        if settings[a].shape == settings[b].shape:
            full = {"q": "queries", "k": "keys", "v": "values"}
            words = f"{full[a]} and {full[b]} are exchanged"
            yield Cause("another-input", words, "hand them over by name"), to(**{a: settings[b], b: settings[a]})
