"""The weights of a net read as a chain: which units each weight makes, and which weight reads them.

A mapping of canonical arrays holds only names, shapes and an order, so the chain is read from these: a weight (two axes
or more) makes one unit per row, and the next weight reads these units if its second axis fits. Between two weights may
stand vectors with one number per unit: a bias, or the scale and shift of a normalisation.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradlab_core.definitions.recurrent import CELLS
from gradlab_core.errors import refuse

Array = NDArray[np.float64]

_RECURRENT = re.compile(r"weight_(ih|hh)_l\d+$")
_GATES = {len(gates) for gates in CELLS.values()}
_STATISTICS = ("running_mean", "running_var")


@dataclasses.dataclass
class Link:
    """A weight and the units it makes.

    Attributes:
        path: path of the weight.
        units: number of units it makes.
        incoming: (units, units of the source, …): the weights by which each unit reads the units of its source.
        chained: whether the source is the link before this one; if not, it is the input, or unknown.
        own: (units, …): numbers that belong to a single unit: biases and scales.
        within: (units, units, …): the weights by which units of a recurrent layer read one another.
        read: whether the next link reads this one.
        window: whether the weight is a convolution, so that its units have positions.
    """

    path: str
    units: int
    incoming: Array
    chained: bool
    own: Array
    within: Array | None = None
    read: bool = False
    window: bool = False


def chain(params: Mapping[str, Any]) -> list[Link]:
    """The links of canonical parameters `{path: array}`, in their order. Running statistics are not parameters.

    Recurrent weights (`weight_ih_l0`, `weight_hh_l0`) make one unit for each number of the state, with all its gates.
    Where the output of a convolution was flattened, its units are read at every pixel, channels first. A convolution
    with one channel per group reads each unit by itself. The source of other grouped convolutions, and of weights that
    do not fit the units before them, counts as unknown.

    Raises:
        GradlabError: not a mapping of paths to arrays of numbers.

    >>> net = {"fc1.weight": np.ones((3, 2)), "fc1.bias": np.zeros(3), "fc2.weight": np.ones((1, 3))}
    >>> [(link.path, link.units, link.read, link.own.shape) for link in chain(net)]
    [('fc1.weight', 3, True, (3, 1)), ('fc2.weight', 1, False, (1, 0))]
    """
    arrays = _arrays(params)
    links: list[Link] = []
    owners: dict[str, Link] = {}
    loose: list[tuple[str, Array]] = []
    for path, array in arrays.items():
        module, _, name = path.rpartition(".")
        recurrent = _RECURRENT.search(name)
        if recurrent and recurrent[1] == "hh" and module in owners:
            owners[module].within = _by_gate(array, owners[module].units)
        elif array.ndim >= 2:
            before = links[-1] if links else None
            link = _link(path, array, before, _cell_units(path, arrays) if recurrent else len(array))
            if before is not None:
                before.read = link.chained
            links.append(link)
            owners[module] = link
        else:
            loose.append((path, array))
    order = list(arrays)
    for path, vector in loose:
        earlier = [link for link in links if order.index(link.path) < order.index(path)]
        owner = owners.get(path.rpartition(".")[0]) or (earlier[-1] if earlier else None)
        if owner is not None and vector.size and vector.size % owner.units == 0:
            owner.own = np.hstack([owner.own, vector.reshape(-1, owner.units).T])
    return links


def _arrays(params: Any) -> dict[str, Array]:
    """The parameters in float64, or one error that lists every value which is not an array of numbers."""
    if not isinstance(params, Mapping):
        refuse("params", [f"a {type(params).__name__}; expected a mapping of canonical paths to arrays"])
    problems, arrays = [], {}
    for path, value in params.items():
        array = np.asarray(value)
        if array.dtype == object or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            problems.append(f"{path} is a {type(value).__name__} of {array.dtype}; expected an array of real numbers")
        elif str(path).rpartition(".")[2] not in _STATISTICS and array.size:
            arrays[str(path)] = array.astype(np.float64)
    refuse("params", problems)
    return arrays


def _link(path: str, weight: Array, before: Link | None, units: int) -> Link:
    width = weight.shape[1]
    incoming, chained = _by_gate(weight, units), before is not None
    if before is None or width == before.units:
        pass
    elif weight.ndim == 2 and before.window and width % before.units == 0:
        incoming = incoming.reshape(units, before.units, -1)
    elif width == 1 and weight.ndim > 2 and units % before.units == 0:
        each = units // before.units
        reads = np.repeat(np.eye(before.units), each, axis=0)
        incoming = reads[:, :, np.newaxis] * incoming.reshape(units, 1, -1)
    else:
        chained = False
    return Link(path, units, incoming, chained, np.zeros((units, 0)), window=weight.ndim > 2)


def _by_gate(weight: Array, units: int) -> Array:
    """(gates·units, sources, …) → (units, sources, …·gates): the gates of a unit side by side on the last axis."""
    parts = weight.reshape(-1, units, weight.shape[1], int(np.prod(weight.shape[2:])))
    return np.concatenate(list(parts), axis=-1)


def _cell_units(path: str, arrays: Mapping[str, Array]) -> int:
    """Size of a recurrent layer's state: the second axis of its hidden weight, or the rows if it has no such weight."""
    rows = len(arrays[path])
    beside = arrays.get(path.replace("weight_ih", "weight_hh"))
    fits = beside is not None and beside.ndim == 2 and rows / beside.shape[1] in _GATES
    return beside.shape[1] if fits and beside is not None else rows
