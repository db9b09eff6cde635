"""Training with every norm recorded, inside one jitted step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from gradlab_core.programs import training
from gradlab_core.programs.specs import TrainSpec
from gradlab_core.records import GradientState, StepRecord, TrainingRecord
from gradlab_jax.measure.origins import with_origin
from gradlab_jax.measure.probing import probe
from gradlab_jax.model.checks import as_labels, check_logits, check_trainable
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, functional, set_values
from gradlab_jax.model.weights import to_native
from gradlab_jax.monitoring.monitor import monitor
from gradlab_jax.monitoring.reading import read_record


def train(
    model: nnx.Module,
    batches: training.BatchSource,
    spec: TrainSpec,
    *,
    on_step: training.OnStep | None = None,
    on_epoch: training.OnEpoch | None = None,
    test: Callable[[], Iterable[training.Batch]] | None = None,
    loss: Loss = cross_entropy,
    probe_every: int = 0,
) -> TrainingRecord:
    """Train a model in place, with SGD as `spec` says, and record every step.

    Args:
        model: an NNX module; it holds what was learned also when the run is interrupted.
        batches: `batches.epoch(k)` gives canonical `(x, y)` NumPy batches.
        on_step, on_epoch: called with each record as soon as it is complete.
        test: gives the test set as canonical batches; without it there is no test accuracy.
        probe_every: a `Probe` of the model on the batch of every so many steps, before the step, in its record; 0 for
            none. The record of a step that went wrong then says where its first NaN or Inf was born.
            A step then leaves the parameters before it in memory until it is over.

    Returns:
        All records; `diverged_at` says at which step a run diverged, which ends it.

    Raises:
        GradlabError: a batch with NaN or Inf, or a label out of range.
    """
    training.check_probing(probe_every)
    check_trainable(model)
    stepper = _Stepper(model, spec, loss, probe_every)
    try:
        return training.run(stepper, batches, spec, test=test, on_step=on_step, on_epoch=on_epoch)
    finally:
        stepper.write_back()


def sgd(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """PyTorch's SGD up to the learning rate: decay joins the gradient before the momentum, not after."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(decay=momentum))


def sgd_step(
    decay: tuple[float, float], params: Any, grads: Any, state: Any, learning_rate: Any, cut: tuple[bool, ...]
) -> tuple[tuple[jax.Array, ...], Any]:
    """`(updates, new state)`. A disconnected parameter stays as it is, as in PyTorch, whose optimizer passes by what
    has no gradient; its zeros here would still be decayed."""
    directions, state = sgd(*decay).update(grads, state, params)
    updates = [jnp.zeros_like(d) if c else -learning_rate * d for d, c in zip(directions, cut, strict=True)]
    return tuple(updates), state


def _monitored(
    decay: tuple[float, float], names: tuple[str, ...], cut: tuple[bool, ...]
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of `train`, recorded: its rate comes with each step."""

    def update(grads: Any, state: Any, params: Any = None, *, learning_rate: Any, **_: Any) -> Any:
        return sgd_step(decay, params, grads, state, learning_rate, cut)

    known = {n: GradientState.DISCONNECTED if c else GradientState.OK for n, c in zip(names, cut, strict=True)}
    paths = {str(i): name for i, name in enumerate(names)}
    inner = optax.GradientTransformationExtraArgs(sgd(*decay).init, update)
    return monitor(inner, known=known, paths=paths)


class _Stepper:
    framework = "jax"

    def __init__(self, model: nnx.Module, spec: TrainSpec, loss: Loss, probe_every: int = 0) -> None:
        self.model, self.spec, self.loss, self.probe_every, self.steps = model, spec, loss, probe_every, 0
        self.f, params, rest = functional(model, "train")
        self.eval_f = functional(model, "eval")[0]
        # Copies, since the step gives its buffers away to be written over.
        self.params, self.rest = jax.tree.map(jnp.copy, (params, rest))
        self.state: Any = None  # until the first batch says what is disconnected
        self.cut: tuple[bool, ...] = ()

    def num_classes(self, x: np.ndarray) -> int | None:
        if self.loss is not cross_entropy:
            return None
        out = jax.eval_shape(self.f.apply, self.params, self.rest, to_native(x))[0]
        return int(check_logits(out).shape[-1])

    def step(self, x: np.ndarray, y: np.ndarray, learning_rate: float) -> StepRecord:
        images, labels = to_native(x), as_labels(y)
        decay = (self.spec.momentum, self.spec.weight_decay)
        if self.state is None:
            self.cut = disconnected(self.f, self.params, self.rest, images, labels, self.loss)
            self.state = _monitored(decay, self.f.names, self.cut).init(self.params)
        probed = None
        if self.probe_every:
            self.write_back()  # what is to be probed, also once the step is over
            if self.steps % self.probe_every == 0:
                probed = probe(self.model, images, labels, loss=self.loss)
        step = _step_beside if self.probe_every else _step
        self.params, self.rest, self.state = step(
            self.f, self.loss, decay, self.cut, self.params, self.rest, self.state, learning_rate, images, labels
        )
        self.steps += 1
        record = dataclasses.replace(read_record(self.state), learning_rate=learning_rate)
        if self.probe_every and training.has_diverged(record):
            probed = with_origin(probed, self.model, images, labels, loss=self.loss)
        return dataclasses.replace(record, probe=probed)

    def correct(self, x: np.ndarray, y: np.ndarray) -> int:
        return int(_correct(self.eval_f, self.params, self.rest, to_native(x), jnp.asarray(y)))

    def write_back(self) -> None:
        set_values(self.model, self.params, self.rest)


def _stepped(
    f: Functional,
    loss: Loss,
    decay: tuple[float, float],
    cut: tuple[bool, ...],
    params: tuple[jax.Array, ...],
    rest: Any,
    state: Any,
    learning_rate: jax.Array,
    x: jax.Array,
    y: jax.Array,
) -> tuple[Any, Any, Any]:
    value, grads, rest, _ = loss_and_gradients(f, params, rest, x, y, loss)
    tx = _monitored(decay, f.names, cut)
    updates, state = tx.update(grads, state, params, value=value, learning_rate=learning_rate)
    return optax.apply_updates(params, updates), rest, state


_step = jax.jit(_stepped, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5, 6))
_step_beside = jax.jit(_stepped, static_argnums=(0, 1, 2, 3), donate_argnums=6)  # what was before it stays


@functools.partial(jax.jit, static_argnums=0)
def _correct(f: Functional, params: Any, rest: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(jnp.argmax(f.apply(params, rest, x)[0], axis=-1) == y)
