"""The judgement in two places: each framework records its runs to a file, and the files are judged where neither is.

A reference's trace holds what the candidate starts from and how much rounding is expected of every tensor; a
candidate's trace only what came of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from gradlab_core import backends
from gradlab_core.errors import GradlabError, refuse
from gradlab_core.parity import tolerance
from gradlab_core.parity.arithmetic import ARITHMETICS, BETWEEN, Arithmetic, check_precision
from gradlab_core.parity.batch import Inputs
from gradlab_core.parity.correspondence import Correspondence, Rules, correspond
from gradlab_core.parity.correspondence.links import joint
from gradlab_core.parity.correspondence.view import Port
from gradlab_core.parity.hiding import refuse_hiding_places
from gradlab_core.parity.judge import Batch
from gradlab_core.parity.local import FORCED
from gradlab_core.parity.matching import layer_names
from gradlab_core.parity.rounding import Draws, Spread, draw_more
from gradlab_core.parity.trace import LocalSubject, Subject, Trace, weights_after
from gradlab_core.parity.trace_file import Reader, Writer, writing
from gradlab_core.parity.trace_header import Drawn, Header, Stored, digest

File = str | os.PathLike[str]
STEPS = 3


def record(
    subject: Subject,
    batch: Batch | None,
    path: File,
    *,
    steps: int | None = None,
    precision: str | None = None,
    like: File | None = None,
    rules: Rules | None = None,
) -> None:
    """Train a subject in float64 and in its own float32, and write every tensor of every step to one file, whole or not
    at all. Only one step's tensors are held at a time.

    Args:
        subject: a `Subject` of either twin; it is not changed.
        batch: canonical `(x, y)`; None with `like`, whose batch it is then.
        path: the trace to write.
        steps: training steps, by default 3; those of the reference with `like`.
        precision: as in `compare`. A reference that is recorded `as-is` also holds what rounding to expect of every
            arithmetic that a candidate may turn out to be made in, which takes four times as long.
        like: a reference's trace. Without it the trace is a reference's itself: it holds the weights and the batch, and
            of each tensor the spread of 24 perturbed runs.
        rules: with `like`, as in `compare`.

    Raises:
        GradlabError: as `compare`; or the file cannot be written, or `like` is no reference's trace.
    """
    if like is not None:
        came = {"batch": batch, "steps": steps, "precision": precision}
        refuse("record", [f"{n} is that of {like}; expected None" for n, value in came.items() if value is not None])
        with Reader(like) as reference:
            _record_candidate(subject, reference, path, rules)
    elif batch is None:
        raise GradlabError("record: there is no batch; expected (x, y), or a reference's trace to record like")
    else:
        x, y = batch
        _record_reference(subject, (x, np.asarray(y) if isinstance(y, list) else y), path, steps, precision)


def _record_reference(subject: Subject, batch: Batch, path: File, steps: int | None, precision: str | None) -> None:
    steps = STEPS if steps is None else steps
    if steps < 1:
        raise GradlabError(f"steps is {steps}; expected at least 1")
    if precision is not None:
        subject = subject.at(check_precision(precision))
    start = subject.state()
    refuse_hiding_places(batch[0], start)
    arithmetic = subject.arithmetic()
    others = ARITHMETICS.values() if precision == "as-is" else ()
    spreads = {a: Spread() for a in (arithmetic, *others)}
    seeds = range(tolerance.DRAWS[1])
    with writing(path) as writer:
        weights = {name: writer.array(value) for name, value in start.items()}
        x, y = map(writer.arrays, batch)
        draws = [Draws(subject, start, a, seeds, spread) for a, spread in spreads.items()]
        run = _Run(subject, start, batch, writer, draws)
        for step in range(steps):
            run.step(step)
        if any(run.saturates(spread, a) for a, spread in spreads.items()):
            spreads[BETWEEN] = Spread()
            draw_more(subject, start, batch, steps, seeds, {BETWEEN: spreads[BETWEEN]})
        writer.header(
            Header(
                role="reference",
                **run.told(arithmetic),
                precision=precision,
                steps=steps,
                weights_digest=digest(start),
                batch_digest=digest(*batch),
                weights=weights,
                x=x,
                y=y,
                drawn=tuple(_drawn(a, spread, run.stored["float64"]) for a, spread in spreads.items()),
            )
        )


def _record_candidate(subject: Subject, reference: Reader, path: File, rules: Rules | None) -> None:
    header = reference.header
    if header.role != "reference":
        raise GradlabError(f"{reference.path} is a candidate's trace; expected a reference's to record like")
    if Path(path).exists() and Path(path).samefile(reference.path):
        raise GradlabError(f"{path} is the reference's own trace; name another file for the candidate's")
    if header.precision is not None:
        subject = subject.at(check_precision(header.precision))
    correspondence = _correspondence(reference, subject, rules)
    if not correspondence.is_identity:
        subject = Port(subject, correspondence)
    modules = None if correspondence.is_identity else correspondence.modules()
    with writing(path) as writer:
        run = _Run(subject, reference.weights(), reference.batch(), writer, [])
        beside = _Beside(subject, reference, writer, modules) if isinstance(subject, LocalSubject) else None
        for step in range(header.steps):
            own = run.step(step)
            if beside is not None:
                beside.step(step, own)
        local = () if beside is None else tuple(beside.stored)
        same = {n: getattr(header, n) for n in ("precision", "steps", "weights_digest", "batch_digest")}
        writer.header(Header(role="candidate", **run.told(subject.arithmetic()), **same, modules=modules, local=local))


def _correspondence(reference: Reader, candidate: Subject, rules: Rules | None) -> Correspondence:
    """Which of the candidate's weights is which of the recorded reference's."""
    correspondence = correspond(cast(Subject, _Recorded(reference)), candidate, reference.batch(), rules=rules)
    correspondence.check()
    together = [f"{link} is one array there" for link in joint(correspondence.links)]
    refuse("weights that a trace cannot tell apart (judge both sides at once with compare)", together)
    return correspondence


class _Recorded:
    """A reference as its trace knows it: a subject that starts from its weights and has made one step."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.framework = reader, reader.header.framework

    def cast(self, dtype: str) -> Subject:
        return cast(Subject, self)

    def state(self) -> dict[str, np.ndarray]:
        return self.reader.weights()

    def load(self, arrays: Mapping[str, Any]) -> None:
        """Nothing else can be loaded."""

    def step(self, x: Inputs, y: Any, epoch: int) -> Trace:
        return self.reader.trace("float64", epoch)


