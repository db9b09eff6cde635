"""A model's loss as the parity judgement differentiates it: in the parameters, and in the output of every layer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.trace import Key
from gradlab_jax.model.checks import check_logits
from gradlab_jax.model.gradients import Loss, structural_zeros
from gradlab_jax.model.modules import Functional
from gradlab_jax.model.taps import Tap, run_tapped
from gradlab_jax.parity.instead import instead
from gradlab_jax.parity.rounding import noisy, rounded_products, widened


class Given(NamedTuple):
    """What takes the place: outputs and gradients of the layers in order; None where nothing does."""

    layers: tuple[list[Any], list[Any]]
    logits: Any


def natively(given: Mapping[Key, np.ndarray | None], ran: list[Tap], zeros: list[Any]) -> Given | None:
    """Those tensors in the model's own layout; None if there are none."""
    if not given:
        return None

    def arrays(quantity: str) -> list[Any]:
        keys = [Key(quantity, tap.path, tap.call) for tap in ran]
        native = [None if (a := given.get(k)) is None else tap.native(a) for k, tap in zip(keys, ran, strict=True)]
        return [
            None if a is None or a.shape != zero.shape else jnp.asarray(a, zero.dtype)
            for a, zero in zip(native, zeros, strict=True)
        ]

    return Given((arrays("activation"), arrays("activation_gradient")), given.get(Key("logits")))


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss as a function of the parameters and of a disturbance of every activation: the gradient of the loss in
    an activation is its gradient in that disturbance, at zero."""

    f: Functional
    loss: Loss
    pick: Callable[[Any], Any]

    def __call__(self, params: Any, zeros: Any, rest: Any, x: Any, y: Any, given: Given | None = None) -> Any:
        left = iter(zip(zeros, *(given.layers if given else ([None] * len(zeros),) * 2), strict=True))

        def on_tap(tap: Tap, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            zero, other, slope = next(left)
            return instead(value, zero, other, slope), value

        out, state, handed = run_tapped(self.f, params, rest, x, on_tap, differentiable=True)
        logits = check_logits(self.pick(out))
        other = given.logits if given and given.logits is not None and given.logits.shape == logits.shape else None
        loss = self.loss(instead(logits, jnp.zeros_like(logits), other, None), y)
        return loss, ([value for _, value in handed], state, logits)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def gradients(
    objective: Objective,
    rounded: Arithmetic | None,
    noise: Arithmetic | None,
    params: Any,
    zeros: Any,
    rest: Any,
    x: Any,
    y: Any,
    given: Given | None,
) -> Any:
    def differentiate(params: Any, zeros: Any, rest: Any, x: Any, y: Any) -> Any:
        differentiated = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        (value, (values, state, logits)), (grads, slopes) = differentiated(params, zeros, rest, x, y, given)
        return values, slopes, grads, state, logits, value

    if rounded is not None:
        differentiate = rounded_products(differentiate, rounded)
    if params[0].dtype == jnp.float64:
        differentiate = widened(differentiate)
    if noise is not None:
        differentiate = noisy(differentiate, noise)
    return differentiate(params, zeros, rest, x, y)


def cut_off(objective: Objective, params: Any, zeros: Any, rest: Any, x: Any, y: Any) -> tuple[list[bool], list[bool]]:
    """Which activations, and which parameters, have no path to the loss."""
    differentiate = jax.grad(objective, argnums=(0, 1), has_aux=True)
    jaxpr = jax.make_jaxpr(lambda *args: differentiate(*args)[0])(params, zeros, rest, x, y).jaxpr
    flags = structural_zeros(jaxpr, [False] * len(jaxpr.invars))
    return flags[len(params) :], flags[: len(params)]
