"""The optimizer: by which rule parameters move, and with which numbers.

The rules are run over the reference's own gradients from the first step on, so that nothing of an optimizer's state
needs to be known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gradlab_core.parity import tolerance
from gradlab_core.parity.causes.cause import Cause, Change, Explanation, Settings, Target, by_factor, search, to
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import Key

Rule = Callable[[Settings], np.ndarray]
_MOMENTA = (0.0, 0.9, 0.95, 0.8, 0.99, 0.5)
_DECAYS = (0.0, 1e-4, 5e-4, 1e-3, 1e-2, 5e-2, 0.1)
_EPSILONS = (1e-8, 1e-7, 1e-6, 1e-10, 1e-15, 1e-5, 1e-4, 1e-3)


def update(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    """Of a parameter after the step, or of its momentum."""
    history = _history(local, key.path)
    if history is None:
        return
    params, grads = history
    rates = _rates(local)
    quantity = key.quantity
    for settings in _guesses(params, grads, rates, quantity, local, key):
        if target.is_reference(_moved(settings)):
            yield from search(_moved, settings, list(_changes(settings)), target, _finishes(settings))
            return


def learning_rate(local: Local, key: Key, target: Target) -> Iterator[Explanation]:
    """Of the rate: another step's, or a multiple."""
    steps = [float(np.asarray(t[key])) for t in local.earlier if t.get(key) is not None] + [float(target.truth)]
    value = float(np.asarray(target.value))
    for back in range(1, len(steps)):
        if value == steps[-1 - back] != steps[-1]:
            words = f"it is that of {back} step{'s' * (back > 1)} before in the reference"
            cause = Cause(
                "schedule-step", words, "count steps from the same one: optax gives the rate of its own count"
            )
            yield Explanation((cause,), 0.0)
            return
    if steps[-1]:
        cause = Cause("learning-rate", f"it is {value / steps[-1]:.6g} × the reference's", "give both the same rate")
        yield Explanation((cause,), 0.0)


def _history(local: Local, path: str) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """The parameter before each step, and its gradient at each step, up to now."""
    traces = [*local.earlier, local.truth]
    grads = [trace.get(Key("gradient", path)) for trace in traces]
    after = [trace.get(Key("parameter", path)) for trace in traces[:-1]]
    if len(traces) != local.step + 1 or any(a is None for a in (*grads, *after)) or path not in local.before:
        return None
    first = [local.before[path]] if not after else [local.start[path]]
    return [np.asarray(p, np.float64) for p in (*first, *after)], [np.asarray(g, np.float64) for g in grads]


def _rates(local: Local) -> list[float] | None:
    rates = [trace.get(Key("learning_rate")) for trace in (*local.earlier, local.truth)]
    return None if any(rate is None for rate in rates) else [float(np.asarray(rate)) for rate in rates]


def _guesses(
    params: list[np.ndarray], grads: list[np.ndarray], rates: list[float] | None, quantity: str, local: Local, key: Key
) -> Iterator[dict[str, Any]]:
    base = {"params": params, "grads": grads, "quantity": quantity, "nesterov": False, "dampening": 0.0, "scale": 1.0,
            "decoupled": False, "late": False, "eps": 1e-8, "b1": 0.9, "b2": 0.999, "corrected": True}  # fmt: skip
    for momentum, decay in _fitted(params, grads, local, key):
        for nesterov in (False, True) if momentum else (False,):
            yield {**base, "rule": "sgd", "rates": rates or _solved(params, grads, local, key), "momentum": momentum,
                   "decay": decay, "nesterov": nesterov}  # fmt: skip
    if rates is None:
        return
    for rule, decay, decoupled, eps in itertools.product(
        ("adam", "rmsprop", "adagrad"), _DECAYS, (False, True), _EPSILONS
    ):
        if decay or not decoupled:
            yield {**base, "rule": rule, "rates": rates, "momentum": 0.0, "decay": decay, "decoupled": decoupled,
                   "eps": eps, "b2": 0.99 if rule == "rmsprop" else 0.999}  # fmt: skip


