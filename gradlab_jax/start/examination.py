"""A model before its training: a short range test of the learning rate, then a few recorded steps."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from gradlab_core.definitions.symmetry_defect import SymmetryDefect
from gradlab_core.errors import GradlabError
from gradlab_core.judge import examination
from gradlab_core.judge.examination import Examination
from gradlab_core.programs.checks import has_ended
from gradlab_core.records import GradientState, StepRecord
from gradlab_jax.measure.origins import with_origin
from gradlab_jax.measure.probing import probe
from gradlab_jax.model.checks import as_labels, check_logits, check_loss, check_model_labels, check_trainable
from gradlab_jax.model.gradients import Loss, disconnected, loss_and_gradients
from gradlab_jax.model.losses import cross_entropy
from gradlab_jax.model.modules import Functional, clone, functional, set_values
from gradlab_jax.monitoring.monitor import monitor
from gradlab_jax.monitoring.reading import read_record
from gradlab_jax.start.lab import symmetry_defect

_OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": optax.adam,
    "adamw": functools.partial(optax.adamw, weight_decay=0.0),
}


def examine(
    model: nnx.Module,
    x: jax.Array,
    y: Any,
    *,
    loss: Loss = cross_entropy,
    optimizer: str | None = None,
    learning_rate: float | None = None,
) -> Examination:
    """What can be said of a model, a batch and a learning rate before training.

    On copies of the model, with this one batch: a range test of the learning rate (a step with each rate from 1e-6 up,
    until the loss blows up), then `gradlab_core.judge.examination.STEPS` recorded steps, which are diagnosed. Source of
    the range test: Smith 2017.

    Args:
        model: an NNX module; left as it was.
        x: input batch, native layout.
        y: integer labels (N,), or what `loss(output, y)` takes.
        optimizer: `sgd` (the default), `adam` or `adamw`.
        learning_rate: of the recorded steps, and to be judged; by default what the range test suggests, else 1e-3.

    Raises:
        GradlabError: an unknown optimizer, a negative rate, labels out of range, or nothing to train.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> from gradlab_jax.programs.models import build
    >>> net = build(ModelSpec(kind="mlp", features=4, widths=(16,), num_classes=3), seed=0)
    >>> x = jax.random.normal(jax.random.key(0), (32, 4))
    >>> found = examine(net, x, jnp.arange(32) % 3, learning_rate=1e4)
    >>> [finding.code for finding in found.findings][:1], 0.001 < found.range_test.suggested < 10
    (['learning-rate-too-high'], True)
    """
    name = examination.check_examination(optimizer, learning_rate)
    check_trainable(model)
    labels = as_labels(y)
    f, params, rest = functional(model, "train")
    out = jax.eval_shape(f.apply, params, rest, x)[0]
    if loss is cross_entropy:
        check_model_labels(labels, out)
    check_loss(jax.eval_shape(loss, check_logits(out), labels))
    run = _Run(f, loss, name, disconnected(f, params, rest, x, labels, loss))
    tried = _tried(run, params, rest, x, labels)
    rate = learning_rate if learning_rate is not None else tried.suggested or 1e-3
    trained = clone(model)
    records = _recorded(run, trained, params, rest, rate, x, labels)
    return examination.examination(records, tried, _ties(trained), rate=rate, given=learning_rate is not None)


def _ties(model: nnx.Module) -> SymmetryDefect | None:
    try:
        return symmetry_defect(model)
    except GradlabError:  # a layer without a canonical layout
        return None


@dataclasses.dataclass(frozen=True)
class _Run:
    """What decides the compiled step."""

    f: Functional
    loss: Loss
    name: str
    cut: tuple[bool, ...]

    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """Recorded; its rate is a number in its state."""
        flags = zip(self.f.names, self.cut, strict=True)
        known = {path: GradientState.DISCONNECTED if cut else GradientState.OK for path, cut in flags}
        paths = {str(i): path for i, path in enumerate(self.f.names)}
        inner = optax.inject_hyperparams(_OPTIMIZERS[self.name])(learning_rate=0.0)
        return monitor(inner, known=known, paths=paths)


def _tried(run: _Run, params: Any, rest: Any, x: Any, y: Any) -> examination.RangeTest:
    """The range test."""
    losses: list[float] = []
    state = run.optimizer().init(params)
    for rate in examination.RATES:
        params, rest, state = _step(run, params, rest, state, rate, x, y)
        loss = read_record(state).loss
        assert loss is not None  # the step hands it on
        losses.append(loss)
        if examination.has_blown_up(losses):
            break
    return examination.range_test(examination.RATES[: len(losses)], losses)


def _recorded(run: _Run, model: nnx.Module, params: Any, rest: Any, rate: float, x: Any, y: Any) -> list[StepRecord]:
    """Some steps at one rate; `model` is written over."""
    records: list[StepRecord] = []
    state = run.optimizer().init(params)
    for step in range(examination.STEPS):
        new, new_rest, state = _step(run, params, rest, state, rate, x, y)
        record = dataclasses.replace(read_record(state), learning_rate=rate)
        if examination.is_probed(step) or has_ended(record):
            set_values(model, params, rest)
            look = functools.partial(with_origin, None) if has_ended(record) else probe
            record = dataclasses.replace(record, probe=look(model, x, y, loss=run.loss))
        records.append(record)
        if has_ended(record):
            break
        params, rest = new, new_rest
    return records


@functools.partial(jax.jit, static_argnums=0)
def _step(run: _Run, params: Any, rest: Any, state: Any, rate: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, Any]:
    value, grads, rest, _ = loss_and_gradients(run.f, params, rest, x, y, run.loss)
    inner = state.inner._replace(hyperparams={**state.inner.hyperparams, "learning_rate": jnp.asarray(rate)})
    updates, state = run.optimizer().update(grads, state._replace(inner=inner), params, value=value)
    return optax.apply_updates(params, updates), rest, state
