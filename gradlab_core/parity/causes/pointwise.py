"""Activations: which function is applied to what goes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import special

from gradlab_core.parity import tolerance
from gradlab_core.parity.causes.cause import Cause, Explanation, Settings, Target, by_factor, search, to
from gradlab_core.parity.causes.sources import sources
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

_SELU = 1.0507009873554805, 1.6732632423543772


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _softmax(x: np.ndarray) -> np.ndarray:
    return np.asarray(special.softmax(x, axis=-1))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda x: x,  # first: of small numbers it is what a clipping does
    "relu": lambda x: np.maximum(x, 0),
    "gelu (erf)": lambda x: x * special.ndtr(x),
    "gelu (tanh)": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "quick gelu, x·σ(1.702 x)": lambda x: x * special.expit(1.702 * x),
    "silu": lambda x: x * special.expit(x),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "leaky relu with slope 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky relu with slope 0.1": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky relu with slope 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": _elu,
    "selu": lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(np.minimum(x, 0))),
    "relu6": lambda x: np.clip(x, 0, 6),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard tanh": lambda x: np.clip(x, -1, 1),
    "softmax": _softmax,
}


def pointwise(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    """Of a layer without weights: y = f(x)."""
    for name, source in _applied(local, key, target.truth, target.limit):
        settings: Settings = {"x": source, "f": FUNCTIONS[name]}
        changes = [(_cause(name, other), to(f=f)) for other, f in FUNCTIONS.items() if other != name]
        yield from search(lambda s: s["f"](s["x"]), settings, changes, target, [by_factor("the output")])


def otherwise(local: Local, key: Key, array: np.ndarray) -> Iterator[tuple[Cause, np.ndarray]]:
    """What a tensor would be if another function had been applied, where it is an activation of an earlier one."""
    for name, source in _applied(local, key, array, tolerance.LOGIC * tolerance.size(array)):
        yield from ((_cause(name, other), f(source)) for other, f in FUNCTIONS.items() if other != name)


def _applied(local: Local, key: Key, array: np.ndarray, limit: float) -> Iterator[tuple[str, np.ndarray]]:
    """The function and the earlier tensor that make a tensor, if there are such: at most one pair."""
    for _name, source in sources(local, key):
        if source.shape == array.shape and source.dtype.kind == "f" and source is not array:
            for name, function in FUNCTIONS.items():
                if name != "nothing" and tolerance.distance(function(source), array) <= limit:
                    yield name, source
                    return


def _cause(ours: str, theirs: str) -> Cause:
    code = "gelu" if "gelu" in ours and "gelu" in theirs else "activation"
    code = "quick-gelu" if code == "gelu" and "quick" in ours + theirs else code
    fix = f"apply {ours}" + (" (approximate=False)" if ours == "gelu (erf)" else "")
    return Cause(code, f"it applies {theirs}, the reference {ours}", fix)
