"""The faults of a candidate, one by one, each with what explains it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from gradlab_core.parity import tolerance
from gradlab_core.parity.causes.cause import Explanation
from gradlab_core.parity.causes.explain import explain
from gradlab_core.parity.causes.residual import shape_of
from gradlab_core.parity.local import Local
from gradlab_core.parity.trace import FORWARD, Key

_UPDATE = ("optimizer", "parameter")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A tensor that differs although all that goes into it is the reference's.

    Attributes:
        step, key: where it shows first.
        error: its difference, absolute; Inf where one side has no such tensor.
        relative: its difference over the reference's norm.
        explanations: what would explain it, the likeliest first; empty if nothing that is known does.
        shape: where and how it differs, in words.
        also: other tensors with the same fault.
        follow: tensors that differ because of it.
    """

    step: int
    key: Key
    error: float
    relative: float
    explanations: tuple[Explanation, ...]
    shape: str
    also: tuple[Key, ...] = ()
    follow: tuple[Key, ...] = ()

    @property
    def place(self) -> str:
        """Where it shows."""
        also = f" (and {len(self.also)} more, as {self.also[0]})" if self.also else ""
        return f"step {self.step}, {self.key}{also}"

    @property
    def said(self) -> str:
        """What is wrong, or how the tensor differs if that is not known."""
        if not self.explanations:
            return f"nothing that is known explains it; {self.shape}"
        return "; and ".join(cause.words for cause in self.explanations[0].causes)

    @property
    def fix(self) -> str:
        """What mends it, "" if that is not known."""
        causes = self.explanations[0].causes if self.explanations else ()
        return "; ".join(dict.fromkeys(cause.fix for cause in causes))

    @property
    def words(self) -> str:
        """All of it in a sentence or two."""
        return f"{self.place}: {self.said}" + (f". Fix: {self.fix}" if self.fix else "")


def other_points(faults: Iterable[Fault], weights: Iterable[str]) -> frozenset[Key]:
    """Outputs of layers without weights that nothing explains. Each side may show another point of the program there,
    as where one writes an activation out: then they must not take each other's place."""
    owners = {name.rpartition(".")[0] for name in weights} - {""}
    unknown = (fault.key for fault in faults if not fault.explanations)
    return frozenset(key for key in unknown if key.quantity == "activation" and key.path not in owners)


def find_faults(steps: Iterable[Local]) -> tuple[Fault, ...]:
    """The faults of all steps, each once, with what follows from it."""
    faults: list[Fault] = []
    seen: set[Key] = set()
    for local in steps:
        own: dict[Key, list[Key]] = {}
        explained: dict[Key, list[Explanation]] = {}
        update_faults = {fault.key for fault in faults if fault.key.quantity in _UPDATE}
        differing = local.differing
        for key in differing:
            if key not in seen or key in update_faults:
                source = _source(key, differing, local)
                of_layer = source is not None and source.quantity in FORWARD
                if of_layer and key.quantity in ("statistic", *_UPDATE) and Key("gradient", key.path) not in differing:
                    # What is made of a layer's statistics and weights may be wrong as well as the layer.
                    explained[key] = explain(local, key)
                    source = None if explained[key] else source
                own.setdefault(key if source is None else source, []).append(key)
        for key, keys in own.items():
            follow = tuple(k for k in keys if k != key)
            # More steps tell more of an optimizer than the first one.
            again = tuple(explain(local, key)) if key.quantity in _UPDATE and key in seen else ()
            known = next((i for i, fault in enumerate(faults) if key in (fault.key, *fault.also)), None)
            if known is not None:
                told = again or faults[known].explanations
                faults[known] = dataclasses.replace(
                    faults[known], explanations=told, follow=(*faults[known].follow, *follow)
                )
            else:
                _add(faults, _fault(local, key, follow, explained.get(key)))
        seen |= set(differing)
    return tuple(faults)


def _fault(local: Local, key: Key, follow: tuple[Key, ...], explained: list[Explanation] | None) -> Fault:
    truth, value = local.truth.get(key), local.value.get(key)
    error = local.error(key)
    return Fault(
        step=local.step,
        key=key,
        error=error,
        relative=tolerance.relative(error, 0.0 if truth is None else tolerance.size(truth)),
        explanations=tuple(explain(local, key) if explained is None else explained),
        shape=shape_of(truth, value),
        follow=follow,
    )


def _add(faults: list[Fault], fault: Fault) -> None:
    """Add it, or count it to one of the same kind and cause."""
    for i, other in enumerate(faults):
        causes = [e.causes for e in fault.explanations[:1]]
        same = causes and causes == [e.causes for e in other.explanations[:1]]
        unknown = not causes and not other.explanations and fault.key.quantity == other.key.quantity
        of_updates = fault.key.quantity in _UPDATE and other.key.quantity in _UPDATE
        if (same and fault.key.quantity == other.key.quantity) or (of_updates and (same or unknown)):
            also = (*other.also, fault.key) if fault.key != other.key else other.also
            faults[i] = dataclasses.replace(other, also=also, follow=(*other.follow, *fault.follow))
            return
    faults.append(fault)


def _source(key: Key, differing: tuple[Key, ...], local: Local) -> Key | None:
    """The tensor because of which this one differs, if one does: of the same layer, or of what is computed from it."""
    forward = [k for k in differing if k.quantity in FORWARD]
    if key.quantity == "activation_gradient":
        # The gradient of an output depends on the layers that take it in, which come later.
        own = local.places.get(key._replace(quantity="activation"), -1)
        return next((k for k in forward if local.places[k] > own), None)
    owner = key.path.rpartition(".")[0]
    if key.quantity in ("gradient", "statistic"):
        cut = Key("activation_gradient", owner)
        if local.value.get(key) is None and cut in differing:
            return _source(cut, differing, local) or cut
        if not any(k.quantity == "activation" and k.path in (owner, key.path) for k in local.limits):
            return next((k for k in forward), None)  # of no layer that is compared: it depends on all that follows
        return next((k for k in forward if k.path in (owner, key.path)), None)
    if key.quantity in _UPDATE:
        if Key("learning_rate") in differing and key.quantity == "parameter":
            return Key("learning_rate")
        gradient = Key("gradient", key.path)
        if gradient in differing:
            return _source(gradient, differing, local) or gradient
        velocity = Key("optimizer", key.path)
        if key.quantity == "parameter" and velocity in differing:
            return velocity
        return next((k for k in forward if k.path in (owner, key.path)), None)
    return None
