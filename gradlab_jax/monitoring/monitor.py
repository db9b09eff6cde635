"""A monitor for anyone's own training loop: every norm, ratio and state of a step, inside the jitted step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from gradlab_core.definitions.monitoring import check_monitor
from gradlab_core.definitions.quantities import Quantity
from gradlab_core.errors import GradlabError
from gradlab_jax.monitoring import extras as _extras
from gradlab_jax.monitoring.measurements import (
    Known,
    Measurements,
    Moving,
    in_order,
    leaves_of,
    measure,
    nothing_yet,
    still,
)
from gradlab_jax.trees.leaves import Tree
from gradlab_jax.trees.norm_arithmetic import is_large
from gradlab_jax.trees.norms import global_norm


class MonitorState(NamedTuple):
    """The state of `monitor`: the same structure before the first and after every step."""

    inner: Any
    seen: jax.Array
    measurements: Measurements
    memory: _extras.Memory
    moving: Moving


class ClippingState(NamedTuple):
    """The state of `before_clipping`: how many steps it saw, and the gradient norm of the one at `step`."""

    seen: jax.Array
    step: jax.Array
    norm: jax.Array


def monitor(
    inner: optax.GradientTransformation,
    *,
    every: int = 1,
    extras: Sequence[str | Quantity] = (),
    known: Known | None = None,
    paths: Mapping[str, str] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer: what goes through stays as it is, and its steps are recorded in the state.

    Pure, for `jit`, `lax.scan`, buffer donation, `optax.MultiSteps`, `inject_hyperparams`, `masked`; `read_record`
    brings the newest record to the host. What was measured: gradients as they come in, parameters before the step, and
    the update that `optax.apply_updates` really makes of what the optimizer proposes.

    Args:
        inner: any optax transformation whose updates are applied as they are, so that the monitor stands outermost.
        every: record every so many steps, the first included; on the others nothing is measured (but see below).
        extras: any of `grad_cosine`, `update_cosine` (between successive records) and `distance` (from where `init`
            saw the parameters), each of which holds one more copy of the parameters; and quantities of your own:
            `gradlab_core.definitions.quantities.Quantity`.
        known: `{path: state}` as `check_gradients` gives it. From the numbers alone a gradient with no path to the loss
            looks like one that is zero; with this it is told apart. A path of it that the optimizer does not get is
            unregistered, unless it is called frozen. Its order is that of the records.
        paths: `{path: canonical path}`, for a tree whose own names are not the ones wanted.

    The loss joins the record when it is handed on as optax does it: `update(grads, state, params, value=loss)`.

    Inside one compiled program the steps in between still pay for the branch. Where the loop is in Python, decide there
    instead: `update(..., record=step % 10 == 0)` with `record` static under `jit`. That compiles two programs, and the
    one that does not record is the bare step.

    >>> from gradlab_jax import read_record
    >>> tx = monitor(optax.sgd(0.1))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> updates, state = jax.jit(tx.update)({"w": jnp.array([0.0, 1.0])}, tx.init(params), params)
    >>> record = read_record(state)
    >>> record.step, round(record.update_ratio, 6), record.states["w"].value
    (0, 0.02, 'ok')
    """
    check_monitor(every, extras)
    if not (hasattr(inner, "init") and hasattr(inner, "update")):
        raise GradlabError(f"monitor got a {type(inner).__name__}; expected an optax transformation")
    wrapped, names, quantities = optax.with_extra_args_support(inner), paths or {}, _extras.asked_for(extras)

    def init(params: Tree) -> MonitorState:
        leaves = leaves_of(params, names)
        nothing = nothing_yet(leaves, quantities, known or {})
        memory = _extras.first(quantities, {name: leaves[name] for name in nothing.names})
        return MonitorState(wrapped.init(params), jnp.zeros((), jnp.int32), nothing, memory, still(nothing.score.dtype))

    def update(
        grads: Tree, state: MonitorState, params: Tree = None, *, record: bool | None = None, **more: Any
    ) -> tuple[Tree, MonitorState]:
        if params is None:
            raise GradlabError("monitor got no params; expected update(grads, state, params)")
        if record is not None and not isinstance(record, bool):
            raise GradlabError("record is not a Python bool; expected one, static under jit: static_argnames='record'")
        last = state.measurements
        if record is False:
            updates, inner_state = wrapped.update(grads, state.inner, params, **more)
            return updates, state._replace(inner=inner_state, seen=state.seen + 1)

        def measured(params: Tree, grads: Tree, updates: Tree, loss: jax.Array | None) -> Any:
            trees = [in_order(tree, last.names, names) for tree in (params, grads, updates)]
            return measure(quantities, last, state.memory, state.moving, state.seen, loss, *trees)

        if every == 1 or record:
            updates, inner_state = wrapped.update(grads, state.inner, params, **more)
            results = measured(params, grads, updates, more.get("value"))
            return _after_measuring(results[0], updates), MonitorState(inner_state, state.seen + 1, *results)

        # The update is computed a second time inside the branch: handed in, it would have to be written out as an array
        # at every step, also where nothing is measured.
        def branch() -> Any:
            updates, _ = wrapped.update(grads, state.inner, params, **more)
            return measured(params, grads, updates, more.get("value"))

        results = lax.cond(state.seen % every == 0, branch, lambda: (last, state.memory, state.moving))
        updates, inner_state = wrapped.update(_after(results[0], grads), state.inner, params, **more)
        return updates, MonitorState(inner_state, state.seen + 1, *results)

    return optax.GradientTransformationExtraArgs(init, update)


