"""Every layer by itself: which tensors differ although all that goes into them is the reference's.

In a plain run a fault in the first layer makes everything after it differ. Here the candidate goes on, after each
layer, with what the reference computed, forward and backward, and begins each step with the reference's weights. What
still differs is wrong by itself, so that several faults are found in one run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from gradlab_core.parity import tolerance
from gradlab_core.parity.arithmetic import Arithmetic
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.matching import renamed
from gradlab_core.parity.rounding import Spread
from gradlab_core.parity.trace import OF_LAYERS, Key, LocalSubject, Subject, Trace

FORCED = (*OF_LAYERS, "logits")
"""What is taken from the reference once it is computed."""
_DRAWS = 4
"""Perturbed runs: a layer by itself adds little rounding, so that its limit is mostly `tolerance.LOGIC`."""
_HISTORY = 1 << 20
"""Elements of the largest parameter whose earlier steps are kept, for what an optimizer makes of them."""


@dataclasses.dataclass(frozen=True)
class Local:
    """One step, each of the candidate's tensors computed from the reference's.

    Attributes:
        step: number of the step.
        batch: canonical `(x, y)`.
        start, before: the reference's weights and statistics before the first step, and before this one.
        truth: the reference's tensors.
        value: the candidate's, by the reference's names.
        earlier: the reference's tensors of the steps before, small parameters only.
        limits: what each tensor may differ by, absolute.
    """

    step: int
    batch: tuple[Inputs, Any]
    start: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    truth: Trace
    value: Trace
    earlier: tuple[Trace, ...]
    limits: Mapping[Key, float]

    @functools.cached_property
    def places(self) -> dict[Key, int]:
        """At which place each tensor is computed."""
        return {key: i for i, key in enumerate(self.truth)}

    def error(self, key: Key) -> float:
        """How far the candidate is from the reference; Inf where only one side has the tensor."""
        truth, value = self.truth.get(key), self.value.get(key)
        if truth is None or value is None:
            alike = truth is value and (key in self.truth) == (key in self.value)
            nothing = all(array is None or not np.any(array) for array in (truth, value))
            return 0.0 if alike or nothing else np.inf
        return tolerance.distance(value, truth)

    @property
    def differing(self) -> tuple[Key, ...]:
        """Tensors that differ by more than rounding, in the order in which they are computed."""
        return tuple(key for key in self.limits if not self.error(key) <= self.limits[key])


def local_steps(
    reference: LocalSubject,
    candidate: LocalSubject,
    batch: tuple[Inputs, Any],
    steps: int,
    start: Mapping[str, np.ndarray],
    arithmetic: Arithmetic,
    names: Mapping[Key, Key],
    own: Collection[Key] = (),
) -> Iterator[Local]:
    """Each step of both in float64, the candidate's tensors each computed from the reference's.

    Args:
        start: the reference's weights.
        arithmetic: in which the reference is perturbed, for the limits.
        names: `{key of the candidate: key of the reference}` of layers' tensors.
        own: outputs of layers after which the candidate goes on with its own; they are not compared.
    """
    oracle, local = reference.cast("float64"), _local(candidate.cast("float64"))
    draws = [_local(reference.perturbed(arithmetic, seed)) for seed in range(_DRAWS)]
    theirs = {ours: name for name, ours in names.items()}
    own = {Key(quantity, *key[1:]) for key in own for quantity in OF_LAYERS}
    before: Mapping[str, np.ndarray] = dict(start)
    oracle.load(before)
    held = Held(batch, start, Spread(), arithmetic)
    for step in range(steps):
        truth = oracle.step(*batch, step)
        given = {key: value for key, value in truth.items() if key.quantity in FORCED and key not in own}
        for run in draws:
            run.load(before)
            held.spread.add(step, truth, run.local_step(*batch, step, given))
        local.load(before)
        value = renamed(local.local_step(*batch, step, {theirs.get(k, k): v for k, v in given.items()}), names)
        yield held.local(step, before, truth, value, own)
        before = oracle.state()


@dataclasses.dataclass
class Held:
    """The steps of a comparison, each held against what the reference computed.

    Attributes:
        batch, start: as in `Local`.
        spread: what rounding does to each tensor, in that arithmetic.
        earlier: the reference's tensors of the steps before, small parameters only.
    """

    batch: tuple[Inputs, Any]
    start: Mapping[str, np.ndarray]
    spread: Spread
    arithmetic: Arithmetic
    earlier: list[Trace] = dataclasses.field(default_factory=list)

    def local(
        self, step: int, before: Mapping[str, np.ndarray], truth: Trace, value: Trace, own: Collection[Key] = ()
    ) -> Local:
        """The next step; of `own` nothing is compared."""
        known = {key.quantity for key in value}
        # A layer that one side alone shows, or an optimizer that one side does not know, is not compared.
        shared = [k for k in truth if k in value or (k.quantity not in FORCED and k.quantity in known)]
        limits = {key: self._limit(step, key, truth[key]) for key in shared if key not in own}
        earlier = tuple(self.earlier)
        small = {k: v for k, v in truth.items() if k.quantity not in FORCED and (v is None or v.size <= _HISTORY)}
        self.earlier.append(small)
        return Local(step, self.batch, self.start, before, truth, value, earlier, limits)

    def _limit(self, step: int, key: Key, truth: np.ndarray | None) -> float:
        if truth is None:
            return 0.0
        scale = tolerance.size(truth)
        expected = self.spread.expected(step, key, scale, self.arithmetic)
        relative = tolerance.relative(expected, scale or expected)
        return tolerance.logic_tolerance(relative, self.arithmetic.products, tolerance.factor(1)) * (scale or expected)


def _local(subject: Subject) -> LocalSubject:
    assert isinstance(subject, LocalSubject)  # a copy of one
    return subject
