"""A monitored optimizer for Flax NNX, whose records have the paths and the order of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optax
from flax import nnx

from gradlab_core.definitions.quantities import Quantity
from gradlab_core.records import GradientState
from gradlab_jax.model.checks import check_trainable
from gradlab_jax.model.modules import canonical_name, named_variables
from gradlab_jax.monitoring.measurements import Known
from gradlab_jax.monitoring.monitor import monitor


def optimizer(
    model: nnx.Module,
    inner: optax.GradientTransformation,
    *,
    wrt: Any = nnx.Param,
    frozen: Any = False,
    every: int = 1,
    extras: Sequence[str | Quantity] = (),
    known: Known | None = None,
) -> nnx.Optimizer[Any]:
    """`nnx.Optimizer(model, inner, wrt=wrt)` with a monitor around `inner`, for `gradlab_jax.read_record(optimizer)`.

    Args:
        wrt: which variables the optimizer moves, a filter as in `nnx.Optimizer`.
        frozen: a filter for the parameters that are meant to stay; any other one outside of `wrt` is `unregistered`.
        every, extras: as in `gradlab_jax.monitor`.
        known: what `check_gradients` said of the model; what it calls disconnected is told from a zero gradient.

    >>> from gradlab_jax import read_record
    >>> import jax.numpy as jnp
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> monitored = optimizer(model, optax.sgd(0.1))
    >>> loss, grads = nnx.value_and_grad(lambda m: jnp.mean(m(jnp.ones((4, 2))) ** 2))(model)
    >>> _ = monitored.update(model, grads, value=loss)
    >>> list(read_record(monitored).tensors)
    ['weight', 'bias']
    """
    check_trainable(model)
    canonical = {id(v): path for path, _, v in named_variables(model) if isinstance(v, nnx.Param)}
    moves, stays = nnx.filterlib.to_predicate(wrt), nnx.filterlib.to_predicate(frozen)
    states, paths = {}, {}
    for key, variable in nnx.iter_graph(model):
        if id(variable) in canonical:
            path = canonical[id(variable)]
            outside = GradientState.FROZEN if stays(key, variable) else GradientState.UNREGISTERED
            states[path] = GradientState.OK if moves(key, variable) else outside
            paths[".".join([*map(str, key[:-1]), canonical_name(str(key[-1]))])] = path
    cut = {path: state for path, state in (known or {}).items() if state == GradientState.DISCONNECTED}
    ordered = {path: cut.get(path, states[path]) for path in canonical.values()}
    return nnx.Optimizer(model, monitor(inner, every=every, extras=extras, known=ordered, paths=paths), wrt=wrt)
