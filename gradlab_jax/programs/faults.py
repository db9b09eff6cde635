"""Faults built into a model on purpose, as they stand in users' programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from gradlab_core.programs.checks import check_activation, layers_named, under
from gradlab_core.programs.program import ProgramSpec
from gradlab_jax.model.modules import named_modules, named_parameters, named_variables
from gradlab_jax.programs.models.layers import ReLU, linear
from gradlab_jax.start.initializers import initialize


def _integer_cast(x: jax.Array) -> jax.Array:
    return jnp.round(x).astype(jnp.int32).astype(x.dtype)


def _argmax(x: jax.Array) -> jax.Array:
    return jax.nn.one_hot(jnp.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype)


def _divide_by_zero(x: jax.Array) -> jax.Array:
    x = x * (jnp.arange(x.shape[-1]) > 0).astype(x.dtype)
    return x / jnp.std(x, axis=0)


_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "stop_gradient": lax.stop_gradient,
    "integer_cast": _integer_cast,
    "argmax": _argmax,
    "log_zero": jnp.log,
    "divide_by_zero": _divide_by_zero,
}


class Faulty(nnx.Module):
    """An activation with a fault behind it. It has the path of the one it replaces, which stands inside as
    `activation`; for `log_zero` that is a ReLU."""

    def __init__(self, fault: str, activation: nnx.Module) -> None:
        self.fault = fault
        self.activation = ReLU() if fault == "log_zero" else activation

    def __call__(self, x: jax.Array) -> jax.Array:
        return _ACTIVATIONS[self.fault](self.activation(x))


class Rectified(nnx.Linear):
    """A dense layer with a ReLU on its output."""

    def __call__(self, *args: Any, **options: Any) -> jax.Array:
        return jax.nn.relu(super().__call__(*args, **options))


def plant(model: nnx.Module, spec: ProgramSpec) -> None:
    """Build the fault of a program into its model, in place; those that are no part of a model (what the optimizer
    gets, whether it steps) change nothing here.

    Raises:
        GradlabError: there is no such layer or activation; the message lists those there are.

    >>> from gradlab_core.programs.specs import ModelSpec
    >>> from gradlab_jax.programs.models import build
    >>> spec = ProgramSpec(model=ModelSpec(kind="mlp"), fault="negative_bias", at="fc1", amount=3.0)
    >>> model = build(spec.model, seed=0)
    >>> plant(model, spec)
    >>> jnp.unique(model.fc1.bias[...]).tolist()
    [-3.0]
    """
    if spec.fault in _ACTIVATIONS:
        check_activation(spec.at, _activations(model))
        modules = dict(named_modules(model))
        parent, _, name = spec.at.rpartition(".")
        setattr(modules[parent], name, Faulty(spec.fault, modules[spec.at]))
    elif spec.fault == "unused_branch":
        setattr(model, "extra", linear(spec.model.num_classes, spec.model.num_classes))  # noqa: B010
        # Every tensor is drawn from a stream of its own, so that the others stay what they are.
        initialize(model, spec.model.init, seed=spec.seed, number=spec.model.init_number)
    elif spec.fault in ("negative_bias", "saturated_start", "rectified_output"):
        kind = "weight" if spec.fault == "saturated_start" else "bias"
        chosen = under(spec.at, named_parameters(model), kind=kind)
        for name, _, variable in named_variables(model):
            if name in chosen:
                value = variable.get_value()
                variable.set_value(spec.amount * (jnp.full_like(value, -1.0) if kind == "bias" else value))
        if spec.fault == "rectified_output":
            modules = dict(named_modules(model))
            for path in layers_named(spec.at):
                modules[path].__class__ = Rectified


def _activations(model: nnx.Module) -> list[str]:
    """The paths of modules that have neither parameters nor modules inside."""
    paths = [path for path, _ in named_modules(model)]
    holders = {name[:i] for name in [*paths, *(n for n, *_ in named_variables(model))] for i in _dots(name)}
    return [path for path in paths if path and path not in holders]


def _dots(name: str) -> list[int]:
    return [i for i, letter in enumerate(name) if letter == "."]