class _Run:
    """The two runs of a subject, step by step to a file, with the perturbed runs of a reference beside them."""

    def __init__(self, subject: Subject, start: Any, batch: Batch, writer: Writer, draws: list[Draws]) -> None:
        self.framework, self.batch, self.writer, self.draws = subject.framework, batch, writer, draws
        self.sides = {dtype: subject.cast(dtype) for dtype in ("float64", "float32")}
        for side in self.sides.values():
            side.load(start)
        self.stored: dict[str, list[Stored]] = {dtype: [] for dtype in self.sides}
        self.sizes: dict[tuple[int, Any], float] = {}

    def step(self, step: int) -> Trace:
        """One step of both; its tensors in float64."""
        oracle = self.sides["float64"].step(*self.batch, step)
        self.stored["float64"] += self.writer.trace(step, oracle)
        self.sizes |= {(step, key): tolerance.size(value) for key, value in oracle.items() if value is not None}
        for perturbed in self.draws:
            perturbed.step(*self.batch, step, oracle)
        self.stored["float32"] += self.writer.trace(step, self.sides["float32"].step(*self.batch, step))
        return oracle

    def saturates(self, spread: Spread, arithmetic: Arithmetic) -> bool:
        """Whether the judge may ask for an arithmetic between float32 and float64."""
        return any(
            tolerance.relative(spread.expected(*where, size, arithmetic), size) > tolerance.SATURATES
            for where, size in self.sizes.items()
        )

    def told(self, arithmetic: Arithmetic) -> dict[str, Any]:
        """What the header says of any run."""
        modules = ("numpy", *backends.NEEDS.get(self.framework, ()))
        versions = {name: str(getattr(sys.modules.get(name), "__version__", "unknown")) for name in modules}
        tensors = {dtype: tuple(stored) for dtype, stored in self.stored.items()}
        return {"framework": self.framework, "versions": versions, "arithmetic": arithmetic, **tensors}


class _Beside:
    """The run of a candidate whose layers are each given what the reference's trace holds, so that its faults can be
    told one by one."""

    def __init__(self, subject: LocalSubject, reference: Reader, writer: Writer, modules: Any) -> None:
        self.reference, self.writer, self.modules = reference, writer, modules
        self.side = cast(LocalSubject, subject.cast("float64"))
        self.batch, self.before = reference.batch(), reference.weights()
        self.stored: list[Stored] = []

    def step(self, step: int, own: Trace) -> None:
        """One step, of which `own` is the candidate's own run."""
        truth = self.reference.trace("float64", step)
        theirs = {ours: name for name, ours in layer_names(truth, own, self.modules).items()}
        given = {theirs.get(key, key): truth[key] for key in truth if key.quantity in FORCED}
        self.side.load(self.before)
        self.stored += self.writer.trace(step, self.side.local_step(*self.batch, step, given))
        self.before |= weights_after(truth)


def _drawn(arithmetic: Arithmetic, spread: Spread, tensors: list[Stored]) -> Drawn:
    keys = [(stored.step, stored.key) for stored in tensors]
    totals, counts = ([values.get(key, 0) for key in keys] for values in (spread.totals, spread.counts))
    return Drawn(arithmetic, tuple(map(float, totals)), tuple(map(int, counts)))
