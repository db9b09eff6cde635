"""Parameters that training leaves as they are: by mistake, or since small tensors beside them are trained instead."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator

from gradlab_core.definitions.thresholds import ADAPTER_SHARE, ADAPTER_STRETCHES
from gradlab_core.judge.diagnosis import remedies
from gradlab_core.judge.diagnosis.history import History
from gradlab_core.judge.diagnosis.making import finding, some
from gradlab_core.records import Finding, GradientState, Severity

_ADAPTERS = re.compile(r"lora|adapter|prefix|prompt|ia3", re.IGNORECASE)


def unregistered(history: History) -> Iterator[Finding]:
    """Parameters that the optimizer does not know."""
    paths = history.always(GradientState.UNREGISTERED)
    if paths:
        meant = _are_adapters(history, _kept(history))
        yield finding(
            "not-updating",
            Severity.CRITICAL if len(paths) == len(history.order) else Severity.NOTE if meant else Severity.WARNING,
            step=history.early[0].step,
            paths=paths,
            evidence={"parameters unknown to the optimizer": float(len(paths))},
            seen=f"The optimizer does not know {some(paths)}, which could be trained"
            + (", and trains small tensors beside them, as with adapters." if meant else "."),
            remedies=remedies.of_stillness(remedies.UNREGISTERED),
        )


def frozen(history: History) -> Iterator[Finding]:
    """Frozen layers behind trained ones are seldom intended. A frozen trunk is usual in fine-tuning, and so are weights
    frozen between trained adapters: only a note."""
    still = {*history.always(GradientState.FROZEN), *_held(history)}
    if not still:
        return
    order = list(history.order)
    trained = [path for path in order if path not in still]
    first = order.index(trained[0]) if trained else 0
    behind = [path for path in order[first:] if path in still]
    meant = bool(behind) and _are_adapters(history, _kept(history))
    paths = [path for path in order if path in still] if meant or not behind else behind
    how = ", as in fine-tuning."
    if behind:
        how = ", beside small trained tensors, as with adapters." if meant else ", behind layers that are trained."
    yield finding(
        "not-updating",
        Severity.WARNING if behind and not meant else Severity.NOTE,
        step=history.early[0].step,
        paths=paths,
        evidence={"frozen parameters": float(len(still)), "trained parameters": float(len(trained))},
        seen=f"{some(paths)} {'is' if len(paths) == 1 else 'are'} frozen{how}",
        remedies=remedies.of_stillness(remedies.FROZEN),
    )


def _held(history: History) -> set[str]:
    """Parameters that get gradients and never a step while others move: `optax.set_to_zero`, a group with a rate of 0.
    Where rounding swallows the update (`lost`) something else is wrong."""
    records = [r for r in [*history.early, *history.selected, *history.recent] if r.update_norm > 0 and not r.skipped]
    if len(records) < 3:
        return set()
    held = {p for p, n in records[0].tensors.items() if n.update == 0 and n.grad} - set(
        history.states.get(GradientState.LOST, {})
    )
    for record in records if held else ():
        held = {p for p in held if p in record.tensors and record.tensors[p].update == 0 and record.tensors[p].grad}
    return held


def _kept(history: History) -> set[str]:
    """All parameters that training leaves as they are."""
    states = (GradientState.FROZEN, GradientState.UNREGISTERED)
    return {path for state in states for path in history.always(state)} | _held(history)


def _are_adapters(history: History, kept: Collection[str]) -> bool:
    """Whether what is trained is there in place of what is not: a small part of the net, or small tensors spread over
    it. A layer that was frozen by mistake stands alone among layers that are trained whole.

    A probe tells the sizes. Without one the number of tensors and their order are all there is, and names count."""
    order = list(history.order)
    trained = [path for path in order if path not in kept]
    if not trained or not kept:
        return False
    stretches = sum(is_kept for is_kept, _ in itertools.groupby(order, key=lambda path: path in kept))
    shapes = history.probes[0][1].shapes if history.probes else {}
    if not all(path in shapes for path in order):
        few = len(trained) <= ADAPTER_SHARE * len(order)
        named = any(map(_ADAPTERS.search, trained)) and not any(map(_ADAPTERS.search, kept))
        return few or named or stretches >= ADAPTER_STRETCHES
    size = {path: math.prod(shapes[path]) for path in order}
    if sum(size[path] for path in trained) <= ADAPTER_SHARE * sum(size.values()):
        return True
    smaller = sum(size[path] for path in trained) < sum(size[path] for path in kept)
    beside = all(any(path.startswith(_around(k)) for path in trained) for k in kept)
    return smaller and (stretches >= ADAPTER_STRETCHES or (stretches > 1 and beside))


def _around(path: str) -> str:
    """The beginning of the paths beside a parameter: those of its module or, where there is one, of the module around
    that, since a wrapped layer lies one deeper (`fc1.base_layer.weight` beside `fc1.lora_A.weight`)."""
    parts = path.split(".")
    return "".join(f"{part}." for part in parts[: -2 if len(parts) > 2 else -1])
