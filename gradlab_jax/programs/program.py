"""A whole training program from its spec, as a user would write it, with a monitor around its optimizer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from gradlab_core.programs import checks as checks
from gradlab_core.programs.program import ProgramSpec
from gradlab_core.programs.tasks import open_task
from gradlab_core.records import GradientState, StepRecord
from gradlab_jax.measure.origins import with_origin
from gradlab_jax.measure.probing import probe
from gradlab_jax.model import losses
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.modules import Functional, functional, set_values
from gradlab_jax.model.weights import astype, to_native
from gradlab_jax.monitoring.looking import observed
from gradlab_jax.monitoring.monitor import before_clipping, monitor
from gradlab_jax.monitoring.reading import read_record
from gradlab_jax.monitoring.seen import Look
from gradlab_jax.programs.faults import plant
from gradlab_jax.programs.models import build
from gradlab_jax.trees.norms import global_norm

_IN_OPTIMIZER = (GradientState.OK, GradientState.DISCONNECTED)
_CLIP_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_

# A program is small and runs for seconds: most of its time would go into making its code faster.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

Roles = tuple[tuple[str, GradientState], ...]
"""What the program decides of each parameter, in the order of the model."""


def run_program(spec: ProgramSpec, *, on_step: Callable[[StepRecord], Any] | None = None) -> list[StepRecord]:
    """Build and train what a spec says, fault and all, and record every step.

    A run ends after the first step at which a loss, gradient, parameter or update is NaN or Inf. If loss or gradient
    are, the probe of that step says where it was born. Where no update is ever applied (`no_step`) the records hold
    what the optimizer proposed.

    Args:
        on_step: called with each record as soon as it is complete.

    Raises:
        GradlabError: model, loss and task do not fit, or the fault is at a place that is not there.

    >>> from gradlab_core.programs.program import TaskSpec
    >>> from gradlab_core.programs.specs import ModelSpec
    >>> model = ModelSpec(kind="mlp", features=4, widths=(8,), num_classes=3)
    >>> spec = ProgramSpec(model=model, task=TaskSpec(name="blobs", features=4, classes=3), steps=20, probe_every=0)
    >>> records = run_program(spec)
    >>> len(records), records[-1].loss < records[0].loss
    (20, True)
    """
    task = open_task(spec.task, seed=spec.seed)
    first = task.batch(0, spec.batch_size)
    checks.check_fit(spec, shape=first[0].shape, outputs=task.outputs, is_regression=task.is_regression)
    model, loss = build(spec.model, seed=spec.seed), losses.BY_NAME[spec.loss]
    plant(model, spec)
    if spec.fault == "zeroed_gradients":
        loss = _behind_a_stop(loss)
    model = astype(model, spec.dtype)
    f, params, rest = functional(model, "train")
    x, y = (_array(part, spec.dtype) for part in first)
    roles = _roles(spec, f, params, rest, x, y, loss)
    numbers = _numbers(spec)
    astray = checks.uphill(spec, f.names)
    state = _first_state(spec.optimizer.name, roles, astray, params, numbers)
    records = []
    for step in range(spec.steps):
        x, y = (_array(part, spec.dtype) for part in task.batch(step, spec.batch_size))
        if (scale := checks.input_scale(spec, step)) != 1.0:
            x = x * scale
        probed = None
        if checks.is_probed(spec, step):
            set_values(model, params, rest)
            probed = probe(model, x, y, loss=loss)
        look = _look(f, loss, params, rest, x, y) if spec.look_every and step % spec.look_every == 0 else None
        rate = spec.optimizer.rate(step)
        new, new_rest, state = _step(
            f, loss, spec.optimizer.name, roles, astray, params, rest, state, {**numbers, "learning_rate": rate}, x, y
        )
        record = dataclasses.replace(read_record(state, probe=probed, look=look), learning_rate=rate)
        if checks.has_nonfinite_gradient(record) and not checks.is_looked_at(spec):
            set_values(model, params, rest)
            record = dataclasses.replace(record, probe=with_origin(record.probe, model, x, y, loss=loss))
        records.append(record)
        if on_step is not None:
            on_step(records[-1])
        params, rest = params if spec.fault == "no_step" else new, new_rest
        if checks.has_ended(records[-1]):
            break
    return records


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), compiler_options=_QUICKLY)
def _step(
    f: Functional,
    loss: Loss,
    name: str,
    roles: Roles,
    astray: frozenset[str],
    params: tuple[jax.Array, ...],
    rest: Any,
    state: Any,
    numbers: Mapping[str, Any],
    x: jax.Array,
    y: jax.Array,
) -> tuple[Any, Any, Any]:
    """`(params, rest, state)` after one step. The numbers of the optimizer are arguments, so that programs which differ
    in nothing else share what was compiled."""
    value, grads, rest, _ = loss_and_gradients(f, params, rest, x, y, loss)
    registered = _registered(roles, params)
    updates, state = _optimizer(name, roles, astray, clips="clip" in numbers).update(
        _registered(roles, grads), state, registered, value=value, numbers=numbers
    )
    new = optax.apply_updates(registered, updates)
    return tuple(new.get(path, p) for (path, _), p in zip(roles, params, strict=True)), rest, state


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=_QUICKLY)
def _look(f: Functional, loss: Loss, params: tuple[jax.Array, ...], rest: Any, x: jax.Array, y: jax.Array) -> Look:
    def loss_of(named: Mapping[str, jax.Array]) -> jax.Array:
        return loss(f.apply(tuple(named[name] for name in f.names), rest, x)[0], y)

    look: Look = observed(loss_of)(dict(zip(f.names, params, strict=True)))[1]
    return look


@functools.partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=_QUICKLY)
def _first_state(
    name: str, roles: Roles, astray: frozenset[str], params: tuple[jax.Array, ...], numbers: Mapping[str, Any]
) -> Any:
    return _optimizer(name, roles, astray, clips="clip" in numbers).init(_registered(roles, params))


def _optimizer(
    name: str, roles: Roles, astray: frozenset[str], *, clips: bool
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a program in PyTorch's conventions, recorded."""

    def update(grads: Any, state: Any, params: Any = None, *, numbers: Mapping[str, Any], **_: Any) -> Any:
        turned = {path: -g if path in astray else g for path, g in grads.items()}  # as PyTorch's maximize does
        directions, state = _direction(name, numbers).update(turned, state, params)
        return {path: _move(d, numbers, roles, path) for path, d in directions.items()}, state

    def init(params: Any) -> Any:
        return _direction(name, {"momentum": 0.0, "weight_decay": 0.0}).init(params)

    recorded = monitor(optax.GradientTransformationExtraArgs(init, update), known=dict(roles))
    return optax.chain(before_clipping(), _clipping(), recorded) if clips else recorded


