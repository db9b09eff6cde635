"""Hidden units that are copies of one another, and will stay so.

Two units are tied if their incoming weights are equal and their outgoing weights are equal. Weights from or to units
that are tied with one another are added up first, since it does not matter which of two equal units a number comes
from. So tied units form classes, and the classes of one layer depend on those of its neighbours. The coarsest classes
that agree are found by refinement: all units of a layer begin as one class, and a class is split as long as two of its
units differ in their incoming or outgoing weights.

Such ties last for ever, whatever the data: tied units have the same activation (by induction from the input on) and the
same gradient (from the output back). So all weights between two classes get the same gradient, and the sums that made
units equal stay equal under SGD, momentum, weight decay and Adam. One exception: Adam with weight decay inside its
gradient may separate tied units that are not plain copies. Noise that differs between units, such as dropout, or
another start breaks ties.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core.definitions.chain import Link, chain
from gradlab_core.definitions.thresholds import COPY_TOLERANCE

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_BLOCK = 512  # units compared with all others at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSymmetry:
    """The units of one hidden layer.

    Attributes:
        path: of the weight whose rows they are.
        units: how many there are.
        distinct: how many are left if every set of tied units counts as one.
        groups: the sets of tied units, two or more in each, by index.
        closest: the distance of the two nearest units as a share of the larger one, exact to about 1e-8. It is the
            distance of their incoming or outgoing weights, whichever is larger. None with fewer than two units.
    """

    path: str
    units: int
    distinct: int
    groups: tuple[tuple[int, ...], ...]
    closest: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SymmetryDefect:
    """The tied units of a net.

    Attributes:
        defect: share of hidden units that are one too many, 1 − distinct/units; None where no hidden layer was found.
        units, distinct: over all hidden layers.
        layers: each hidden layer, in order.
        unread: weights whose units no known weight reads, so that they cannot be judged. The last weight is not among
            them: it makes the output and is not a hidden layer.
    """

    defect: float | None
    units: int
    distinct: int
    layers: tuple[LayerSymmetry, ...]
    unread: tuple[str, ...]


def symmetry_defect(params: Mapping[str, Any]) -> SymmetryDefect:
    """Which hidden units are tied: copies of one another that no gradient step will ever tell apart.

    Two units are equal if both their incoming and their outgoing weights differ by at most 1e-4
    (`thresholds.COPY_TOLERANCE`) of the larger ones. The weights are read as a chain in their order
    (`gradlab_core.definitions.chain`), also for a net with branches. A unit with a NaN is equal to no other.

    Args:
        params: `{path: array}` in canonical names, layout and order.

    Raises:
        GradlabError: not a mapping of paths to arrays of numbers.

    >>> net = {"fc1.weight": [[1, 2], [3, 4], [1, 2]], "fc1.bias": [0, 0, 0], "fc2.weight": [[5, 6, 5]]}
    >>> found = symmetry_defect(net)
    >>> found.layers[0].groups, found.distinct, round(found.defect, 3)
    (((0, 2),), 2, 0.333)
    """
    links = chain(params)
    labels = [np.zeros(link.units, np.int64) if link.read else np.arange(link.units) for link in links]
    moved = True
    while moved:
        moved = False
        for i, link in enumerate(links):
            if link.read and not _all_alone(labels[i]):
                refined = _refined(labels[i], _sides(links, labels, i))
                moved |= bool((refined != labels[i]).any())
                labels[i] = refined
    layers = [_layer(link, labels[i], _sides(links, labels, i)) for i, link in enumerate(links) if link.read]
    units, distinct = sum(layer.units for layer in layers), sum(layer.distinct for layer in layers)
    return SymmetryDefect(
        defect=1 - distinct / units if units else None,
        units=units,
        distinct=distinct,
        layers=tuple(layers),
        unread=tuple(link.path for link in links[:-1] if not link.read),
    )


def _layer(link: Link, labels: Labels, sides: list[tuple[Array, Array]]) -> LayerSymmetry:
    groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return LayerSymmetry(
        path=link.path,
        units=link.units,
        distinct=len(groups),
        groups=tuple(group for group in groups if len(group) > 1),
        closest=_closest(sides),
    )


def _sides(links: list[Link], labels: list[Labels], i: int) -> list[tuple[Array, Array]]:
    """The incoming and the outgoing weights of the units of link i, each as a pair: the sums over classes (units, …),
    and the norm of each unit over sums of absolute values, the scale against which rounding is small."""
    link, after = links[i], links[i + 1]
    own = labels[i]
    source = labels[i - 1] if link.chained and i else np.arange(link.incoming.shape[1])
    takes = [(link.incoming, source)] + ([(link.within, own)] if link.within is not None else [])
    gives = [(after.incoming.swapaxes(0, 1), labels[i + 1])]
    if link.within is not None:
        gives.append((link.within.swapaxes(0, 1), own))
    sums = [[_summed(weight, classes) for weight, classes in side] for side in (takes, gives)]
    sizes = [[_summed(np.abs(weight), classes) for weight, classes in side] for side in (takes, gives)]
    sums[0].append(link.own)
    sizes[0].append(link.own)
    return [(np.hstack(s), np.linalg.norm(np.hstack(z), axis=1)) for s, z in zip(sums, sizes, strict=True)]


def _summed(weight: Array, classes: Labels) -> Array:
    """(units, others, …) → (units, classes·…), the others of one class added up."""
    if not _all_alone(classes):
        names, index = np.unique(classes, return_inverse=True)
        weight = np.einsum("uo...,oc->uc...", weight, np.eye(len(names))[index])
    return weight.reshape(len(weight), -1)


def _refined(labels: Labels, sides: list[tuple[Array, Array]]) -> Labels:
    """The classes, split where units of one class differ; a class is named by its first unit. Equality is transitive:
    if a equals b and b equals c, all three are in one class."""
    refined = np.arange(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        within = [(values[members], sizes[members]) for values, sizes in sides]
        names = np.arange(len(members))
        moved = len(members) > 1
        while moved:
            before = names.copy()
            for rows, apart in _distances(within):
                near = apart <= COPY_TOLERANCE
                near[np.arange(len(rows)), rows] = True  # a NaN is not near, not even to itself
                names[rows] = np.where(near, names, len(names)).min(axis=1)
            moved = bool((names != before).any())
        refined[members] = members[names]
    return refined


def _closest(sides: list[tuple[Array, Array]]) -> float | None:
    best = math.nan
    for rows, apart in _distances(sides):
        apart[np.arange(len(rows)), rows] = np.nan
        if not np.isnan(apart).all():
            i, j = divmod(int(np.nanargmin(apart)), apart.shape[1])
            # Computed again from the difference: by cancelling squares, equal rows would be 1e-8 apart.
            exact = max(_exact(values, sizes, rows[i], j) for values, sizes in sides)
            best = exact if math.isnan(best) else min(best, exact)
    return None if math.isnan(best) else best


def _exact(values: Array, sizes: Array, i: int, j: int) -> float:
    larger = max(sizes[i], sizes[j])
    return float(np.linalg.norm(values[i] - values[j]) / larger) if larger else 0.0


def _distances(sides: list[tuple[Array, Array]]) -> Iterator[tuple[Labels, Array]]:
    """`(rows, distances)` of blocks of units from all: (rows, units), the larger of the two sides."""
    count = len(sides[0][0])
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        apart = np.zeros((len(rows), count))
        for values, sizes in sides:
            squares = np.square(values).sum(axis=1)
            with np.errstate(invalid="ignore"):  # a NaN or an Inf is near to nothing
                square = squares[rows, np.newaxis] + squares - 2 * values[rows] @ values.T
                larger = np.maximum(sizes[rows, np.newaxis], sizes)
                apart = np.maximum(apart, np.sqrt(np.maximum(square, 0)) / np.where(larger > 0, larger, 1.0))
        yield rows, apart


def _all_alone(labels: Labels) -> bool:
    return len(np.unique(labels)) == len(labels)
