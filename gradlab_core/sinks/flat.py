"""A record as flat numbers: in one form for tables and in another for loggers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator

from gradlab_core.records import GradientState, StepRecord, TensorNorms

PREFIX = "gradlab/"
_NO_NUMBERS = ("step", "tensors", "states", "probe", "quantities", "attempt")
QUANTITIES = tuple(field.name for field in dataclasses.fields(StepRecord) if field.name not in _NO_NUMBERS)
TENSOR_QUANTITIES = tuple(field.name for field in dataclasses.fields(TensorNorms))


def quantities(record: StepRecord) -> Iterator[tuple[str, str, float | None]]:
    """Yield `(path, quantity, value)` for every quantity of the step. The path of the whole net is empty; yes and no
    become 1 and 0. A probe is left out, since it is not a single number: only the JSON keeps it.

    >>> record = StepRecord(step=7, loss=None, learning_rate=0.1, grad_norm=float("inf"), param_norm=2.0,
    ...     update_norm=0.0, update_ratio=0.0, states={"w": GradientState.DISCONNECTED},
    ...     tensors={"w": TensorNorms(param=2.0, grad=None, update=0.0, ratio=0.0)})
    >>> list(quantities(record))[:3]
    [('', 'loss', None), ('', 'learning_rate', 0.1), ('', 'grad_norm', inf)]
    >>> ('w', 'grad', None) in quantities(record)
    True
    """
    for name in QUANTITIES:
        yield "", name, _number(getattr(record, name))
    for path, norms in record.tensors.items():
        for name in TENSOR_QUANTITIES:
            yield path, name, _number(getattr(norms, name))
    for name, values in record.quantities.items():
        yield "", name, _number(values.whole)
        yield from ((path, name, _number(value)) for path, value in values.tensors.items())


def scalars(record: StepRecord) -> dict[str, float]:
    """The numbers that a logger gets: missing values are left out, and each state counts the parameters in it.

    >>> record = StepRecord(step=7, loss=None, learning_rate=0.1, grad_norm=1.0, param_norm=2.0,
    ...     update_norm=0.0, update_ratio=0.0, states={"w": GradientState.DISCONNECTED},
    ...     tensors={"w": TensorNorms(param=2.0, grad=None, update=0.0, ratio=0.0)})
    >>> flat = scalars(record)
    >>> flat["gradlab/tensors/w/param"], flat["gradlab/states/disconnected"], flat["gradlab/states/lost"]
    (2.0, 1.0, 0.0)
    >>> "gradlab/loss" in flat, "gradlab/tensors/w/grad" in flat
    (False, False)
    """
    flat = {
        PREFIX + (f"tensors/{path}/{name}" if path else name): value
        for path, name, value in quantities(record)
        if value is not None
    }
    # States without any parameter are logged as 0: otherwise their curve would stop and keep its last value on screen.
    counts = collections.Counter(record.states.values())
    return flat | {f"{PREFIX}states/{state.value}": float(counts[state]) for state in GradientState}


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
