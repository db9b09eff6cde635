"""Two subjects whose weights have other names or another layout, seen as if they had the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.correspondence.links import Correspondence, joint
from gradlab_core.parity.trace import Key, LocalSubject, Subject, Trace

_OF_WEIGHTS = ("gradient", "optimizer", "parameter", "statistic")
_SUMMED = ("parameter",)  # of biases that are added up, the gradient of each is the gradient of the sum


def corresponding(reference: Subject, candidate: Subject, correspondence: Correspondence) -> tuple[Subject, Subject]:
    """Both, so that the judgement can compare them: they load the reference's weights, and what their steps give is
    called and laid out as in the reference."""
    return Original(reference, correspondence), Port(candidate, correspondence)


@dataclasses.dataclass
class _View:
    """A subject seen through a correspondence."""

    subject: Subject
    correspondence: Correspondence

    def __post_init__(self) -> None:
        self.framework = self.subject.framework

    def cast(self, dtype: str) -> Subject:
        return dataclasses.replace(self, subject=self.subject.cast(dtype))

    def at(self, precision: str) -> Subject:
        return dataclasses.replace(self, subject=self.subject.at(precision))

    def perturbed(self, arithmetic: Arithmetic, seed: int) -> Subject:
        return dataclasses.replace(self, subject=self.subject.perturbed(arithmetic, seed))

    def arithmetic(self) -> Arithmetic:
        return self.subject.arithmetic()

    def state(self) -> dict[str, np.ndarray]:
        return self.subject.state()

    def load(self, arrays: Mapping[str, Any]) -> None:
        self.subject.load(arrays)

    def step(self, x: Inputs, y: Any, epoch: int) -> Trace:
        return self._named(self.subject.step(x, y, epoch))

    def local_step(self, x: Inputs, y: Any, epoch: int, given: Trace) -> Trace:
        """Layers have no other names here; those of the judgement are of `gradlab_core.parity.matching`."""
        assert isinstance(self.subject, LocalSubject)
        return self._named(self.subject.local_step(x, y, epoch, given))

    def _named(self, trace: Trace) -> Trace:
        seen: dict[Key, np.ndarray | None] = {}
        for key, value in trace.items():
            if key.quantity not in _OF_WEIGHTS:
                seen[key] = value
            elif not any(k.quantity == key.quantity for k in seen):  # all of one quantity, where its first stands
                values = {k.path: v for k, v in trace.items() if k.quantity == key.quantity}
                seen |= {Key(key.quantity, path): v for path, v in self._seen(key.quantity, values).items()}
        return seen

    def _seen(self, quantity: str, values: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
        raise NotImplementedError


class Original(_View):
    """The reference: of arrays that the candidate cannot tell apart, what it has of them."""

    def _seen(self, quantity: str, values: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
        merged = joint(self.correspondence.links)
        gone = {source.name for link in merged for source in link.sources}
        seen = {name: value for name, value in values.items() if name not in gone}
        for link in merged:
            present = {s.name: v for s in link.sources if (v := values.get(s.name)) is not None}
            if len(present) == len({s.name for s in link.sources}):
                first = link.sources[0].of(present)
                seen[link.name] = link.whole(present) if quantity in _SUMMED else first
            elif any(s.name in values for s in link.sources):
                seen[link.name] = None
        return seen


class Port(_View):
    """The candidate, by the reference's names and in its layout."""

    def state(self) -> dict[str, np.ndarray]:
        return self.correspondence.back(self.subject.state())

    def load(self, arrays: Mapping[str, Any]) -> None:
        self.subject.load(self.correspondence.there(arrays))

    def _seen(self, quantity: str, values: dict[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
        seen: dict[str, np.ndarray | None] = dict(self.correspondence.back(values))
        for link in self.correspondence.links:
            if any(name in values for name in link.candidate):
                names = [link.name] if link.is_joint else [source.name for source in link.sources]
                seen |= {name: None for name in names if name not in seen}
        return {name: seen[name] for name in self._order(seen)}

    def _order(self, seen: Mapping[str, Any]) -> list[str]:
        """The reference's order, joint arrays last."""
        return [name for name in self.correspondence.shapes if name in seen] + [
            name for name in seen if name not in self.correspondence.shapes
        ]
