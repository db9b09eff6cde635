"""What makes a healthy program a faulty one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gradlab_core.programs.program import OptimizerSpec, ProgramSpec, TaskSpec
from gradlab_core.programs.specs import ModelSpec

from .parts import activations, weighted
from .programs import Rng, between, fitting, pick, widths

Made = tuple[ProgramSpec, tuple[str, ...]]
"""The faulty program, and the layers of which one has to be named; none where the fault is nowhere in particular."""


def _optimizer(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, optimizer=dataclasses.replace(spec.optimizer, **fields))


def _rate(spec: ProgramSpec, factor: float) -> ProgramSpec:
    return _optimizer(spec, learning_rate=float(f"{factor * spec.optimizer.learning_rate:.3g}"))


def _task(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, task=dataclasses.replace(spec.task, **fields))


def _model(spec: ProgramSpec, **fields: Any) -> ProgramSpec:
    return dataclasses.replace(spec, model=dataclasses.replace(spec.model, **fields))


def _built_in(fault: str, spec: ProgramSpec, at: str, amount: float = 1.0) -> ProgramSpec:
    return dataclasses.replace(spec, fault=fault, at=at, amount=amount)


def unscaled_input(rng: Rng, spec: ProgramSpec) -> Made:
    scale = between(rng, 20.0, 2000.0)
    return _task(spec, input_scale=scale, input_shift=pick(rng, (0.0, 2 * scale))), ()


def unscaled_target(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(spec, target_scale=between(rng, 30.0, 10000.0)), ()


def rate_too_high(rng: Rng, spec: ProgramSpec) -> Made:
    return _rate(spec, between(rng, 10.0, 1000.0)), ()


def rate_too_low(rng: Rng, spec: ProgramSpec) -> Made:
    return _rate(spec, between(rng, 1e-5, 3e-3)), ()


def exploding_rnn(rng: Rng, spec: ProgramSpec) -> Made:
    gain = between(rng, 2.0, 5.0)
    return _optimizer(_model(spec, init="orthogonal", init_number=gain), clip=None), ("rnn",)


def large_start(rng: Rng, spec: ProgramSpec) -> Made:
    init, number = pick(rng, (("normal", between(rng, 0.5, 4.0)), ("kaiming_normal", between(rng, 4.0, 30.0))))
    return _model(spec, init=init, init_number=number), ()


def deep_bounded(rng: Rng, spec: ProgramSpec) -> Made:
    sizes = widths(rng, (5, 9), (24, 64))  # as deep as ReLU nets may be, and sigmoid nets may not
    made = _model(spec, widths=sizes, activation="sigmoid", init="torch_default", init_number=None)
    return made, _early(made.model)


def small_start(rng: Rng, spec: ProgramSpec) -> Made:
    return _model(spec, init="normal", init_number=between(rng, 1e-4, 3e-2)), _early(spec.model)


def long_rnn(rng: Rng, spec: ProgramSpec) -> Made:
    task = TaskSpec(name="temporal_order", length=int(rng.integers(40, 121)))
    model = fitting(task, kind="recurrent", cell="rnn_tanh", hidden=spec.model.hidden)
    return dataclasses.replace(spec, task=task, model=model), ("rnn",)


def cut(fault: str) -> Callable[[Rng, ProgramSpec], Made]:
    def make(rng: Rng, spec: ProgramSpec) -> Made:
        places = activations(spec.model)
        at = pick(rng, list(places))
        return _built_in(fault, spec, at), places[at]

    return make


def unused(rng: Rng, spec: ProgramSpec) -> Made:
    return _built_in("unused_branch", spec, ""), ("extra",)


def without_update(fault: str, first: int) -> Callable[[Rng, ProgramSpec], Made]:
    def make(rng: Rng, spec: ProgramSpec) -> Made:
        at = pick(rng, weighted(spec.model)[first:])
        return _built_in(fault, spec, at), (at,)

    return make


def no_step(rng: Rng, spec: ProgramSpec) -> Made:
    return _built_in("no_step", spec, ""), ()


def zero_rate(rng: Rng, spec: ProgramSpec) -> Made:
    return _optimizer(spec, learning_rate=0.0), ()


def lost_updates(rng: Rng, spec: ProgramSpec) -> Made:
    moved = OptimizerSpec(name="sgd", learning_rate=between(rng, 1e-6, 1e-4))
    return dataclasses.replace(spec, dtype="bfloat16", optimizer=moved), ()


def dead(rng: Rng, spec: ProgramSpec) -> Made:
    k = int(rng.integers(1, len(spec.model.widths) + 1))
    return _built_in("negative_bias", spec, f"fc{k}", between(rng, 4.0, 50.0)), (f"fc{k}", f"act{k}")


def saturated(rng: Rng, spec: ProgramSpec) -> Made:
    hidden = range(1, len(spec.model.widths) + 1)
    chosen = list(hidden) if rng.random() < 0.7 else [pick(rng, hidden)]
    places = tuple(f"{part}{k}" for k in chosen for part in ("fc", "act"))
    return _built_in("saturated_start", spec, ", ".join(f"fc{k}" for k in chosen), between(rng, 30.0, 300.0)), places


def constant(rng: Rng, spec: ProgramSpec) -> Made:
    value = pick(rng, (0.0, between(rng, 0.01, 0.1), between(rng, 0.01, 0.1)))
    return _model(spec, init="constant", init_number=value), ()


def overflow(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(dataclasses.replace(spec, dtype="float16"), input_scale=between(rng, 2e4, 6e4)), ()


def random_labels(rng: Rng, spec: ProgramSpec) -> Made:
    return _task(spec, random_labels=True), ()


def summed(rng: Rng, spec: ProgramSpec) -> Made:
    return dataclasses.replace(spec, loss="summed_cross_entropy"), ()


def _early(model: ModelSpec) -> tuple[str, ...]:
    """The first half of a deep net: where a gradient that shrinks from layer to layer starves all alike."""
    layers = weighted(model)
    return tuple(layers[: len(layers) // 2])