def _move(direction: jax.Array, numbers: Mapping[str, Any], roles: Roles, path: str) -> jax.Array:
    """The update along a direction, in single precision: PyTorch rounds a small type once, when it is applied. What is
    disconnected stays as it is, as in PyTorch, whose optimizers pass by what has no gradient."""
    wide = direction.astype(jnp.promote_types(direction.dtype, jnp.float32))
    if dict(roles)[path] == GradientState.DISCONNECTED:
        return jnp.zeros_like(wide)
    return -numbers["learning_rate"] * wide


def _direction(name: str, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
    """What an optimizer steps along, up to the rate."""
    decay = optax.add_decayed_weights(numbers["weight_decay"])
    if name == "sgd":
        return optax.chain(decay, optax.trace(decay=numbers["momentum"]))
    adam = optax.scale_by_adam()  # PyTorch's ε, 1e-8
    return optax.chain(adam, decay) if name == "adamw" else optax.chain(decay, adam)


def _clipping() -> optax.GradientTransformationExtraArgs:
    """`torch.nn.utils.clip_grad_norm_`."""

    def update(grads: Any, state: Any, params: Any = None, *, numbers: Mapping[str, Any], **_: Any) -> Any:
        factor = jnp.minimum(1.0, numbers["clip"] / (global_norm(grads) + _CLIP_EPSILON))
        return jax.tree.map(lambda g: (g * factor).astype(g.dtype), grads), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _behind_a_stop(loss: Loss) -> Loss:
    """The loss of an output to which no gradient leads back."""
    return lambda out, y: loss(lax.stop_gradient(out), y)


def _numbers(spec: ProgramSpec) -> dict[str, float]:
    o = spec.optimizer
    clip = {} if o.clip is None else {"clip": float(o.clip)}
    return {"momentum": float(o.momentum), "weight_decay": float(o.weight_decay), **clip}


def _roles(spec: ProgramSpec, f: Functional, params: Any, rest: Any, x: Any, y: Any, loss: Loss) -> Roles:
    """What PyTorch's monitor sees for itself: who is frozen, who was left out, and to whom no gradient leads."""
    decided = checks.roles(spec, f.names)
    cut = dict(zip(f.names, disconnected(f, params, rest, x, y, loss), strict=True))
    return tuple(
        (path, GradientState.DISCONNECTED if cut[path] and role == GradientState.OK else role)
        for path, role in decided.items()
    )


def _registered(roles: Roles, arrays: tuple[jax.Array, ...]) -> dict[str, jax.Array]:
    """What the optimizer gets of a value for each parameter."""
    return {path: array for (path, role), array in zip(roles, arrays, strict=True) if role in _IN_OPTIMIZER}


def _array(part: np.ndarray, dtype: str) -> jax.Array:
    """Half of a batch in this twin's layout, numbers in the program's type; labels stay whole."""
    array = to_native(part)
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array
