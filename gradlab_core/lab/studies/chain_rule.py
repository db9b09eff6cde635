"""A study of the chain rule on a user's model: what each layer makes of the gradient on its way back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from gradlab_core import backends
from gradlab_core.records import ChainRule

APART = 1e-3
"""A factor between layers counts from this share of it on: what float32 loses in a sum is less."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainStudy:
    """The chain rule on a model and a batch.

    Attributes:
        framework: `torch` or `jax`.
        chain: every layer call.
        log_between: ln of the product of what arises between layers, so that it and the product of the layers make the
            whole; None without a whole.
        parts: the layers, in words, after which something arises: a path parts or meets, or a step is no layer.
        cut: the layers through which nothing comes.
        unreached: the layers to which no gradient comes.
    """

    framework: str
    chain: ChainRule
    log_between: float | None
    parts: tuple[str, ...]
    cut: tuple[str, ...]
    unreached: tuple[str, ...]


def study_chain(framework: str, model: Any, x: Any, y: Any, **keywords: Any) -> ChainStudy:
    """Measure the factors of a model on one batch.

    Args:
        framework: the framework of the model.
        model, x, y: as `chain_rule` takes them.
        keywords: `loss`, if there is one.

    Raises:
        GradlabError: `chain_rule` raised it.
    """
    chain: ChainRule = backends.load(framework).chain_rule(model, x, y, **keywords)
    rows = chain.layers
    after = [row.log_after for row in rows if row.log_after is not None]
    return ChainStudy(
        framework=framework,
        chain=chain,
        log_between=None if chain.log_whole is None else math.fsum(after),
        parts=tuple(row.layer for row in rows if row.log_after is not None and abs(row.log_after) > APART),
        cut=tuple(row.layer for row in rows if row.log_factor == -math.inf),
        unreached=tuple(row.layer for row in rows if not row.reached),
    )
