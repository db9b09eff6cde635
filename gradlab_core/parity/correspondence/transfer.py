"""Weights from one framework to the other, and weights that somebody else's converter has moved."""

from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

import numpy as np

from gradlab_core.errors import refuse
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.correspondence.correspond import correspond
from gradlab_core.parity.correspondence.finding import Rules
from gradlab_core.parity.correspondence.links import Link
from gradlab_core.parity.trace import Subject
from gradlab_core.parity.weights import save_weights

_EQUAL = 1e-6  # relative, norm-wise: both sides may have gone through float32
_UNRELATED = 0.5  # correlation below which a tensor is not the reference's with something added


def transfer(
    reference: Subject,
    candidate: Subject,
    batch: tuple[Inputs, Any] | None = None,
    *,
    rules: Rules | None = None,
    path: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """Give the candidate the reference's weights, read them back, and hand them out by the candidate's names.

    Args:
        reference: where the weights come from.
        candidate: the subject that takes them, in place.
        batch, rules: as for `correspond`.
        path: an .npz file to write them to, whole or not at all.

    Returns:
        `{candidate's name: array}` as the candidate's framework loads it: `gradlab_jax.from_canonical(model, arrays)`.

    Raises:
        GradlabError: weights that correspond to nothing, or that the candidate gives back otherwise than it got them.
    """
    correspondence = correspond(reference, candidate, batch, rules=rules)
    correspondence.check()
    arrays = correspondence.there(reference.state())
    candidate.load(arrays)
    now = candidate.state()
    refuse(
        "transfer of weights",
        [
            f"{name} was given and reads back otherwise; expected a model that keeps what it loads, in float32 at least"
            for name, array in arrays.items()
            if _away(now[name], array) > _EQUAL
        ],
    )
    if path is not None:
        save_weights(path, arrays)
    return arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferRow:
    """One link of a correspondence, and how the candidate's arrays stand to what they should be.

    `verdict` is one of `equal`, `turned`, `permuted`, `scaled`, `shifted`, `another`, `unrelated`, `different`;
    `detail` says how, in words.
    """

    link: Link
    candidate: str
    verdict: str
    detail: str

    def __str__(self) -> str:
        return f"{self.candidate} ({self.link.name}): {self.detail or self.verdict}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferCheck:
    """A row for each of the candidate's arrays, and the names that correspond to nothing."""

    rows: tuple[TransferRow, ...]
    left_over: tuple[str, ...]

    @property
    def failures(self) -> tuple[TransferRow, ...]:
        return tuple(row for row in self.rows if row.verdict != "equal")

    def __str__(self) -> str:
        head = f"{len(self.rows)} arrays, {len(self.rows) - len(self.failures)} equal to the reference's"
        lines = [f"  {row}" for row in self.failures] + [f"  {name} corresponds to nothing" for name in self.left_over]
        return "\n".join([head, *lines])


def check_transfer(reference: Subject, candidate: Subject, *, rules: Rules | None = None) -> TransferCheck:
    """Hold weights that have been moved already against those they come from.

    Both subjects keep the weights they have. Of each array of the candidate the check says whether it is the
    reference's, and if not, what has been done to it: turned, permuted, scaled, shifted by a constant, taken for
    another, or never transferred.
    """
    correspondence = correspond(reference, candidate, rules=rules)
    ours, theirs = reference.state(), candidate.state()
    wanted = correspondence.there(ours)
    rows = []
    for link in correspondence.links:
        for name in link.candidate:
            verdict, detail = _verdict(name, theirs[name], wanted)
            rows.append(TransferRow(link=link, candidate=name, verdict=verdict, detail=detail))
    return TransferCheck(rows=tuple(rows), left_over=(*correspondence.left_reference, *correspondence.left_candidate))


def _verdict(name: str, array: np.ndarray, wanted: dict[str, np.ndarray]) -> tuple[str, str]:
    is_, should = np.asarray(array, np.float64), np.asarray(wanted[name], np.float64)
    if _away(is_, should) <= _EQUAL:
        return "equal", ""
    for axes in itertools.permutations(range(should.ndim)) if should.ndim < 5 else ():
        if should.transpose(axes).shape == is_.shape and _away(is_, should.transpose(axes)) <= _EQUAL:
            return "turned", f"its axes are turned by {axes}: transpose it, or do not transpose it twice"
    if not np.isfinite(is_).all():
        return "different", f"{int((~np.isfinite(is_)).sum())} of its {is_.size} elements are NaN or infinite"
    for other, expected in wanted.items():
        if other != name and expected.shape == is_.shape and _away(is_, expected) <= _EQUAL:
            return "another", f"it holds what belongs to {other}"
    for axis in range(should.ndim):
        ours, theirs = (np.sort(_lines(a, axis), axis=0) for a in (should, is_))
        order = [np.lexsort(_lines(a, axis).T) for a in (should, is_)]
        if _away(_lines(is_, axis)[order[1]], _lines(should, axis)[order[0]]) <= _EQUAL:
            return "permuted", f"its elements are the reference's in another order along axis {axis}"
        if should.ndim == 1 and _away(theirs, ours) <= _EQUAL:
            return "permuted", "its elements are the reference's in another order"
    if _away(np.sort(is_, axis=None), np.sort(should, axis=None)) <= _EQUAL:
        return "permuted", "its elements are the reference's in another order"
    return _altered(is_, should)


def _altered(is_: np.ndarray, should: np.ndarray) -> tuple[str, str]:
    """What arithmetic, or nobody, has made of it."""
    square = float((should * should).sum())
    factor = float((is_ * should).sum()) / square if square else 0.0
    if factor and _away(is_, factor * should) <= _EQUAL:
        return "scaled", f"it is {factor:.6g} × the reference's"
    shift = float((is_ - should).mean())
    if shift and _away(is_ - shift, should) <= _EQUAL:
        return "shifted", f"it is the reference's plus {shift:.6g}"
    spread, expected = float(is_.std()), float(should.std())
    alike = float(np.mean((is_ - is_.mean()) * (should - should.mean()))) / (spread * expected or 1.0)
    if abs(alike) < _UNRELATED:
        return "unrelated", (
            f"it has nothing to do with the reference's (correlation {alike:.2f}, standard deviation {spread:.2g} "
            f"where {expected:.2g} is expected): never transferred?"
        )
    return "different", f"it differs from the reference's by {_away(is_, should):.2g} of its norm"


def _lines(array: np.ndarray, axis: int) -> np.ndarray:
    """One line of numbers for each place along an axis."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _away(array: np.ndarray, truth: np.ndarray) -> float:
    scale = float(np.linalg.norm(truth))
    away = float(np.linalg.norm(np.asarray(array, np.float64) - truth))
    return away / scale if scale else away
