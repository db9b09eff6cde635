"""Where a loss function's model ends: the last place at which data meets a parameter gives the answers, and behind it
there may be a softmax or a sigmoid before the loss."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.extend import core

from gradlab_jax.model.function_layers import Place
from gradlab_jax.model.jaxpr import CALLS, CUSTOM_RULES, called, opened

_PARAMETER, _DATA = 1, 2


def output_place(jaxpr: core.Jaxpr, parameters: int) -> Place | None:
    """The place of the equation whose first output the answers are; the first so many inputs are parameters, the others
    and the arrays that the program closes over are data. A single number is no answer: it may be the loss, with a
    penalty on the parameters added. None where there is none."""
    made_of = [_PARAMETER] * parameters + [_DATA] * (len(jaxpr.invars) - parameters)
    return _place(jaxpr, made_of, ())[1]


def squashed_places(jaxpr: core.Jaxpr, output: Place, *, most: int = 4) -> list[Place]:
    """Places behind the answers at which something of their shape arises that may be a softmax or a sigmoid of them; in
    the program that holds `output`, and not inside of what that calls."""
    for index in output[:-1]:
        jaxpr = opened(called(jaxpr.eqns[index]))[0]
    answers: Any = jaxpr.eqns[output[-1]].outvars[0].aval
    behind = list(enumerate(jaxpr.eqns))[output[-1] + 1 :]
    alike = [(i, eqn) for i, eqn in behind if getattr(eqn.outvars[0].aval, "shape", None) == answers.shape]
    squashed = [i for i, eqn in alike if eqn.primitive.name in _SQUASHES and _may_answer(eqn.outvars[0])]
    return [(*output[:-1], i) for i in squashed][:most]


_SQUASHES = {"div", "logistic"} | CALLS | CUSTOM_RULES


def _place(jaxpr: core.Jaxpr, made_of: list[int], above: Place) -> tuple[list[int], Place | None]:
    """What each result is made of, and the place."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, made_of, strict=True))
    constants: list[Any] = jaxpr.constvars
    known |= {v: _DATA if v.aval.ndim else 0 for v in constants}
    last: Place | None = None

    def read(atom: Any) -> int:
        return 0 if isinstance(atom, core.Literal) else known[atom]

    for index, eqn in enumerate(jaxpr.eqns):
        given, here = [read(v) for v in eqn.invars], (*above, index)
        every = 0
        for part in given:
            every |= part
        meets = _PARAMETER in given and bool(every & _DATA)
        results = [every] * len(eqn.outvars)
        if eqn.primitive.name in CALLS:
            results, inner = _place(opened(called(eqn))[0], given, here)
            last = inner or last
        elif meets and any(map(_may_answer, eqn.outvars[:1])):
            last = here
        known |= dict(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars], last


def _may_answer(v: Any) -> bool:
    return bool(v.aval.ndim) and v.aval.size > 1 and jnp.issubdtype(v.aval.dtype, jnp.floating)
