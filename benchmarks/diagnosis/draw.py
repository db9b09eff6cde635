"""Pairs of runs from one seed: a healthy program, and the same with a fault whose name and place are known."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from gradlab_core.errors import refuse
from gradlab_core.programs.program import ProgramSpec
from gradlab_core.records import codec

from .faults import FAULTS, HARD_FAULTS
from .programs import FAMILIES, pick

FRAMEWORKS = ("torch", "jax")
PARTS = ("tuning", "held-out")
SHARE = 6
"""One pair in so many is run in the second framework: a small program takes JAX ten times as long, to compile it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """One run that is to be, and its truth.

    Attributes:
        pair: number of the healthy run and its faulty variant.
        family, hard: of the healthy program; `hard` is one that simple rules take for ill.
        fault: name of the fault, None for the healthy run.
        codes, follows: what counts as found, and what else such a fault brings about (`faults.Fault`).
        where: layers of which one has to be named; empty where the fault is nowhere in particular.
        structural: faulty by construction.
        part: `tuning` or `held-out`, decided by the healthy program and so the same for both runs of a pair.
    """

    pair: int
    family: str
    hard: bool
    framework: str
    part: str
    spec: ProgramSpec
    fault: str | None = None
    codes: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    structural: bool = False

    @property
    def name(self) -> str:
        """What its file is called: the same for the same program in the same framework, whatever drew it."""
        return f"{self.framework}-{_digest([self.framework, self.spec])}"


def draw(programs: int, *, seed: int, frameworks: Sequence[str] = FRAMEWORKS) -> list[Drawn]:
    """`programs` pairs; all faults and all hard families come round in turn, and every `SHARE`-th pair is in the second
    framework.

    Raises:
        GradlabError: programs below 1 or a negative seed.

    >>> healthy, faulty = draw(1, seed=0)
    >>> healthy.fault, faulty.fault, healthy.part == faulty.part
    (None, 'unscaled input', True)
    """
    problems = [] if programs >= 1 else [f"programs is {programs}; expected a whole number of at least 1"]
    problems += [] if seed >= 0 else [f"seed is {seed}; expected a whole number of at least 0"]
    refuse("bench diagnosis", problems)
    turns: list[tuple[str | None, str | None]] = [(fault, None) for fault in FAULTS]
    turns += [(None, family) for family in FAMILIES if FAMILIES[family].hard] * 2
    drawn: list[Drawn] = []
    for pair in range(programs):
        rng = np.random.default_rng([seed, pair])  # of its own, so that more programs change none of the first
        round_, turn = divmod(pair, len(turns))
        fault, family = turns[turn]
        family = family or pick(rng, FAULTS[fault or ""].families)
        fault = fault or pick(rng, HARD_FAULTS[family])
        drawn += _pair(rng, pair, fault, family, frameworks[-1 if (turn + round_) % SHARE == SHARE - 1 else 0])
    return drawn


def _pair(rng: np.random.Generator, pair: int, fault: str, family: str, framework: str) -> list[Drawn]:
    known = FAULTS[fault]
    healthy = next(spec for spec in iter(lambda: FAMILIES[family].draw(rng), None) if known.suits(spec))
    spec, where = known.make(rng, healthy)
    base = Drawn(
        pair=pair, family=family, hard=FAMILIES[family].hard, framework=framework, part=part(family, healthy),
        spec=healthy,
    )  # fmt: skip
    faulty = dataclasses.replace(
        base, spec=spec, fault=fault, codes=known.codes, follows=known.follows, where=where,
        structural=known.structural,
    )  # fmt: skip
    return [base, faulty]


def part(family: str, healthy: ProgramSpec) -> str:
    """On which side a program is: by its family, net and data alone, so that a program that comes twice, with another
    seed or another rate, is never on both."""
    digest = _digest([family, healthy.model, healthy.task])
    return PARTS[int(digest, 16) % 2]


def _digest(value: object) -> str:
    text = json.dumps(codec.encode(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
