"""How alike two names of weights are: `encoder.layer.0.attention.self.query.weight` and `blocks_0/attn/q_proj/kernel`.

Numbers are compared by their rank among their like, since one side counts from 0 and the other from 1; words by what
they stand for.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable

_TOKENS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_KINDS = {
    "weight": ("weight", "kernel", "scale", "gamma", "embedding", "w", "g"),
    "bias": ("bias", "beta", "b", "offset"),
    "mean": ("running_mean", "mean", "moving_mean"),
    "var": ("running_var", "var", "moving_variance", "variance"),
}
_MEANINGS = {
    "attention": ("attn", "att", "selfattn", "mha"),
    "query": ("q", "qproj"),
    "key": ("k", "kproj"),
    "value": ("v", "vproj"),
    "out": ("o", "proj", "output"),
    "linear": ("fc", "dense", "lin", "ff"),
    "norm": ("ln", "layernorm", "bn", "batchnorm", "rmsnorm", "gn", "groupnorm"),
    "conv": ("convolution", "c"),
    "embed": ("embedding", "embeddings", "emb", "wte", "tok"),
    "position": ("positional", "pos", "wpe"),
    "head": ("classifier", "logits", "lm"),
    "down": ("downsample", "shortcut"),
    "mlp": ("feedforward", "ffn", "intermediate"),
    "layer": ("layers", "block", "blocks", "h", "stage", "stages", "resblock"),
    "encoder": ("enc",),
    "decoder": ("dec",),
}
_WORDS = {word: meaning for meaning, words in _MEANINGS.items() for word in words}
_LEAVES = {word: kind for kind, words in _KINDS.items() for word in words}


@dataclasses.dataclass(frozen=True)
class Name:
    """A name taken apart: the module that owns it, what kind of array it is there, and the path's words and numbers."""

    full: str
    owner: str
    kind: str
    words: tuple[str, ...]
    ranks: tuple[int, ...] = ()


@functools.cache
def parse(full: str) -> Name:
    """Take a name apart; `lstm.weight_ih_l0` is the weight of `lstm.ih_l0`.

    >>> parse("blocks_0.attn.q_proj.kernel").words, parse("lstm.weight_ih_l0").owner
    (('layer', 'attention', 'query'), 'lstm.ih_l0')
    """
    parts = re.split(r"[./]", full)
    owner, leaf = parts[:-1], parts[-1]
    kind = _LEAVES.get(leaf.lower(), "")
    if not kind:
        inside = [piece for piece in ("weight", "bias", "kernel") if piece in leaf.lower().split("_")]
        kind = _LEAVES[inside[0]] if inside else leaf
        rest = [piece for piece in leaf.split("_") if not inside or piece.lower() != inside[0]]
        owner = [*owner, "_".join(rest)] if inside and rest else owner
    tokens = [token for part in owner for token in _spoken(part)]
    words = tuple(_WORDS.get(token, token) for token in tokens if not token.isdigit())
    return Name(full, ".".join(owner), kind, words)


def _spoken(part: str) -> list[str]:
    """The words and numbers of a part of a path; `proj` says nothing beside another word."""
    tokens = [token.lower() for token in _TOKENS.findall(part)]
    return [token for token in tokens if token != "proj" or len(tokens) == 1]


def ranked(names: Iterable[str]) -> dict[str, Name]:
    """The names of one side taken apart, each number as its rank among those that stand in its place.

    >>> [name.ranks for name in ranked(["fc1.weight", "fc3.weight"]).values()]
    [(0,), (1,)]
    """
    parsed = {full: parse(full) for full in names}
    seen: dict[tuple[str, ...], set[int]] = {}
    places = {full: _numbers(name.owner) for full, name in parsed.items()}
    for spots in places.values():
        for before, number in spots:
            seen.setdefault(before, set()).add(number)
    ranks = {before: {number: i for i, number in enumerate(sorted(numbers))} for before, numbers in seen.items()}
    return {
        full: dataclasses.replace(name, ranks=tuple(ranks[before][number] for before, number in places[full]))
        for full, name in parsed.items()
    }


def _numbers(owner: str) -> list[tuple[tuple[str, ...], int]]:
    """Every number of a path, after what it stands."""
    tokens = _TOKENS.findall(owner)
    return [(tuple(tokens[:i]), int(token)) for i, token in enumerate(tokens) if token.isdigit()]


def likeness(a: Name, b: Name) -> float:
    """From 0 to 1: half for the words, half for the numbers.

    >>> likeness(parse("encoder.layer.attn.query.weight"), parse("enc.blocks.attention.q.kernel"))
    1.0
    """
    alike = difflib.SequenceMatcher(None, a.words, b.words, autojunk=False).ratio() if a.words or b.words else 1.0
    letters = difflib.SequenceMatcher(None, a.owner.lower(), b.owner.lower(), autojunk=False).ratio()
    numbers = difflib.SequenceMatcher(None, a.ranks, b.ranks, autojunk=False).ratio() if a.ranks or b.ranks else 1.0
    return 0.5 * max(alike, 0.9 * letters) + 0.5 * numbers
