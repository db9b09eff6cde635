"""What a model costs: parameters, and floating-point operations of one forward pass."""

from __future__ import annotations

import math
from typing import Any

import jax

from gradlab_jax.model.jaxpr import inner_jaxprs
from gradlab_jax.model.modules import functional


def count_params(model: Any) -> int:
    """Trainable parameters, in elements.

    >>> from flax import nnx
    >>> count_params(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    8
    """
    return sum(p.size for p in functional(model, "eval")[1])


def count_flops(model: Any, x: jax.Array) -> int:
    """2 × multiply-adds of all convolutions and matrix products of one forward pass on `x`, in eval mode.

    Counted in the traced program, so nothing runs. The body of a `scan` counts once a turn, of a `cond` its dearest
    branch, of a `while` once: how often it turns is known only at run time.

    >>> from flax import nnx
    >>> count_flops(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jax.numpy.ones((4, 3)))
    48
    """
    f, params, rest = functional(model, "eval")
    return _count(jax.make_jaxpr(f.apply)(params, rest, x).jaxpr)


def _count(jaxpr: Any) -> int:
    return sum(_cost(eqn) for eqn in jaxpr.eqns)


def _cost(eqn: Any) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        depth = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * depth * eqn.outvars[0].aval.size
    if name == "conv_general_dilated":
        return _convolution(eqn)
    inner = [_count(jaxpr) for jaxpr in inner_jaxprs(eqn)]
    if name == "scan":
        return int(eqn.params["length"]) * sum(inner)
    return max(inner) if name == "cond" else sum(inner)


def _convolution(eqn: Any) -> int:
    numbers, dilation = eqn.params["dimension_numbers"], eqn.params["lhs_dilation"]
    inputs, kernel, output = eqn.invars[0].aval.shape, eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
    window = math.prod(kernel[axis] for axis in numbers.rhs_spec[2:])
    channels = kernel[numbers.rhs_spec[0]] * kernel[numbers.rhs_spec[1]]
    # A transposed convolution reads every input pixel once per window element; the zeros put between them cost nothing.
    spec, shape = (numbers.lhs_spec, inputs) if any(d > 1 for d in dilation) else (numbers.out_spec, output)
    positions = shape[spec[0]] * math.prod(shape[axis] for axis in spec[2:])
    return 2 * positions * window * channels
