"""Which tensor of the candidate is which of the reference, where their names differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradlab_core.parity.trace import Key, Trace

OF_LAYERS = ("activation", "activation_gradient")


def other_names(reference: Trace, candidate: Trace) -> dict[Key, Key]:
    """`{key of the candidate: key of the reference}` of activations that are a module of their own on one side and a
    function on the other: `mlp.act` and `mlp`, which called it.

    What stands on one side only is taken for what stands on the other only if one path is the other's parent, and both
    have as many such calls, of the same shapes in the same order.

    >>> x = np.ones(2)
    >>> other_names({Key("activation", "mlp.act"): x}, {Key("activation", "mlp"): x})
    {Key(quantity='activation', path='mlp', call=0): Key(quantity='activation', path='mlp.act', call=0)}
    """
    alone = [key for key in reference if key not in candidate], [key for key in candidate if key not in reference]
    mine, theirs = _by_parent(*alone), _by_parent(*reversed(alone))
    found: dict[Key, Key] = {}
    for group, keys in theirs.items():
        partners = mine.get(group, [])
        if [_shape(candidate[k]) for k in keys] == [_shape(reference[k]) for k in partners]:
            found |= dict(zip(keys, partners, strict=True))
    return found


def renamed(trace: Trace, names: Mapping[Key, Key]) -> Trace:
    """A trace under the reference's names."""
    return {names.get(key, key): value for key, value in trace.items()} if names else trace


def _by_parent(keys: list[Key], others: list[Key]) -> dict[tuple[str, str], list[Key]]:
    """Keys of layers by quantity and by the module that called them: themselves, if the other side knows it by name as
    the parent of something that only it has, else their parent."""
    parents = {(k.quantity, k.path.rpartition(".")[0]) for k in others}
    grouped: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        if key.quantity in OF_LAYERS:
            own = (key.quantity, key.path)
            group = own if own in parents else (key.quantity, key.path.rpartition(".")[0])
            grouped.setdefault(group, []).append(key)
    return grouped


def _shape(value: np.ndarray | None) -> tuple[int, ...] | None:
    return None if value is None else value.shape
