"""Training loops as users write them, in both frameworks, for the rules that judge what a loop does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import gradlab_jax
import gradlab_torch
from gradlab_core.judge.diagnosis import diagnose
from gradlab_core.records import Finding, GradientState, Severity, StepRecord

FEATURES, CLASSES, BATCH = 16, 4, 32


def batches(steps: int, *, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels that a small net learns."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((FEATURES, CLASSES))
    for _ in range(steps):
        x = rng.standard_normal((BATCH, FEATURES)).astype(np.float32)
        yield x, (x @ teacher).argmax(1)


def in_torch(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 60,
    loss: Callable[[Any, Any], Any] = torch.nn.functional.cross_entropy,
    backward: Callable[[Any], Any] = lambda loss: loss.backward(),
    before_step: Callable[[int], Any] = lambda step: None,
) -> list[StepRecord]:
    """The records of a loop: zero_grad, loss, `backward`, `before_step`, step. As in JAX, nobody looks into it: these
    are the rules that need norms alone."""
    records: list[StepRecord] = []
    with gradlab_torch.Monitor(model, optimizer, look_every=None, on_record=records.append) as monitor:
        for step, (x, y) in enumerate(batches(steps)):
            optimizer.zero_grad()
            value = loss(model(torch.from_numpy(x)), torch.from_numpy(y))
            backward(value)
            monitor.observe(value)
            before_step(step)
            optimizer.step()
    return records


def in_jax(
    forward: Callable[[Any, Any], Any],
    params: Any,
    inner: optax.GradientTransformation,
    *,
    steps: int = 60,
    loss: Callable[[Any, Any], Any] = lambda out, y: optax.softmax_cross_entropy_with_integer_labels(out, y).mean(),
    known: Mapping[str, GradientState] | None = None,
) -> list[StepRecord]:
    """The records of a jitted loop over the parameters that `inner` gets."""
    tx = gradlab_jax.monitor(inner, known=known)
    state, records = tx.init(params), []

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(lambda p: loss(forward(p, x), y))(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    for x, y in batches(steps):
        params, state = step(params, state, jnp.asarray(x), jnp.asarray(y))
        records.append(gradlab_jax.read_record(state))
    return records


def normal(*shape: int, seed: int = 0) -> jax.Array:
    """Weights of a dense layer (inputs, outputs), Kaiming's."""
    return jax.random.normal(jax.random.key(seed), shape) * (2 / shape[0]) ** 0.5


def said(records: list[StepRecord]) -> list[tuple[str, Severity]]:
    return [(found.code, found.severity) for found in diagnose(records)]


def alarms(records: list[StepRecord]) -> list[str]:
    return [found.code for found in diagnose(records) if found.severity is not Severity.NOTE]


def first(records: list[StepRecord]) -> Finding:
    return diagnose(records)[0]
