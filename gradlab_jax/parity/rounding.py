"""A program whose arithmetic is coarser than the machine's: random relative errors, or rounded operands.

`noisy` perturbs the result of every operation of a traced program by a random relative error of a unit roundoff: how
far such float64 runs lie apart is the rounding to be expected of the program (stochastic arithmetic, Vignes 1993;
Parker 1997). `rounded_products` rounds the operands of matrix products and convolutions, which is all that TF32 does,
so that a machine without it can show what it would do. Both are functions of a function, pure and traceable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from gradlab_core.parity.arithmetic import FLOAT32, Arithmetic
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, bind, called, opened

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
# Results of these are copies of what went in, or choices among it: a float keeps every bit.
_EXACT = frozenset(
    "abs argmax argmin broadcast_in_dim ceil clamp concatenate copy copy_p copysign device_put dynamic_slice "
    "dynamic_update_slice expand_dims floor gather imag iota max min name neg optimization_barrier pad real reduce_and "
    "reduce_max reduce_min reduce_or reduce_precision reshape rev round scatter select_and_gather_add select_n sign "
    "slice sort split squeeze stop_gradient top_k transpose reduce_window_max copy_to_host while cond scan".split()
)
Rule = Callable[[Any, list[Any]], list[Any]]
"""From an equation and its inputs to its outputs."""
Cast = Callable[[Any], Any]
"""What is done to every value."""
_WIDE = np.dtype("float64")


def noisy(f: Callable[..., Any], arithmetic: Arithmetic) -> Callable[..., Any]:
    """`f` with a random relative error in every operation, of standard deviation u, in a sum of n terms u·√n.

    The errors are a hash of the bits of what they disturb. So one compiled program makes as many draws as it is given
    inputs that differ in their last bits, as `dithered` ones do.
    """

    def rule(eqn: Any, inputs: list[Any]) -> list[Any]:
        terms = _terms(eqn)
        error = arithmetic.unit * math.sqrt(terms)
        if eqn.primitive.name in PRODUCTS:
            error = math.hypot(error, arithmetic.products)
            inputs = [_disturbed(x, error, salt, arithmetic.smallest) for salt, x in enumerate(inputs)]
        elif terms > 1:  # a sum whose terms cancel loses more than its own size says
            inputs = [_disturbed(x, error, salt) for salt, x in enumerate(inputs)]
        made = bind(eqn, inputs)
        if eqn.primitive.name == "reduce_sum" and terms > 1:
            bias = _error_of_plain_sum(inputs[0], eqn.params["axes"], made[0]) * (arithmetic.unit / FLOAT32)
            made = [made[0] + bias * _hashed(made[0], 11)]
        return made if eqn.primitive.name in _EXACT else [_disturbed(x, error, 7) for x in made]

    return _transformed(f, rule)


def rounded_products(f: Callable[..., Any], arithmetic: Arithmetic) -> Callable[..., Any]:
    """`f` with the operands of its matrix products and convolutions rounded to an arithmetic's number of bits."""

    def rule(eqn: Any, inputs: list[Any]) -> list[Any]:
        if eqn.primitive.name in PRODUCTS:
            inputs = [_rounded(x, arithmetic) for x in inputs]
        return bind(eqn, inputs)

    return _transformed(f, rule)