def _fitted(params: list[np.ndarray], grads: list[np.ndarray], local: Local, key: Key) -> Iterator[tuple[float, float]]:
    """Momentum and weight decay, by least squares where the reference's momentum is known, else the usual ones."""
    velocity = local.truth.get(Key("optimizer", key.path))
    before = local.earlier[-1].get(Key("optimizer", key.path)) if local.earlier else None
    if velocity is not None:
        columns = [params[-1].ravel()] + ([before.ravel()] if before is not None else [])
        fit = np.linalg.lstsq(np.stack(columns, axis=1), (velocity - grads[-1]).ravel(), rcond=None)[0]
        decay = _rounded(float(fit[0]))
        momenta = [_rounded(float(fit[1]))] if before is not None else list(_MOMENTA)
        yield from ((m, decay) for m in momenta)
    yield from itertools.product(_MOMENTA, _DECAYS)


def _rounded(number: float) -> float:
    """The number that somebody wrote, from what was fitted."""
    near = float(f"{number:.4g}")
    return near if abs(number - near) <= 1e-6 * max(abs(near), 1e-3) else number


def _solved(params: list[np.ndarray], grads: list[np.ndarray], local: Local, key: Key) -> list[float]:
    """The rate of plain gradient descent, where nobody says it."""
    after = local.truth[Key("parameter", key.path)]
    assert after is not None
    square = float(np.vdot(grads[-1], grads[-1])) or 1.0
    rate = _rounded(-float(np.vdot(grads[-1], after - params[-1])) / square)
    return [rate] * len(params)


def _moved(s: Settings) -> np.ndarray:
    """The parameter after the last step, or its momentum."""
    return {"sgd": _sgd}.get(s["rule"], _adaptive)(s)


def _sgd(s: Settings) -> np.ndarray:
    velocity: np.ndarray | None = None
    param, rate = s["params"][-1], s["rates"][-1]
    for before, gradient in zip(s["params"], s["grads"], strict=True):
        decay = s["decay"] * before
        grad = s["scale"] * gradient + (0.0 if s["decoupled"] or s["late"] else decay)
        velocity = grad if velocity is None else s["momentum"] * velocity + (1 - s["dampening"]) * grad
        direction = grad + s["momentum"] * velocity if s["nesterov"] else velocity
    if s["quantity"] == "optimizer":
        return np.asarray(velocity)
    if s["late"]:  # added after the direction was scaled by the rate, with the wrong sign
        return np.asarray(param - rate * direction + decay)
    return np.asarray(param - rate * (direction + (decay if s["decoupled"] else 0.0)))


def _adaptive(s: Settings) -> np.ndarray:
    first = second = np.zeros_like(s["params"][0])
    if s["rule"] == "adagrad" and s.get("initial"):
        second = second + s["initial"]
    param, rate = s["params"][-1], s["rates"][-1]
    for step, (before, gradient) in enumerate(zip(s["params"], s["grads"], strict=True), 1):
        grad = s["scale"] * gradient + (0.0 if s["decoupled"] else s["decay"] * before)
        if s["rule"] == "adam":
            first = s["b1"] * first + (1 - s["b1"]) * grad
            second = s["b2"] * second + (1 - s["b2"]) * grad**2
            corrections = (1 - s["b1"] ** step, 1 - s["b2"] ** step) if s["corrected"] else (1.0, 1.0)
            top, bottom = first / corrections[0], second / corrections[1]
        else:
            second = second + grad**2 if s["rule"] == "adagrad" else s["b2"] * second + (1 - s["b2"]) * grad**2
            top, bottom = grad, second
        inside = s.get("inside", False)
        direction = top / (np.sqrt(bottom + s["eps"]) if inside else np.sqrt(bottom) + s["eps"])
    return np.asarray(param - rate * (direction + (s["decay"] * param if s["decoupled"] else 0.0)))


