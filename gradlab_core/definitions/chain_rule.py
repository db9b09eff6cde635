"""The gradient's way back through a net as a product: what each layer call makes of it, and what lies between.

For calls in the order in which they ran, with g the gradient at their inputs and outputs,

    ‖g in 1‖/‖g logits‖ = Π ‖g in k‖/‖g out k‖ · Π ‖g out k‖/‖g in k+1‖

whatever the net looks like. In a plain chain the second product is 1: what one layer gives is what the next one takes.
Where it is not, a path parts or meets another one, or a step that is no layer lies between.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from gradlab_core.definitions.cuts import LOGITS, Cut
from gradlab_core.records import ChainRule, LayerFactor

_Key = tuple[str, str, int]


def chain_rule(cuts: Sequence[Cut], norms: Mapping[Cut, float | None], mode: str) -> ChainRule:
    """The factors from the gradient norm at every cut; None, like 0, where no gradient comes.

    Args:
        cuts: in execution order; `LOGITS` is one of them.

    >>> ends = [Cut(path, "linear", end=end, sort="layer") for path in ("a", "b") for end in ("input", "output")]
    >>> found = chain_rule([*ends, LOGITS], dict(zip([*ends, LOGITS], (8.0, 4.0, 2.0, 1.0, 1.0))), "train")
    >>> [(row.layer, round(math.exp(row.log_factor), 9), math.exp(row.log_after)) for row in found.layers]
    [('a', 2.0, 2.0), ('b', 2.0, 1.0)]
    """
    ends = [(_joint(group, norms, "input"), _joint(group, norms, "output"), group[0]) for group in _calls(cuts)]
    passing = [i for i, (inward, outward, _) in enumerate(ends) if inward and outward]
    after = {i: ends[j][0] for i, j in itertools.pairwise(passing)}
    logits = norms.get(LOGITS) or None
    rows = []
    for i, (inward, outward, cut) in enumerate(ends):
        factor = None if inward is None or not outward else _log(inward, outward)
        follows = after.get(i, logits) if i in passing else None
        rows.append(
            LayerFactor(
                path=cut.path,
                kind=cut.kind,
                call=cut.call,
                layer=cut.layer,
                log_factor=factor,
                log_after=None if not follows or not outward else _log(outward, follows),
                reached=bool(outward),
            )
        )
    first = ends[passing[0]] if passing else None
    return ChainRule(
        mode=mode,
        layers=tuple(rows),
        log_product=math.fsum(row.log_factor for i, row in enumerate(rows) if i in passing and row.log_factor),
        log_whole=None if first is None or logits is None or first[0] is None else _log(first[0], logits),
        start=first[2].layer if first else "",
    )


def _log(above: float, below: float) -> float:
    return math.log(above) - math.log(below) if above else -math.inf


def _joint(group: Sequence[Cut], norms: Mapping[Cut, float | None], end: str) -> float | None:
    """The norm at all tensors of that end taken as one; None if there is none, as where the input is whole numbers."""
    sizes = [norms.get(cut) or 0.0 for cut in group if cut.end == end]
    return math.hypot(*sizes) if sizes else None


def _calls(cuts: Sequence[Cut]) -> list[list[Cut]]:
    """The cuts of each layer call before the loss. A module that is no known layer counts if nothing in it is cut, and
    what is inside of a layer does not."""
    model = list(itertools.takewhile(lambda cut: cut != LOGITS, cuts))
    places: dict[_Key, list[int]] = {}
    for i, cut in enumerate(model):
        places.setdefault((cut.path, cut.kind, cut.call), []).append(i)
    layers = [(own[0], own[-1]) for own in places.values() if model[own[0]].sort == "layer"]
    calls = []
    for key, own in places.items():
        inside = any(begin < own[0] and own[-1] < end for begin, end in layers)
        others = (cut.caller for cut in model if (cut.path, cut.kind, cut.call) != key)
        hollow = model[own[0]].sort == "module" and key[0] in others
        if not inside and not hollow:
            calls.append([model[i] for i in own])
    return calls
