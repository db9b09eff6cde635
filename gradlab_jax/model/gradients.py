"""Loss gradients, and which of them are zero by the structure of the program.

PyTorch says `grad is None` for a parameter with no path to the loss. JAX gives zeros, as it does for a gradient that
merely happens to be zero. The two are told apart in the program of the gradient: where there is no path, JAX's
differentiation writes a literal zero, broadcast to the parameter's shape, and nothing else ever touches it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from gradlab_jax.model.jaxpr import called, opened, scan_of, while_of
from gradlab_jax.model.modules import Functional

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def loss_and_gradients(
    f: Functional, params: tuple[jax.Array, ...], rest: Any, x: jax.Array, y: jax.Array, loss: Loss
) -> tuple[jax.Array, tuple[jax.Array, ...], Any, jax.Array]:
    """`(loss, gradients in definition order, new state, logits)`; pure."""

    def objective(params: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        logits, state = f.apply(params, rest, x)
        return loss(logits, y), (state, logits)

    (value, (state, logits)), grads = jax.value_and_grad(objective, has_aux=True)(params)
    return value, grads, state, logits


def disconnected(f: Functional, params: Any, rest: Any, x: Any, y: Any, loss: Loss) -> tuple[bool, ...]:
    """For each parameter, whether no gradient path leads to it; read off the program, nothing is computed."""
    leaves, structure = jax.tree.flatten((params, rest, x, y))
    return _disconnected(f, loss, structure, tuple(jax.typeof(leaf) for leaf in leaves))


@functools.lru_cache(maxsize=128)
def _disconnected(f: Functional, loss: Loss, structure: Any, avals: tuple[Any, ...]) -> tuple[bool, ...]:
    params, rest, x, y = jax.tree.unflatten(structure, avals)
    closed = jax.make_jaxpr(lambda p, r, x, y: loss_and_gradients(f, p, r, x, y, loss)[1])(params, rest, x, y)
    return tuple(structural_zeros(closed.jaxpr, [False] * len(closed.jaxpr.invars)))


# Equations through which a zero that stands for "no path" may pass on its way out of the program. Products are not
# among them: x · 0.0 is the user's zero, a number.
_LINEAR = frozenset(
    "broadcast_in_dim convert_element_type copy copy_p neg reshape squeeze transpose rev slice expand_dims reduce_sum "
    "real imag pvary psum reduce_precision optimization_barrier sharding_constraint dynamic_slice gather name".split()
)
_SUM_LIKE = {"add_any", "add", "sub", "concatenate", "pad", "dynamic_update_slice", "scatter-add", "scatter_add"}
_CALLS = {"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call"}


def structural_zeros(jaxpr: core.Jaxpr, inputs: list[bool]) -> list[bool]:
    """For each output of a program, whether it is a literal zero passed on unchanged, given the same of its inputs."""
    zero: dict[Any, bool] = dict(zip(jaxpr.invars, inputs, strict=True))
    zero.update(dict.fromkeys(jaxpr.constvars, False))

    def is_zero(atom: Any) -> bool:
        if isinstance(atom, core.Literal):
            return bool(getattr(atom.val, "ndim", 0) == 0 and atom.val == 0)
        return zero[atom]

    for eqn in jaxpr.eqns:
        zeros = _outputs(eqn, [is_zero(v) for v in eqn.invars])
        zero.update(zip(eqn.outvars, zeros, strict=True))
    return [is_zero(v) for v in jaxpr.outvars]


def _outputs(eqn: Any, inputs: list[bool]) -> list[bool]:
    name, params = eqn.primitive.name, eqn.params
    none = [False] * len(eqn.outvars)
    if name in _LINEAR:
        return [inputs[0]] * len(none)
    if name in _SUM_LIKE:
        # Only the operands that are numbers count, not the indices of an update.
        arrays = {"dynamic_update_slice": 2, "pad": 2}.get(name, len(inputs))
        values = [inputs[0], inputs[2]] if name.startswith("scatter") else inputs[:arrays]
        return [all(values)] * len(none)
    if name == "select_n":
        return [all(inputs[1:])]
    if name in _CALLS:
        return structural_zeros(opened(called(eqn))[0], inputs)
    if name == "cond":
        branches = [structural_zeros(opened(b)[0], inputs[1:]) for b in params["branches"]]
        return [all(outputs) for outputs in zip(*branches, strict=True)]
    if name == "scan":
        scan = scan_of(params)
        return _fixpoint(scan.body, *scan.split(inputs))
    if name == "while":
        loop = while_of(params)
        start = loop.cond_consts + loop.body_consts
        return _fixpoint(loop.body, inputs[loop.cond_consts : start], inputs[start:], [])
    return none


def _fixpoint(body: core.Jaxpr, consts: list[bool], carry: list[bool], xs: list[bool]) -> list[bool]:
    """A carried value is zero only if it is so after every turn."""
    while True:
        out = structural_zeros(body, [*consts, *carry, *xs])
        settled = [a and b for a, b in zip(carry, out, strict=False)]
        if settled == carry:
            return [*carry, *out[len(carry) :]]
        carry = settled
