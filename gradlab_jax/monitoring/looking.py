"""What a monitor sees inside a loss function: layers, input, answers.

At a step that is looked at, the loss runs once more inside of the branch, instrumented; at the others nothing does.
Handed out of the pass that is differentiated instead, every activation would have to be written out at every step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from gradlab_core.definitions.monitoring import check_monitor
from gradlab_core.errors import GradlabError
from gradlab_jax.measure.answers import figures
from gradlab_jax.measure.statistics import NO_LAYER, Row, rows_of, stats, tracked
from gradlab_jax.measure.symmetry import copied_shares
from gradlab_jax.model.jaxpr import batch_first
from gradlab_jax.model.marks import marked
from gradlab_jax.model.outputs import output_place, squashed_places
from gradlab_jax.model.taps import Tap, run_tapped_loss, unmarked_layers
from gradlab_jax.monitoring.arguments import Arguments, taken_apart
from gradlab_jax.monitoring.seen import Look

MOST_CALLS = 16
"""Calls of one layer that are measured: a recurrent net calls its layers at every time step."""

_OF_LOSSES = frozenset({"sigmoid", "softplus", "log_sigmoid"})
"""Activations that a loss calls on the answers: behind them they are no layer."""


def observed(loss_fn: Callable[..., Any], *, every: int = 20, has_aux: bool = False) -> Callable[..., Any]:
    """Wrap a loss function: what it gives stays as it is, and a `Look` at what happens inside comes with it.

    Pure, for `jit`, `grad`, `vmap`, `lax.scan` and NNX's own transforms.

    Args:
        loss_fn: `loss_fn(params, *args, **kwargs)` → a loss of one number, or `(loss, aux)` with `has_aux`. `params` is
            an NNX module, a module of Equinox, or any tree of arrays (Linen's, Haiku's, your own).
        every: look at every so many steps, by the `step=` of the call.

    Returns:
        A function with the arguments of `loss_fn` and `step=`, the number of the step, that gives `(loss, look)`, or
        `(loss, (aux, look))` with `has_aux`. Without a `step` it looks at every call. A monitor that stands outermost
        knows the number: `step=opt_state.seen`.

    Raises:
        GradlabError: when called: a first argument without parameters, or a loss that is not one number.

    >>> import optax
    >>> from gradlab_jax import monitor, read_record
    >>> def loss_fn(params, x, y):
    ...     logits = jax.nn.relu(x @ params["0"]["weight"]) @ params["2"]["weight"]
    ...     return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    >>> tx, watched = monitor(optax.sgd(0.1)), observed(loss_fn)
    >>> @jax.jit
    ... def step(params, state, x, y):
    ...     (loss, look), grads = jax.value_and_grad(watched, has_aux=True)(params, x, y, step=state.seen)
    ...     updates, state = tx.update(grads, state, params, value=loss)
    ...     return optax.apply_updates(params, updates), state, look
    >>> params = {"0": {"weight": jnp.ones((3, 4))}, "2": {"weight": jnp.ones((4, 2))}}
    >>> params, state, look = step(params, tx.init(params), jnp.ones((5, 3)), jnp.array([0, 1, 0, 1, 0]))
    >>> probe = read_record(state, look=look).probe
    >>> probe.classes, probe.answers.loss, [row.kind for row in probe.layers], probe.copies["0.weight"]
    (2, 'cross-entropy', ['relu'], 1.0)
    """
    check_monitor(every, ())
    if not callable(loss_fn):
        raise GradlabError(f"observed got a {type(loss_fn).__name__}; expected a loss function")
    signature = _with_step(loss_fn)

    @functools.wraps(loss_fn)
    def watched(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        step = bound.arguments.pop("step", None)
        # First, while random states and statistics are as the loss function will find them.
        look = _looked(loss_fn, has_aux, every, step, taken_apart(bound.args, bound.kwargs))
        value = loss_fn(*bound.args, **bound.kwargs)
        if has_aux:
            loss, aux = value
            return loss, (aux, look)
        return value, look

    vars(watched)["__signature__"] = signature
    return watched


def _with_step(loss_fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of the function, and `step=None` after its last argument by place: NNX makes all of them so."""
    signature = inspect.signature(loss_fn)
    given = list(signature.parameters.values())
    if "step" in signature.parameters:
        raise GradlabError("the loss function has an argument step; expected another name, since observed adds a step=")
    by_place = [p for p in given if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = given[len(by_place) :]
    is_open = any(p.kind == p.VAR_POSITIONAL for p in given)
    kind = inspect.Parameter.KEYWORD_ONLY if is_open else inspect.Parameter.POSITIONAL_OR_KEYWORD
    step = inspect.Parameter("step", kind, default=None)
    if not is_open:
        return signature.replace(parameters=[*by_place, step, *others])
    last = len(others) - sum(p.kind == p.VAR_KEYWORD for p in others)
    return signature.replace(parameters=[*by_place, *others[:last], step, *others[last:]])


def _looked(loss_fn: Callable[..., Any], has_aux: bool, every: int, step: Any, given: Arguments) -> Look:
    arrays = [lax.stop_gradient(array) for array in given.arrays]
    number = jnp.asarray(-1 if step is None else step, jnp.int32)
    look = functools.partial(_look, loss_fn, has_aux, given)
    with jax.debug_nans(False):  # there may be one on the way to a figure where nothing is wrong
        return _taken_or_not(look, number, every, arrays) if step is not None else look(number, *arrays)


def _taken_or_not(look: Callable[..., Look], number: jax.Array, every: int, arrays: list[jax.Array]) -> Look:
    traced, shape = jax.make_jaxpr(look, return_shape=True)(number, *arrays)
    structure = jax.tree.structure(shape)

    def taken(arrays: list[jax.Array]) -> list[jax.Array]:
        return list(core.jaxpr_as_fun(traced)(number, *arrays))

    def left(arrays: list[jax.Array]) -> list[jax.Array]:
        return [_nothing(aval) for aval in traced.out_avals]

    is_due: Any = number % every == 0
    return jax.tree.unflatten(structure, lax.cond(is_due, taken, left, arrays))


def _data(arrays: list[Any], answer: jax.Array | None) -> list[Any]:
    """Those of the arguments that hold examples: where some do, those with as many as there are answers, else those
    with several axes. Others may be the running statistics that Linen hands around."""
    data = [a for a in arrays if getattr(a, "ndim", 0) and a.size]
    alike = [a for a in data if answer is not None and len(a) == len(answer)]
    return alike or [a for a in data if a.ndim > 1] or data


def _nothing(aval: Any) -> jax.Array:
    """A zero of this type, which inside of `shard_map` says over which axes of the devices it varies."""
    zero = jnp.zeros(aval.shape, aval.dtype)
    varying = getattr(getattr(aval, "manual_axis_type", aval), "varying", getattr(aval, "vma", ()))  # JAX before 0.10
    return lax.pcast(zero, tuple(varying), to="varying") if varying else zero


def _look(loss_fn: Callable[..., Any], has_aux: bool, given: Arguments, step: jax.Array, *arrays: jax.Array) -> Look:
    def loss_of(*arrays: jax.Array) -> jax.Array:
        args, kwargs = given.rebuilt(list(arrays))
        value = loss_fn(*args, **kwargs)
        return value[0] if has_aux else value

    with batch_first(), marked():
        closed = jax.make_jaxpr(loss_of)(*arrays)
    result = closed.out_avals[0]
    if len(closed.out_avals) != 1 or result.size != 1 or not jnp.issubdtype(result.dtype, jnp.floating):
        raise GradlabError(
            f"the loss function returned {len(closed.out_avals)} arrays, the first of shape {result.shape}; expected "
            "one number, or has_aux=True"
        )
    count = len(given.names)
    place = output_place(closed.jaxpr, count)
    places = [] if place is None else [place, *squashed_places(closed.jaxpr, place)]
    layers = unmarked_layers(closed.jaxpr, given.names)

    def run(shifts: list[jax.Array] | None) -> tuple[jax.Array, tuple[list[Row], list[jax.Array]]]:
        answers: list[jax.Array] = []

        def on_answer(value: jax.Array) -> jax.Array:
            answers.append(value)
            return value if shifts is None else value + shifts[len(answers) - 1]

        def on_tap(tap: Tap, value: jax.Array) -> tuple[jax.Array, Row | None]:
            if (answers and tap.kind in _OF_LOSSES) or not jnp.issubdtype(value.dtype, jnp.floating):
                return value, None
            # Behind the answers a pass is differentiated, and what is measured of it must not be.
            return value, tracked(tap, lax.stop_gradient(value))[1]

        loss, handed = run_tapped_loss(closed, arrays, layers, on_tap, dict.fromkeys(places, on_answer))
        rows = [row for row in rows_of(handed) if row.tap.call < MOST_CALLS]  # of a loop all turns are handed out
        return loss.reshape(()), (rows, answers)

    # A shift by 0 at the answers, whose gradient is theirs: only what comes after them is differentiated.
    shifts = [_nothing(aval) for aval in jax.make_jaxpr(lambda: run(None)[1][1])().out_avals]
    (loss, (rows, answers)), gradients = jax.value_and_grad(run, has_aux=True)(shifts)
    answer = answers[0] if answers else None
    told = [figures(z, g, squared=i == 0) for i, (z, g) in enumerate(zip(answers, gradients, strict=True))]
    turned = dict(zip(given.names, given.axes, strict=True)) | {at.weight: at.axes for at in layers.values() if at.axes}
    params = [p.transpose(turned[name]) for name, p in zip(given.names, arrays, strict=False)]
    named = zip(given.names, params, strict=True)
    matrices = [(name, p) for name, p in named if p.ndim > 1 and jnp.issubdtype(p.dtype, jnp.floating)]
    data = _data([*arrays[count + given.states :], *closed.consts], answer)
    numbers = next((a for a in data if jnp.issubdtype(a.dtype, jnp.floating)), None)
    return Look(
        taken=jnp.ones((), bool),
        step=step,
        loss=loss,
        rows=rows,
        input=None if numbers is None else stats(lax.optimization_barrier(numbers), NO_LAYER),  # of a constant not now
        output=None if answer is None else stats(answer, NO_LAYER),
        copies=copied_shares([p for _, p in matrices]) if matrices else None,
        answers=[f for f in told if f is not None],
        batch=len(data[0]) if data else 1,
        names=given.names,
        shapes=tuple(p.shape for p in params),
        weights=tuple(name for name, _ in matrices),
    )