def widened(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` in float64 also where it names float32: what it would lose there is rounding, and two sides never lose the
    same."""

    def rule(eqn: Any, inputs: list[Any]) -> list[Any]:
        if eqn.primitive.name == "bitcast_convert_type":  # the bits of one type are not those of another
            return bind(eqn, [x.astype(v.aval.dtype) for x, v in zip(inputs, eqn.invars, strict=True)])
        named = {k: _WIDE for k, v in eqn.params.items() if isinstance(v, np.dtype) and v == np.float32}
        return bind(eqn.replace(params={**eqn.params, **named}), inputs)

    return _transformed(f, rule, _wide)


def dithered(x: Any, seed: int, arithmetic: Arithmetic) -> np.ndarray:
    """A float64 array that differs in its last bits, by far less than what that arithmetic does to it."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x
    return np.asarray(x * (1 + arithmetic.dither * np.random.default_rng(seed).standard_normal(x.shape)))


def _transformed(f: Callable[..., Any], rule: Rule, cast: Cast = lambda x: x) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        made = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), rule, cast)
        return jax.tree.unflatten(jax.tree.structure(shape), made)

    return run


def _evaluate(jaxpr: core.Jaxpr, consts: Any, args: Any, rule: Rule, cast: Cast) -> list[Any]:
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return cast(atom.val if isinstance(atom, core.Literal) else env[atom])

    for eqn in jaxpr.eqns:
        inputs = [read(v) for v in eqn.invars]
        if eqn.primitive.name in CALLS | CUSTOM_RULES:  # the program is differentiated: such rules have no more say
            made = _evaluate(*opened(called(eqn)), inputs, rule, cast)
        else:
            made = rule(eqn.replace(params={k: _rewritten(v, rule, cast) for k, v in eqn.params.items()}), inputs)
        env.update(zip(eqn.outvars, made, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _rewritten(value: Any, rule: Rule, cast: Cast) -> Any:
    """A program inside an equation (the body of a loop, a branch) under the same rule; anything else as it is."""
    if isinstance(value, (tuple, list)) and value and all(isinstance(v, (core.Jaxpr, core.ClosedJaxpr)) for v in value):
        return type(value)(_rewritten(v, rule, cast) for v in value)
    if not isinstance(value, (core.Jaxpr, core.ClosedJaxpr)):
        return value
    body, consts = opened(value)
    avals: list[Any] = [v.aval for v in body.invars]
    shapes = [jax.eval_shape(cast, jax.ShapeDtypeStruct(a.shape, a.dtype)) for a in avals]
    closed = jax.make_jaxpr(lambda *args: _evaluate(body, consts, args, rule, cast))(*shapes)
    return closed if isinstance(value, core.ClosedJaxpr) else closed.jaxpr


def _wide(x: Any) -> Any:
    return jnp.asarray(x, _WIDE) if getattr(x, "dtype", None) == np.float32 else x


def _terms(eqn: Any) -> int:
    """How many elements, or products of them, an element of the result is the sum of."""
    shapes = [v.aval.shape for v in eqn.invars if hasattr(v.aval, "shape")]
    made = max((math.prod(v.aval.shape) for v in eqn.outvars if hasattr(v.aval, "shape")), default=1)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return math.prod(shapes[0][axis] for axis in contracted) or 1
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.params["dimension_numbers"].rhs_spec
        return (math.prod(shapes[1]) // max(shapes[1][kernel[0]], 1)) or 1
    if eqn.primitive.name in ("scan", "while", "cond"):
        return 1
    return max((math.prod(shape) // max(made, 1) for shape in shapes), default=1) or 1


def _error_of_plain_sum(x: jax.Array, axes: tuple[int, ...], exact: jax.Array) -> jax.Array:
    """How wrong float32 is that adds one term after the other, as the plainest kernel does. Where the terms are alike,
    as gradients behind an average pool are, its errors all go one way, and √n of them is too few."""
    if x.dtype != jnp.float64:
        return jnp.zeros_like(exact)
    rows = jnp.moveaxis(x, axes, tuple(range(len(axes)))).reshape(-1, *exact.shape).astype(jnp.float32)
    plain = lax.fori_loop(0, len(rows), lambda i, total: total + rows[i], jnp.zeros(exact.shape, jnp.float32))
    wrong = jnp.abs(plain.astype(jnp.float64) - exact)
    return jnp.where(jnp.isfinite(wrong), wrong, 0.0)


def _disturbed(x: Any, error: float, salt: int, floor: float = 0.0) -> Any:
    if not hasattr(x, "dtype") or x.dtype != jnp.float64:
        return x
    noise = _hashed(jnp.asarray(x), salt)
    return x * (1 + error * noise) + (floor * noise if floor else 0.0)


def _hashed(x: jax.Array, salt: int) -> jax.Array:
    """Numbers of mean 0 and variance 1, evenly spread, from the bits of others and their places (splitmix64)."""
    places = lax.iota(jnp.uint64, x.size).reshape(x.shape)
    bits = lax.bitcast_convert_type(x, jnp.uint64) ^ (places * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt))
    for shift, by in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(by)
    unit = (bits >> np.uint64(11)).astype(jnp.float64) * 2.0**-53
    return (unit - 0.5) * math.sqrt(12.0)


def _rounded(x: Any, arithmetic: Arithmetic) -> Any:
    if x.dtype != jnp.float32:
        return x
    if arithmetic.name in ("bfloat16", "float16"):
        # Without the barrier XLA takes both conversions out where it may keep more digits, as on a GPU.
        return lax.optimization_barrier(x.astype(arithmetic.name)).astype(x.dtype)
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=arithmetic.bits - 1)