def before_clipping(*, every: int = 1) -> optax.GradientTransformation:
    """Put before clipping in a chain, with the `every` of the monitor behind it: records then hold the gradient norm
    before clipping too.

    >>> from gradlab_jax import read_record
    >>> tx = optax.chain(before_clipping(), optax.clip_by_global_norm(1.0), monitor(optax.sgd(0.1)))
    >>> params = {"w": jnp.array([3.0, 4.0])}
    >>> _, state = tx.update({"w": jnp.array([0.0, 2.0])}, tx.init(params), params)
    >>> (record := read_record(state)).raw_grad_norm, record.grad_norm, record.clipped
    (2.0, 1.0, True)
    """
    check_monitor(every, ())

    def init(params: Tree) -> ClippingState:
        return ClippingState(jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32), jnp.zeros_like(global_norm(params)))

    def update(grads: Tree, state: ClippingState, params: Tree = None) -> tuple[Tree, ClippingState]:
        now = state.seen % every == 0
        norm = lax.cond(now, lambda g: global_norm(g).astype(state.norm.dtype), lambda g: state.norm, grads)
        return grads, ClippingState(state.seen + 1, jnp.where(now, state.seen, state.step), norm)

    return optax.GradientTransformation(init, update)


def _after(measurements: Measurements, tree: Any) -> Any:
    """Gradients or updates, made to depend on the measurements: what changes the parameters then comes after what reads
    them, else XLA would copy them to be safe. A norm is never below zero, which XLA does not know."""
    never = jnp.any(measurements.norms["param"] < 0)
    return jax.tree.map(lambda x: jnp.where(never, jnp.zeros_like(x), x), tree)


def _after_measuring(measurements: Measurements, updates: Tree) -> Tree:
    """On a CPU all parameters are measured before they change. On a GPU the small ones are, side by side; a large one
    is measured by what writes it."""
    leaves, structure = jax.tree.flatten(updates)

    def small_ones(leaves: list[jax.Array]) -> list[jax.Array]:
        return [x if is_large(x) else _after(measurements, x) for x in leaves]

    wait = functools.partial(_after, measurements)
    ordered = lax.platform_dependent(leaves, cpu=wait, cuda=small_ones, rocm=small_ones, default=lambda leaves: leaves)
    return jax.tree.unflatten(structure, ordered)
