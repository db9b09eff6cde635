"""A stream of residuals before a normalisation: which earlier outputs are added up, and how often each.

A normalisation over the last axis keeps the direction of every vector. If x is a sum of known tensors, the part of that
sum that is at right angles to x̂ is zero at every position; so the multiples are the null space of a small matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradlab_core.parity.batch import each
from gradlab_core.parity.causes.cause import Cause, Explanation
from gradlab_core.parity.causes.sources import outputs
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_EXACT = 1e-7  # relative to the largest: a multiple or a rest that small is none
_MOST = 24  # tensors of a stream


def stream(local: Local, key: Key, theirs: np.ndarray, ours: np.ndarray) -> Iterator[Explanation]:
    """Other multiples in the candidate's stream (normalised: `theirs`) than in the reference's (`ours`)."""
    if ours.ndim < 3 or theirs.shape != ours.shape:
        return
    plain = {name: a for name, a in outputs(local, key) if a.shape == ours.shape and a.dtype.kind == "f"}
    plain = dict(list(plain.items())[-_MOST:])
    own = multiples(ours, list(plain.values()))
    if own is None:
        return
    shifted = dict(_shifted(local, plain))
    for extra in ({}, *({name: array} for name, (array, _) in shifted.items())):
        everything = {**plain, **extra}
        other = multiples(theirs, list(everything.values()))
        if other is None:
            continue
        expected = np.concatenate([own, np.zeros(len(extra))])
        names = list(everything)
        told = [_told(local, names, other, expected, by) for by in _scales(other, expected)]
        if extra and told:
            yield Explanation((shifted[names[-1]][1],), 0.0)
        elif told:
            # Only the direction is known: the likeliest scale leaves the fewest causes, and those with a name.
            causes = min(told, key=lambda causes: (len(causes), sum(c.code == "factor" for c in causes)))
            if 0 < len(causes) <= 2:
                yield Explanation(causes, 0.0)
        return


def _scales(other: np.ndarray, expected: np.ndarray) -> list[float]:
    """What the candidate's multiples may be over the reference's."""
    both = (np.abs(other) > _EXACT) & (np.abs(expected) > _EXACT)
    # The smallest first: what is multiplied is likelier than all the others being divided.
    return sorted(set((other[both] / expected[both]).round(9).tolist()), key=abs)


def _told(local: Local, names: list[str], other: np.ndarray, expected: np.ndarray, scale: float) -> tuple[Cause, ...]:
    """The causes, if the candidate's multiples are in that scale."""
    own = other / scale
    changed = [i for i in range(len(own)) if not math.isclose(own[i], expected[i], rel_tol=1e-6, abs_tol=_EXACT)]
    without = [names[i] for i in changed if abs(own[i]) <= _EXACT]
    beside = [names[i] for i in changed if abs(expected[i]) <= _EXACT]
    causes = [_factor(local, names[i], own[i] / expected[i]) for i in changed if names[i] not in (*without, *beside)]
    for some, said, fix in (
        (without, "not added, in the reference added", "add"),
        (beside, "added, in the reference not", "leave out"),
    ):
        if some:
            listed = ", ".join(some)
            causes.append(Cause("another-input", f"{listed}: {said}", f"{fix} {listed}"))
    return tuple(causes)


def multiples(x: np.ndarray, tensors: list[np.ndarray]) -> np.ndarray | None:
    """c with Σ cᵢ·aᵢ a multiple of x at every position, the largest 1; None if there is none, or more than one.

    >>> a, b = np.random.default_rng(0).standard_normal((2, 4, 3, 5))
    >>> x = 2.0 * a + b
    >>> multiples(x / np.linalg.norm(x, axis=-1, keepdims=True), [a, b]).round(6).tolist()
    [1.0, 0.5]
    """
    if not tensors:
        return None
    for centred in (False, True):  # RMSNorm, LayerNorm
        rows = [(a - a.mean(-1, keepdims=True) if centred else a).reshape(-1, x.shape[-1]) for a in tensors]
        unit = x.reshape(-1, x.shape[-1])
        unit = unit / np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-300)
        across = np.stack([(a - (a * unit).sum(-1, keepdims=True) * unit).ravel() for a in rows], axis=1)
        scale = max(float(np.linalg.norm(a)) for a in rows) or 1.0
        _, sizes, vectors = np.linalg.svd(across / scale, full_matrices=False)
        if sizes[-1] <= _EXACT and (len(sizes) == 1 or sizes[-2] > 1e3 * _EXACT):
            vector = vectors[-1]
            return np.asarray(vector / vector[np.argmax(np.abs(vector))])
    return None


def _shifted(local: Local, plain: dict[str, np.ndarray]) -> Iterator[tuple[str, tuple[np.ndarray, Cause]]]:
    """What embeddings would be if rows were looked up from another one on."""
    for name, array in plain.items():
        table = local.before.get(f"{name}.weight")
        if table is None or table.ndim != 2 or table.shape[1] != array.shape[-1]:
            continue
        places = np.broadcast_to(np.arange(array.shape[-2]), array.shape[:-1])
        words = [np.asarray(ids) for ids in each(local.batch[0]).values()]
        for ids in (ids for ids in (*words, places) if ids.dtype.kind in "iu"):
            if ids.shape != array.shape[:-1] or ids.max() >= len(table) or not np.allclose(table[ids], array):
                continue
            for offset in (-2, -1, 1, 2):
                if ids.min() + offset >= 0 and ids.max() + offset < len(table):
                    way, back = ("below", "lower") if offset > 0 else ("above", "higher")
                    said = f"{name} looks up rows {abs(offset)} {way} those of the reference"
                    cause = Cause("position-offset", said, f"begin to count {abs(offset)} {back}")
                    yield f"{name} + {offset}", (table[ids + offset].astype(np.float64), cause)


def _factor(local: Local, name: str, factor: float) -> Cause:
    table = local.before.get(f"{name}.weight")
    words = f"{name} is added {factor:.6g} ×, in the reference once"
    if table is not None and table.ndim == 2:
        root = math.sqrt(table.shape[1])
        if any(math.isclose(factor, k, rel_tol=1e-5) for k in (root, 1 / root)):
            return Cause("embed-scale", f"{words}: √d with d = {table.shape[1]}", "scale it on both sides or on none")
    return Cause("factor", words, "look for a constant that one side multiplies or divides by")
