"""What a model is called with: one array, or several, by place or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.errors import GradlabError
from gradlab_jax.model.checks import check_model_inputs

Inputs = jax.Array | Mapping[str, jax.Array | None] | Sequence[jax.Array | None]
"""`model(x)`; of a mapping `model(**x)`; of a tuple or a list `model(*x)`. What is None stays None."""
_KIND = (jax.Array, np.ndarray)


def checked_inputs(x: Any, *, finite: bool = True) -> Any:
    """The inputs as an array, a dict or a tuple.

    Raises:
        GradlabError: no array among them, something that is none, or a batch that is empty or, unless that is what is
            looked for, holds NaN or Inf.
    """
    # A named tuple, as a packed sequence, is one thing of its own.
    several = isinstance(x, Mapping) or type(x) in (tuple, list)
    if not several or not any(isinstance(value, _KIND) for value in _values(x)):
        check_model_inputs(x, finite=finite)
        return x
    each = {**x} if isinstance(x, Mapping) else dict(enumerate(x))
    wrong = {n: type(value).__name__ for n, value in each.items() if not isinstance(value, (*_KIND, type(None)))}
    if wrong:
        raise GradlabError(
            "input batch: "
            + ", ".join(f"input {name!r} is a {kind}" for name, kind in wrong.items())
            + "; expected arrays only: give the rest to the model in a module that wraps it"
        )
    for array in tensors(x):
        check_model_inputs(array, finite=finite)
    return each if isinstance(x, Mapping) else tuple(x)


def tensors(x: Inputs) -> list[Any]:
    """The arrays among the inputs, in their order."""
    return [value for value in _values(x) if value is not None]


def named(x: Inputs) -> list[tuple[str | None, Any]]:
    """The arrays among the inputs with their names or numbers, in the order of their tree; None for a single one."""
    if isinstance(x, _KIND):
        return [(None, x)]
    pairs = sorted(x.items()) if isinstance(x, Mapping) else enumerate(x)
    return [(str(name), value) for name, value in pairs if value is not None]


def examples(x: Inputs) -> int:
    """How many there are in the batch, by the first array that has an axis."""
    return next((len(array) for array in tensors(x) if array.ndim), 1)


def floating(x: Inputs) -> Any:
    """The first array that holds no whole numbers; None where all do, as tokens and masks."""
    return next((array for array in tensors(x) if jnp.issubdtype(array.dtype, jnp.floating)), None)


def _values(x: Any) -> list[Any]:
    return list(x.values()) if isinstance(x, Mapping) else list(x) if isinstance(x, (tuple, list)) else [x]


def arguments(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a model gets by place, and by name."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x), {}) if isinstance(x, (tuple, list)) else ((x,), {})


def call(model: Callable[..., Any], x: Any) -> Any:
    """The model on these inputs."""
    places, names = arguments(x)
    return model(*places, **names)
