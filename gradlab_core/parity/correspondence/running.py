"""What names and shapes leave open is decided by running both programs on the reference's weights.

A wrong choice shows: behind it, no activation and no gradient of the candidate is one of the reference's. Tensors are
recognised by their size and three sums that no layout changes, so that nothing need be known of the layers' names.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.correspondence.links import Correspondence, Link
from gradlab_core.parity.correspondence.names import likeness, ranked
from gradlab_core.parity.correspondence.turns import turns
from gradlab_core.parity.trace import Key, Subject, Trace

_CLOSE = 1e-6  # relative; both sides run in float64
_CLEAR = 0.05  # of likeness: by so much a pairing must be ahead for names to have decided
_TRIALS = 400  # runs of the candidate at most


def decide(
    reference: Subject, candidate: Subject, batch: tuple[Inputs, Any], proposed: Correspondence, *, canonical: bool
) -> Correspondence:
    """The proposed correspondence, or another one with which more of the candidate's tensors are the reference's.

    Exchanged are arrays of one shape whose names do not tell which is which, turns where the layout is not known, and
    the order of what is fused. The first choice that makes all gradients agree is taken.
    """
    runs = _Runs(reference, candidate, batch)
    best, score = proposed, runs.score(proposed)
    trials = 1
    improved = True
    while improved and score < runs.full and trials < _TRIALS:
        improved = False
        for other in _alternatives(best, canonical):
            trials += 1
            if (reached := runs.score(other)) > score:
                best, score, improved = other, reached, True
                break
            if trials >= _TRIALS:
                break
    return best


class _Runs:
    """The reference's step in float64, against the candidate's with weights that a correspondence gives it."""

    def __init__(self, reference: Subject, candidate: Subject, batch: tuple[Inputs, Any]) -> None:
        self.batch, self.start = batch, reference.state()
        oracle = reference.cast("float64")
        oracle.load(self.start)
        self.truth = _signatures(oracle.step(*batch, 0))
        self.full = sum(key.quantity != "activation" for key in self.truth)
        self.candidate = candidate.cast("float64")

    def score(self, correspondence: Correspondence) -> float:
        """How many tensors of the reference are among the candidate's; activations count a thousandth each, as they
        need not all be seen on both sides, and tell how far the two agree."""
        try:
            self.candidate.load(correspondence.there(self.start))
        except GradlabError:
            return -1.0
        theirs = list(_signatures(self.candidate.step(*self.batch, 0)).items())
        score = 0.0
        for key, signature in self.truth.items():
            match = (i for i, (other, s) in enumerate(theirs) if _alike(key, signature, other, s))
            if (place := next(match, None)) is not None:
                theirs.pop(place)
                score += 1e-3 if key.quantity == "activation" else 1.0
        return score


def _signatures(trace: Trace) -> dict[Key, np.ndarray]:
    """Size, norm, sum and sum of cubes of what forward and backward give."""
    kinds = ("activation", "logits", "loss", "gradient")
    marks = {}
    for key, value in trace.items():
        if key.quantity in kinds and value is not None:
            flat = np.asarray(value, np.float64).ravel()
            marks[key] = np.array([flat.size, np.linalg.norm(flat), flat.sum(), (flat**3).sum()])
    return marks


def _alike(key: Key, a: np.ndarray, other: Key, b: np.ndarray) -> bool:
    if key.quantity != other.quantity or a[0] != b[0]:
        return False
    # Sums cancel, and are held against what the norm lets them be.
    scale = a[1] * np.array([1.0, np.sqrt(a[0]), a[1] ** 2])
    return bool(np.all(np.abs(a[1:] - b[1:]) <= _CLOSE * scale))


def _alternatives(now: Correspondence, canonical: bool) -> Iterator[Correspondence]:
    """Everything that names and shapes leave open, one change at a time."""
    fused: dict[tuple[str, ...], dict[int, Link]] = {}
    for i, link in enumerate(now.links):
        if len(link.candidate) > 1:  # the weight and the bias of a fused layer are dealt out alike
            fused.setdefault(tuple(name.rpartition(".")[0] for name in link.candidate), {})[i] = link
        else:
            yield from (_with(now, {i: other}) for other in _turned(link, canonical))
    for links in fused.values():
        for others in zip(*map(_dealt, links.values()), strict=False):
            yield _with(now, dict(zip(links, others, strict=True)))
    for group in _exchanged(now):
        yield _with(now, group)


def _turned(link: Link, canonical: bool) -> Iterator[Link]:
    """The same array, otherwise laid out."""
    turn = link.turns[0]
    for other in turns(turn.reference, turn.candidate, canonical=canonical):
        if other != turn:
            yield dataclasses.replace(link, turns=(other,))


def _dealt(link: Link) -> Iterator[Link]:
    """The same rows, dealt out in another order or head by head."""
    rows = [turn.reference[0] for turn in link.turns]
    for heads in (1, *range(2, min(rows) + 1)):
        if all(n % heads == 0 for n in rows):
            for order in itertools.permutations(range(len(rows))):
                if len(set(rows)) == 1 or order == tuple(range(len(rows))):
                    names, dealt = tuple(link.candidate[i] for i in order), tuple(link.turns[i] for i in order)
                    yield dataclasses.replace(link, candidate=names, turns=dealt, heads=heads)


def _exchanged(now: Correspondence) -> Iterator[dict[int, Link]]:
    """Pairs of modules whose arrays have the same shapes and whose names would do as well the other way round."""
    modules: dict[str, dict[str, int]] = {}
    theirs, ours = ranked(n for k in now.links for n in k.candidate), ranked(now.shapes)
    for i, link in enumerate(now.links):
        if len(link.candidate) == len(link.sources) == 1 and not link.is_joint:
            name = theirs[link.candidate[0]]
            modules.setdefault(name.owner, {})[name.kind] = i
    for a, b in itertools.combinations(modules.values(), 2):
        if a.keys() != b.keys():
            continue
        pairs = [(now.links[a[kind]], now.links[b[kind]]) for kind in a]
        if any(x.turns[0].candidate != y.turns[0].candidate for x, y in pairs):
            continue
        x, y = pairs[0]
        here = [(ours[k.name], theirs[k.candidate[0]]) for k in (x, y)]
        straight = sum(likeness(*pair) for pair in here)
        crossed = likeness(here[0][0], here[1][1]) + likeness(here[1][0], here[0][1])
        if x.name != x.candidate[0] and straight - crossed < 2 * _CLEAR:
            yield {
                place: dataclasses.replace(now.links[place], candidate=other.candidate)
                for kind, (x, y) in zip(a, pairs, strict=True)
                for place, other in ((a[kind], y), (b[kind], x))
            }


def _with(now: Correspondence, changed: dict[int, Link]) -> Correspondence:
    return dataclasses.replace(now, links=tuple(changed.get(i, link) for i, link in enumerate(now.links)))
