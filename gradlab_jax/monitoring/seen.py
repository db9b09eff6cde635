"""What a look saw, as arrays of constant structure, and the record of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax

from gradlab_core.records import Probe
from gradlab_jax.measure.answers import Figures
from gradlab_jax.measure.statistics import Row

T = TypeVar("T")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["taken", "step", "loss", "rows", "input", "output", "copies", "answers"],
    meta_fields=["batch", "names", "shapes", "weights"],
)
@dataclasses.dataclass(frozen=True)
class Look:
    """What `gradlab_jax.observed` saw of one call of a loss function, on the device: hand it to `read_record`.

    Attributes:
        taken: whether this call was looked at; if not, all numbers are 0.
        step: its number as the user gave it; −1 if not.
        loss: the loss of this call.
        rows, input, output, copies, answers: statistics of layers, input and answers, the share of copied units of each
            of `weights`, and what tells the loss that they went into, or what was made of
            them before.
        batch: examples; `names` and `shapes` of the parameters, canonical.
    """

    taken: jax.Array
    step: jax.Array
    loss: jax.Array
    rows: list[Row]
    input: Row | None
    output: Row | None
    copies: jax.Array | None
    answers: list[Figures]
    batch: int
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    weights: tuple[str, ...]

    def probe(self, order: Sequence[str] = ()) -> Probe | None:
        """The record, from arrays that have arrived on the host; None where nothing was looked at. JAX sorts the keys
        of dictionaries: parameters come in this `order`, as far as it names them."""
        if not self.taken or self.output is None:
            return None
        loss = float(self.loss)
        # Of the answers, and of what may be a softmax of them: the loss takes the last that it explains.
        told = [figures.recognised(loss, is_squashed=i > 0) for i, figures in enumerate(self.answers)]
        answers, target = next((pair for pair in reversed(told) if pair[0] is not None), (None, None))
        copies = [] if self.copies is None else self.copies.tolist()
        return Probe(
            mode="train",
            batch=self.batch,
            classes=None if answers is None else answers.classes,
            loss=loss,
            input=None if self.input is None else self.input.of_tensor(),
            output=self.output.of_tensor(),
            target=target,
            layers=tuple(row.record("train") for row in self.rows),
            shapes=_ordered(dict(zip(self.names, self.shapes, strict=True)), order),
            copies=_ordered(dict(zip(self.weights, copies, strict=True)), order),
            answers=answers,
        )


def _ordered(values: Mapping[str, T], order: Sequence[str]) -> dict[str, T]:
    return {name: values[name] for name in dict.fromkeys([*order, *values]) if name in values}
