"""What a look saw, on its way to the host, and the record of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from gradlab_core.records import Probe
from gradlab_torch.measure.answers import Figures
from gradlab_torch.measure.statistics import Row
from gradlab_torch.trees.transfer import Parts

PREFIX = "look "
"""Of the names of its figures in a transfer, which others share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look saw; `parts` are on their way to the host."""

    mode: str
    batch: int
    rows: Sequence[Row]
    tensors: Mapping[str, Row]
    answers: Figures | None
    shapes: Mapping[str, tuple[int, ...]]
    parts: Parts

    def probe(self, arrived: Mapping[str, Mapping[str, float]], loss: float | None) -> Probe:
        """The record, from figures that have arrived."""
        numbers = {name.removeprefix(PREFIX): arrived[name] for name in self.parts}
        last = self.rows[-1] if self.rows else None
        is_squashed = last is not None and (last.tap.kind, last.shape) == ("sigmoid", self.tensors["output"].shape)
        answers, target = (
            (None, None) if self.answers is None else self.answers.recognised(numbers, loss, is_squashed=is_squashed)
        )
        named = {name: row.of_tensor(numbers[name]) for name, row in self.tensors.items()}
        return Probe(
            mode=self.mode,
            batch=self.batch,
            classes=None if answers is None else answers.classes,
            loss=loss,
            input=named.get("input"),
            output=named["output"],
            target=target,
            layers=tuple(row.record(self.mode, numbers[str(i)]) for i, row in enumerate(self.rows)),
            shapes=self.shapes,
            copies={k: v for name, part in numbers.items() if name.startswith("copies ") for k, v in part.items()},
            answers=answers,
        )
