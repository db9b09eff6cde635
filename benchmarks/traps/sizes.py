"""How large the nets are."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of one drawn pair. `width` is a multiple of 4 · `heads`, so that there are half as many heads of keys, and pairs
    to rotate."""

    channels: int = 4
    hidden: int = 6
    classes: int = 3
    heads: int = 2
    width: int = 16
    words: int = 11
    length: int = 5

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Sizes:
        heads = int(rng.choice([2, 4]))
        return cls(
            channels=int(rng.integers(3, 7)),
            hidden=int(rng.integers(4, 9)),
            classes=int(rng.integers(3, 6)),
            heads=heads,
            width=4 * heads * int(rng.integers(1, 3)),
            words=int(rng.integers(9, 20)),
            length=int(rng.integers(4, 8)),
        )
