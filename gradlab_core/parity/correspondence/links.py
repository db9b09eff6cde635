"""How arrays of the reference lie in the candidate, as data: turned, cut into pieces, put together, summed.

A linear weight that the other side keeps as (in, out) is a turn; one fused matrix for queries, keys and values beside
three of their own is a link of one array with three; two biases of a recurrent cell that the port adds up are a sum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gradlab_core.errors import GradlabError, refuse

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One array of the reference as the candidate has it: seen in the shape `cut`, its axes turned and some of them
    flipped, and read in the candidate's shape.

    >>> weight = np.arange(6).reshape(2, 3)
    >>> turn = Turn((2, 3), (3, 2), cut=(2, 3), axes=(1, 0))
    >>> turn.there(weight).tolist(), bool((turn.back(turn.there(weight)) == weight).all())
    ([[0, 3], [1, 4], [2, 5]], True)
    """

    reference: Shape
    candidate: Shape
    cut: Shape
    axes: tuple[int, ...]
    flipped: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = {math.prod(shape) for shape in (self.reference, self.candidate, self.cut)}
        if len(sizes) > 1 or sorted(self.axes) != list(range(len(self.cut))):
            raise GradlabError(
                f"a turn of {self.reference} to {self.candidate} by the axes {self.axes} of {self.cut}; expected as "
                "many elements on both sides, and each axis once"
            )

    @classmethod
    def same(cls, reference: Shape, candidate: Shape | None = None) -> Turn:
        """The same elements in the same order, in another shape at most."""
        return cls(reference, reference if candidate is None else candidate, reference, tuple(range(len(reference))))

    def there(self, array: np.ndarray) -> np.ndarray:
        """The reference's array as the candidate's."""
        turned = np.asarray(array).reshape(self.cut).transpose(self.axes)
        return np.flip(turned, self.flipped).reshape(self.candidate)

    def back(self, array: np.ndarray) -> np.ndarray:
        """The candidate's array as the reference's."""
        turned = np.asarray(array).reshape([self.cut[axis] for axis in self.axes])
        return np.flip(turned, self.flipped).transpose(np.argsort(self.axes)).reshape(self.reference)

    @property
    def words(self) -> str:
        """What it does, "" for nothing."""
        parts = []
        if self.axes != tuple(range(len(self.axes))):
            parts.append("transposed" if len(self.axes) == 2 else f"axes {self.axes}")
        parts += [f"axis {axis} flipped" for axis in self.flipped]
        if self.candidate != tuple(self.cut[axis] for axis in self.axes):
            parts.append(f"as {self.candidate}")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Source:
    """An array of the reference, or some of its rows."""

    name: str
    rows: tuple[int, int] | None = None

    def of(self, arrays: Mapping[str, Any]) -> np.ndarray:
        array = np.asarray(arrays[self.name])
        return array if self.rows is None else array[slice(*self.rows)]

    def __str__(self) -> str:
        return self.name if self.rows is None else f"{self.name}[{self.rows[0]}:{self.rows[1]}]"