def _changes(settings: Settings) -> Iterator[Change]:
    decay = settings["decay"]
    for other in (d for d in _DECAYS if d != decay):
        words = f"the weight decay is {other:g}, in the reference {decay:g}"
        code = "adamw-decay" if settings["decoupled"] else "weight-decay"
        yield Cause(code, words, f"give both {decay:g}: optax's adamw has 1e-4, PyTorch's 1e-2"), to(decay=other)
    if decay:
        theirs, ours = (
            ("decoupled", "added to the gradient")
            if not settings["decoupled"]
            else ("added to the gradient", "decoupled")
        )
        words = f"weight decay is {theirs}, in the reference {ours}"
        fix = "chain add_decayed_weights before the optimizer for the one, after it (as adamw does) for the other"
        yield (
            Cause("adam-l2" if settings["rule"] != "sgd" else "sgd-weight-decay-order", words, fix),
            to(decoupled=not settings["decoupled"]),
        )
        if settings["rule"] == "sgd":
            words = "weight decay is added after the rate has been applied: weights grow by it"
            yield Cause("sgd-weight-decay-order", words, "put add_decayed_weights first in the chain"), to(late=True)
    yield (
        Cause("sign", "it steps uphill: the update's sign is turned", "subtract the update (optax's are negative)"),
        to(rates=[-r for r in settings["rates"]]),
    )
    if settings["rule"] == "sgd":
        for other in (m for m in _MOMENTA if m != settings["momentum"]):
            words = f"the momentum is {other:g}, in the reference {settings['momentum']:g}"
            yield Cause("momentum", words, f"give both {settings['momentum']:g}"), to(momentum=other)
        if settings["momentum"]:
            kinds = ("the plain", "Nesterov's") if settings["nesterov"] else ("Nesterov's", "the plain")
            words = f"it takes {kinds[0]} momentum, the reference {kinds[1]}"
            yield Cause("nesterov", words, "give both the same nesterov="), to(nesterov=not settings["nesterov"])
            for other in (settings["momentum"], 0.1, 0.5):
                words = f"gradients are dampened by {other:g} from the second step on, in the reference not"
                yield Cause("dampening", words, "give both the same dampening"), to(dampening=other)
    else:
        for other in (e for e in _EPSILONS if e != settings["eps"]):
            words = f"ε is {other:g}, in the reference {settings['eps']:g}"
            yield Cause("adam-eps", words, f"give both {settings['eps']:g}"), to(eps=other)
        yield (
            Cause("rmsprop", "ε is added inside of the root, in the reference outside", "use eps_in_sqrt=False"),
            to(inside=True),
        )
        for other in (b for b in (0.999, 0.99, 0.95, 0.9, 0.98) if b != settings["b2"]):
            words = f"squares decay by {other:g}, in the reference by {settings['b2']:g}"
            yield (
                Cause(
                    "rmsprop" if settings["rule"] == "rmsprop" else "adam-betas",
                    words,
                    f"give both {settings['b2']:g}",
                ),
                to(b2=other),
            )
        if settings["rule"] == "adam":
            for other in (0.8, 0.95, 0.0, 0.5):
                yield (
                    Cause(
                        "adam-betas",
                        f"β₁ is {other:g}, in the reference {settings['b1']:g}",
                        f"give both {settings['b1']:g}",
                    ),
                    to(b1=other),
                )
            words = "moments are not corrected for their start at 0, in the reference they are"
            yield Cause("bias-correction", words, "correct them by 1 − βᵗ"), to(corrected=False)
        if settings["rule"] == "adagrad":
            words = "squares begin at 0.1, in the reference at 0"
            yield Cause("adagrad", words, "initial_accumulator_value=0 in optax"), to(initial=0.1)


def _finishes(settings: Settings) -> list[Callable[[np.ndarray, np.ndarray], Iterator[tuple[Cause, np.ndarray]]]]:
    """The whole step times a number: another rate, or gradients that were clipped or averaged otherwise."""
    origin = np.zeros_like(settings["params"][-1]) if settings["quantity"] == "optimizer" else settings["params"][-1]

    def by_step(array: np.ndarray, value: np.ndarray) -> Iterator[tuple[Cause, np.ndarray]]:
        for cause, step in by_factor("the step")(array - origin, value - origin):
            fix = "compare learning rates, clipping of gradients, and what losses of micro-batches are divided by"
            yield Cause("step-factor", cause.words, fix), origin + step

    def by_gradient(array: np.ndarray, value: np.ndarray) -> Iterator[tuple[Cause, np.ndarray]]:
        """Gradients times a number, where weight decay or momentum is not."""
        half = _moved({**settings, "scale": 0.5})
        square = float(np.vdot(array - half, array - half))
        if square and tolerance.distance(array, _moved(settings)) == 0.0 and settings["rule"] == "sgd":
            factor = 1.0 + 0.5 * float(np.vdot(array - half, value - array)) / square
            words = f"gradients are {factor:.6g} × the reference's when the optimizer takes them"
            fix = "compare the clipping of gradients, loss scaling, and what losses of micro-batches are divided by"
            yield Cause("gradient-factor", words, fix), _moved({**settings, "scale": factor})

    return [by_step, by_gradient]
