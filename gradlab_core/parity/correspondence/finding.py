"""Correspondence from names, shapes and order: what is proposed before anything is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from gradlab_core.errors import refuse
from gradlab_core.parity.correspondence import fused
from gradlab_core.parity.correspondence.links import Correspondence, Link, Shape
from gradlab_core.parity.correspondence.names import Name, likeness, ranked
from gradlab_core.parity.correspondence.turns import turns

Rules = Mapping[str, "str | Link"]
"""`{name of the candidate's array: name of the reference's}`, or a `Link` where more than a name is to be said."""
_LEFT_OVER = 0.2  # of likeness, for every array that one of two modules has and the other has not
_PLACE = 0.05  # of likeness, for standing at the same place; decides only where names do not


def find(
    reference: Mapping[str, Shape],
    candidate: Mapping[str, Shape],
    *,
    rules: Rules | None = None,
    canonical: bool = True,
) -> Correspondence:
    """Which of the candidate's arrays is which of the reference's.

    The user's rules come first, then equal names, then whole modules by what they hold and how they are called, then
    arrays that are one on one side and several on the other.

    Args:
        reference, candidate: `{name: shape}`, in order of definition.
        rules: `{candidate's name: reference's name or a Link}`.
        canonical: the candidate's arrays lie as PyTorch's do, as those of Flax modules that gradlab reads.

    Raises:
        GradlabError: a rule that names what is not there, or arrays that no turn leads to.

    >>> print(find({"fc.weight": (2, 3)}, {"dense.w": (3, 2)}, canonical=False))
    fc.weight → dense.w (transposed)
    """
    links = _ruled(reference, candidate, rules or {}, canonical)
    rest = _Rest(reference, candidate, links)
    for name, shape in candidate.items():
        if name in rest.reference and name in rest.candidate:
            options = turns(reference[name], shape, canonical=canonical)
            rest.take([Link.one(name, name, options[0])] if options else [])
    rest.take(_modules(rest.reference, rest.candidate, canonical))
    rest.take(fused.links(rest.reference, rest.candidate))
    rest.take(_modules(rest.reference, rest.candidate, canonical, whole=False))
    place = {name: i for i, name in enumerate(candidate)}
    ordered = sorted(rest.links, key=lambda link: place[link.candidate[0]])
    left = dict(rest.reference), dict(rest.candidate)
    return Correspondence(tuple(ordered), dict(reference), _partners(*left), _partners(*reversed(left)))


@dataclasses.dataclass
class _Rest:
    """Links so far, and the arrays that none of them has."""

    reference: Mapping[str, Shape]
    candidate: Mapping[str, Shape]
    links: list[Link]

    def __post_init__(self) -> None:
        self.take([])

    def take(self, links: list[Link]) -> None:
        self.links = [*self.links, *links]
        ours = {source.name for link in self.links for source in link.sources}
        theirs = {name for link in self.links for name in link.candidate}
        self.reference = {name: shape for name, shape in self.reference.items() if name not in ours}
        self.candidate = {name: shape for name, shape in self.candidate.items() if name not in theirs}


def _ruled(reference: Mapping[str, Shape], candidate: Mapping[str, Shape], rules: Rules, canonical: bool) -> list[Link]:
    problems, links = [], []
    for theirs, rule in rules.items():
        named = rule.candidate if isinstance(rule, Link) else (theirs,)
        ours = [source.name for source in rule.sources] if isinstance(rule, Link) else [rule]
        absent = [f"{name} is no array of the candidate" for name in named if name not in candidate]
        absent += [f"{name} is no array of the reference" for name in ours if name not in reference]
        if absent:
            problems += absent
        elif isinstance(rule, Link):
            links.append(rule)
        elif options := turns(reference[rule], candidate[theirs], canonical=canonical):
            links.append(Link.one(rule, theirs, options[0]))
        else:
            problems.append(f"{theirs} is {candidate[theirs]} and {rule} is {reference[rule]}: no turn leads there")
    refuse("rules of correspondence", problems)
    return list(dict.fromkeys(links))


def _modules(
    reference: Mapping[str, Shape], candidate: Mapping[str, Shape], canonical: bool, *, whole: bool = True
) -> list[Link]:
    """Modules of the two sides that fit together, each with one, so that they are as alike as can be in all."""
    from scipy.optimize import linear_sum_assignment

    ours, theirs = _owners(reference), _owners(candidate)
    if not ours or not theirs:
        return []
    gains = np.full((len(ours), len(theirs)), -np.inf)
    for i, mine in enumerate(ours):
        for j, other in enumerate(theirs):
            gains[i, j] = _gain(mine, other, reference, candidate, canonical, whole)
            gains[i, j] -= _PLACE * abs(i / len(ours) - j / len(theirs))
    rows, columns = linear_sum_assignment(np.where(np.isfinite(gains), gains, -1e6), maximize=True)
    links = []
    for i, j in zip(rows, columns, strict=True):
        if np.isfinite(gains[i, j]):
            for kind, name in theirs[j].items():
                if kind in ours[i]:
                    mine = ours[i][kind].full
                    options = turns(reference[mine], candidate[name.full], canonical=canonical)
                    links.append(Link.one(mine, name.full, options[0]))
    return links


def _owners(shapes: Mapping[str, Shape]) -> list[dict[str, Name]]:
    """The arrays of every module, by their kind."""
    owners: dict[str, dict[str, Name]] = {}
    for name in ranked(shapes).values():
        owners.setdefault(name.owner, {})[name.kind] = name
    return list(owners.values())


def _gain(
    mine: Mapping[str, Name],
    other: Mapping[str, Name],
    reference: Mapping[str, Shape],
    candidate: Mapping[str, Shape],
    canonical: bool,
    whole: bool,
) -> float:
    """How well two modules go together; -Inf where an array of the one has no place in the other. A `whole` module has
    its largest array on both sides."""
    shared = [kind for kind in other if kind in mine]
    fits = [turns(reference[mine[k].full], candidate[other[k].full], canonical=canonical) for k in shared]
    if not shared or not all(fits):
        return -math.inf
    largest = max(other, key=lambda kind: math.prod(candidate[other[kind].full]))
    if whole and largest not in shared:
        return -math.inf
    missing = len(mine) + len(other) - 2 * len(shared)
    return likeness(next(iter(mine.values())), next(iter(other.values()))) - _LEFT_OVER * missing


def _partners(left: Mapping[str, Shape], others: Mapping[str, Shape]) -> dict[str, str]:
    """For what is left over, the array of the same name on the other side, or else the most alike of what is left over
    there, with its shape."""
    names, partners = ranked(left), ranked(others)

    def partner(name: str) -> str | None:
        if name in others:
            return name
        gains = {
            other: likeness(names[name], partners[other]) + (math.prod(left[name]) == math.prod(others[other]))
            for other in others
        }
        return max(gains, key=lambda other: gains[other], default=None)

    alike = {name: partner(name) for name in left}
    return {name: "" if best is None else f"{best} {others[best]}" for name, best in alike.items()}
