"""Which turns lead from one shape to another, the usual one first."""

from __future__ import annotations

import itertools
import math

from gradlab_core.parity.correspondence.links import Shape, Turn

_USUAL = {
    2: ((1, 0),),  # linear: (out, in) → (in, out)
    3: ((2, 1, 0), (2, 0, 1)),  # convolution of one axis: OIL → LIO; transposed: IOL → LIO
    4: ((2, 3, 1, 0), (2, 3, 0, 1)),  # OIHW → HWIO; transposed: IOHW → HWIO
    5: ((2, 3, 4, 1, 0), (2, 3, 4, 0, 1)),
}
_SPACE_FIRST = {axes: tuple(range(len(axes) - 2)) for orders in _USUAL.values() for axes in orders if len(axes) > 2}


def turns(reference: Shape, candidate: Shape, *, canonical: bool) -> list[Turn]:
    """Every turn that leads from the reference's shape to the candidate's.

    Args:
        reference, candidate: the shapes.
        canonical: the candidate's arrays are known to lie as PyTorch's do, so an equal shape leaves no question open.

    >>> [turn.words for turn in turns((3, 3), (3, 3), canonical=False)]
    ['', 'transposed']
    >>> [turn.words for turn in turns((6, 4), (4, 2, 3), canonical=True)]
    ['transposed, as (4, 2, 3)']
    """
    if math.prod(reference) != math.prod(candidate):
        return []
    if reference == candidate:
        plain = [Turn.same(reference)]
        return plain if canonical or len(reference) < 2 else plain + _permuted(reference, candidate)
    if sorted(reference) == sorted(candidate) and len(reference) > 1:
        return _permuted(reference, candidate)
    return _reshaped(reference, candidate)


def _permuted(reference: Shape, candidate: Shape) -> list[Turn]:
    n = len(reference)
    usual = _USUAL.get(n, ())
    others = [axes for axes in itertools.permutations(range(n)) if axes not in usual] if n < 5 else []
    ways = []
    for axes in (*usual, *others):
        if axes != tuple(range(n)) and tuple(reference[axis] for axis in axes) == candidate:
            ways.append(Turn(reference, candidate, reference, axes))
            if axes in _SPACE_FIRST:
                # The gradient of a convolution and a dilated one read their kernels in opposite directions.
                ways.append(Turn(reference, candidate, reference, axes, _SPACE_FIRST[axes]))
    return ways


def _reshaped(reference: Shape, candidate: Shape) -> list[Turn]:
    """Axes of length 1 more or fewer, or an axis of heads apart; a matrix may be transposed before."""
    plain, bare = Turn.same(reference, candidate), [n for n in reference if n != 1]
    if bare == [n for n in candidate if n != 1]:
        return [plain]
    if len(reference) == 2 and len(candidate) == 3:
        out, into = reference
        turned = Turn(reference, candidate, reference, (1, 0))
        if candidate[0] == into or candidate[-1] == out:  # (in, heads, each) of q, k, v; (heads, each, out) of the last
            return [turned, plain] if out in (candidate[0], candidate[-1]) and out == into else [turned]
        return [plain]
    if len(bare) == 2 and sorted(bare) == sorted(n for n in candidate if n != 1):
        return [Turn(reference, candidate, (bare[0], bare[1]), (1, 0))]
    return [plain] if len(reference) == 1 or len(candidate) == 1 else []