@dataclasses.dataclass(frozen=True)
class Link:
    """Arrays of the reference that are arrays of the candidate.

    The sources stand below each other (or, `summed`, on top of each other) and make one array. Its rows are dealt out
    to the candidate's arrays, as many to each as that one needs; with `heads` in turn for each head, as in a fused
    matrix that holds query, key and value of the first head, then of the second.
    """

    sources: tuple[Source, ...]
    candidate: tuple[str, ...]
    turns: tuple[Turn, ...]
    summed: bool = False
    heads: int = 1

    @classmethod
    def one(cls, reference: str, candidate: str, turn: Turn) -> Link:
        return cls((Source(reference),), (candidate,), (turn,))

    @property
    def name(self) -> str:
        """What the two sides are compared under: the reference's name where it has one."""
        return " + ".join(map(str, self.sources)) if self.is_joint else self.sources[0].name

    @property
    def is_joint(self) -> bool:
        """Whether the reference's arrays cannot be told apart in the candidate's."""
        return self.summed or any(source.rows is not None for source in self.sources)

    def whole(self, arrays: Mapping[str, Any]) -> np.ndarray:
        """The one array, from the reference's; a sum is float64, since in float32 it would be another weight."""
        parts = [source.of(arrays) for source in self.sources]
        if len(parts) == 1:
            return parts[0]
        return np.asarray(np.sum(parts, axis=0, dtype=np.float64)) if self.summed else np.concatenate(parts)

    def there(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The candidate's arrays, from the reference's."""
        whole = self.whole(arrays)
        if len(self.turns) == 1:
            return {self.candidate[0]: self.turns[0].there(whole)}
        rows = np.cumsum(self._rows_of_a_head())[:-1]
        pieces = np.split(whole.reshape((self.heads, -1, *whole.shape[1:])), rows, axis=1)
        dealt = zip(self.candidate, self.turns, pieces, strict=True)
        return {name: turn.there(piece.reshape(turn.reference)) for name, turn, piece in dealt}

    def back(self, arrays: Mapping[str, Any], shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
        """`{name: array}` in the reference's layout, from the candidate's: the reference's arrays of those shapes, or,
        if they are joint, one by the link's name."""
        pieces = [turn.back(arrays[name]) for name, turn in zip(self.candidate, self.turns, strict=True)]
        if len(pieces) == 1:
            whole = pieces[0]
        else:
            rows = zip(pieces, self._rows_of_a_head(), strict=True)
            dealt = [piece.reshape((self.heads, n, *piece.shape[1:])) for piece, n in rows]
            whole = np.concatenate(dealt, axis=1).reshape((-1, *pieces[0].shape[1:]))
        if self.is_joint:
            return {self.name: whole}
        if len(self.sources) == 1:
            return {self.name: whole.reshape(shapes[self.name])}
        names = [source.name for source in self.sources]
        cuts = np.cumsum([shapes[name][0] for name in names])[:-1]
        return dict(zip(names, np.split(whole, cuts), strict=True))

    def _rows_of_a_head(self) -> list[int]:
        return [turn.reference[0] // self.heads for turn in self.turns]

    def __str__(self) -> str:
        left, right = (" + " if self.summed else ", ").join(map(str, self.sources)), ", ".join(self.candidate)
        words = list(dict.fromkeys(turn.words for turn in self.turns if turn.words))
        words += [f"dealt out over {self.heads} heads"] * (self.heads > 1)
        return f"{left} → {right}" + (f" ({'; '.join(words)})" if words else "")


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """All links, and what is left over on either side.

    Attributes:
        links: in the candidate's order.
        shapes: of the reference's arrays.
        left_reference, left_candidate: names that no link has, with the likeliest partner and its shape, the array of
            the same name if there is one ("" if there is no partner).
    """

    links: tuple[Link, ...]
    shapes: Mapping[str, Shape]
    left_reference: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_candidate: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_identity(self) -> bool:
        """Whether both sides have the same arrays by the same names."""
        plain = (len(k.candidate) == 1 and k.candidate[0] == k.name and not k.turns[0].words for k in self.links)
        return not self.left_reference and not self.left_candidate and all(plain)

    def check(self) -> None:
        """Refuse what is left over, all of it in one message."""
        same = [name for name in self.left_reference if name in self.left_candidate]
        problems = [
            f"{name} has shape {self.left_reference[name].removeprefix(name).strip()} in the candidate; expected "
            f"{self.shapes[name]} as in the reference"
            for name in same
        ]
        sides = ("reference", "candidate", self.left_reference), ("candidate", "reference", self.left_candidate)
        problems += [
            _left(name, side, other, partner)
            for side, other, left in sides
            for name, partner in left.items()
            if name not in same
        ]
        refuse("weights that correspond to nothing (give rules={candidate's name: reference's name})", problems)

    def there(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The candidate's weights, from the reference's."""
        return {name: array for link in self.links for name, array in link.there(arrays).items()}

    def back(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The candidate's arrays by the reference's names and in its layout; arrays that are not there are left out,
        with all that they are linked to."""
        whole = (link for link in self.links if all(arrays.get(name) is not None for name in link.candidate))
        return {name: array for link in whole for name, array in link.back(arrays, self.shapes).items()}

    def modules(self) -> dict[str, str]:
        """`{path of the candidate's module: path of the reference's}` of modules that own weights linked one to one."""
        pairs = ((k.candidate[0], k.sources[0].name) for k in self.links if len(k.candidate) == len(k.sources) == 1)
        return {theirs.rpartition(".")[0]: ours.rpartition(".")[0] for theirs, ours in pairs}

    def __str__(self) -> str:
        return "\n".join(map(str, self.links))


def joint(links: Iterable[Link]) -> tuple[Link, ...]:
    """Links in which the reference's arrays cannot be told apart."""
    return tuple(link for link in links if link.is_joint)


def _left(name: str, side: str, other: str, partner: str) -> str:
    likeliest = f"; likeliest partner: {partner}" if partner else ""
    return f"{name} of the {side} is nothing in the {other}{likeliest}"
