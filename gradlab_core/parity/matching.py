"""Which tensor of the candidate is which of the reference, where their names differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradlab_core.parity.trace import OF_LAYERS, Key, Trace


def layer_names(reference: Trace, candidate: Trace, modules: Mapping[str, str] | None) -> dict[Key, Key]:
    """`{key of the candidate: key of the reference}` of layers' tensors; `modules` as in `aligned`, None where modules
    have the same names."""
    return other_names(reference, candidate) if modules is None else aligned(reference, candidate, modules)


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
    names: dict[Key, Key] = {}
    for group, keys in theirs.items():
        partners = mine.get(group, [])
        if [_shape(candidate[k]) for k in keys] == [_shape(reference[k]) for k in partners]:
            names |= dict(zip(keys, partners, strict=True))
    return names


def aligned(reference: Trace, candidate: Trace, modules: Mapping[str, str]) -> dict[Key, Key]:
    """`{key of the candidate: key of the reference}` of layers' tensors, where modules have other names.

    Modules that own weights are known (`modules`: candidate's path to the reference's). Between them layers of the same
    shape are paired in their order, those of equal values first. What has no partner is called the candidate's.
    """
    ours = [key for key in reference if key.quantity == "activation"]
    theirs = [key for key in candidate if key.quantity == "activation"]
    known = {k: k._replace(path=modules[k.path]) for k in theirs if k.path in modules}
    known = {k: target for k, target in known.items() if target in reference}
    pairs = _in_order(ours, theirs, reference, candidate, known)
    names = {}
    for key in candidate:
        if key.quantity in OF_LAYERS:
            partner = pairs.get(key._replace(quantity="activation"))
            own = f"{key.path} of the candidate".lstrip()
            names[key] = key._replace(path=own) if partner is None else partner._replace(quantity=key.quantity)
    return names


def _in_order(
    ours: list[Key], theirs: list[Key], reference: Trace, candidate: Trace, known: Mapping[Key, Key]
) -> dict[Key, Key]:
    """The known pairs, and between them as many more as keep to the order of both sides."""
    taken = set(known.values())
    free, others = [k for k in ours if k not in taken], [k for k in theirs if k not in known]
    place = {k: sum(a in taken for a in ours[: ours.index(k)]) for k in free}
    spot = {k: sum(b in known for b in theirs[: theirs.index(k)]) for k in others}
    best = np.zeros((len(free) + 1, len(others) + 1))
    gains = np.full((len(free), len(others)), -np.inf)
    for i, j in np.ndindex(gains.shape):
        a, b = reference[free[i]], candidate[others[j]]
        if place[free[i]] == spot[others[j]] and _shape(a) == _shape(b):
            gains[i, j] = 1.0 + 10.0 * (a is not None and b is not None and np.allclose(a, b, rtol=1e-6, atol=0.0))
    for i, j in np.ndindex(gains.shape):
        best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + gains[i, j])
    pairs, i, j = dict(known), len(free), len(others)
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs[others[j]] = free[i]
    return pairs


def one_sided(reference: Trace, candidate: Trace) -> set[Key]:
    """Layers' tensors that only one of two traces has."""
    return {key for key in reference.keys() ^ candidate.keys() if key.quantity in OF_LAYERS}


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
