"""What gradlab knows of the inside of JAX's traced programs, in one place, since JAX changes it between releases.

Up to JAX 0.10 a `scan` holds `num_consts` and `num_carry`, and a program inside an equation is a `ClosedJaxpr`. Since
0.11 it holds trees of its inputs and outputs in three parts (constants, carry, what is scanned), and every program is
a `Jaxpr` that closes over its constants.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core
from jax.interpreters import batching

CALLS = frozenset({"jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint"})
CUSTOM_RULES = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})


class Scan(NamedTuple):
    """A loop of known length: its body takes constants, then what is carried, then a row of what is scanned."""

    body: core.Jaxpr
    bound: list[Any]
    consts: int
    carry: int
    length: int
    reverse: bool
    unroll: Any

    def split(self, values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Inputs as `(constants, carry, scanned)`."""
        end = self.consts + self.carry
        return values[: self.consts], values[self.consts : end], values[end:]


class While(NamedTuple):
    """A loop whose length is known at run time only; its inputs are both parts' constants, then what is carried."""

    body: core.Jaxpr
    cond_consts: int
    body_consts: int


def opened(program: Any) -> tuple[core.Jaxpr, list[Any]]:
    """`(equations, constants they are bound to)` of a program inside an equation."""
    if isinstance(program, core.ClosedJaxpr):
        return program.jaxpr, list(program.consts)
    return program, []


def called(eqn: Any) -> Any:
    """The program that an equation calls, None if it calls none."""
    return next((eqn.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in eqn.params), None)


def scan_of(params: Any) -> Scan:
    """The parts of a `scan` equation's parameters."""
    body, bound = opened(params["jaxpr"])
    if "num_carry" in params:
        consts, carry = params["num_consts"], params["num_carry"]
    else:
        consts, carry, _ = (len(part.vals) for part in params["ft_in"].unpack())
    return Scan(body, bound, consts, carry, params["length"], params["reverse"], params["unroll"])


def while_of(params: Any) -> While:
    """The parts of a `while` equation's parameters."""
    return While(opened(params["body_jaxpr"])[0], params["cond_nconsts"], params["body_nconsts"])


def inner_jaxprs(eqn: Any) -> Iterator[core.Jaxpr]:
    """The programs inside an equation: of a call, a loop, the branches of a condition."""
    for value in eqn.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, (core.ClosedJaxpr, core.Jaxpr)):
                yield opened(item)[0]


def bind(eqn: Any, inputs: list[Any]) -> list[Any]:
    """The results of one equation on other inputs."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Since 0.10 JAX keeps inner functions among the parameters; before, they came apart.
    functions, params = ((), bound) if isinstance(bound, dict) else bound
    made = eqn.primitive.bind(*functions, *inputs, **params)
    return list(made) if eqn.primitive.multiple_results else [made]


BATCH_FIRST = "gradlab_batch_first"
_BATCHING = threading.RLock()


@contextlib.contextmanager
def batch_first() -> Iterator[None]:
    """While this holds, a product under `jax.vmap` has the batch as its first axis, as it would have been written;
    JAX puts it last where the weight is the left operand, and the activations after it would come transposed. What was
    moved has the name `BATCH_FIRST`."""
    rules, product = batching.fancy_primitive_batchers, lax.dot_general_p
    original = rules[product]

    def first(*args: Any, **params: Any) -> Any:
        out, axis = original(*args, **params)
        if not isinstance(axis, int) or not axis:
            return out, axis
        return checkpoint_name(jnp.moveaxis(out, axis, 0), BATCH_FIRST), 0

    with _BATCHING:
        rules[product] = first
        try:
            yield
        finally:
            rules[product] = original
