"""Arrays that are one on one side and several on the other: queries, keys and values, the gates of a cell, two biases.

The order of the parts is a convention: query, key, value; i, f, g, o of an LSTM and r, z, n of a GRU as in PyTorch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from gradlab_core.parity.correspondence.links import Link, Shape, Source, Turn
from gradlab_core.parity.correspondence.names import Name, likeness, ranked
from gradlab_core.parity.correspondence.turns import turns

_GATE = re.compile(r"([ih])_?([ifgorzn])_?")
_ORDERS = ("ifgo", "rzn")
_ATTENTION = ("query", "key", "value")


def links(reference: Mapping[str, Shape], candidate: Mapping[str, Shape]) -> list[Link]:
    """Links of one array with several, in either direction.

    >>> three = {f"attn.{part}.weight": (4, 4) for part in ("q", "k", "v")}
    >>> print(*links({"attn.in_proj_weight": (12, 4)}, three))
    attn.in_proj_weight → attn.q.weight, attn.k.weight, attn.v.weight
    """
    made = _biases(reference, candidate)
    ours = {name: shape for name, shape in reference.items() if all(name != s.name for k in made for s in k.sources)}
    theirs = {name: shape for name, shape in candidate.items() if all(name not in k.candidate for k in made)}
    made += _dealt_out(ours, theirs)
    # Seen from the other side the same: there the several are the reference's.
    for link in _dealt_out(theirs, ours):
        whole, parts = link.sources[0].name, link.candidate
        rows = sum(reference[name][0] for name in parts)
        shape = (rows, *reference[parts[0]][1:])
        if options := turns(shape, candidate[whole], canonical=True):
            made.append(Link(tuple(map(Source, parts)), (whole,), (options[0],)))
    return made


def _dealt_out(ones: Mapping[str, Shape], several: Mapping[str, Shape]) -> list[Link]:
    """Each of `ones` with a family of `several` that it can be dealt out to, the most alike first."""
    families = _families(several)
    possible = []
    for name in ranked(ones).values():
        for (_, family, kind), members in families.items():
            pieces = _pieces(ones[name.full], [several[member.full] for member in members])
            if kind == name.kind and pieces and (len(family) != 2 or name.owner.count(family)):
                alike = likeness(name, members[0])
                possible.append((alike, name, tuple(member.full for member in members), pieces))
    made: list[Link] = []
    taken: set[str] = set()
    for _, name, parts, pieces in sorted(possible, key=lambda entry: -entry[0]):
        if not taken & {name.full, *parts}:
            taken |= {name.full, *parts}
            made.append(Link((Source(name.full),), parts, pieces))
    return made


def _families(shapes: Mapping[str, Shape]) -> dict[tuple[str, str, str], list[Name]]:
    """Arrays of one kind whose modules are parts of one thing, in the conventional order, by `(parent, family, kind)`;
    those of a recurrent cell belong to `ih` or `hh`."""
    groups: dict[tuple[str, str, str], dict[int, Name]] = {}
    for name in ranked(shapes).values():
        parent, _, last = name.owner.rpartition(".")
        gate = _GATE.fullmatch(last)
        spoken = [word for word in name.words if word in _ATTENTION]
        if gate:
            place = next(order.index(gate[2]) for order in _ORDERS if gate[2] in order)
            groups.setdefault((parent, f"{gate[1]}h", name.kind), {})[place] = name
        elif spoken:
            groups.setdefault((parent, "attention", name.kind), {})[_ATTENTION.index(spoken[-1])] = name
    return {key: [parts[i] for i in sorted(parts)] for key, parts in groups.items() if len(parts) > 1}


def _pieces(one: Shape, several: list[Shape]) -> tuple[Turn, ...]:
    """How each of several lies in its rows of one; () if they do not fill it."""
    row = math.prod(one[1:])
    sizes = [math.prod(shape) for shape in several]
    if not one or sum(sizes) != math.prod(one) or any(size % row for size in sizes):
        return ()
    ways = [turns((size // row, *one[1:]), shape, canonical=True) for size, shape in zip(sizes, several, strict=True)]
    return tuple(options[0] for options in ways) if all(ways) else ()


def _biases(reference: Mapping[str, Shape], candidate: Mapping[str, Shape]) -> list[Link]:
    """PyTorch's recurrent cells add two biases. A port keeps their sum, gate by gate or in one array; in a GRU it keeps
    both of the third gate, since only one of these is multiplied by the reset gate."""
    theirs = [name for name in ranked(candidate).values() if name.kind == "bias"]
    made: list[Link] = []
    for name in ranked(reference).values():
        ih, hh = name.full, name.full.replace("bias_ih", "bias_hh")
        if ih == hh or hh not in reference:
            continue
        shape, taken = reference[ih], {other for link in made for other in link.candidate}
        free = sorted((n for n in theirs if n.full not in taken), key=lambda n: -likeness(name, n))
        if gates := next((g for g in map(_cell(free), free) if _fills(g, shape, candidate)), None):
            made += _by_gate(ih, hh, shape[0], gates)
        elif whole := next((n.full for n in free if candidate[n.full] == shape), None):
            made.append(Link((Source(ih), Source(hh)), (whole,), (Turn.same(shape),), summed=True))
    return made


def _cell(biases: list[Name]) -> Callable[[Name], dict[str, str]]:
    """`{gate: bias}` of the cell that a bias belongs to, gates as `ii` and `hn`."""

    def gates(of: Name) -> dict[str, str]:
        parent = of.owner.rpartition(".")[0]
        own = [(n, _GATE.fullmatch(n.owner.rpartition(".")[2])) for n in biases if n.owner.rpartition(".")[0] == parent]
        return {gate[1] + gate[2]: n.full for n, gate in own if gate}

    return gates


def _fills(gates: Mapping[str, str], shape: Shape, candidate: Mapping[str, Shape]) -> bool:
    """Whether the biases are of as many gates as the two arrays hold, each of the right length."""
    letters = {gate[1] for gate in gates}
    return any(letters == set(order) for order in _ORDERS) and all(
        candidate[bias] == (shape[0] // len(letters),) for bias in gates.values()
    )


def _by_gate(ih: str, hh: str, rows: int, gates: Mapping[str, str]) -> list[Link]:
    order = next(order for order in _ORDERS if set(order) == {gate[1] for gate in gates})
    size = rows // len(order)
    made = []
    for i, letter in enumerate(order):
        span, turn = (i * size, (i + 1) * size), (Turn.same((size,)),)
        own = {side: gates[side + letter] for side in "ih" if side + letter in gates}
        if len(own) == 2:
            sides = zip((ih, hh), own.values(), strict=True)
            made += [Link((Source(name, span),), (bias,), turn) for name, bias in sides]
        elif letter != "n":  # one bias cannot stand for the two of that gate
            made.append(Link((Source(ih, span), Source(hh, span)), tuple(own.values()), turn, summed=True))
    return made
