"""Recognises activation functions in a jaxpr.

`jax.nn` leaves them there in three forms: as a call with the function's name (`jit[name=silu]`, and ReLU's
`custom_jvp_call` around one), as a primitive of its own (`tanh`, `logistic`), and GELU inlined as arithmetic around
`erfc` (exact) or `tanh` and a cube (the tanh form).
"""

from __future__ import annotations

from typing import Any

from jax.extend import core

from gradlab_jax.model.jaxpr import opened

_NAMED = {
    **{name: name for name in "relu relu6 leaky_relu elu selu celu silu mish sigmoid tanh softplus".split()},
    **{name: name for name in "log_sigmoid hard_tanh hard_sigmoid hard_silu".split()},
    **{"swish": "silu", "soft_sign": "softsign", "hard_swish": "hard_silu"},
}
COMPOSITE = {"glu", "recurrent_layer"}
"""Functions with an activation inside that is a step of theirs and no layer."""

_PRIMITIVES = {"tanh": "tanh", "logistic": "sigmoid"}
_ELEMENTWISE = {"add", "sub", "mul", "div", "neg", "convert_element_type", "copy"}
_GATES = frozenset({"erf", "erfc", "tanh"})
_DEPTH = 6  # equations between GELU's ends and its erf or tanh


def find(jaxpr: core.Jaxpr) -> dict[int, str]:
    """`{index of the equation whose output is an activation: kind}`."""
    made_by = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in eqn.outvars}
    kinds: dict[int, str] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        name = eqn.primitive.name
        if name in ("tanh", "erf", "erfc"):
            out = _gelu_output(jaxpr, made_by, index)
            if out is not None:
                kinds[out] = "gelu_tanh" if name == "tanh" else "gelu"
                continue
        kind = _PRIMITIVES.get(name) or _NAMED.get(function_name(eqn))
        if kind:
            kinds[index] = kind
    return kinds


def function_name(eqn: Any) -> str:
    """The name of the function that an equation calls, empty if it calls none."""
    if eqn.primitive.name in ("jit", "pjit"):
        return str(eqn.params["name"])
    if eqn.primitive.name == "custom_jvp_call":
        body = opened(eqn.params["call_jaxpr"])[0].eqns
        return function_name(body[0]) if len(body) == 1 else ""
    return ""


def source(jaxpr: core.Jaxpr, index: int) -> Any:
    """The variable that goes into the activation whose output the equation at `index` gives."""
    operands = [v for v in jaxpr.eqns[index].invars if not _literal(v)]
    if len(operands) == 1:
        return operands[0]
    # GELU's product of x and its gate: the last that both are made of, past the erf or tanh.
    made_by = {var: i for i, eqn in enumerate(jaxpr.eqns) for var in eqn.outvars}
    made_of = [_ancestors(jaxpr, made_by, v, _GATES) for v in operands]
    return max(set.intersection(*made_of), key=lambda v: made_by.get(v, -1), default=operands[0])


def _gelu_output(jaxpr: core.Jaxpr, made_by: dict[Any, int], index: int) -> int | None:
    """The equation that multiplies x by its gate, if the `tanh`, `erf` or `erfc` at `index` is the gate of a GELU."""
    eqn = jaxpr.eqns[index]
    source = _ancestors(jaxpr, made_by, eqn.invars[0])
    if eqn.primitive.name == "tanh" and not any(
        jaxpr.eqns[made_by[v]].primitive.name == "integer_pow" and jaxpr.eqns[made_by[v]].params["y"] == 3
        for v in source
        if v in made_by
    ):
        return None
    roots = {v for v in source if v.aval == eqn.outvars[0].aval}
    gate = eqn.outvars[0]
    for _ in range(_DEPTH):
        users = [i for i, e in enumerate(jaxpr.eqns) if gate in [v for v in e.invars if not _literal(v)]]
        if len(users) != 1 or jaxpr.eqns[users[0]].primitive.name not in _ELEMENTWISE:
            return None
        user = jaxpr.eqns[users[0]]
        others = [v for v in user.invars if not _literal(v) and v is not gate]
        if user.primitive.name == "mul" and any(roots & _ancestors(jaxpr, made_by, v) for v in others):
            return users[0]
        gate = user.outvars[0]
    return None


def _ancestors(jaxpr: core.Jaxpr, made_by: dict[Any, int], var: Any, through: frozenset[str] = frozenset()) -> set[Any]:
    """The variable and what it was made from by a few elementwise equations."""
    ancestors, edge = {var}, [var]
    for _ in range(_DEPTH):
        eqns = [jaxpr.eqns[made_by[v]] for v in edge if v in made_by]
        wanted = [e for e in eqns if e.primitive.name in _ELEMENTWISE | {"integer_pow"} | through]
        edge = [v for e in wanted for v in e.invars if not _literal(v) and v not in ancestors]
        ancestors.update(edge)
    return ancestors


def _literal(atom: Any) -> bool:
    return isinstance(atom, core.Literal)
